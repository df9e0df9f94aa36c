"""What is received of each lane: read once, remembered, and written where it changed.

With SQLite one process writes and may trust what it remembers. With PostgreSQL several may: a transaction first locks
the lanes that it touches, in one order everywhere, and counts up a version of each. What is remembered of a lane is
trusted only if nobody counted in between.
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import groupby

from coordinator.ingest.dedupe import Addition, Received
from coordinator.store.store import LaneKey
from runtime.database import Database, execute_rows, upsert_rows

LANES_CACHED_MAX = 65_536  # half a kilobyte each: a fleet whose every node says something does not read them again

_READ = "SELECT first, last FROM received WHERE node = ? AND stream = ? AND lane = ? ORDER BY first"
_READ_MANY = """
SELECT node, stream, lane, first, last FROM received WHERE (node, stream, lane) IN (
    SELECT * FROM unnest(CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[]))) ORDER BY node, stream, lane, first
"""
_LOCK_MANY = """
INSERT INTO lanes (node, stream, lane, version)
SELECT n, s, l, 1 FROM unnest(CAST(? AS TEXT[]), CAST(? AS TEXT[]), CAST(? AS TEXT[])) AS asked (n, s, l)
ON CONFLICT (node, stream, lane) DO UPDATE SET version = lanes.version + 1 RETURNING node, stream, lane, version
"""
_DELETE = "DELETE FROM received WHERE node = ? AND stream = ? AND lane = ? AND first = ?"
_UPSERT = upsert_rows("received", ("node", "stream", "lane", "first"), ("last",))


class Opened:
    """Lanes in one transaction: the ranges as far as it has come, and what has to be written of them."""

    def __init__(self, db: Database, known: "OrderedDict[LaneKey, tuple[int, Received]]") -> None:
        self._db = db
        self._known = known
        self.ranges: dict[LaneKey, Received] = {}
        self.versions: dict[LaneKey, int] = {}
        self._additions: dict[LaneKey, Addition] = {}

    def lock(self, keys: Iterable[LaneKey]) -> None:
        """Nobody else changes these lanes until the transaction ends."""
        wanted = sorted(keys)
        if not wanted:
            return
        rows = self._db.execute(_LOCK_MANY, _columns(wanted)).fetchall()
        self.versions = {(node, stream, lane): version for node, stream, lane, version in rows}
        stale = []
        for key in wanted:
            before = self._known.get(key)
            if before is not None and before[0] == self.versions[key] - 1:
                self.ranges[key] = before[1].copy()
            else:
                stale.append(key)
                self.ranges[key] = Received([])
        if stale:
            rows = self._db.execute(_READ_MANY, _columns(stale)).fetchall()
            for key, found in groupby(rows, key=lambda row: (row[0], row[1], row[2])):
                self.ranges[key] = Received((row[3], row[4]) for row in found)

    def of(self, key: LaneKey) -> tuple[Received, Addition]:
        """The ranges of a lane, and where their changes are noted."""
        received = self.ranges.get(key)
        if received is None:
            known = self._known.get(key)
            received = Received(self._db.execute(_READ, key)) if known is None else known[1].copy()
            self.ranges[key] = received
        addition = self._additions.get(key)
        if addition is None:
            addition = self._additions[key] = Addition()
        return received, addition

    def write(self) -> None:
        """The changes."""
        deleted = [(*key, first) for key, done in self._additions.items() for first in done.deleted]
        if deleted:
            self._db.executemany(_DELETE, deleted)
        written = [(*key, *pair) for key, done in self._additions.items() for pair in done.written.items()]
        if written:
            execute_rows(self._db, _UPSERT, written)


class Lanes:
    """What this process remembers. Changes only after the commit that it belongs to."""

    def __init__(self, *, shared: bool) -> None:
        """`shared`: other processes write too."""
        self._shared = shared
        self._known: OrderedDict[LaneKey, tuple[int, Received]] = OrderedDict()

    def open(self, db: Database, keys: Iterable[LaneKey]) -> Opened:
        """For one transaction that touches no other lanes than these."""
        opened = Opened(db, self._known)
        if self._shared:
            opened.lock(keys)
        return opened

    def remember(self, opened: Opened) -> None:
        """The transaction is committed."""
        for key, received in opened.ranges.items():
            self._known[key] = (opened.versions.get(key, 0), received)
            self._known.move_to_end(key)
        while len(self._known) > LANES_CACHED_MAX:
            self._known.popitem(last=False)


def _columns(keys: list[LaneKey]) -> list[list[str]]:
    return [[key[at] for key in keys] for at in range(3)]
