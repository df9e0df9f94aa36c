"""Real broker and coordinator, light nodes that run what they are told: lost, frozen, drained, updated, killed."""

import asyncio
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coordinator.edgectl import main as edgectl_main
from tests.agent_process.agents import wait_until
from tests.broker import Broker, start_broker
from tests.coordinator.process import ROOT, Process
from tests.documents.test_end_to_end import run_main
from tests.schedule.nodes import WorkNode, work_nodes

SAMPLE = ROOT / "deploy" / "workload.toml"
BASE = 'type = "container"\ncontainer = { image = "busybox" }\nresources = { cpu_cores = 1.0 }\n'


@dataclass(frozen=True, slots=True)
class System:
    folder: Path
    broker: Broker
    coordinator: Process

    def ctl(self, *arguments: str, fails: bool = False) -> Any:
        status, out, err = run_main(edgectl_main, "--config", str(self.coordinator.config), *arguments)
        assert (status != 0) == fails, out + err
        return err if fails else json.loads(out) if "--json" in arguments else out

    def apply(self, name: str, text: str = "", *more: str, **options: Any) -> Any:
        path = self.folder / f"{name}.toml"
        path.write_text(f'name = "{name}"\n{BASE}{text}')
        return self.ctl("workload", *(more or ("apply",)), str(path), **options)

    def show(self, name: str) -> dict[str, Any]:
        return dict(self.ctl("workload", "show", name, "--json"))

    def online(self, count: int) -> None:
        sql = "SELECT count(*) FROM nodes WHERE state = 'online' AND birth IS NOT NULL"
        wait_until(lambda: self.coordinator.query(sql)[0][0] >= count)

    def events(self, *kinds: str) -> list[dict[str, Any]]:
        marks = ", ".join("?" * len(kinds))
        sql = f"SELECT data FROM events WHERE node = 'fleet' AND type IN ({marks}) ORDER BY id"
        return [json.loads(data) for (data,) in self.coordinator.query(sql, *kinds)]

    def running(self, name: str, count: int) -> None:
        wait_until(lambda: self.show(name)["placed"] == {"running": count}, lambda: json.dumps(self.show(name)))

    def again(self, times: int) -> None:
        self.coordinator.kill()
        self.coordinator.start()
        asyncio.run(self.coordinator.connected(times))


@pytest.fixture
def hold_s() -> float:
    return 0.5


@pytest.fixture
def system(tmp_path: Path, hold_s: float) -> Iterator[System]:
    broker = start_broker(tmp_path)
    (tmp_path / "c").mkdir()
    coordinator = Process(tmp_path / "c", broker.port, extra=f"heartbeat_s = 60\nwill_hold_s = {hold_s}\n")
    coordinator.start()
    try:
        asyncio.run(coordinator.connected())
        yield System(tmp_path, broker, coordinator)
    finally:
        coordinator.kill()
        broker.stop()


def holders(nodes: list[WorkNode], name: str) -> list[WorkNode]:
    return [node for node in nodes if name in node.runs]


def test_placed_lost_and_told_so_when_it_is_back(system: System) -> None:
    with work_nodes(system.broker.port, "a1", "a2", "b1") as nodes:
        system.online(3)
        assert "w is declared, generation 1" in system.apply("w", "replicas = 2")
        system.running("w", 2)
        assert sorted(node.name[0] for node in holders(nodes, "w")) == ["a", "b"]
        lost = holders(nodes, "w")[0]
        lost.kill()
        wait_until(lambda: len(holders([node for node in nodes if node is not lost], "w")) == 2)
        system.running("w", 2)
        (moved,) = system.events("WorkloadMoved")
        assert (moved["from_node"], moved["reason"]) == (lost.name, f"{lost.name} is lost")
        lost.connect()
        wait_until(lambda: "w" not in lost.runs)
        shown = system.ctl("workload", "show", "w")
        assert "running" in shown and lost.name not in shown
        assert "w is declared" in system.apply("w", "replicas = 0")
        wait_until(lambda: not holders(nodes, "w"))
        assert system.ctl("workload", "ls").splitlines()[1].split()[:3] == ["w", "container", "stopped"]


@pytest.mark.parametrize("hold_s", [8.0])
def test_while_failover_is_frozen_nothing_moves(system: System) -> None:
    names = [f"a{n}" for n in range(8)]
    with work_nodes(system.broker.port, *names, "b1", "b2") as nodes:
        system.online(10)
        system.apply("w", 'replicas = 4\nselector = "site = a"')
        system.running("w", 4)
        before = {node.name for node in holders(nodes, "w")}
        with ThreadPoolExecutor() as pool:
            list(pool.map(WorkNode.kill, nodes[:6]))
        wait_until(lambda: system.events("FailoverFrozen"))
        wait_until(lambda: system.coordinator.query("SELECT count(*) FROM nodes WHERE state = 'suspect'")[0][0] == 6)
        system.again(2)
        system.apply("other", "replicas = 1")
        system.running("other", 1)
        assert system.events("WorkloadMoved") == []
        assert {node["node"] for node in system.show("w")["nodes"]} == before
        for node in nodes[:6]:
            node.connect()
        wait_until(lambda: system.coordinator.query("SELECT count(*) FROM nodes WHERE state = 'online'")[0][0] == 10)
        assert system.events("WorkloadMoved") == []


def test_a_drained_node_keeps_its_replica_until_another_runs(system: System) -> None:
    with work_nodes(system.broker.port, "a1", "b1", manners={"b1": "idles"}) as nodes:
        system.online(2)
        system.apply("w", 'replicas = 1\nselector = "site = a"')
        system.running("w", 1)
        assert "1 replicas go elsewhere" in system.ctl("node", "drain", "a1", "--for", "2h", "--reason", "new disk")
        wait_until(lambda: system.show("w")["missing"] == 1)
        assert "1 node: is not selected" in system.show("w")["reason"]
        assert nodes[0].runs == {"w": 1}
        system.apply("w", "replicas = 1")
        wait_until(lambda: nodes[1].runs == {"w": 1})
        assert nodes[0].runs == {"w": 1} and system.events("NodeDrained") == []
        drains = system.ctl("workload", "drains")
        assert re.search(r"a1 +1 left +0 .* new disk", drains)
        system.again(2)
        nodes[1].manner = "works"
        nodes[1].close()
        nodes[1].desired = type(nodes[1].desired)()
        nodes[1].connect()
        wait_until(lambda: nodes[0].runs == {})
        assert system.events("NodeDrained") == [{"node": "a1", "moved": 1, "reason": "new disk"}]
        assert "may be given workloads again" in system.ctl("node", "undrain", "a1")
        assert "a1 is not drained" in system.ctl("node", "undrain", "a1", fails=True)


def test_killed_over_and_over_each_node_is_told_once(system: System) -> None:
    names = [f"{site}{n}" for site in "abc" for n in range(4)]
    with work_nodes(system.broker.port, *names) as nodes:
        system.online(12)
        system.apply("w", 'replicas = 9\nspread = { by = "site", max = 3 }')
        system.again(2)
        system.running("w", 9)
        lost = holders(nodes, "w")[0]
        lost.kill()
        wait_until(lambda: system.events("NodeOffline"))
        system.again(3)
        wait_until(lambda: len(holders([node for node in nodes if node is not lost], "w")) == 9)
        system.running("w", 9)
        at = [node.name[0] for node in holders([node for node in nodes if node is not lost], "w")]
        assert {site: at.count(site) for site in "abc"} == {"a": 3, "b": 3, "c": 3}
        told = [len({document.revision for document in node.seen}) for node in nodes]
        assert max(told) == 1 and sum(told) == 10
        assert len(system.events("WorkloadMoved")) == 1


def test_another_spec_reaches_the_nodes_by_a_rollout_or_is_rolled_back(system: System) -> None:
    with work_nodes(system.broker.port, "a1", "a2", "b1", "b2") as nodes:
        system.online(4)
        system.apply("w", "replicas = 3")
        system.running("w", 3)
        said = system.apply("w", "replicas = 3\nenv = { A = '1' }", "update", "--waves", "1,100%")
        assert "generation 2: the roll-out w-2 brings it to 3 nodes" in said
        wait_until(lambda: system.show("w")["generation"] == 2)
        assert [node.runs for node in holders(nodes, "w")] == [{"w": 2}] * 3
        for node in nodes:
            node.manner = "fails"
        system.apply("w", "replicas = 3\nenv = { A = '2' }", "update", "--waves", "1,100%")
        wait_until(lambda: system.coordinator.query("SELECT 1 FROM rollouts WHERE state = 'rolled_back'"))
        for node in nodes:
            node.manner = "works"
        wait_until(lambda: not system.show("w")["updating"])
        assert system.show("w")["generation"] == 2
        (aborted,) = system.events("RolloutAborted")
        assert (aborted["rollout"], aborted["roll_back"]) == ("w-3", True)
        wait_until(lambda: {node.runs["w"] for node in holders(nodes, "w")} == {2})
        assert "no workload 'nobody' to update" in system.apply("nobody", "", "update", fails=True)


def test_what_fails_is_tried_elsewhere_and_the_node_is_avoided(system: System) -> None:
    with work_nodes(system.broker.port, "a1", "a2", manners={"a1": "fails"}) as nodes:
        system.online(2)
        system.apply("w", 'selector = "name in (a1, a2)"\nspread = { by = "site", even = true }')
        wait_until(lambda: nodes[1].runs == {"w": 1} and nodes[0].runs == {})
        system.running("w", 1)
        if moved := system.events("WorkloadMoved"):  # it was on a1 first
            assert moved[0]["reason"] == "it failed on a1: no such image"
            said = system.ctl("workload", "why", "w", "a1")
            assert "it is avoided for a while: it failed there" in said and "no such image" in said


def test_why_and_what_is_refused(system: System) -> None:
    with work_nodes(system.broker.port, "a1", "b1"):
        system.online(2)
        system.apply("w", "replicas = 3")
        wait_until(lambda: system.show("w")["missing"] == 1)
        said = system.ctl("workload", "why", "w")
        assert "1 without a place" in said and re.search(r"^2 +has it$", said, re.MULTILINE)
        system.apply("big", "replicas = 1\npriority = 9", "apply")
        wait_until(lambda: system.show("big")["placed"] == {"running": 1})
        (system.folder / "huge.toml").write_text(
            f'name = "huge"\n{BASE.replace("1.0", "64.0")}selector = "site = a"\n', encoding="utf-8"
        )
        system.ctl("workload", "apply", str(system.folder / "huge.toml"))
        wait_until(lambda: system.show("huge")["missing"] == 1)
        assert system.show("huge")["reason"].startswith("no node can ever have it, of 2: 1 node: ")
        said = system.ctl("workload", "why", "huge", "b1")
        assert "it is not selected" in said and "it has 4 cores, and 64 are needed" in said and "no  site = a" in said
        wrong = 'selector = "site = a and site = b"\nreplicas = -1\nhardware = ["toaster"]\nscale = { on = "luck" }\n'
        refused = system.apply("bad", wrong, fails=True)
        assert "luck" in refused
        refused = system.apply("bad", wrong.partition("scale")[0], fails=True)
        assert all(text in refused for text in ("no node can be both", "'-1' must be a number", "'toaster' must be"))
        assert "there is no workload 'nobody'" in system.ctl("workload", "rm", "nobody", fails=True)
        assert "there is no node zz" in system.ctl("node", "drain", "zz", fails=True)
        assert "3 of w are wanted" in system.ctl("workload", "scale", "w", "3")
        assert "w goes from its nodes" in system.ctl("workload", "rm", "w")
        wait_until(lambda: "w " not in system.ctl("workload", "ls"))


def test_the_sample_is_applied_as_it_is(system: System) -> None:
    with work_nodes(system.broker.port, "p1", "q1", site="plant-7"):
        system.online(2)
        assert "counter is declared" in system.ctl("workload", "apply", str(SAMPLE))
        wait_until(lambda: system.show("counter")["placed"] == {"running": 1})
        assert "its site has 1 already" in system.ctl("workload", "show", "counter")
