"""Real broker and coordinator, twenty light nodes and a real agent: waves, failures, a kill, and what is refused."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.edgectl import main as edgectl_main
from tests.agent_process.agents import AgentProcess, bundle, camera, clip, pipeline, wait_until
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.documents.test_end_to_end import run_main
from tests.rollout.nodes import LightNode, light_nodes

SET = "labels.line=b"


@dataclass(frozen=True, slots=True)
class System:
    broker: Broker
    coordinator: Process

    def ctl(self, *arguments: str, fails: bool = False) -> Any:
        status, out, err = run_main(edgectl_main, "--config", str(self.coordinator.config), *arguments)
        assert (status != 0) == fails, out + err
        return err if fails else json.loads(out) if "--json" in arguments else out

    def start(self, *arguments: str) -> str:
        """The id of a new one."""
        return str(self.ctl("rollout", "start", "--json", *arguments)["result"]["id"])

    def show(self, key: str) -> dict[str, Any]:
        return dict(self.ctl("rollout", "show", key, "--nodes", "--json"))

    def until(self, key: str, *states: str) -> dict[str, Any]:
        wait_until(lambda: self.show(key)["state"] in states, lambda: json.dumps(self.show(key), indent=1))
        return self.show(key)

    def online(self, count: int) -> None:
        def there() -> bool:
            rows = self.coordinator.query("SELECT count(*) FROM nodes WHERE state = 'online' AND birth IS NOT NULL")
            return bool(rows[0][0] >= count)

        wait_until(there)

    def events(self, kind: str) -> list[dict[str, Any]]:
        rows = self.coordinator.query("SELECT data FROM events WHERE type = ? ORDER BY id", kind)
        return [json.loads(data) for (data,) in rows]

    def desired(self, node: str) -> dict[str, Any]:
        rows = self.coordinator.query("SELECT document FROM desired WHERE node = ?", node)
        fields = json.loads(rows[0][0])["fields"] if rows else {}
        return {path: value for path, value in fields.items() if value is not None}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    coordinator = Process(tmp_path / "c", broker.port, extra="heartbeat_s = 60\n")
    coordinator.start()
    try:
        asyncio.run(coordinator.connected())
        yield System(broker, coordinator)
    finally:
        coordinator.kill()
        broker.stop()


def reasons(found: dict[str, Any], state: str) -> dict[str, str]:
    return {one["node"]: one["reason"] for one in found["node_list"] if one["state"] == state}


def test_twenty_nodes_in_waves_with_two_that_refuse_and_one_that_is_silent(system: System) -> None:
    with light_nodes(system.broker.port, 20, {3: "refuses", 7: "refuses", 11: "silent"}, site="a") as nodes:
        system.online(20)
        key = system.start(
            *("--select", "label.site = a", "--set", SET, "--waves", "1,25%,100%", "--bake", "200ms"),
            *("--budget", "40%", "--min-sample", "5", "--accept", "3s", "--rate", "100"),
        )
        found = system.until(key, "completed", "paused")
        if found["state"] == "paused":  # the first one was drawn among those that fail
            system.ctl("rollout", "resume", key)
            found = system.until(key, "completed")
        assert found["nodes"] == {"failed": 2, "silent": 1, "verified": 17}
        assert reasons(found, "failed")["n03"] == "refused labels.line: there is none here"
        assert reasons(found, "silent") == {"n11": "no answer within 3 s"}
        assert {one["wave"] for one in found["node_list"]} == {1, 2, 3}
        assert all(node.fields == {"labels.line": "b"} for node in nodes if node.manner != "silent")
        assert [len(system.events(kind)) for kind in ("RolloutStarted", "RolloutWaveDone")] == [1, 3]
        assert system.events("RolloutCompleted")[0]["counts"] == found["nodes"]
        shown = system.ctl("rollout", "ls")
        assert key in shown and "labels.line=b" in shown and "17/20" in shown


def test_a_spent_budget_rolls_everybody_back_but_not_over_another_hand(system: System) -> None:
    with light_nodes(system.broker.port, 12, dict.fromkeys(range(4, 12), "ill")) as nodes:
        system.online(12)
        system.ctl("desired", "set", "n01", "labels.line=before", "log.level=INFO")
        system.ctl("desired", "set", "n02", "heartbeat_s=9")
        key = system.start(
            *("--select", "name in (n00, n01, n02, n03)", "--set", SET, "heartbeat_s=7", "--bake", "600s"),
        )
        system.until(key, "baking")
        system.ctl("desired", "set", "n03", "labels.line=mine")
        system.ctl("rollout", "abort", key, "--roll-back")
        found = system.until(key, "rolled_back")
        assert {name: system.desired(name) for name in ("n00", "n01", "n02", "n03")} == {
            "n00": {},
            "n01": {"labels.line": "before", "log.level": "INFO"},
            "n02": {"heartbeat_s": 9},
            "n03": {"labels.line": "mine", "heartbeat_s": 7},
        }
        assert "another hand has changed labels.line since" in reasons(found, "kept")["n03"]
        wait_until(lambda: nodes[0].fields == {})

        second = system.start(
            *("--select", "name > n03", "--set", SET, "--healthy", "--verify", "2s", "--budget", "20%"),
            *("--min-sample", "4", "--on-failure", "rollback", "--rate", "1000"),
        )
        found = system.until(second, "rolled_back")
        assert set(found["nodes"]) == {"rolled_back"}
        assert "the failure budget is spent" in found["reason"]
        assert all(system.desired(f"n{i:02}") == {} for i in range(4, 12))
        told = system.ctl("rollout", "show", second, "--watch", fails=True)
        assert told == ""


def test_killed_in_the_middle_of_a_wave_it_goes_on_and_tells_each_node_once(system: System) -> None:
    with light_nodes(system.broker.port, 20, {4: "flaps", 9: "flaps"}) as nodes:
        system.online(20)
        key = system.start("--select", "all", "--set", SET, "--waves", "2,100%", "--rate", "8", "--bake", "100ms")
        for times in (2, 3):
            wait_until(lambda: system.show(key)["nodes"].get("verified", 0) >= (times - 1) * 4)  # noqa: B023
            system.coordinator.kill()
            system.coordinator.start()
            asyncio.run(system.coordinator.connected(times))
        found = system.until(key, "completed")
        assert found["nodes"] == {"verified": 20}
        wait_until(lambda: all(node.fields == {"labels.line": "b"} for node in nodes))
        assert {desired.revision for node in nodes for desired in node.seen} == {1}
        assert len(system.events("RolloutStarted")) == len(system.events("RolloutCompleted")) == 1


def test_pause_resume_and_nodes_that_come_later(system: System) -> None:
    with light_nodes(system.broker.port, 6, line="a") as nodes:
        system.online(6)
        nodes[5].close()
        wait_until(lambda: system.coordinator.query("SELECT 1 FROM nodes WHERE state = 'offline'"))
        key = system.start("--select", "line = a", "--set", "log.level=DEBUG", "--rate", "1", "--continuous")
        wait_until(lambda: system.show(key)["nodes"].get("verified", 0) >= 1)
        assert "paused" in system.ctl("rollout", "pause", key)
        told = system.show(key)["nodes"]["waiting"]
        assert told > 1
        assert "paused, not paused" not in system.ctl("rollout", "pause", key, fails=True)
        assert system.show(key)["nodes"]["waiting"] == told
        assert "running" in system.ctl("rollout", "resume", key)
        assert system.until(key, "completed")["nodes"] == {"verified": 5, "waiting": 1}
        nodes[5].connect()
        late = LightNode(system.broker.port, "late", line="a")
        other = LightNode(system.broker.port, "other", line="z")
        late.connect()
        other.connect()
        try:
            wait_until(lambda: system.show(key)["nodes"] == {"verified": 7}, lambda: str(system.show(key)))
            assert (late.fields, other.fields) == ({"log.level": "DEBUG"}, {})
        finally:
            late.close()
            other.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--select", "site = nowhere", "--set", SET), "no node is selected by 'site = nowhere'"),
        (("--select", "all", "--set", "warp=9"), "there is no field 'warp'"),
        (("--select", "site ~ a", "--set", SET), "'~' cannot stand here (column 6)"),
        (("--select", "all", "--set", SET, "--waves", "1,10%"), "the last wave is 10%, not 100%"),
        (("--select", "all", "--set", SET, "--id", "a b"), "id: 'a b' must match"),
        (("--select", "all", "--set", SET, "--rate", "0"), "rate_per_s: 0.0 must be a number from 0.001"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(system: System, arguments: tuple[str, ...], said: str) -> None:
    assert said in system.ctl("rollout", "start", *arguments, fails=True)
    assert system.ctl("rollout", "ls", "--json") == []


def test_two_that_write_the_same_fields_of_the_same_nodes_do_not_run_together(system: System) -> None:
    with light_nodes(system.broker.port, 3):
        system.online(3)
        key = system.start("--select", "all", "--set", SET, "--bake", "1h", "--id", "first")
        said = system.ctl("rollout", "start", "--select", "name = n01", "--set", "labels.line=c", fails=True)
        assert f"the roll-out {key} is" in said and "writes labels.line of n01 too" in said
        assert "there is a roll-out first already" in system.ctl(
            *("rollout", "start", "--select", "all", "--set", "log.level=INFO", "--id", "first"), fails=True
        )
        system.start("--select", "all", "--set", "log.level=INFO")
        assert "there is no roll-out 'r-9'" in system.ctl("rollout", "pause", "r-9", fails=True)
        assert "there is no roll-out 'r-9'" in system.ctl("rollout", "show", "r-9", fails=True)


def test_a_real_agent_takes_part(system: System, tmp_path: Path) -> None:
    body = camera("cam1", clip(tmp_path / "a.mp4", [3] * 40), "loop = true") + pipeline(
        "cam1", bundle(tmp_path / "m")
    )
    with AgentProcess(tmp_path, system.broker.port, body) as agent:
        agent.start()
        system.online(1)
        wait_until(lambda: system.coordinator.query("SELECT 1 FROM stream_reports WHERE node = 'gw-1'"))
        key = system.start(
            *("--select", "camera has cam1", "--set", "pipelines.cam1.confidence_min=0.4", "log.level=DEBUG"),
            *("--healthy", "--continuous"),
        )
        found = system.until(key, "completed", "paused")
        assert found["nodes"] == {"verified": 1}, found
        bad = system.start("--select", "all", "--set", "pipelines.nowhere.enabled=true", "--on-failure", "rollback")
        found = system.until(bad, "rolled_back")
        assert "no pipeline 'nowhere' here" in system.events("DesiredApplied")[-2]["refused"].get(
            "pipelines.nowhere.enabled", str(system.events("DesiredApplied"))
        )
        assert system.desired("gw-1") == {"pipelines.cam1.confidence_min": 0.4, "log.level": "DEBUG"}
        assert system.show(key)["nodes"] == {"verified": 1}


def test_watching_tells_each_change_and_ends_with_it(system: System) -> None:
    with light_nodes(system.broker.port, 4):
        system.online(4)
        out = system.ctl(
            "rollout", "start", "--select", "all", "--set", SET, "--waves", "1,100%", "--bake", "1s", "--watch"
        )
        lines = out.splitlines()
        assert lines[0] == "r-1 has begun: 4 nodes, 4 of them there"
        assert lines[-1] == "r-1 completed, wave 2 of 2: 4 of 4 verified"
        assert threading.active_count() < 20
