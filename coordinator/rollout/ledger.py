"""The nodes of a roll-out: each one's state, how many are in which, and whose time is over. Pure."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from coordinator.rollout import follow
from coordinator.rollout.plan import Plan
from coordinator.rollout.state import BAD, FETCHES, SETTLED, UNDER_WAY, NodeRun, NodeState

_TIMED = FETCHES | UNDER_WAY | {NodeState.UNSTEADY}


class Ledger:
    """One roll-out's nodes. `changed` gathers what differs from what is kept, until it is taken.

    Nodes that were told of the change itself count by their state in `told`, the others in `untold`.
    """

    def __init__(
        self, plan: Plan, nodes: Iterable[NodeRun], spares: Callable[[str], bool] = lambda name: False
    ) -> None:
        """`spares`: no answer of this node means nothing, for the time being."""
        self._plan = plan
        self._spares = spares
        self.nodes = {one.name: one for one in nodes}
        self.counts = Counter(one.state for one in self.nodes.values())
        self.told = Counter(one.state for one in self.nodes.values() if one.told)
        self.changed: dict[str, NodeRun] = {}
        self._deadlines: list[tuple[int, str]] = []
        for node in self.nodes.values():
            self._remind(node)

    def count(self, states: Iterable[NodeState]) -> int:
        """How many are in one of these."""
        return sum(self.counts[state] for state in states)

    def count_told(self, states: Iterable[NodeState]) -> int:
        """The same of those that were told of the change itself."""
        return sum(self.told[state] for state in states)

    @property
    def sample(self) -> tuple[int, int]:
        """Failures, of so many told nodes that have settled."""
        return self.count_told(BAD), self.count_told(SETTLED)

    @property
    def fetches(self) -> tuple[int, int]:
        """Failures, of so many nodes that were told what to fetch, those that still do included."""
        bad = self.count(BAD) - self.count_told(BAD)
        return bad, bad + self.count((*FETCHES, NodeState.READY)) + self.told.total()

    def of(self, states: frozenset[NodeState]) -> Iterator[NodeRun]:
        """Those in one of these. O(nodes)."""
        return (one for one in self.nodes.values() if one.state in states)

    def add(self, node: NodeRun) -> None:
        """One more."""
        self.nodes[node.name] = self.changed[node.name] = node
        self.counts[node.state] += 1

    def put(self, node: NodeRun, now_ms: int, *, kept: bool = False) -> None:
        """The node is so from now on. `kept`: it is durable already."""
        before = self.nodes[node.name]
        if node == before:
            return
        if node.state is not before.state or node.pending is not before.pending:
            node = replace(node, at_utc_ms=now_ms)
            self._remind(node)
        self.counts[before.state] -= 1
        self.counts[node.state] += 1
        self.told[before.state] -= before.told
        self.told[node.state] += node.told
        self.nodes[node.name] = node
        if kept:
            self.changed.pop(node.name, None)
        else:
            self.changed[node.name] = node

    def expire(self, now_ms: int, hearing_since_ms: int) -> None:
        """Those under way whose time is over are silent, or have failed. O(nodes that are due)."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, name = heapq.heappop(self._deadlines)
            node = self.nodes[name]
            deadline_ms = self._deadline_ms(node, hearing_since_ms)
            if deadline_ms is None:
                continue
            if deadline_ms > now_ms:
                heapq.heappush(self._deadlines, (deadline_ms, name))
                continue
            after = follow.overdue(self._plan, node, spared=self._spares(name))
            self.put(replace(after, at_utc_ms=now_ms), now_ms)
            if after.state is node.state:  # still unsteady
                self._remind(self.nodes[name])

    @property
    def next_ms(self) -> int | None:
        """When the next one's time may be over."""
        return self._deadlines[0][0] if self._deadlines else None

    def _remind(self, node: NodeRun) -> None:
        if (deadline_ms := self._deadline_ms(node, 0)) is not None:
            heapq.heappush(self._deadlines, (deadline_ms, node.name))

    def _deadline_ms(self, node: NodeRun, hearing_since_ms: int) -> int | None:
        if node.state not in _TIMED:
            return None
        limit_s = follow.limit_s(self._plan, node)
        return None if limit_s is None else max(node.at_utc_ms, hearing_since_ms) + round(limit_s * 1000)
