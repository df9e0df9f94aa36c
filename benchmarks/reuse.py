"""How much of the code of `@any` functions runs in both hosts. usage: python -m benchmarks.reuse [--json]

`shared_code_ratio`: of the code lines that can be reached from the `@any` functions of the platforms, the share that
ran in a real agent process and in a real coordinator process, both called with the same arguments.

Reachable is told from the source (`reuselib/reach.py` says what that follows and what it cannot see), with the class
that both hosts use in the place of `Context`. Run is what a tracer in the two processes has seen. A line is a
statement, or the head of one; a branch that no call takes counts as not run, so there are bad arguments too.

A node has a camera on a rendered scene, with lines, a zone and a rule, and two hours of a past (`history.py`), so
that there are results to count. Settings and arguments are in `calls.py`. A second node and the coordinator get
settings that make no sense: what tells of those is reachable too.
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

from benchmarks.reuselib.calls import CALLS, Calls
from benchmarks.reuselib.figures import Place, places, share
from benchmarks.reuselib.history import write_history
from benchmarks.reuselib.reach import Modules, Reach
from benchmarks.reuselib.trace import environment, lines_run
from coordinator.ctl.platform_new import new_platform
from coordinator.store.reader import EventFilter, Reader
from platforms.finding import SHIPPED, Finder
from platforms.loading import BASE, load_platforms
from platforms.platform import Platform
from runtime.calls.client import Client
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress
from schemas.language.schema import Placement
from schemas.messages import Command
from schemas.topics import COORDINATOR
from scripts.stack import ROOT, Stack, StackError

NODE = "gw-reuse"
OURS = ("schemas", "runtime", "platforms", "agent", "coordinator")
INTERFACES = {"platforms.context.Context": "platforms.host_context.HostContext"}
TARGET = 0.9
ONLINE_S = 60.0
AGREE_S = 30.0
NOT_SERVED = ("no answer", "unknown_function", "not_bound", "defect", "bad_result")
EVENTS_MIN = 10  # LineCrossed at the coordinator before anything is called


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
    """`functions` are the @any functions called; `refused` the calls that nobody served, or the two hosts answered
    differently. `missed` are lines that did not run in both, with the host that ran them."""

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


def platforms_toml(names: Sequence[str], folders: Sequence[Path], settings: str = "") -> str:
    """The `[platforms]` table of a configuration."""
    enabled = json.dumps([name for name in names if name != BASE])
    places = json.dumps([str(folder) for folder in folders])
    return f"[platforms]\nenabled = {enabled}\nfolders = {places}\n{settings}"


@dataclass(slots=True)
class Made:
    """What came of the calls."""

    called: list[str] = field(default_factory=list)
    not_called: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


async def _make_calls(port: int, loaded: Sequence[Platform], calls: Mapping[str, Calls]) -> Made:
    made = Made()
    async with Client(BrokerAddress(port=port), name="reuse") as client:
        for platform in loaded:
            for function in any_functions(platform):
                given = arguments_of(platform, function, calls)
                (made.called if given else made.not_called).append(f"{platform.name}.{function}")
                for arguments in given:
                    if why := await _call_both(client, function, arguments):
                        made.refused.append(why)
    return made


async def _call_both(client: Client, function: str, arguments: Mapping[str, Any]) -> str:
    """The coordinator is asked until it answers as the node does: state takes a moment to come there.

    Returns that they did not answer alike or do not serve it, or nothing.
    """
    here = await _answer(client, NODE, function, arguments)
    until_s = time.monotonic() + AGREE_S
    while (there := await _answer(client, COORDINATOR, function, arguments)) != here and time.monotonic() < until_s:
        await asyncio.sleep(0.5)
    asked = f"{function} {json.dumps(arguments)}"
    if here != there:
        return f"{asked}: {NODE} {here}, {COORDINATOR} {there}"
    return f"{asked}: {here}" if any(code in here for code in NOT_SERVED) else ""


async def _answer(client: Client, host: str, function: str, arguments: Mapping[str, Any]) -> str:
    try:
        result = await client.ask(host, Command(function, dict(arguments)), timeout_s=60.0)
    except EdgewrightError as error:
        return f"no answer: {error}"
    return f"{result.state.value} {result.error.code if result.error else ''}".strip()


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
    settings = "".join(calls[one.name].settings for one in loaded if one.name in calls)
    askew = "".join(calls[one.name].askew for one in loaded if one.name in calls)
    with Stack(folder / "stack") as stack:
        stack.start_broker()
        broker = f"[broker]\nport = {stack.port}\n"
        cloud = f'[coordinator]\ndata_dir = "coordinator"\n{broker}{platforms_toml(shipped, folders, askew)}'
        _start(stack, "coordinator", "coordinator", cloud, files)
        node = f'[node]\nid = "{NODE}"\ndata_dir = "node"\nheartbeat_s = 2.0\n'
        past = write_history(stack.folder / "node", NODE, "cam1", time.time_ns() // 1_000_000)
        _start(stack, "agent", "agent", f"{node}{broker}{CAMERA}{platforms_toml(shipped, folders, settings)}", files)
        other = f'[node]\nid = "{NODE}-askew"\ndata_dir = "askew"\n{broker}{platforms_toml(shipped, folders, askew)}'
        _start(stack, "agent", "askew", other, files)
        _wait_for_events(stack, EVENTS_MIN)
        _wait_for_past(stack, past)
        made = asyncio.run(_make_calls(stack.port, loaded, calls))
        ran = {name: lines_run(stack.folder / f"{name}.traced") for name in ("agent", "coordinator")}
    whole = share(reachable, ran["agent"], ran["coordinator"], ROOT)
    each = {name: share(found, ran["agent"], ran["coordinator"]).ratio for name, found in by_platform.items()}
    return Figures(
        whole.ratio,
        whole.ratio >= TARGET,
        each,
        whole.reachable,
        whole.agent,
        whole.coordinator,
        whole.both,
        made.called,
        made.not_called,
        made.refused,
        whole.missed,
    )


def _start(stack: Stack, program: str, name: str, config: str, files: set[Path]) -> None:
    """Traced, with what other processes of the program have run."""
    path = stack.folder / f"{name}.toml"
    path.write_text(config, encoding="utf-8")
    traced = environment(stack.folder / "hook", stack.folder / f"{program}.traced", files, [ROOT])
    variables = [f"{key}={value}" for key, value in traced.items()]
    stack.spawn(name, ["env", *variables, sys.executable, "-m", program, "run", "--config", str(path)])


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
