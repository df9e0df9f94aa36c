"""The newest heartbeats on their way to the disk: the newest of each node, at most every few seconds. Pure.

A heartbeat that is lost with the process is sent again in a moment: it need not be durable. Of a large fleet so few
rows go at a time that neither the disk nor what waits behind them is any matter; a node then waits a little longer
for its turn, the oldest goes first.
"""

from collections.abc import Iterable
from itertools import islice

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
        self._next_ms = 0

    def heard(self, node: str, beat: Heartbeat | None, utc_ms: int) -> None:
        """A sign of life; its place in the row stays."""
        before = self._waiting.get(node)
        self._waiting[node] = (beat or (before and before[0]) or None, utc_ms)

    def forget(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            self._waiting.pop(node, None)

    def hurry(self) -> None:
        """All that waits goes with the next: it is the last."""
        self._next_ms, self._rows_max = -(2**62), len(self._waiting)

    def is_due(self, now_ms: int) -> bool:
        return bool(self._waiting) and now_ms >= self._next_ms

    def take(self, now_ms: int, *, busy: bool = False) -> dict[str, Latest]:
        """What is to be written now; nothing where it is too soon, and little where others wait for the disk."""
        if not self.is_due(now_ms):
            return {}
        taken = dict(islice(self._waiting.items(), self._rows_max // BUSY_SHARE if busy else self._rows_max))
        for node in taken:
            del self._waiting[node]
        self._next_ms = now_ms + (self._every_ms // PIECES if self._waiting else self._every_ms)
        return taken
