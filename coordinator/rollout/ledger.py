"""The nodes of a roll-out: each one's state, how many are in which, and whose time is over. Pure."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from coordinator.rollout import follow
from coordinator.rollout.plan import Plan
from coordinator.rollout.state import UNDER_WAY, NodeRun, NodeState


class Ledger:
    """One roll-out's nodes. `changed` gathers what differs from what is kept, until it is taken."""

    def __init__(self, plan: Plan, nodes: Iterable[NodeRun]) -> None:
        self._plan = plan
        self.nodes = {one.name: one for one in nodes}
        self.counts = Counter(one.state for one in self.nodes.values())
        self.changed: dict[str, NodeRun] = {}
        self._deadlines: list[tuple[int, str]] = []
        for node in self.nodes.values():
            self._remind(node)

    def count(self, states: Iterable[NodeState]) -> int:
        """How many are in one of these."""
        return sum(self.counts[state] for state in states)

    def of(self, states: frozenset[NodeState]) -> Iterator[NodeRun]:
        """Those in one of these. O(nodes)."""
        return (one for one in self.nodes.values() if one.state in states)

    def add(self, name: str) -> None:
        """A node that waits."""
        self.nodes[name] = self.changed[name] = NodeRun(name)
        self.counts[NodeState.WAITING] += 1

    def put(self, node: NodeRun, now_ms: int) -> None:
        """The node is so from now on."""
        before = self.nodes[node.name]
        if node == before:
            return
        if node.state is not before.state:
            node = replace(node, at_utc_ms=now_ms)
            self.counts[before.state] -= 1
            self.counts[node.state] += 1
            self._remind(node)
        self.nodes[node.name] = self.changed[node.name] = node

    def expire(self, now_ms: int, hearing_since_ms: int) -> None:
        """Those under way whose time is over are silent, or have failed. O(nodes that are due)."""
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            _, name = heapq.heappop(self._deadlines)
            node = self.nodes[name]
            if node.state not in UNDER_WAY:
                continue
            deadline_ms = self._deadline_ms(node, hearing_since_ms)
            if deadline_ms > now_ms:
                heapq.heappush(self._deadlines, (deadline_ms, name))
            else:
                state, reason = follow.overdue(self._plan, node)
                self.put(replace(node, state=state, reason=reason), now_ms)

    @property
    def next_ms(self) -> int | None:
        """When the next one's time may be over."""
        return self._deadlines[0][0] if self._deadlines else None

    def _remind(self, node: NodeRun) -> None:
        if node.state in UNDER_WAY:
            heapq.heappush(self._deadlines, (self._deadline_ms(node, 0), node.name))

    def _deadline_ms(self, node: NodeRun, hearing_since_ms: int) -> int:
        limit_s = self._plan.accept_s if node.state is NodeState.TOLD else self._plan.verify_s
        return max(node.at_utc_ms, hearing_since_ms) + round(limit_s * 1000)
