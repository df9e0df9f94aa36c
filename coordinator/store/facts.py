"""What functions ask for: events and samples of some types in a span of time, whoever they came from."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from runtime.database import Database

CLOCKS_APART_MS = 60_000  # a node's clock may be ahead of ours by this much


class Fact(NamedTuple):
    """An event or a sample as it was stored."""

    node: str
    type: str
    subject: str
    time_utc_ms: int
    data: dict[str, Any]


def facts(
    db: Database,
    *,
    types: Sequence[str] = (),
    cameras: Sequence[str] = (),
    nodes: Sequence[str] = (),
    since_utc_ms: int = 0,
    until_utc_ms: int = 2**62,
    limit: int,
) -> list[Fact]:
    """The newest that are meant, at most `limit`, in the order of their times. No type, camera or node named: any.

    They are looked up by when they came, of which there is an index; nothing comes before it has happened.
    """
    where = ["received_utc_ms >= ?", "time_utc_ms >= ?", "time_utc_ms < ?"]
    values: list[Any] = [since_utc_ms - CLOCKS_APART_MS, since_utc_ms, until_utc_ms]
    for column, names in (("type", types), ("node", nodes), (db.dialect.json_text("data", "camera_id"), cameras)):
        if names:
            where.append(f"{column} IN ({', '.join('?' * len(names))})")
            values += names
    one = f"SELECT node, type, subject, time_utc_ms, data FROM {{}} WHERE {' AND '.join(where)}"
    found = db.execute(
        f"{one.format('events')} UNION ALL {one.format('samples')} ORDER BY time_utc_ms DESC LIMIT ?",
        (*values, *values, limit),
    ).fetchall()
    return [Fact(node, kind, subject, at, json.loads(data)) for node, kind, subject, at, data in reversed(found)]


def events_between(db: Database, types: Sequence[str], after: int, until: int, limit: int) -> list[tuple[int, Fact]]:
    """The next events of some types in the order of arrival, each with its row: beyond `after`, `until` included."""
    sql = f"""
        SELECT id, node, type, subject, time_utc_ms, data FROM events
        WHERE id > ? AND id <= ? AND type IN ({", ".join("?" * len(types))}) ORDER BY id LIMIT ?
    """
    found = db.execute(sql, (after, until, *types, limit)).fetchall()
    return [(row, Fact(node, kind, subject, at, json.loads(data))) for row, node, kind, subject, at, data in found]


def count_between(db: Database, types: Sequence[str], after: int, until: int) -> int:
    """How many those are."""
    sql = f"SELECT count(*) FROM events WHERE id > ? AND id <= ? AND type IN ({', '.join('?' * len(types))})"
    return int(db.execute(sql, (after, until, *types)).fetchone()[0])
