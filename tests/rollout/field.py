"""A field of nodes and a store without a disk: what an engine asks for is done at once, or lost with the engine."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from coordinator.rollout.engine import Engine
from coordinator.rollout.plan import Plan
from coordinator.rollout.state import (
    Back,
    Beat,
    Joined,
    News,
    NodeRun,
    NodeState,
    Notified,
    NotTold,
    Presence,
    Reported,
    Restored,
    Run,
    State,
    Step,
    Told,
)

PATH = "log.level"
WANTED = "DEBUG"
SOUND = {PATH: WANTED}
FETCH = "models.finder.release"
RELEASE = {"version": "2.0.0", "digest": "ab" * 32}


@dataclass(slots=True)
class Node:
    """A node's desired document, as far as it matters here, and whether the node is there."""

    value: str = "INFO"
    revision: int = 1
    presence: Presence = Presence.HERE
    former: str = ""  # kept with the roll-out when it was told
    written: int = 0  # the revision by which it was told
    other_hand: bool = False  # has written since
    told: int = 0  # how often
    restored: int = 0
    noticed: int = 0  # how often it was told what to fetch


class Field:
    """One roll-out, its engine, and what is durable of it. Time is moved by the test."""

    def __init__(self, plan: Plan, names: Iterable[str], now_ms: int = 1_000_000) -> None:
        self.nodes = {name: Node() for name in names}
        self.plan = plan
        self.now_ms = now_ms
        self.hearing_since_ms: int | None = now_ms
        self.run = Run()
        self.kept = {name: NodeRun(name) for name in self.nodes}
        self.unsteady: set[str] = set()
        self.events: list[str] = []
        self.said: list[tuple[str, dict[str, Any]]] = []  # the same with their data
        self.news: list[News] = []
        self.wake_ms: int | None = now_ms
        self.start()

    def start(self) -> None:
        """A new engine from what is durable; what the nodes last said is read again."""
        spares = lambda name: name in self.unsteady  # noqa: E731
        self.engine = Engine("r-1", self.plan, self.run, self.kept.values(), self.look, spares)
        self.news = []
        self.wake_ms = self.now_ms

    def look(self, name: str) -> Presence:
        return self.nodes[name].presence if name in self.nodes else Presence.GONE

    def step(self) -> Step:
        """One step of the engine, carried out."""
        news, self.news = self.news, []
        step = self.engine.step(self.now_ms, self.hearing_since_ms, news)
        self.wake_ms = step.wake_utc_ms
        self.carry_out(step)
        return step

    def lose_a_step(self) -> None:
        """Killed after the decision and before anything of it was durable."""
        news, self.news = self.news, []
        self.engine.step(self.now_ms, self.hearing_since_ms, news)
        self.start()

    def carry_out(self, step: Step) -> None:
        self.run = step.run or self.run
        self.kept |= step.nodes
        for kind, data in step.events:
            self.events.append(kind)
            self.said.append((kind, data))
        for name in step.fetch:
            self.news.append(self._notify(name))
        for name in step.tell:
            self.news.append(self._tell(name))
        for name in step.restore:
            self.news.append(self._restore(name))

    def _notify(self, name: str) -> News:
        node = self.nodes[name]
        if node.presence is Presence.GONE:
            return NotTold(name, "gone", excluded=True, fetch=True)
        node.noticed, node.revision, node.written = node.noticed + 1, node.revision + 1, node.revision + 1
        node.former, node.other_hand = node.value, False
        told = Notified(name, 1, node.revision, self.hash(name))
        self.kept[name] = replace(
            self.kept[name], state=NodeState.NOTIFIED, epoch=1, revision=node.revision, hash=told.hash, changed=True,
            at_utc_ms=self.now_ms,
        )  # fmt: skip
        return told

    def _tell(self, name: str) -> News:
        node = self.nodes[name]
        if node.presence is Presence.GONE:
            return NotTold(name, "gone", excluded=True)
        node.told += 1
        changed = node.value != WANTED
        node.former, node.value = node.value, WANTED
        node.revision += changed
        node.written, node.other_hand = node.revision, False
        changed_once = changed or self.kept[name].changed
        told = NodeRun(
            name, NodeState.TOLD, self.run.wave, 1, node.revision, self.hash(name), changed_once, self.now_ms,
            told=True,
        )  # fmt: skip
        self.kept[name] = told
        return Told(name, 1, node.revision, told.hash, changed)

    def _restore(self, name: str) -> News:
        node = self.nodes[name]
        why = "another hand" if node.other_hand else ""
        if not why:
            node.value, node.revision, node.restored = node.former, node.revision + 1, node.restored + 1
        state = NodeState.KEPT if why else NodeState.ROLLED_BACK
        self.kept[name] = replace(self.kept[name], state=state, reason=why)
        return Restored(name, why)

    def hash(self, name: str) -> str:
        return f"{name}:{self.nodes[name].revision}"

    def settle(self) -> None:
        """Steps until nothing more follows just now."""
        for _ in range(200):
            if self.step().is_empty and not self.news:
                return
        raise AssertionError("it never comes to rest")

    # ---- what nodes do --------------------------------------------------------------------------

    def say(self, *names: str, holds: str = WANTED, refused: str = "", pending: str = "") -> None:
        """They report for the document that they have; of a release to be fetched the same as of the change."""
        for name in names:
            ours = FETCH if self.plan.prefetch and not self.kept[name].told else PATH
            said, working = ({ours: text} if text else {} for text in (refused, pending))
            fields = {PATH: holds, FETCH: RELEASE} if self.nodes[name].noticed else {PATH: holds}
            found = {path: value for path, value in fields.items() if path not in (*said, *working)}
            self.news.append(Reported(name, 1, self.nodes[name].revision, found, said, working))

    def beat(self, *names: str, ill: str = "", p99_ms: float = 0.0) -> None:
        for name in names:
            self.news.append(Beat(name, self.hash(name), ill, {"door": p99_ms} if p99_ms else {}))

    def back(self, *names: str) -> None:
        for name in names:
            self.nodes[name].presence = Presence.HERE
            self.news.append(Back(name))

    def join(self, name: str) -> None:
        self.nodes.setdefault(name, Node())
        self.news.append(Joined(name))

    def away(self, *names: str) -> None:
        for name in names:
            self.nodes[name].presence = Presence.AWAY

    def pass_s(self, seconds: float) -> None:
        self.now_ms += round(seconds * 1000)

    def of(self, *states: NodeState) -> list[str]:
        return sorted(name for name, node in self.kept.items() if node.state in states)

    @property
    def state(self) -> State:
        return self.run.state
