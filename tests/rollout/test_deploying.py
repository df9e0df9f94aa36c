"""A model as a roll-out: what it means for a node, and the way from the command line to many nodes and back."""

import argparse
import asyncio
import io
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from coordinator.ctl import rollout_options, rollout_watch
from coordinator.ctl.rollout_watch import bars, phases
from coordinator.edgectl import main as edgectl_main
from coordinator.fleet.facts import Facts
from coordinator.fleet.registry import Node
from coordinator.rollout.deploying import Deployment, pipelines_of, told
from coordinator.rollout.plan import Ahead, Plan
from coordinator.rollout.state import NodeRun, NodeState, Step
from coordinator.store import rollouts
from coordinator.store.rollouts import RolloutView
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch
from runtime.timeline import MachineTime
from schemas.bundles import Requires, Target
from schemas.messages import Birth
from schemas.shape import read
from tests.agent_process.agents import wait_until
from tests.broker import start_broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.documents.test_end_to_end import run_main
from tests.models.making import make_folder, model_bytes, release
from tests.rollout.nodes import LightNode, light_nodes
from tests.rollout.test_end_to_end import System, reasons

ARM: Facts = {"hardware.arch": "arm64", "hardware.accelerators": ()}
OLD = {"model": "finder@1.0.0", "digest": ""}
RUNS = {"pipelines.door.model": OLD, "pipelines.yard.model": {"model": "counter@1.0.0", "digest": ""}}
DIGEST = "ab" * 32
PAGE = (ROOT / "docs" / "rollouts.md").read_text(encoding="utf-8")


# ---- what it means for a node -------------------------------------------------------------------


def deployment(*pipelines: str, requires: Requires | None = None) -> Deployment:
    return Deployment(release(version="1.4.0", requires=requires or Requires()), DIGEST, pipelines)


@pytest.mark.parametrize(
    ("pipelines", "holds", "found"),
    [
        ((), RUNS, ["door"]),
        ((), {"pipelines.a.model": OLD, "pipelines.b.model": "finder@0.9"}, ["a", "b"]),
        (("yard",), RUNS, ["yard"]),
        (("yard", "roof"), RUNS, ["yard"]),
        ((), {"pipelines.yard.model": "counter"}, "no pipeline of it runs a model named finder: yard runs counter"),
        ((), {}, "no pipeline of it runs a model named finder: it has none; name one with --pipelines"),
        (("roof",), RUNS, "it has no pipeline roof: door runs finder, yard runs counter"),
        ((), None, "it has not reported what its pipelines run"),
    ],
)
def test_which_pipelines_of_a_node_are_to_run_it(
    pipelines: tuple[str, ...], holds: dict[str, Any] | None, found: list[str] | str
) -> None:
    fit = deployment(*pipelines).fit(ARM, holds)
    if isinstance(found, str):
        assert found in fit.excluded and not fit.own
        assert fit.unheard == (holds is None)
    else:
        value = {"model": "finder@1.4.0", "digest": DIGEST}
        assert fit.own == {f"pipelines.{name}.model": value for name in found} and not fit.excluded


def test_a_node_without_a_variant_that_it_can_run_is_told_nothing() -> None:
    fit = deployment(requires=Requires(arch=("x86_64",))).fit(ARM, RUNS)
    assert fit.excluded == "it cannot run finder@1.4.0: cpu: it is for x86_64, and the node is arm64"


def test_the_plan_says_what_is_fetched_and_the_bandwidth_bounds_the_rate() -> None:
    made = Deployment(release(Target.CPU, Target.GPU, version="1.4.0"), DIGEST)
    assert made.bytes == 100  # the largest variant, and nothing else is there
    plan = made.planned(Plan("all", model="finder", bandwidth_bytes_s=500.0))
    assert plan.model == "finder@1.4.0"
    assert plan.prefetch == {"models.finder.release": {"version": "1.4.0", "digest": DIGEST}}
    assert plan.fetch_rate_per_s == 5.0


def test_pipelines_as_nodes_tell_them_and_reasons_by_how_often() -> None:
    assert pipelines_of({**RUNS, "pipelines.door.enabled": True}) == {"door": "finder", "yard": "counter"}
    assert told(["b", "a", "a"]) == "2 nodes: a; 1 node: b"
    assert told(str(n) for n in range(12)).endswith("; and 2 more reasons")


def test_a_bar_for_each_phase() -> None:
    nodes = {"waiting": 10, "notified": 5, "fetching": 5, "ready": 8, "told": 1, "accepted": 1, "verified": 6,
             "failed": 4, "excluded": 3}  # fmt: skip
    now = {"told": 1, "accepted": 1, "verified": 6, "failed": 1}
    view = RolloutView("r-1", "running", 1, 2, "", 0, 0, nodes, {"prefetch": {"models.x.release": {}}}, now)
    assert phases(view) == [("notified", 30, 40), ("fetched", 17, 40), ("activated", 7, 40), ("verified", 6, 40)]
    assert bars(view)[0] == "  notified   [##################------] 30 of 40"
    assert bars(RolloutView("r-1", "running", 1, 2, "", 0, 0, nodes, {}, now)) == []


class Screen(io.StringIO):
    """A terminal, or none."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__()
        self.isatty = lambda: is_terminal  # type: ignore[method-assign]


@pytest.mark.parametrize(("is_terminal", "as_json"), [(True, False), (False, False), (False, True), (True, True)])
def test_watching_writes_over_bars_on_a_terminal_and_lines_elsewhere(
    monkeypatch: pytest.MonkeyPatch, is_terminal: bool, as_json: bool
) -> None:
    plan: dict[str, Any] = {"prefetch": {"models.x.release": {}}}
    views = [
        RolloutView("r-1", state, 1, 1, "", 0, 0, nodes, plan, {"verified": nodes.get("verified", 0)})
        for state, nodes in (
            ("running", {"waiting": 2}),
            ("running", {"waiting": 2}),
            ("running", {"ready": 1, "verified": 1}),
            ("completed", {"verified": 2}),
        )
    ]
    screen = Screen(is_terminal=is_terminal)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(rollout_watch, "WATCH_EVERY_S", 0.0)
    shown = iter(views)
    assert rollout_watch.watch(lambda: next(shown), good="completed", as_json=as_json) == 0
    text = screen.getvalue()
    if as_json:
        assert [json.loads(line)["state"] for line in text.splitlines()] == ["running", "running", "completed"]
    elif is_terminal:
        assert text.count("\x1b[5F") == 2 and "verified   [############------------] 1 of 2" in text
    else:
        assert text.splitlines()[-1] == "r-1 completed, wave 1 of 1: 2 of 2 verified"
        assert len(text.splitlines()) == 3 and "\x1b" not in text


def test_options_become_what_is_asked_of_the_coordinator() -> None:
    parser = argparse.ArgumentParser()
    rollout_options.add_options(parser)
    rollout_options.add_fetch_options(parser)
    words = "--latency-max 20ms --latency-ratio 1.2 --rate-growth 2 --waves 1,100% --bandwidth 1.5MB --ahead wave"
    parsed = parser.parse_args([*words.split(), "--fetch", "2h", "--fetch-at-once", "7"])
    parsed.select, parsed.set, parsed.unset = "all", ["log.level=DEBUG"], []
    asked = {**rollout_options.asked_of(parsed), **rollout_options.fetch_asked_of(parsed)}
    wanted = Plan(
        "all", {"log.level": "DEBUG"}, waves=("1", "100%"), latency_max_ms=20.0, latency_ratio=1.2, rate_growth=2.0,
        bandwidth_bytes_s=1_500_000.0, ahead=Ahead.WAVE, fetch_s=7200.0, fetch_at_once=7,
    )  # fmt: skip
    assert read(Plan, asked, strict=True) == wanted
    with pytest.raises(SystemExit):
        parser.parse_args(["--bandwidth", "much"])


def test_why_says_what_a_rollout_made_of_a_node_or_why_it_is_none_of_its(tmp_path: Path) -> None:
    async def fill() -> None:
        store = SqliteStore(tmp_path)
        await store.commit(Batch(nodes=[Node(name, birth=Birth(1, 1, site=name)) for name in ("a", "b", "c")]))
        plan = Plan("site in (a, b)", {"heartbeat_s": 5})
        kept = await store.run(lambda db: rollouts.begin(db, plan, ["a"], 1, excluded={"b": "it cannot run it"}))
        refused = NodeRun("a", NodeState.FAILED, reason="refused heartbeat_s: no", told=True)
        step = Step(nodes={"a": refused})
        await store.run(lambda db: rollouts.carry_out(db, kept, step, MachineTime("server", 0, 1_795_521_600_000)))
        store.close()

    asyncio.run(fill())

    def why(node: str, *words: str) -> tuple[int, str]:
        status, out, _ = run_main(edgectl_main, "--data-dir", str(tmp_path), "why", node, "r-1", *words)
        return status, out.strip()

    assert why("a") == (1, "a in r-1 (pending): failed, in wave 1 of 1: refused heartbeat_s: no")
    assert why("b") == (1, "b in r-1 (pending): excluded: it cannot run it")
    status, text = why("c")
    assert status == 1 and text.startswith("c takes no part in r-1: site in (a, b)") and "no " in text
    assert json.loads(why("b", "--json")[1])["state"] == "excluded"


# ---- from the command line to the nodes ---------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    coordinator = Process(tmp_path / "c", broker.port, extra="heartbeat_s = 60\n")
    coordinator.start()
    try:
        asyncio.run(coordinator.connected())
        for number, version in enumerate(("1.0.0", "1.4.0", "2.0.0")):
            more = "[variants.requires]\narch = ['arm64']\n"
            folder = make_folder(tmp_path / version, version=version, data=model_bytes(seed=number), more=more)
            ask(coordinator, "add", str(folder))
        ask(coordinator, "promote", "finder@1.4.0", "stable")
        ask(coordinator, "promote", "finder@2.0.0", "canary")
        yield System(broker, coordinator)
    finally:
        coordinator.kill()
        broker.stop()


def ask(process: Process, *words: str) -> Any:
    done = edgectl(["--config", str(process.config), "model", *words, "--json"])
    assert done.returncode == 0, (done, process.log.read_text())
    return json.loads(done.stdout)


def fleet(system: System, count: int, manners: dict[int, str] | None = None) -> Any:
    return light_nodes(system.broker.port, count, manners, holds=RUNS, hardware={"arch": "aarch64"}, site="a")


def reported(system: System, count: int) -> None:
    system.online(count)
    sql = "SELECT count(*) FROM reported WHERE document LIKE '%finder@1.0.0%'"
    wait_until(lambda: system.coordinator.query(sql)[0][0] >= count)


def test_deployed_in_waves_and_undone_by_one_command(system: System) -> None:
    with fleet(system, 12, {3: "cannot", 7: "fetches", 9: "refuses"}) as nodes:
        other = LightNode(system.broker.port, "pc", holds=RUNS, hardware={"arch": "x86_64"}, site="a")
        other.connect()
        reported(system, 13)
        system.ctl("desired", "set", "n01", "log.level=INFO")
        out = system.ctl(
            *("deploy", "finder", "--select", "label.site = a", "--set", "labels.line=b", "--waves", "2,100%"),
            *("--budget", "40%", "--rate", "100", "--fetch-rate", "200", "--bandwidth", "10MB", "--watch"),
        )
        lines = out.splitlines()
        assert lines[0] == "r-1 brings finder@1.4.0 to 12 nodes, 12 of them there; 1 more cannot take it"
        assert lines[-1].startswith("r-1 completed")
        found = system.show("r-1")
        assert found["nodes"] == {"excluded": 1, "failed": 2, "verified": 10}
        assert "it is for arm64, and the node is x86_64" in reasons(found, "excluded")["pc"]
        assert "no space for it" in reasons(found, "failed")["n03"]
        digest = ask(system.coordinator, "show", "finder@1.4.0")["digest"]
        wanted = {
            "models.finder.release": {"version": "1.4.0", "digest": digest},
            "pipelines.door.model": {"model": "finder@1.4.0", "digest": digest},
            "labels.line": "b",
        }
        assert nodes[7].fields == nodes[0].fields == wanted
        assert "pipelines.door.model" not in system.desired("n03") and system.desired("pc") == {} == other.fields
        assert [len(node.seen) for node in (nodes[0], nodes[3], other)] == [2, 1, 0]  # fetch, then activate
        assert system.events("ModelDeployed") == [
            {"model_id": "finder", "version": "1.4.0", "node_count": 10, "deployment": "r-1"}
        ]
        assert "finder@1.4.0" in system.ctl("rollout", "ls")
        out = system.ctl("deploy", "--undo", "--watch")
        assert out.splitlines()[-1].startswith("r-1 rolled back")
        assert {name: system.desired(name) for name in ("n00", "n01", "n03", "n09")} == {
            "n00": {}, "n01": {"log.level": "INFO"}, "n03": {}, "n09": {},
        }  # fmt: skip
        assert "no deployment to undo" in system.ctl("deploy", "--undo", fails=True)
        other.close()


def test_what_cannot_be_deployed_is_refused_with_every_reason(system: System) -> None:
    with fleet(system, 2):
        reported(system, 2)
        for words, said in (
            (("finder@9.0.0", "--select", "all"), "there is no model finder@9.0.0"),
            (("nothing", "--select", "all"), "there is no model nothing"),
            (("finder@night", "--select", "all"), "channel night gives out no version of finder (canary gives out"),
            (("finder", "--select", "site = nowhere"), "no node is selected by 'site = nowhere'"),
            (("finder", "--select", "all", "--pipelines", "roof"), "2 nodes: it has no pipeline roof"),
            (("finder", "--select", "site ~", "--waves", "5%"), "the last wave is 5%"),
            (("finder", "--select", "all", "--set", "warp=9"), "there is no field 'warp'"),
        ):
            assert said in system.ctl("deploy", *words, fails=True), words
        both = system.ctl("deploy", "finder@9.0.0", "--select", "all", "--waves", "5%", fails=True)
        assert "there is no model finder@9.0.0" in both and "the last wave is 5%" in both
        ask(system.coordinator, "retire", "finder@1.0.0")
        assert "is retired" in system.ctl("deploy", "finder@1.0.0", "--select", "all", fails=True)
        assert system.ctl("rollout", "ls", "--json") == []


def test_a_node_that_joins_later_gets_it_once_it_has_said_what_it_runs(system: System) -> None:
    with fleet(system, 2):
        reported(system, 2)
        key = system.ctl("deploy", "finder", "--select", "line = x", "--continuous", "--json")["result"]["id"]
        late = LightNode(system.broker.port, "late", holds=RUNS, hardware={"arch": "arm64"}, line="x")
        other = LightNode(system.broker.port, "other", hardware={"arch": "x86_64"}, line="x")
        late.connect()
        other.connect()
        try:
            states = {"verified": 1, "excluded": 1}
            wait_until(lambda: system.show(key)["nodes"] == states, lambda: str(system.show(key)))
            assert late.fields["pipelines.door.model"]["model"] == "finder@1.4.0"
        finally:
            late.close()
            other.close()


@pytest.mark.skipif(shutil.which("mosquitto_pub") is None, reason="mosquitto_pub is not here")
def test_deploy_model_over_mqtt_as_the_page_has_it(system: System) -> None:
    with fleet(system, 3) as nodes:
        reported(system, 3)
        line = next(line for line in PAGE.splitlines() if line.startswith("mosquitto_pub") and "deployModel" in line)
        words = shlex.split(line.replace("gw-1", "n00"))
        subprocess.run([*words, "-p", str(system.broker.port), "-q", "1"], check=True, timeout=30)
        wait_until(lambda: system.events("ModelDeployed"))
        (done,) = system.events("ModelDeployed")
        assert (done["model_id"], done["version"], done["node_count"]) == ("finder", "1.4.0", 1)
        assert [bool(node.seen) for node in nodes] == [True, False, False]
        assert system.show(done["deployment"])["plan"]["source"] == "deployModel"
