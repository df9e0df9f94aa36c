"""The table of coordinators that share the store: each keeps an entry of its own up to date."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.database import Database, upsert

FORGOTTEN_AFTER_MS = 86_400_000

# Migration 0018.
SCHEMA = """
CREATE TABLE replicas (
    name TEXT PRIMARY KEY,
    holder TEXT NOT NULL,            -- of leases; it names one process
    leads INTEGER NOT NULL,
    since_utc_ms INTEGER NOT NULL,   -- when the process began
    seen_utc_ms INTEGER NOT NULL,    -- by the clock of the database
    stopped INTEGER NOT NULL,        -- it said so itself
    figures TEXT NOT NULL            -- JSON: what it counted since then
) WITHOUT ROWID;
"""
_COLUMNS = ("holder", "leads", "since_utc_ms", "seen_utc_ms", "stopped", "figures")
_PUT = upsert("replicas", ("name",), _COLUMNS)


@dataclass(frozen=True, slots=True)
class ReplicaView:
    """A coordinator, and how long ago it was last heard of by the clock of the database."""

    name: str
    holder: str
    leads: bool
    since_utc_ms: int
    seen_ms_ago: int
    stopped: bool
    figures: dict[str, float]


def put(
    db: Database,
    name: str,
    holder: str,
    since_utc_ms: int,
    figures: Mapping[str, float],
    *,
    leads: bool,
    stopped: bool = False,
) -> None:
    """Replaces the entry; those of long ago go."""
    ((now_ms,),) = db.execute(f"SELECT {db.dialect.now_ms}").fetchall()
    entry = (name, holder, int(leads), since_utc_ms, now_ms, int(stopped), json.dumps(dict(figures)))
    db.execute(_PUT, entry)
    db.execute("DELETE FROM replicas WHERE seen_utc_ms < ?", (now_ms - FORGOTTEN_AFTER_MS,))


def views(db: Database) -> list[ReplicaView]:
    """All of them by name; none where the coordinator has the store alone."""
    sql = f"""
        SELECT name, holder, leads, since_utc_ms, {db.dialect.now_ms} - seen_utc_ms, stopped, figures
        FROM replicas ORDER BY name
    """
    return [
        ReplicaView(name, holder, bool(leads), since_ms, max(0, ago_ms), bool(stopped), json.loads(figures))
        for name, holder, leads, since_ms, ago_ms, stopped, figures in db.execute(sql)
    ]
