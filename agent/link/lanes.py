"""Which rows of a lane go out next: what was committed just now, and what waited before. Pure.

Live rows overtake the backlog; each of the two goes out in the order of its numbers. Numbers below `live_from` are
the backlog and are read from the file beyond `cursor`; from `live_from` on they are in memory, in `fresh`.
"""

from collections import deque
from dataclasses import dataclass, field

from agent.outbox.rows import Row

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
