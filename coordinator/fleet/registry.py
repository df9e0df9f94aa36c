"""The table of nodes as last committed, and what follows from each change. Pure; time is an argument.

Changes are drafted (`draft`), made durable by whoever drafted them, and then adopted; adopting one is O(changed
nodes). Here stand the deadlines, the mass-outage guard, the selections, who was lost and who is back.

- Silence and holds count only while the coordinator itself hears the broker, and a hold does not end while the guard
  freezes the node's site: suspect nodes stay suspect then.
- `on_lost` is told when a node is taken for lost, once, and `on_back` when it is there again: what moves work hangs
  on them. A node in maintenance is not lost, and one that flaps is not back before it is steady.
- `on_change` is told of each node that is another now, these among them.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from coordinator.fleet.condition import ConditionRules
from coordinator.fleet.draft import Draft
from coordinator.fleet.flapping import FlapRules
from coordinator.fleet.guard import FLEET, NO_SITE, Freeze, Guard, GuardRules
from coordinator.fleet.maintenance import Window, next_change_ms, window_key
from coordinator.fleet.node import (
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
    return replace(node, heard_ms=now_ms, since_ms=now_ms, flap=flap)


class Fleet:
    """One coordinator's."""

    def __init__(
        self,
        nodes: Iterable[Node],
        rules: LivenessRules,
        now_ms: int,
        more: FleetRules | None = None,
        memory: Memory | None = None,
    ) -> None:
        """Nodes of an earlier run count as heard just now: nobody listened in between."""
        memory = memory or Memory()
        self.rules = rules
        self.more = more or FleetRules()
        with uncollected():
            self.nodes = {node.name: _as_of_now(node, now_ms) for node in nodes}
        self.hears_broker = False
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
        self._hearing_since_ms = now_ms
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

    def broker(self, *, heard: bool, now_ms: int) -> None:
        """The coordinator's own link is up or down."""
        self.hears_broker = heard
        self._hearing_since_ms = now_ms

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
        for node in draft.changed.values():
            self._change(node)

    def due(self, now_ms: int) -> list[Node]:
        """The nodes whose silence or hold is over. O(nodes that are due), not O(nodes)."""
        if not self.hears_broker:
            return []
        found: list[Node] = []
        for name in self._deadlines.take(now_ms):
            node = self.nodes.get(name)
            if node is None:
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
        self.guard.back(name)
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
            self.guard.back(node.name)

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
            if self.guard.holds(node.site) is not None and not node.window:
                return None  # `thaw` reminds of it
            return max(node.since_ms, self._hearing_since_ms) + self.rules.hold_ms
        return max(node.heard_ms, self._hearing_since_ms) + self.rules.silent_after_ms

    def _remind(self, node: Node) -> None:
        self._deadlines.remind(node.name, self._deadline_ms(node))

    def _remind_flapping(self, node: Node, now_ms: int) -> None:
        flap = node.flap.at(now_ms, self.more.flapping)
        self._flapping.remind(node.name, now_ms + max(1000, flap.steady_in_ms(self.more.flapping)))
