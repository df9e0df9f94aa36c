"""Which rows of a lane go out next: what was committed just now, and what waited before. Pure.

Live rows overtake the backlog; each of the two goes out in the order of its numbers. Numbers below `live_from` are
the backlog and are read from the file beyond `cursor`; from `live_from` on they are in memory, in `fresh`.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from agent.outbox.rows import BATCHED_LANES, LANES, Row
from schemas.identity import Lane

FRESH_MAX = 512  # live rows kept in memory per lane; when more wait, they join the backlog


@dataclass(slots=True)
class LaneQueue:
    """One lane on one connection."""

    newest: int = 0  # the last number committed
    cursor: int = 0  # the backlog has been sent up to here
    live_from: int = 1
    fresh: deque[Row] = field(default_factory=deque)
    due_s: float = 0.0  # when the next batch of live rows may go; only where rows travel in batches

    @property
    def has_backlog(self) -> bool:
        return self.cursor + 1 < self.live_from

    @property
    def is_behind(self) -> bool:
        """True while anything waits to be sent."""
        return bool(self.fresh) or self.has_backlog

    def committed(self, row: Row) -> None:
        """A row was just committed."""
        self.newest = row.seq
        if len(self.fresh) < FRESH_MAX:
            self.fresh.append(row)
        else:
            self.demote()

    def missed(self, seq: int) -> None:
        """Rows up to this number were committed while there was no connection: they wait in the file."""
        self.newest = seq
        self.demote()

    def demote(self) -> None:
        """What waits in memory joins the backlog: it has fallen behind."""
        if not self.has_backlog:
            # Live rows that were sent are not read again; the backlog begins with the first that was not.
            self.cursor = (self.fresh[0].seq if self.fresh else self.newest) - 1
        self.live_from = self.newest + 1
        self.fresh.clear()

    def rewind(self) -> None:
        """Everything that is in the file counts as not sent."""
        self.cursor, self.live_from = 0, self.newest + 1
        self.fresh.clear()

    def go_back(self, seq: int) -> None:
        """A row that was sent has to be read and sent again."""
        self.demote()
        self.cursor = min(self.cursor, seq - 1)

    def sent_backlog(self, seq: int) -> None:
        """The backlog is out up to this number."""
        self.cursor = max(self.cursor, seq)

    def read_all(self) -> None:
        """The file holds nothing more of the backlog."""
        self.cursor = max(self.cursor, self.live_from - 1)


class LaneQueues:
    """All lanes, the most urgent first."""

    def __init__(self, newest: Mapping[Lane, int]) -> None:
        """`newest`: the last number of each lane in the file."""
        self._queues = {lane: LaneQueue(newest=newest[lane]) for lane in LANES}

    def __getitem__(self, lane: Lane) -> LaneQueue:
        return self._queues[lane]

    def missed(self, rows: Iterable[Row]) -> None:
        """Rows that were committed, in order, while there was no connection."""
        for lane, seq in {row.lane: row.seq for row in rows}.items():
            self._queues[lane].missed(seq)

    def rewind(self) -> None:
        """Everything that is in the file counts as not sent."""
        for queue in self._queues.values():
            queue.rewind()

    def go_back(self, late: Iterable[tuple[Lane, int]]) -> None:
        """Rows that were sent have to be read and sent again."""
        first: dict[Lane, int] = {}
        for lane, seq in late:
            first[lane] = min(seq, first.get(lane, seq))
        for lane, seq in first.items():
            self._queues[lane].go_back(seq)

    @property
    def is_behind(self) -> bool:
        """True while anything waits to be sent."""
        return any(queue.is_behind for queue in self._queues.values())

    @property
    def is_behind_alone(self) -> bool:
        """True while a row that travels alone waits to be sent."""
        return any(queue.is_behind for lane, queue in self._queues.items() if lane not in BATCHED_LANES)

    @property
    def has_backlog(self) -> bool:
        """True while anything waits in the file."""
        return any(queue.has_backlog for queue in self._queues.values())

    @property
    def has_work(self) -> bool:
        """True while something waits that need not wait for company. At full rate that is seldom so: a row that went
        out from memory leaves nothing to do."""
        return any(
            queue.has_backlog or (queue.fresh and lane not in BATCHED_LANES) for lane, queue in self._queues.items()
        )
