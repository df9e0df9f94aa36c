"""How much of the code of `@any` functions runs in both hosts. usage: python -m benchmarks.reuse [--json]

`shared_code_ratio`: of the code lines that can be reached from the `@any` functions of the platforms, the share that
ran in a real agent process and in a real coordinator process, both called with the same arguments.

Reachable is told from the source (`reuselib/reach.py` says what that follows and what it cannot see), with the class
that both hosts use in the place of `Context`. Run is what a tracer in the two processes has seen. A line is a
statement, or the head of one; a branch that no call takes counts as not run, so `CALLS` has bad arguments too.

The node has a camera on a rendered scene, with lines, a zone and a rule, so that there are results to count. A
platform that needs settings or arguments gets them in `CALLS`.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.reuselib.figures import Place, Share, places, share
from benchmarks.reuselib.history import write_history
from benchmarks.reuselib.reach import Modules, Reach
from benchmarks.reuselib.trace import environment, lines_run
from coordinator.ctl.call import call
from coordinator.ctl.platform_new import new_platform
from coordinator.store.reader import EventFilter, Reader
from platforms.finding import SHIPPED, Finder
from platforms.loading import load_platforms
from platforms.platform import Platform
from runtime.calls.errors import NoAnswerError
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress
from schemas.language.schema import Placement
from schemas.messages import Command, CommandState
from schemas.topics import COORDINATOR, TopicSpace
from scripts.stack import ROOT, Stack, StackError

NODE = "gw-reuse"
OURS = ("schemas", "runtime", "platforms", "agent", "coordinator")
INTERFACES = {"platforms.context.Context": "platforms.host_context.HostContext"}
TARGET = 0.9
ONLINE_S = 60.0
EVENTS_MIN = 10  # LineCrossed at the coordinator before anything is called


@dataclass(frozen=True, slots=True)
class Calls:
    """How the functions of a platform are called: each with every one of its arguments, at both hosts. `settings` is
    TOML beneath `[platforms.<name>]`, with the dotted keys of TOML for tables in it."""

    settings: str = ""
    arguments: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


MARKS = '["crack", "pore", "undercut", "spatter", "burn_through"]'  # they play vehicles and customers
TRAFFIC = f"""
intersections.IS-001.location = {{ lat = 31.2, lon = 121.5 }}
[[platforms.traffic.intersections.IS-001.approaches]]
name = "north"
camera_id = "cam1"
line = "oven_exit"
zone = "middle"
zone_length_m = 20.0
uninterrupted = true
vehicle_classes = {MARKS}
heavy_classes = ["pore"]
[[platforms.traffic.intersections.IS-001.approaches]]
name = "south"
camera_id = "cam1"
line = "oven_entry"
inbound = "out"
vehicle_classes = {MARKS}
[[platforms.traffic.intersections.IS-001.approaches]]
name = "west"
camera_id = "cam9"
line = "gate"
gap_after_s = 1.0
"""
RETAIL = f"""
stores.S-1.name = "Weld shop"
[[platforms.retail.stores.S-1.entrances]]
camera_id = "cam1"
line = "oven_exit"
customer_classes = {MARKS}
staff_classes = ["crack"]
"""
JUNCTION = {"intersection_id": "IS-001"}
AT_CAMERA = {"entrance_cameras": [{"camera_id": "cam1"}]}

# A function that is not listed is called once without arguments; one that needs some is reported as not called.
CALLS: dict[str, Calls] = {
    "bakery": Calls(
        "loaves_per_tray = 12",
        {"countTrays": [{}, {"line": "oven_entry", "time_window": "10m"}, {"time_window": "never"}]},
    ),
    "traffic": Calls(
        TRAFFIC,
        {
            "analyzeTrafficFlow": [
                {**JUNCTION, "time_window": "10s"},
                {**JUNCTION, "time_window": "5m"},
                {**JUNCTION, "time_window": "1h"},
                {**JUNCTION, "time_window": "5m", "until": 1_600_000_000_000},
                {**JUNCTION, "time_window": "5m", "until": 4_000_000_000_000},  # the future
                {"intersection_id": "IS-9", "time_window": "5m"},
            ]
        },
    ),
    "retail": Calls(
        RETAIL,
        {
            "countCustomers": [
                {**AT_CAMERA, "last": "10m"},
                {**AT_CAMERA, "last": "10m", "interval": "1m", "inside_before": 3},
                {"entrance_cameras": [{"camera_id": "cam1", "line": "oven_entry", "inward": "out"}], "last": "1h"},
                {"entrance_cameras": [{"camera_id": "cam8", "line": "gate", "inward": "in"}], "last": "1m"},
                {**AT_CAMERA, "time_range": {"start": 1_600_000_000_000, "end": 1_600_000_600_000}},
                {**AT_CAMERA, "time_range": {"start": 2_000, "end": 1_000}},
                {**AT_CAMERA, "time_range": {"start": 4_000_000_000_000, "end": 4_000_000_600_000}},
                {**AT_CAMERA, "last": "10h", "interval": "1s"},
                {**AT_CAMERA},
                {"entrance_cameras": [{"camera_id": "cam7"}], "last": "1m"},
                {"entrance_cameras": [{"camera_id": "cam1"}, {"camera_id": "cam1"}], "last": "1m"},
            ]
        },
    ),
}

CAMERA = """
[[cameras]]
id = "cam1"
source = "scene:weld?seed=1&fps=5"
[[pipelines]]
camera = "cam1"
model = "weld_defects"
lines = [
    { name = "oven_entry", start = [0.7, 0.0], end = [0.7, 1.0] },
    { name = "oven_exit", start = [0.4, 0.0], end = [0.4, 1.0] },
]
zones = [{ name = "middle", polygon = [[0.3, 0.0], [0.7, 0.0], [0.7, 1.0], [0.3, 1.0]] }]
rules = [{ name = "mark", classes = ["crack", "pore", "undercut", "spatter"], for_s = 0.2 }]
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """`functions` are the @any functions called; `refused` the calls that were answered neither with a result nor, as
    was meant, with an error of the call."""

    shared_code_ratio: float
    target_met: bool
    by_platform: Mapping[str, float]
    lines_reachable: int
    lines_agent: int
    lines_coordinator: int
    lines_both: int
    functions: Sequence[str]
    not_called: Sequence[str]
    refused: Sequence[str]
    missed: Sequence[str]


def any_functions(platform: Platform) -> list[str]:
    """Those that both hosts serve."""
    functions = platform.schema.functions
    return [name for name in platform.bindings if functions[name].placement is Placement.ANY]


def arguments_of(platform: Platform, function: str, calls: Mapping[str, Calls]) -> Sequence[Mapping[str, Any]]:
    """Each call's; none where it needs some and the table has none."""
    given = calls.get(platform.name, Calls()).arguments.get(function)
    if given is not None:
        return given
    required = any(one.required for one in platform.schema.functions[function].parameters)
    return [] if required else [{}]


def reach_of(platform: Platform, folders: Mapping[str, Path]) -> Reach:
    """From each of the platform's @any functions."""
    packages = {**{name: ROOT / name for name in OURS}, **folders}
    reach = Reach(Modules(packages), INTERFACES)
    for name in any_functions(platform):
        run = platform.bindings[name].run
        reach.add(run.__module__, run.__name__)
    return reach


def platforms_toml(names: Sequence[str], folders: Sequence[Path], calls: Mapping[str, Calls]) -> str:
    """The `[platforms]` table of both configurations."""
    lines = ["[platforms]", f"enabled = {json.dumps([name for name in names if name != 'core'])}"]
    lines.append(f"folders = {json.dumps([str(folder) for folder in folders])}")
    for name in [*names, *(folder.name for folder in folders)]:
        if name in calls and calls[name].settings:
            lines += [f"[platforms.{name}]", calls[name].settings]
    return "\n".join(lines) + "\n"


async def _make_calls(
    port: int, loaded: Sequence[Platform], calls: Mapping[str, Calls]
) -> tuple[list[str], list[str], list[str]]:
    called: list[str] = []
    not_called: list[str] = []
    refused: list[str] = []
    address, space = BrokerAddress(port=port), TopicSpace()
    for platform in loaded:
        for function in any_functions(platform):
            given = arguments_of(platform, function, calls)
            (called if given else not_called).append(f"{platform.name}.{function}")
            for arguments in given:
                for host in (NODE, COORDINATOR):
                    try:
                        result = await call(address, space, host, Command(function, dict(arguments)), timeout_s=60.0)
                    except NoAnswerError as error:
                        refused.append(f"{host} {function}: {error}")
                        continue
                    code = result.error.code if result.error else ""
                    if result.state is not CommandState.SUCCEEDED and code in (
                        "",
                        "unknown_function",
                        "not_bound",
                        "defect",
                    ):
                        refused.append(
                            f"{host} {function} {json.dumps(arguments)}: {result.state.value} {result.error}"
                        )
    return called, not_called, refused


def _wait_for_events(stack: Stack, count: int) -> None:
    until_s = time.monotonic() + ONLINE_S
    while time.monotonic() < until_s:
        stack.check()
        try:
            with closing(Reader(stack.folder / "coordinator")) as reader:
                if len(reader.events(EventFilter(NODE, "LineCrossed"), count)) >= count:
                    return
        except EdgewrightError:
            pass  # it has not begun its store yet
        time.sleep(0.5)
    raise StackError(f"{count} crossings of lines did not come within {ONLINE_S:g} s:\n{stack.log_tail('agent')}")


def _wait_for_past(stack: Stack, count: int) -> None:
    until_s = time.monotonic() + ONLINE_S
    while time.monotonic() < until_s:
        stack.check()
        with closing(Reader(stack.folder / "coordinator")) as reader:
            totals = reader.totals()
        if totals["events"] + totals["samples"] > count:
            return
        time.sleep(0.5)
    raise StackError(f"{count} facts of the past did not come within {ONLINE_S:g} s:\n{stack.log_tail('agent')}")


def measure(folder: Path, calls: Mapping[str, Calls] = CALLS) -> Figures:
    """Everything shipped that binds an @any function, and the platform that `edgectl platform new` makes."""
    new_platform("bakery", folder)
    folders = [folder / "bakery" / "bakery"]
    shipped = [name for name in SHIPPED if Finder().schema(name) is not None]
    loaded = [one for one in load_platforms(shipped, folders).by_name.values() if any_functions(one)]
    packages = {one.name: one.origin.folder for one in loaded if one.origin.package == one.name}
    by_platform = {one.name: places(reach_of(one, packages).units()) for one in loaded}
    reachable = frozenset[Place]().union(*by_platform.values())
    files = {place.file for place in reachable}
    table = platforms_toml(shipped, folders, calls)
    with Stack(folder / "stack") as stack:
        stack.start_broker()
        _start(
            stack,
            "coordinator",
            f'[coordinator]\ndata_dir = "coordinator"\n[broker]\nport = {stack.port}\n{table}',
            files,
        )
        node = f'[node]\nid = "{NODE}"\ndata_dir = "node"\nheartbeat_s = 2.0\n[broker]\nport = {stack.port}\n'
        past = write_history(stack.folder / "node", NODE, "cam1", time.time_ns() // 1_000_000)
        _start(stack, "agent", f"{node}{CAMERA}{table}", files)
        _wait_for_events(stack, EVENTS_MIN)
        _wait_for_past(stack, past)
        called, not_called, refused = asyncio.run(_make_calls(stack.port, loaded, calls))
        ran = {name: lines_run(stack.folder / f"{name}.traced") for name in ("agent", "coordinator")}
    whole = share(reachable, ran["agent"], ran["coordinator"], ROOT)
    each = {name: share(found, ran["agent"], ran["coordinator"]).ratio for name, found in by_platform.items()}
    return figures_of(whole, each, called, not_called, refused)


def figures_of(
    whole: Share, each: Mapping[str, float], called: Sequence[str], not_called: Sequence[str], refused: Sequence[str]
) -> Figures:
    return Figures(
        whole.ratio,
        whole.ratio >= TARGET,
        each,
        whole.reachable,
        whole.agent,
        whole.coordinator,
        whole.both,
        called,
        not_called,
        refused,
        whole.missed,
    )


def _start(stack: Stack, name: str, config: str, files: set[Path]) -> None:
    path = stack.folder / f"{name}.toml"
    path.write_text(config, encoding="utf-8")
    traced = environment(stack.folder / "hook", stack.folder / f"{name}.traced", files, [ROOT])
    variables = [f"{key}={value}" for key, value in traced.items()]
    stack.spawn(name, ["env", *variables, sys.executable, "-m", name, "run", "--config", str(path)])


def main() -> int:
    """Exit status 0: measured; 1: a process failed, or a call was not served."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="edgewright-reuse-") as folder:
        try:
            figures = measure(Path(folder))
        except StackError as error:
            print(f"reuse failed: {error}", file=sys.stderr)
            return 1
    if arguments.json:
        print(json.dumps(asdict(figures)))
    else:
        for name, value in asdict(figures).items():
            print(f"{name:20} {value}")
    return 1 if figures.refused else 0


if __name__ == "__main__":
    sys.exit(main())
