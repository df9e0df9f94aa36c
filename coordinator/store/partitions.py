"""The parts of `samples` in PostgreSQL: one a day in UTC, by when the rows came, and one for all others."""

import time
from collections.abc import Iterable

from coordinator.store.keep import Extent, Part
from runtime.database import Database

DAY_MS = 86_400_000
AHEAD = 3  # parts that are there before their day comes
OTHERS = "samples_others"
_PREFIX = "samples_d"

_NAMES = """
SELECT c.relname, pg_total_relation_size(c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = CAST('samples' AS regclass) ORDER BY 1
"""
_IN_OTHERS = f"SELECT 1 FROM {OTHERS} WHERE received_utc_ms >= ? AND received_utc_ms < ? LIMIT 1"


def make_ahead(db: Database, now_utc_ms: int) -> list[str]:
    """Makes the parts of today and the next days."""
    return make(db, range(now_utc_ms // DAY_MS, now_utc_ms // DAY_MS + AHEAD))


def make(db: Database, days: Iterable[int]) -> list[str]:
    """Makes the parts of days, counted from 1970, where they are missing; answers with their names.

    A day of which rows are in the part for others already stays there.
    """
    known = {name for name, _ in db.execute(_NAMES)}
    made = []
    for day in days:
        name, begin, end = name_of(day), day * DAY_MS, (day + 1) * DAY_MS
        if name in known or db.execute(_IN_OTHERS, (begin, end)).fetchone():
            continue
        db.execute(f"CREATE TABLE {name} PARTITION OF samples FOR VALUES FROM ({begin}) TO ({end})")
        made.append(name)
    return made


def parts(db: Database) -> list[Part]:
    """Those of a day, in order."""
    found = []
    for name, size in db.execute(_NAMES).fetchall():
        if name == OTHERS:
            continue
        low, high = db.execute(f"SELECT min(id), max(id) FROM {name}").fetchone()
        rows = 0 if low is None else high - low + 1
        day = int(name.removeprefix(_PREFIX).partition("_")[0])
        found.append(Part(name, day * DAY_MS, (day + 1) * DAY_MS, Extent(rows, size if rows else 0, day * DAY_MS)))
    return sorted(found, key=lambda part: part.from_utc_ms)


def drop(db: Database, part: Part) -> int:
    """A part with all its rows. Counts them."""
    (rows,) = db.execute(f"SELECT count(*) FROM {part.name}").fetchone()
    db.execute(f"DROP TABLE {part.name}")
    return int(rows)


def name_of(day: int) -> str:
    """Of the part for a day, counted from 1970."""
    return f"{_PREFIX}{day}_{time.strftime('%Y%m%d', time.gmtime(day * 86_400))}"
