"""Whether a store is sound: its file, what it has received against what it holds, documents against their hashes."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from coordinator.store.backup import open_backup, snapshot
from coordinator.store.migrations import MIGRATIONS
from coordinator.store.place import Place, open_reading
from runtime.database import Database
from runtime.sqlite import storage_errors
from schemas.documents import decode_desired, decode_reported
from schemas.errors import RemoteWireError
from schemas.topics import FLEET

SHOWN_MAX = 20  # problems of one kind that are told one by one

_OVERLAPPING = """
SELECT node, stream, lane, first, last, next FROM (
    SELECT node, stream, lane, first, last, lead(first) OVER (PARTITION BY node, stream, lane ORDER BY first) AS next
    FROM received) AS pairs WHERE first > last OR next <= last + 1
"""
_BESIDE = """
SELECT node, stream, lane, count(*), min(seq), max(seq) FROM {table} t WHERE node <> ? AND seq > coalesce(
    (SELECT r.last FROM received r WHERE r.node = t.node AND r.stream = t.stream AND r.lane = t.lane
        AND r.first <= t.seq ORDER BY r.first DESC LIMIT 1), -1)
GROUP BY node, stream, lane ORDER BY node, stream, lane
"""
_TWICE = """
SELECT node, stream, lane, seq, count(*) FROM {table} GROUP BY node, stream, lane, seq HAVING count(*) > 1
"""
_GAPS_BESIDE = """
SELECT node, stream, lane, first, last FROM gaps g WHERE last > coalesce(
    (SELECT r.last FROM received r WHERE r.node = g.node AND r.stream = g.stream AND r.lane = g.lane
        AND r.first <= g.first ORDER BY r.first DESC LIMIT 1), -1)
"""
_MISCOUNTED = """
SELECT c.platform, c.collection, c.rows, count(s.key) FROM state_collections c
LEFT JOIN state s ON s.platform = c.platform AND s.collection = c.collection
GROUP BY c.platform, c.collection, c.rows HAVING c.rows <> count(s.key)
"""


def check_store(place: Place) -> list[str]:
    """The problems of a store. Raises PermanentError or StorageError where it cannot be read."""
    with closing(open_reading(place)) as db, snapshot(db), storage_errors("store"):
        return list(problems(db))


def check_backup(file: Path) -> list[str]:
    """Those of a backup."""
    with closing(open_backup(file)) as db, storage_errors(str(file)):
        return [f"{file}: {problem}" for problem in problems(db)]


def problems(db: Database) -> Iterator[str]:
    """Each in a sentence, none where all is well. Reads everything: minutes where there is much."""
    yield from _file(db)
    for row in _some(db, _OVERLAPPING):
        yield f"received: the ranges {row[3]}-{row[4]} and {row[5]}- of {_lane(row)} overlap, touch or are none"
    for table in ("events", "samples"):
        for row in _some(db, _BESIDE.format(table=table), FLEET):
            yield f"{table}: {row[3]} rows of {_lane(row)} from {row[4]} to {row[5]} are not noted as received"
        for row in _some(db, _TWICE.format(table=table)):
            yield f"{table}: row {row[3]} of {_lane(row)} is there {row[4]} times"
    for row in _some(db, _GAPS_BESIDE):
        yield f"gaps: the gap {row[3]}-{row[4]} of {_lane(row)} is not noted as received"
    for platform, collection, noted, counted in _some(db, _MISCOUNTED):
        yield f"state: {platform}.{collection} has {counted} rows, and {noted} are noted"
    yield from _documents(db)
    for name, version, digest, document in db.execute("SELECT name, version, digest, document FROM models"):
        if hashlib.sha256(document.encode()).hexdigest() != digest:
            yield f"models: the document of {name}@{version} has not the digest that is noted"


def _file(db: Database) -> Iterator[str]:
    """SQLite looks through its file. A server looks after its own: `data_checksums`, `amcheck`."""
    if db.dialect.name == "sqlite":
        for (verdict,) in db.execute(f"PRAGMA integrity_check({SHOWN_MAX})").fetchall():
            if verdict != "ok":
                yield f"the file is damaged: {verdict}"
        for table, _, parent, _ in db.execute("PRAGMA foreign_key_check").fetchall()[:SHOWN_MAX]:
            yield f"{table}: a row refers to one of {parent} that is not there"
    missing = {name for name, _ in MIGRATIONS} - {name for (name,) in db.execute("SELECT name FROM migrations")}
    if missing:
        yield f"the schema is an older one, without {', '.join(sorted(missing))}: a coordinator brings it up to date"


def _documents(db: Database) -> Iterator[str]:
    sql = "SELECT node, epoch, revision, hash, document FROM desired ORDER BY node"
    for node, epoch, revision, digest, text in db.execute(sql):
        try:
            desired = decode_desired(text.encode())
        except RemoteWireError as error:
            yield f"desired: the document of {node} cannot be read: {error}"
            continue
        if (desired.epoch, desired.revision, desired.hash) != (epoch, revision, digest):
            yield f"desired: the document of {node} is {desired.epoch}.{desired.revision}, not {epoch}.{revision}"
    for node, boot, serial, digest, text in db.execute("SELECT node, boot, serial, hash, document FROM reported"):
        try:
            reported = decode_reported(text.encode())
        except RemoteWireError as error:
            yield f"reported: the document of {node} cannot be read: {error}"
            continue
        if (reported.boot, reported.serial, reported.hash) != (boot, serial, digest):
            yield f"reported: the document of {node} is not the one that is noted"


def _some(db: Database, sql: str, *values: object) -> Iterator[Any]:
    """The first of what is wrong: more of the same kind says nothing new."""
    return iter(db.execute(f"{sql} LIMIT {SHOWN_MAX}", values).fetchall())


def _lane(row: Any) -> str:
    node, stream, lane = row[:3]
    return f"lane {lane} of stream {stream} of {node}"
