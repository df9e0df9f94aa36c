"""Old rows go: a bounded number of them at a time, or whole parts of a table. What is received is never forgotten.

The ranges of `received` stay, so a row that is sent again after it went is still a duplicate.
"""

from coordinator.store import meta
from coordinator.store.keep import Extent
from runtime.database import Database
from schemas.topics import FLEET

TABLES = ("samples", "events")
ROW_BYTES_BESIDE = {"sqlite": 240, "postgres": 350}  # of a row beside its data, with its indexes, as measured
SAMPLED = 1000  # rows from which the average is taken

_ENDS = "SELECT min(id), max(id) FROM {table}"
_OLDEST = "SELECT received_utc_ms FROM {table} ORDER BY received_utc_ms LIMIT 1"
_AVERAGE = """
SELECT CAST(coalesce(avg(length(data)), 0) AS INTEGER)
FROM (SELECT data FROM {table} ORDER BY id DESC LIMIT ?) AS newest
"""
_DELETE_OLD = """
DELETE FROM {table} WHERE id IN (
    SELECT id FROM {table} WHERE received_utc_ms < ? AND NOT (node = ? AND seq > ?)
    ORDER BY received_utc_ms LIMIT ?)
"""
_DELETE_OLDEST = """
DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE NOT (node = ? AND seq > ?) ORDER BY id LIMIT ?)
"""


def extent(db: Database, table: str) -> Extent:
    """How much is in a table, as far as can be told without reading it: what went from its middle counts still."""
    low, high = db.execute(_ENDS.format(table=table)).fetchone()
    if low is None:
        return Extent()
    rows = high - low + 1
    (oldest_ms,) = db.execute(_OLDEST.format(table=table)).fetchone()
    (average,) = db.execute(_AVERAGE.format(table=table), (SAMPLED,)).fetchone()
    return Extent(rows, rows * (average + ROW_BYTES_BESIDE[db.dialect.name]), oldest_ms)


def delete(db: Database, table: str, before_utc_ms: int, limit: int) -> int:
    """The oldest rows, at most `limit`: those that came before the time, or with 0 whichever. Counts them.

    What the coordinator itself has not told yet stays.
    """
    told = (FLEET, int(meta.get(db, "announced_seq") or 0))
    if before_utc_ms:
        return db.execute(_DELETE_OLD.format(table=table), (before_utc_ms, *told, limit)).rowcount
    return db.execute(_DELETE_OLDEST.format(table=table), (*told, limit)).rowcount
