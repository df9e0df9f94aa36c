"""The newest heartbeats on their way to the disk: the newest of each node, at most every few seconds. Pure.

A heartbeat that is lost with the process is sent again in a moment: it need not be durable. Of a large fleet so few
rows go at a time that neither the disk nor what waits behind them is any matter. They go round by round in the order
of the nodes' names: rows of neighbours lie on the same pages of a table, and a page is written as a whole.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable
from itertools import chain

from schemas.messages import Heartbeat

EVERY_MS = 2_000
ROWS_MAX = 1_000  # some 50 ms of work, behind which everything else waits
BUSY_SHARE = 10  # a tenth of that while more than time allows is to be done
PIECES = 4  # where more waits than goes at a time, so many go in that span

Latest = tuple[Heartbeat | None, int]
"""The heartbeat, where there is a new one, and when it came in UTC."""


class Beats:
    """What was heard of nodes that otherwise did not change."""

    def __init__(self, every_ms: int = EVERY_MS, rows_max: int = ROWS_MAX) -> None:
        self._every_ms = every_ms
        self._rows_max = rows_max
        self._waiting: dict[str, Latest] = {}
        self._known: set[str] = set()
        self._names: list[str] = []  # the same, sorted
        self._last = ""  # the name whose turn it was
        self._next_ms = 0

    def heard(self, node: str, beat: Heartbeat | None, utc_ms: int) -> None:
        """A sign of life."""
        if node not in self._known:
            self._known.add(node)
            insort(self._names, node)
        before = self._waiting.get(node)
        self._waiting[node] = (beat or (before and before[0]) or None, utc_ms)

    def forget(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            self._waiting.pop(node, None)
            if node in self._known:
                self._known.discard(node)
                del self._names[bisect_left(self._names, node)]

    def hurry(self) -> None:
        """All that waits goes with the next: it is the last."""
        self._next_ms, self._rows_max = -(2**62), len(self._waiting)

    def is_due(self, now_ms: int) -> bool:
        return bool(self._waiting) and now_ms >= self._next_ms

    def take(self, now_ms: int, *, busy: bool = False) -> dict[str, Latest]:
        """What is to be written now; nothing where it is too soon, and little where others wait for the disk."""
        if not self.is_due(now_ms):
            return {}
        rows_max = self._rows_max // BUSY_SHARE if busy else self._rows_max
        if len(self._waiting) <= rows_max:
            taken, self._waiting = self._waiting, {}
        else:
            taken = {node: self._waiting.pop(node) for node in self._next(rows_max)}
        self._next_ms = now_ms + (self._every_ms // PIECES if self._waiting else self._every_ms)
        return taken

    def _next(self, count: int) -> list[str]:
        """Of those that wait the next by name; after the last comes the first."""
        begin = bisect_right(self._names, self._last)
        found: list[str] = []
        for at in chain(range(begin, len(self._names)), range(begin)):
            if len(found) == count:
                break
            if self._names[at] in self._waiting:
                found.append(self._names[at])
        self._last = found[-1] if found else ""
        return found
