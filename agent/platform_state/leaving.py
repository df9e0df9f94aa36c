"""When a changed key leaves the node. Pure; monotonic time is an argument.

A key leaves at once, or when `min_interval_s` since it last left is over. It leaves with the value that it has then:
the newest wins, what was in between does not leave and is counted, and the last value always leaves.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

Name = tuple[str, str]
"""(collection, key)."""


@dataclass(slots=True)
class Leaving:
    """Holds a name for each changed key that has not left, so at most as many as there are keys."""

    min_interval_s: float
    coalesced_total: int = 0
    _waiting: set[Name] = field(default_factory=set)
    _due: list[tuple[float, int, Name]] = field(default_factory=list)  # a heap
    _left_s: dict[Name, float] = field(default_factory=dict)  # only those that left a moment ago
    _leavers: deque[tuple[float, Name]] = field(default_factory=deque)
    _count: int = 0  # names of one moment leave in the order in which they changed

    def __len__(self) -> int:
        return len(self._waiting)

    def changed(self, name: Name, now_s: float) -> None:
        """A key has a new value."""
        if name in self._waiting:
            self.coalesced_total += 1
            return
        self._forget(now_s)
        self._waiting.add(name)
        left_s = self._left_s.get(name)
        due_s = now_s if left_s is None else max(now_s, left_s + self.min_interval_s)
        self._count += 1
        heapq.heappush(self._due, (due_s, self._count, name))

    def due(self, now_s: float, count_max: int, *, all_of_them: bool = False) -> list[Name]:
        """The keys that leave now, the longest due first; they count as left."""
        found: list[Name] = []
        while self._due and len(found) < count_max and (all_of_them or self._due[0][0] <= now_s):
            name = heapq.heappop(self._due)[2]
            self._waiting.discard(name)
            self._left_s[name] = now_s
            self._leavers.append((now_s, name))
            found.append(name)
        return found

    def put_back(self, names: Iterable[Name], now_s: float) -> None:
        """They could not leave."""
        for name in names:
            if name not in self._waiting:
                self.changed(name, now_s)

    def wait_s(self, now_s: float) -> float | None:
        """How long until a key leaves; None: nothing waits."""
        return max(0.0, self._due[0][0] - now_s) if self._due else None

    def _forget(self, now_s: float) -> None:
        while self._leavers and self._leavers[0][0] + self.min_interval_s <= now_s:
            left_s, name = self._leavers.popleft()
            if self._left_s.get(name) == left_s:
                del self._left_s[name]
