"""A scheduler with nodes, and a store without a disk: what a step asks for is done at once, or lost with the
scheduler. Time is moved by the test."""

from dataclasses import replace
from typing import Any

from coordinator.fleet.node import Node, NodeState, Word
from coordinator.schedule.index import RESOURCES, Index
from coordinator.schedule.scheduler import Scheduler
from coordinator.schedule.state import (
    Avoided,
    Beat,
    Changed,
    Drain,
    Kept,
    News,
    NotWritten,
    Phase,
    Placement,
    Said,
    Step,
    UpdateOver,
    Written,
)
from coordinator.schedule.workload import Workload, read_workload
from platforms.catalogue import open_catalogue
from schemas.messages import Birth, Heartbeat
from schemas.workloads import WorkloadReport, WorkloadState

CATALOGUE = open_catalogue()
IMAGE = {"image": "busybox"}
KINDS = {Phase.RUNNING: WorkloadState.RUNNING, Phase.FAILED: WorkloadState.FAILED,
         Phase.DEPLOYING: WorkloadState.STARTING, Phase.STOPPED: WorkloadState.STOPPED}  # fmt: skip


def workload(name: str = "w", **changes: Any) -> Workload:
    """A container that needs a core and 100 MB, unless it is said otherwise."""
    given = {"name": name, "type": "container", "container": IMAGE, "resources": {"cpu_cores": 1, "memory_mb": 100}}
    return read_workload({**given, **changes})


def born(cores: float = 4, memory_mb: float = 1000, site: str = "", **more: Any) -> Birth:
    resources = {"cores": cores, "memory_mb": memory_mb, **more.pop("resources", {})}
    return Birth(1, 1, site=site, resources=resources, **more)


class Yard:
    """`specs`: what each node's document has, by workload; the nodes run it when the test says so."""

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now_ms = now_ms
        self.nodes: dict[str, Node] = {}
        self.specs: dict[str, dict[str, dict[str, Any]]] = {}
        self.revisions: dict[str, int] = {}
        self.kept: dict[str, Kept] = {}
        self.placements: dict[tuple[str, str], Placement] = {}
        self.drains: dict[str, Drain] = {}
        self.avoided: dict[tuple[str, str], Avoided] = {}
        self.generations = 0
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.told: list[tuple[str, str, int]] = []  # (node, workload, generation), each time a node was told
        self.refusing: set[str] = set()  # nodes whose document cannot be changed
        self.news: list[News] = []
        self.wake_ms: int | None = None
        self.start()

    def start(self) -> None:
        """A scheduler from what is durable."""
        self.scheduler = self.made()
        self.news = []
        self.wake_ms = self.now_ms

    def made(self) -> Scheduler:
        index = Index()
        for node in self.nodes.values():
            index.put(node)
        return Scheduler(
            index, self.kept.values(), self.placements.values(), self.drains.values(), self.avoided.values(),
            self.generations, self.now_ms,
        )  # fmt: skip

    # ---- steps ----------------------------------------------------------------------------------

    def step(self) -> Step:
        news, self.news = self.news, []
        step = self.scheduler.step(self.now_ms, 0, news)
        self.wake_ms = step.wake_utc_ms
        self.carry_out(step)
        return step

    def settle(self) -> None:
        """Steps until nothing more follows just now."""
        for _ in range(500):
            is_empty = self.step().is_empty
            if is_empty and not self.news and (self.wake_ms is None or self.wake_ms > self.now_ms):
                return
        raise AssertionError("it never comes to rest")

    def lose_a_step(self) -> None:
        """Killed after the decision and before anything of it was durable."""
        news, self.news = self.news, []
        self.scheduler.step(self.now_ms, 0, news)
        self.start()

    def carry_out(self, step: Step) -> None:
        """As the store does."""
        self.generations = self.generations if step.generations is None else step.generations
        self.kept |= step.workloads
        told = list(step.events)
        for change in step.nodes.values():
            keys = [(name, change.node) for name in change.taken]
            if change.is_gone:
                for key in keys:
                    self.placements.pop(key, None)
                continue
            if change.node in self.refusing:
                self.news.append(NotWritten(change.node, "it is damaged"))
                continue
            told += change.events
            revision = self.revisions[change.node] = self.revisions.get(change.node, 0) + 1
            has = self.specs.setdefault(change.node, {})
            for key in keys:
                has.pop(key[0], None)
                self.placements.pop(key, None)
            for name, placement in change.placed.items():
                has[name] = change.specs[name]
                self.told.append((change.node, name, placement.generation))
                self.placements[name, change.node] = replace(placement, epoch=1, revision=revision)
            self.news.append(Written(change.node, 1, revision))
        self.placements |= step.placements
        self.avoided |= step.avoided
        for pair in step.forgiven:
            self.avoided.pop(pair, None)
        for name in step.undrained:
            self.drains.pop(name, None)
        self.drains |= step.drains
        for name in step.forgotten:
            del self.kept[name]
            self.avoided = {key: one for key, one in self.avoided.items() if key[0] != name}
        for kind, data in told:
            assert CATALOGUE.check(kind, data), (kind, data)
        self.events += told

    def pass_s(self, seconds: float) -> None:
        """Time passes, and what is due is done when it is due."""
        until_ms = self.now_ms + round(seconds * 1000)
        while self.wake_ms is not None and self.wake_ms <= until_ms:
            self.now_ms = max(self.now_ms, self.wake_ms)
            self.settle()
        self.now_ms = until_ms

    # ---- nodes ----------------------------------------------------------------------------------

    def add(self, *names: str, **birth: Any) -> None:
        for name in names:
            self.put(Node(name, NodeState.ONLINE, 1, 1, birth=born(**birth)))

    def put(self, node: Node) -> None:
        self.nodes[node.name] = node
        self.news.append(Changed(node.name, node))

    def change(self, *names: str, **changes: Any) -> None:
        for name in names:
            before = self.nodes[name]
            if changes.get("state", before.state) is not before.state:
                changes["since_utc_ms"] = self.now_ms
            self.put(replace(before, **changes))

    def lose(self, *names: str, word: Word = Word.WILL) -> None:
        self.change(*names, state=NodeState.OFFLINE, lost=True, word=word)

    def suspect(self, *names: str) -> None:
        self.change(*names, state=NodeState.SUSPECT)

    def back(self, *names: str) -> None:
        self.change(*names, state=NodeState.ONLINE, lost=False, word=Word.ALIVE)

    def deregister(self, name: str) -> None:
        """With the store's rows of it."""
        del self.nodes[name]
        self.specs.pop(name, None)
        self.drains.pop(name, None)
        self.placements = {key: one for key, one in self.placements.items() if key[1] != name}
        self.avoided = {key: one for key, one in self.avoided.items() if key[1] != name}
        self.news.append(Changed(name, None))

    def beat(self, *names: str, **figures: Any) -> None:
        for name in names:
            self.news.append(Beat(name, Heartbeat(1, 1, 1, **figures)))

    def say(self, *names: str, phase: Phase = Phase.RUNNING, name: str = "w", reason: str = "") -> None:
        """They report of the spec that they have."""
        for node in names:
            spec = self.specs.get(node, {}).get(name)
            if spec is not None:
                report = WorkloadReport(KINDS[phase], spec["generation"], reason=reason)
                self.news.append(Said(node, 1, self.revisions[node], {name: report}))

    def run(self, name: str = "w") -> None:
        """All that have it run it."""
        self.say(*[node for node, has in sorted(self.specs.items()) if name in has], name=name)
        self.settle()

    # ---- workloads ------------------------------------------------------------------------------

    def apply(self, *workloads: Workload) -> None:
        for one in workloads:
            self.scheduler.apply(one, self.now_ms)
        self.settle()

    def over(
        self, name: str, *, completed: bool = False, rolled_back: bool = False, reached: tuple[str, ...] = ()
    ) -> None:
        """The roll-out of an update has ended."""
        kept = self.kept[name]
        found = {}
        for node in reached:
            self.revisions[node] += 1
            wanted = kept.other if kept.other is not None else kept.workload
            self.specs[node][name] = wanted.spec(kept.other_generation)
            found[node] = (1, self.revisions[node])
        self.news.append(UpdateOver(kept.rollout, completed, rolled_back, found))
        self.settle()

    def where(self, name: str = "w") -> list[str]:
        """Nodes whose document has it."""
        return sorted(node for node, has in self.specs.items() if name in has)

    def types(self, *kinds: str) -> list[str]:
        return [kind for kind, _ in self.events if not kinds or kind in kinds]

    def data(self, kind: str) -> list[dict[str, Any]]:
        return [data for found, data in self.events if found == kind]

    def used(self, node: str) -> dict[str, float]:
        """By the documents, whatever the scheduler thinks."""
        found = dict.fromkeys(RESOURCES, 0.0)
        for spec in self.specs.get(node, {}).values():
            for key in RESOURCES:
                found[key] += spec["resources"][key]
        return found
