"""Whose turn it is: the nodes of a roll-out that wait, in one order drawn from its id. Pure.

A wave is a sample of all sites. Who is away is passed over, and takes its place at the end when it is back; so does
a node that has to fetch something first, once it has.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator

from coordinator.rollout.state import NodeRun, NodeState, Presence

WAITS = frozenset({NodeState.WAITING, NodeState.READY})


class Turns:
    """Two queues: those that are to be told what to fetch, and those that are to be told the change."""

    def __init__(self, key: str, nodes: Iterable[NodeRun], look: Callable[[str], Presence], *, fetches: bool) -> None:
        """`look` says where a node is. `fetches`: nodes have to fetch something first."""
        self._key = key
        self._look = look
        self._fetches = fetches
        self.away: set[str] = set()
        self.to_fetch: deque[str] = deque()
        self.to_tell: deque[str] = deque()
        for node in sorted((one for one in nodes if one.state in WAITS), key=lambda one: self.place(one.name)):
            self.wait(node)

    def place(self, name: str) -> bytes:
        return hashlib.sha256(f"{self._key}/{name}".encode()).digest()

    def wait(self, node: NodeRun) -> None:
        """At the end of its queue, or away; nowhere where it waits for nothing."""
        if node.state not in WAITS:
            return
        if self._look(node.name) is Presence.AWAY:
            self.away.add(node.name)
        else:
            self._queue(node).append(node.name)

    def back(self, node: NodeRun) -> None:
        """It is there again."""
        if node.name in self.away:
            self.away.discard(node.name)
            if node.state in WAITS:
                self._queue(node).append(node.name)

    def leave(self, name: str) -> None:
        """Its turn will not come. O(those that wait): it is rare."""
        self.away.discard(name)
        for queue in (self.to_fetch, self.to_tell):
            if name in queue:
                queue.remove(name)

    def take(self, queue: "deque[str]") -> Iterator[tuple[str, bool]]:
        """Each in its turn, with whether it is there; False: it is gone. Whoever is away is passed over."""
        while queue:
            name = queue.popleft()
            match self._look(name):
                case Presence.AWAY:
                    self.away.add(name)
                case presence:
                    yield name, presence is Presence.HERE

    def _queue(self, node: NodeRun) -> "deque[str]":
        return self.to_fetch if self._fetches and node.state is NodeState.WAITING else self.to_tell
