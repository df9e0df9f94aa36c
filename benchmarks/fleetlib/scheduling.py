"""How long one workload takes to be scheduled over a large fleet: the scheduler itself, no disk and no broker."""

import random
import time
from collections.abc import Iterator
from typing import Any

from coordinator.fleet.node import Node, NodeState
from coordinator.schedule.index import Index
from coordinator.schedule.scheduler import Scheduler
from coordinator.schedule.state import Changed, News, Said, Step, Written
from coordinator.schedule.workload import Workload, read_workload
from coordinator.simulate.hardware import birth_of
from coordinator.simulate.scenario import FleetTable, Scenario
from schemas.messages import Heartbeat
from schemas.workloads import WorkloadReport, WorkloadState

NODES_PER_SITE = 100
WORKLOADS = 300
KINDS: tuple[dict[str, Any], ...] = (
    {"replicas": 1},
    {"replicas": 3, "selector": "profile = gpu and line = 3"},
    {"replicas": 10, "hardware": ["arm64", "npu"], "spread": {"by": "site", "max": 1}},
    {"replicas": 4, "selector": "site in (site-3, site-4, site-9)", "spread": {"by": "line", "even": True}},
    {"replicas": 50, "selector": "resources.memory_mb >= 8192, not tier = canary"},
    {"replicas": 2, "selector": "near(48.1, 11.5, 2000 km) or site = site-1", "priority": 9},
    {"replicas": 1, "selector": "name = sim-00017", "priority": 100},
    {"replicas": 1, "resources": {"cpu_cores": 64}},  # nobody can ever have it
)


def scheduling(nodes: int = 50_000, workloads: int = WORKLOADS) -> dict[str, Any]:
    """{"schedule_ms_p99": x, "schedule_ms_p50": y, "schedule_nodes": n, …}; `replace_ms_p99`: of a node that is lost.

    One measurement: a workload is declared, and all steps until each of its replicas has a place or a reason. Half of
    the nodes have something already. Blocks; with 50,000 nodes about 20 s.
    """
    fleet = _Fleet(nodes)
    took_ms = [fleet.declare(one) for one in _workloads(workloads)]
    lost_ms = [fleet.lose(name) for name in fleet.occupied(min(100, nodes // 10))]
    beat_us = fleet.beats()
    return {
        "schedule_ms_p99": _at(took_ms, 0.99),
        "schedule_ms_p50": _at(took_ms, 0.5),
        "schedule_nodes": nodes,
        "schedule_workloads": workloads,
        "schedule_placed": fleet.placed,
        "replace_ms_p99": _at(lost_ms, 0.99),
        "schedule_beat_us": round(beat_us, 2),
        "schedule_index_s": round(fleet.index_s, 2),
    }


def _workloads(count: int) -> Iterator[Workload]:
    dice = random.Random(1)
    for number in range(count):
        needs = {"cpu_cores": dice.choice([0.1, 0.25, 0.5, 1.0]), "memory_mb": dice.choice([64, 128, 512])}
        given = {"name": f"w{number}", "type": "container", "container": {"image": "x"}, "resources": needs}
        yield read_workload({**given, **KINDS[number % len(KINDS)]})


class _Fleet:
    """All nodes are there; what a step asks for is done at once, and runs."""

    def __init__(self, nodes: int) -> None:
        scenario = Scenario(fleet=FleetTable(nodes=nodes, sites=max(1, nodes // NODES_PER_SITE)))
        births = [birth_of(scenario, number, 1, 1, "s") for number in range(nodes)]
        self._nodes = {
            scenario.node(number): Node(scenario.node(number), NodeState.ONLINE, 1, 1, birth=birth)
            for number, birth in enumerate(births)
        }
        began_s = time.perf_counter()
        self._index = Index()
        for node in self._nodes.values():
            self._index.put(node)
        self._scheduler = Scheduler(self._index)
        self.index_s = time.perf_counter() - began_s
        for fact in ("profile", "line", "tier", "name", "resources.memory_mb", "resources.npu"):
            self._index.column(fact)  # as after the first workloads that asked for it
        dice = random.Random(2)
        for slot in range(0, nodes, 2):
            self._index.occupy(slot, (dice.choice([0.5, 1.0, 2.0]), 256.0, 0.0, 0.0, 0.0))
        self._now_ms = 1_000_000
        self._revision = 0
        self.placed = 0
        self._settle([])

    def declare(self, workload: Workload) -> float:
        """Milliseconds."""
        began_s = time.perf_counter()
        self._scheduler.apply(workload, self._now_ms)
        found = self._settle([])
        took_ms = (time.perf_counter() - began_s) * 1000
        self.placed += sum(len(change.placed) for step in found for change in step.nodes.values())
        self._run(found)
        return took_ms

    def lose(self, name: str) -> float:
        """Milliseconds until what was there has its new places."""
        node = Node(name, NodeState.OFFLINE, 1, 1, birth=self._nodes[name].birth, lost=True)
        began_s = time.perf_counter()
        found = self._settle([Changed(name, node)])
        took_ms = (time.perf_counter() - began_s) * 1000
        self._run(found)
        return took_ms

    def occupied(self, count: int) -> list[str]:
        """Names of nodes where something is placed."""
        return sorted(self._scheduler.book.on)[:count]

    def beats(self) -> float:
        """Microseconds for a heartbeat."""
        beat = Heartbeat(1, 1, 1, cpu_percent=120.0)
        began_s = time.perf_counter()
        for name in self._nodes:
            self._index.beat(name, beat)
        return (time.perf_counter() - began_s) / len(self._nodes) * 1e6

    def _settle(self, news: list[News]) -> list[Step]:
        found = []
        while True:
            step = self._scheduler.step(self._now_ms, 0, news)
            news = [Written(name, 1, self._next()) for name in step.nodes]
            found.append(step)
            if step.is_empty and (step.wake_utc_ms is None or step.wake_utc_ms > self._now_ms):
                return found

    def _run(self, steps: list[Step]) -> None:
        """What was placed runs."""
        said: list[News] = []
        for step in steps:
            for node, change in step.nodes.items():
                states = {
                    name: WorkloadReport(WorkloadState.RUNNING, placed.generation)
                    for name, placed in change.placed.items()
                }
                said.append(Said(node, 1, self._next(), states))
        self._settle(said)

    def _next(self) -> int:
        self._revision += 1
        return self._revision


def _at(values: list[float], share: float) -> float:
    found = sorted(values)
    return round(found[min(len(found) - 1, int(len(found) * share))], 2)
