"""The tables of `platform_state.db` and what is done to them in the writer's transaction.

`sent` of an entry is the stamp with which it is in the outbox: where it is not `at`, the entry has to leave. A
deleted key stays with a value of NULL, so that this can be said again; of those that have left the newest are kept.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.sqlite import Migration
from schemas.hlc import Clock, Stamp

FILE_NAME = "platform_state.db"
DELETED_MAX = 1000  # deletions of a collection that are remembered

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_platform_state",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE entries (
            collection TEXT NOT NULL,
            key TEXT NOT NULL,
            value TEXT,                    -- JSON; NULL: deleted
            at TEXT NOT NULL,
            stamped_ms INTEGER NOT NULL,   -- the time of `at`, which itself may be ahead of the clock
            time_utc_ms INTEGER NOT NULL,  -- when it was last said, the same value again included
            sent TEXT NOT NULL,
            PRIMARY KEY (collection, key)
        ) WITHOUT ROWID;
        CREATE INDEX entries_unsent ON entries (collection, key) WHERE sent <> at;
        CREATE INDEX entries_deleted ON entries (collection, stamped_ms) WHERE value IS NULL;
        CREATE TABLE collections (
            collection TEXT PRIMARY KEY,
            keys INTEGER NOT NULL DEFAULT 0,
            deleted INTEGER NOT NULL DEFAULT 0
        ) WITHOUT ROWID;
        """,
    ),
)

Name = tuple[str, str]


class KeysFullError(Exception):
    """A collection has as many keys as it may have."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One entry as it stands in the file."""

    collection: str
    key: str
    value: Any  # None: deleted
    at: str
    time_utc_ms: int
    sent: str = ""

    @property
    def name(self) -> Name:
        return self.collection, self.key


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a write. `leaves` is false for personal data."""

    keys_max: int
    refresh_ms: int
    leaves: bool = True


_COLUMNS = "collection, key, value, at, time_utc_ms, sent"
_UPSERT = """
INSERT INTO entries (collection, key, value, at, stamped_ms, time_utc_ms, sent)
VALUES (:collection, :key, :value, :at, :now_ms, :now_ms, :sent)
ON CONFLICT DO UPDATE SET value = excluded.value, at = excluded.at, stamped_ms = excluded.stamped_ms,
    time_utc_ms = excluded.time_utc_ms, sent = CASE WHEN :leaves THEN sent ELSE excluded.sent END
"""
_FORGET_DELETED = """
DELETE FROM entries WHERE (collection, key) IN (
    SELECT collection, key FROM entries WHERE collection = ?1 AND value IS NULL AND sent = at
    ORDER BY stamped_ms LIMIT ?2)
"""


# ---- writing ---------------------------------------------------------------------------------------


def put(db: sqlite3.Connection, name: Name, text: str, clock: Clock, now_ms: int, limits: Limits) -> Clock | None:
    """Keeps a value. The clock after it where it has to leave; None where the same was said a moment ago.

    Raises KeysFullError.
    """
    before = db.execute("SELECT value, stamped_ms FROM entries WHERE collection = ? AND key = ?", name).fetchone()
    if before is not None and before[0] == text and 0 <= now_ms - before[1] < limits.refresh_ms:
        db.execute("UPDATE entries SET time_utc_ms = ? WHERE collection = ? AND key = ?", (now_ms, *name))
        return None
    if before is None or before[0] is None:
        _count_in(db, name[0], limits.keys_max, was_deleted=before is not None)
    return _write(db, name, text, clock.tick(now_ms), now_ms, limits)


def delete(db: sqlite3.Connection, name: Name, clock: Clock, now_ms: int, limits: Limits) -> Clock | None:
    """Takes a key away. None: there was nothing."""
    found = db.execute("SELECT value FROM entries WHERE collection = ? AND key = ?", name).fetchone()
    if found is None or found[0] is None:
        return None
    db.execute("UPDATE collections SET keys = keys - 1, deleted = deleted + 1 WHERE collection = ?", (name[0],))
    clock = _write(db, name, None, clock.tick(now_ms), now_ms, limits)
    _forget_deleted(db, name[0])
    return clock


def _write(db: sqlite3.Connection, name: Name, text: str | None, clock: Clock, now_ms: int, limits: Limits) -> Clock:
    at = str(clock.last)
    values = {"collection": name[0], "key": name[1], "value": text, "at": at, "now_ms": now_ms}
    db.execute(_UPSERT, values | {"sent": "" if limits.leaves else at, "leaves": limits.leaves})
    set_meta(db, "hlc", at)
    return clock


def _count_in(db: sqlite3.Connection, collection: str, keys_max: int, *, was_deleted: bool) -> None:
    db.execute("INSERT INTO collections (collection) VALUES (?) ON CONFLICT DO NOTHING", (collection,))
    keys, deleted = db.execute("SELECT keys, deleted FROM collections WHERE collection = ?", (collection,)).fetchone()
    if keys >= keys_max or (not was_deleted and keys + deleted >= keys_max + DELETED_MAX):
        raise KeysFullError(f"{keys} keys of {keys_max}, and {deleted} deletions that have to leave or be remembered")
    db.execute(
        "UPDATE collections SET keys = keys + 1, deleted = deleted - ? WHERE collection = ?",
        (int(was_deleted), collection),
    )


def _forget_deleted(db: sqlite3.Connection, collection: str) -> None:
    """Only of what has left: the oldest."""
    (deleted,) = db.execute("SELECT deleted FROM collections WHERE collection = ?", (collection,)).fetchone()
    if deleted > DELETED_MAX:
        gone = db.execute(_FORGET_DELETED, (collection, deleted - DELETED_MAX)).rowcount
        db.execute("UPDATE collections SET deleted = deleted - ? WHERE collection = ?", (gone, collection))


# ---- leaving ---------------------------------------------------------------------------------------


def unsent(db: sqlite3.Connection) -> list[Name]:
    """What has to leave, oldest first."""
    sql = "SELECT collection, key FROM entries WHERE sent <> at ORDER BY stamped_ms, collection, key"
    return [(collection, key) for collection, key in db.execute(sql)]


def take(db: sqlite3.Connection, names: Iterable[Name]) -> list[Kept]:
    """Those of the entries that have to leave."""
    sql = f"SELECT {_COLUMNS} FROM entries WHERE collection = ? AND key = ? AND sent <> at"
    return [_kept(row) for name in names if (row := db.execute(sql, name).fetchone()) is not None]


def mark_sent(db: sqlite3.Connection, kept: Sequence[Kept], last_seq: int) -> None:
    """They are in the outbox, up to its row `last_seq`. What has changed meanwhile still has to leave."""
    db.executemany(
        "UPDATE entries SET sent = at WHERE collection = ? AND key = ? AND at = ?",
        [(*one.name, one.at) for one in kept],
    )
    set_meta(db, "last_seq", str(max(last_seq, int(meta(db, "last_seq") or 0))))
    for collection in {one.collection for one in kept if one.value is None}:
        _forget_deleted(db, collection)


def say_again(db: sqlite3.Connection, collections: Iterable[str], last_seq: int, lost: int) -> None:
    """Everything of these collections has to leave once more: the outbox has lost rows.

    Its newest row is `last_seq`, and it has lost `lost` in all: beyond that is a new loss.
    """
    for collection in collections:
        db.execute("UPDATE entries SET sent = '' WHERE collection = ?", (collection,))
    set_meta(db, "last_seq", str(last_seq))
    set_meta(db, "lost", str(lost))


# ---- reading ---------------------------------------------------------------------------------------


def get(db: sqlite3.Connection, collection: str, key: str) -> Kept | None:
    """The entry; None where there is none or it is deleted."""
    sql = f"SELECT {_COLUMNS} FROM entries WHERE collection = ? AND key = ? AND value IS NOT NULL"
    row = db.execute(sql, (collection, key)).fetchone()
    return None if row is None else _kept(row)


def entries(db: sqlite3.Connection, collection: str, prefix: str = "") -> list[Kept]:
    """The entries whose keys begin so, in order; of one collection, or for an empty name of all."""
    sql = f"""
        SELECT {_COLUMNS} FROM entries WHERE (?1 = '' OR collection = ?1) AND value IS NOT NULL
        AND substr(key, 1, length(?2)) = ?2 ORDER BY collection, key
    """
    return [_kept(row) for row in db.execute(sql, (collection, prefix))]


def counts(db: sqlite3.Connection) -> dict[str, int]:
    """Keys by collection."""
    return dict(db.execute("SELECT collection, keys FROM collections").fetchall())


def read_clock(db: sqlite3.Connection, node: str) -> Clock:
    text = meta(db, "hlc")
    return Clock(node, Stamp.parse(text) if text else Stamp())


def meta(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def _kept(row: tuple[str, str, str | None, str, int, str]) -> Kept:
    collection, key, text, at, time_utc_ms, sent = row
    return Kept(collection, key, None if text is None else json.loads(text), at, time_utc_ms, sent)
