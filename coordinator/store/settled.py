"""How far the rows of events are complete: up to there none comes any more, so whoever follows them may go on.

SQLite has one writer: rows are there in the order of their numbers. In PostgreSQL a row has its number when it is
written and is seen when its transaction is committed, and of two transactions either may be the slower one:

    row     7   8   9  10  11
    seen    x   x   .   x   x      9 is on its way, or was rolled back: up to 8 one may go

Whoever writes the table holds a lock on it from before the first number to the end of the transaction. So what was
newest when we looked is settled as soon as none of those is under way any more that were then. A transaction that
hangs is ended by the server (`statement_timeout_s`, and 15 s without a word): nobody waits for ever.
"""

from runtime.database import Database

_NEWEST = "SELECT coalesce(max(id), 0) FROM events"


class Settled:
    """One follower's view; each look asks two questions that cost little."""

    def __init__(self) -> None:
        self._row: int | None = None
        self._waits: tuple[int, frozenset[str]] | None = None  # a row, and who wrote when it was the newest

    def look(self, db: Database) -> int | None:
        """The row up to which all are there; None where that is not known yet. To be asked outside a transaction."""
        newest = int(db.execute(_NEWEST).fetchone()[0])
        ask = db.dialect.writers("events")
        if not ask:
            return newest
        writers = frozenset(str(one) for (one,) in db.execute(ask))
        if self._waits is not None and not self._waits[1] & writers:
            self._row, self._waits = self._waits[0], None
        if not writers:
            self._row, self._waits = newest, None
        elif self._waits is None and newest != self._row:
            self._waits = newest, writers
        return self._row
