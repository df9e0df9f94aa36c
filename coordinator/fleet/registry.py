"""The table of nodes as last committed, and what follows from each change. Pure; time is an argument.

Changes are drafted (`draft`), made durable by whoever drafted them, and then adopted; adopting one is O(changed
nodes). Here stand the deadlines, the mass-outage guard, the selections, who was lost and who is back.

- Silence and holds of a node count only while the coordinator itself hears the broker that the node was last heard
  on, and a hold does not end while the guard freezes the node's site or broker: suspect nodes stay suspect then.
- `on_lost` is told when a node is taken for lost, once, and `on_back` when it is there again: what moves work hangs
  on them. A node in maintenance is not lost, and one that flaps is not back before it is steady.
- `on_change` is told of each node that is another now, these among them.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coordinator.fleet.condition import ConditionRules
from coordinator.fleet.draft import Draft
from coordinator.fleet.flapping import FlapRules
from coordinator.fleet.guard import FLEET, NO_SITE, Freeze, Guard, GuardRules, scope_of_broker
from coordinator.fleet.maintenance import Window, next_change_ms, window_key
from coordinator.fleet.node import (
    NOWHERE,
    RECOUNT_AFTER_MS,
    TRANSITIONS,
    FleetEvent,
    FleetFullError,
    LivenessRules,
    Moment,
    Node,
    NodeState,
    Shown,
    Signal,
    Word,
    changed,
)
from coordinator.fleet.selection import Selections
from coordinator.fleet.tombstones import TOMBSTONES_MAX, Tombstone
from coordinator.fleet.twins import Seen, TwinWatch
from runtime.garbage import uncollected

__all__ = [
    "RECOUNT_AFTER_MS", "TRANSITIONS", "Fleet", "FleetEvent", "FleetFullError", "FleetRules", "LivenessRules",
    "Memory", "Moment", "Node", "NodeState", "Shown", "Signal", "Word",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class FleetRules:
    """What is configurable beside liveness."""

    guard: GuardRules = GuardRules()
    flapping: FlapRules = FlapRules()
    condition: ConditionRules = ConditionRules()


@dataclass(frozen=True, slots=True)
class Memory:
    """What an earlier run knew beside the nodes."""

    windows: Mapping[str, Window] = field(default_factory=dict)
    tombstones: Mapping[str, Tombstone] = field(default_factory=dict)
    freezes: Mapping[str, str] = field(default_factory=dict)  # the reason, by scope


class Deadlines:
    """Of each node the earliest time at which it has to be looked at. One that moved later is found out then."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, str]] = []
        self._entries: dict[str, int] = {}  # the entry of each node in the heap that counts

    def __len__(self) -> int:
        return len(self._heap)

    def remind(self, name: str, at_ms: int | None) -> None:
        if at_ms is not None and at_ms < self._entries.get(name, at_ms + 1):
            self._entries[name] = at_ms
            heapq.heappush(self._heap, (at_ms, name))

    def take(self, now_ms: int) -> list[str]:
        """The nodes whose entry is due, without their entries."""
        found = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, name = heapq.heappop(self._heap)
            if self._entries.get(name) == at_ms:
                del self._entries[name]
                found.append(name)
        return found


def _as_of_now(node: Node, now_ms: int) -> Node:
    flap = replace(node.flap, at_ms=now_ms) if node.flap.penalty else node.flap
    return changed(node, heard_ms=now_ms, since_ms=now_ms, flap=flap)


class Fleet:
    """One coordinator's."""

    def __init__(
        self,
        nodes: Iterable[Node],
        rules: LivenessRules,
        now_ms: int,
        more: FleetRules | None = None,
        memory: Memory | None = None,
        brokers: Sequence[str] = ("",),
    ) -> None:
        """Nodes of an earlier run count as heard just now: nobody listened in between. `brokers` are their names."""
        memory = memory or Memory()
        self.rules = rules
        self.more = more or FleetRules()
        with uncollected():
            self.nodes = {node.name: _as_of_now(node, now_ms) for node in nodes}
        self._brokers = tuple(brokers)
        self._hearing: list[int | None] = [None for _ in brokers]  # since when each is heard
        self._parked: set[str] = set()  # nodes that are due, of brokers that are not heard
        self.guard = Guard(self.more.guard)
        self.twins = TwinWatch()
        self.seen: dict[str, Seen] = {}  # the agent heard last of a node that has another one's birth
        self.windows = dict(memory.windows)
        self.windows_due_utc_ms: int | None = 0 if self.windows else None
        self.windows_looked_utc_ms = 0
        self.tombstones = dict(memory.tombstones)
        self.selections = Selections()
        self.sizes: Counter[str] = Counter()  # nodes that are not offline, by site; FLEET has all
        self.on_lost: Callable[[Node], None] = lambda node: None
        self.on_back: Callable[[Node], None] = lambda node: None
        self.on_change: Callable[[str], None] = lambda name: None
        self._shown: Counter[Shown] = Counter()
        self._suspects: set[str] = set()
        self._deadlines = Deadlines()
        self._flapping = Deadlines()
        for window in self.windows.values():
            self.selections.add(window_key(window.id), window.selector, self.nodes.values())
        with uncollected():
            for node in self.nodes.values():
                self._count(None, node)
                self._remind(node)
                self._guard(None, node)
                if node.flap.flaps:
                    self._remind_flapping(node, now_ms)
        self.guard.restore(Freeze(scope, now_ms, reason) for scope, reason in memory.freezes.items())

    def broker(self, *, heard: bool, now_ms: int, index: int = 0) -> None:
        """The coordinator's own link to a broker is up or down."""
        self._hearing[index] = now_ms if heard else None
        parked, self._parked = self._parked, set()
        for name in parked:
            if (node := self.nodes.get(name)) is not None:
                self._remind(node)

    def scope(self, index: int) -> str:
        """What freezes when the coordinator does not hear itself through a broker: everything, where it is the only
        one."""
        return scope_of_broker(self._brokers[index]) if len(self._brokers) > 1 else FLEET

    def holds(self, node: Node) -> Freeze | None:
        """The freeze that keeps the node's work where it is."""
        known = len(self._brokers) > 1 and node.broker >= 0
        return self.guard.holds(node.site, self.scope(node.broker) if known else FLEET)

    def where(self, name: str) -> int:
        """The broker that a node was last heard on; NOWHERE where that is not known."""
        if len(self._brokers) == 1:
            return 0
        node = self.nodes.get(name)
        return NOWHERE if node is None else node.broker

    def draft(self) -> Draft:
        return Draft(self)

    def adopt(self, draft: Draft) -> None:
        """The draft's changes are durable."""
        for tombstone in draft.tombstones.values():
            self._bury(tombstone)
        for name in draft.lifted:
            self.tombstones.pop(name, None)
        for name in draft.gone:
            self._forget(name)
        for window in draft.windows.values():
            self.windows[window.id] = window
            self.selections.add(window_key(window.id), window.selector, self.nodes.values())
        for name in draft.windows_over:
            self.windows.pop(name, None)
            self.selections.remove(window_key(name))
        if draft.windows_looked_utc_ms:
            self.windows_looked_utc_ms = draft.windows_looked_utc_ms
            self.windows_due_utc_ms = next_change_ms(self.windows.values(), draft.windows_looked_utc_ms)
        self.nodes.update(draft.touched)
        for name in self._parked & draft.touched.keys():  # it may be at a broker that is heard now
            self._parked.discard(name)
            self._remind(self.nodes[name])
        for node in draft.changed.values():
            self._change(node)

    def due(self, now_ms: int) -> list[Node]:
        """The nodes whose silence or hold is over. O(nodes that are due), not O(nodes)."""
        found: list[Node] = []
        for name in self._deadlines.take(now_ms):
            node = self.nodes.get(name)
            if node is None:
                continue
            if self._heard_since_ms(node) is None:
                self._parked.add(name)
                continue
            deadline_ms = self._deadline_ms(node)
            if deadline_ms is not None and deadline_ms <= now_ms:
                found.append(node)
            else:
                self._remind(node)
        for node in found:  # due until the change that it calls for is adopted
            self._remind(node)
        return found

    def steady(self, now_ms: int) -> list[Node]:
        """The nodes that flapped and do no more."""
        found = []
        for name in self._flapping.take(now_ms):
            node = self.nodes.get(name)
            if node is not None and node.flap.flaps:
                if not node.flap.at(now_ms, self.more.flapping).flaps:
                    found.append(node)
                self._remind_flapping(node, now_ms)
        return found

    def thaw(self) -> None:
        """A freeze has ended: the holds of the nodes that it held count again."""
        for name in self._suspects:
            self._remind(self.nodes[name])

    def counts(self) -> dict[str, int]:
        """Nodes by state, as operators see it."""
        return {shown.value: self._shown[shown] for shown in Shown}

    # ---- what follows from a change --------------------------------------------------------------

    def _change(self, node: Node) -> None:
        before = self.nodes.get(node.name)
        self.nodes[node.name] = node
        self._count(before, node)
        self._remind(node)
        self._guard(before, node)
        self.selections.changed(node.name, before, node)
        if node.flap.flaps:
            self._remind_flapping(node, node.flap.at_ms)
        self.on_change(node.name)
        if node.lost and before is not None and not before.lost:
            self.on_lost(node)
        elif not node.lost and (before is None or before.lost) and node.state is not NodeState.OFFLINE:
            self.on_back(node)

    def _forget(self, name: str) -> None:
        node = self.nodes.pop(name, None)
        self.twins.forget(name)
        self.seen.pop(name, None)
        self.guard.gone(name)
        self._suspects.discard(name)
        if node is None:
            return
        self._count(node, None)
        self.selections.changed(name, node, None)
        self.on_change(name)
        if not node.lost:
            self.on_lost(replace(node, lost=True))

    def _guard(self, before: Node | None, node: Node) -> None:
        """Who is taken for lost is missing no more: that was decided. One that flaps is no sign of an outage."""
        was = None if before is None else before.state
        if node.state is NodeState.SUSPECT:
            self._suspects.add(node.name)
            if was is not NodeState.SUSPECT and not node.window and not node.flap.flaps:
                self.guard.lost(node.name, node.site, node.since_ms)
        elif was is NodeState.SUSPECT:
            self._suspects.discard(node.name)
            if node.state is NodeState.OFFLINE:
                self.guard.gone(node.name)
            else:
                self.guard.back(node.name, node.since_ms)

    def _count(self, before: Node | None, after: Node | None) -> None:
        for node, by in ((before, -1), (after, 1)):
            if node is None:
                continue
            self._shown[node.shown] += by
            if node.state is not NodeState.OFFLINE:
                self.sizes[FLEET] += by
                self.sizes[node.site or NO_SITE] += by
                if not self.sizes[node.site or NO_SITE]:
                    del self.sizes[node.site or NO_SITE]

    def _bury(self, tombstone: Tombstone) -> None:
        self.tombstones[tombstone.node] = tombstone
        if len(self.tombstones) > TOMBSTONES_MAX:
            oldest = min(self.tombstones.values(), key=lambda one: (one.banned, one.at_utc_ms))
            del self.tombstones[oldest.node]

    def _deadline_ms(self, node: Node) -> int | None:
        if node.state is NodeState.OFFLINE:
            return None
        if node.state is NodeState.SUSPECT:
            if self.holds(node) is not None and not node.window:
                return None  # `thaw` reminds of it
            return max(node.since_ms, self._heard_since_ms(node) or 0) + self.rules.hold_ms
        return max(node.heard_ms, self._heard_since_ms(node) or 0) + self.rules.silent_after_ms

    def _heard_since_ms(self, node: Node) -> int | None:
        """Since when its broker is heard; of one that was not heard yet, since when all of them are."""
        if 0 <= node.broker < len(self._hearing):
            return self._hearing[node.broker]
        since = [one for one in self._hearing if one is not None]
        return max(since) if len(since) == len(self._hearing) else None

    def _remind(self, node: Node) -> None:
        self._deadlines.remind(node.name, self._deadline_ms(node))

    def _remind_flapping(self, node: Node, now_ms: int) -> None:
        flap = node.flap.at(now_ms, self.more.flapping)
        self._flapping.remind(node.name, now_ms + max(1000, flap.steady_in_ms(self.more.flapping)))
