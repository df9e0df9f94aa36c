"""The tables of desired and reported documents, their history, and the conflicts between them.

All of it in the writer's transaction: a report, the document that it renews and the events about both become durable
together.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

from coordinator.documents.changes import (
    Change,
    Changed,
    apply_change,
    new_clock,
    shortened,
)
from coordinator.store import meta
from runtime.database import Database, upsert
from runtime.timeline import MachineTime, Reading, read
from schemas.documents import Conflict, Desired, Reported, decode_desired, decode_reported, encode
from schemas.hlc import Clock, Stamp
from schemas.shape import fields_of

log = logging.getLogger(__name__)

HISTORY_MAX = 100  # revisions of a node that are remembered
CONFLICTS_MAX = 200  # of a node

_UPSERT_DESIRED = upsert("desired", ("node",), ("epoch", "revision", "hash", "updated_utc_ms", "document"))
_UPSERT_REPORTED = upsert("reported", ("node",), ("boot", "serial", "hash", "received_utc_ms", "document"))
_INSERT_HISTORY = """
INSERT INTO desired_history (node, epoch, revision, time_utc_ms, source, changes) VALUES (?, ?, ?, ?, ?, ?)
"""
_OLD_HISTORY = """
DELETE FROM desired_history WHERE node = ?1 AND id <= coalesce(
    (SELECT id FROM desired_history WHERE node = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2), 0)
"""
_INSERT_CONFLICT = """
INSERT INTO conflicts (node, path, coordinator_at, node_at, found_utc_ms, document) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_OLD_CONFLICTS = """
DELETE FROM conflicts WHERE node = ?1 AND id <= coalesce(
    (SELECT id FROM conflicts WHERE node = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2), 0)
"""


# ---- documents ---------------------------------------------------------------------------------


def desired(db: Database, node: str) -> Desired:
    """The desired document of a node; an empty one of revision 0 where there is none."""
    row = db.execute("SELECT document FROM desired WHERE node = ?", (node,)).fetchone()
    return Desired() if row is None else decode_desired(row[0].encode())


def reported(db: Database, node: str) -> Reported:
    """What a node last reported; an empty document where it never did."""
    row = db.execute("SELECT document FROM reported WHERE node = ?", (node,)).fetchone()
    return Reported() if row is None else decode_reported(row[0].encode())


def hashes(db: Database) -> tuple[dict[str, str], dict[str, str]]:
    """By node, of all desired and of all reported documents."""
    return dict(db.execute("SELECT node, hash FROM desired")), dict(db.execute("SELECT node, hash FROM reported"))


def change(db: Database, node: str, asked: Change, now: MachineTime) -> Changed:
    """Makes and keeps the next revision. Raises ChangeRefusedError or LocalWireError (too large): nothing is kept."""
    now_ms = utc_ms(db, now)
    before = desired(db, node)
    changed = apply_change(asked, before, reported(db, node), clock_of(db), now_ms)
    if changed.fields:
        write_desired(db, node, changed.desired, asked.source, changed.fields, now_ms)
        keep_clock(db, changed.clock)
    return changed


def write_desired(
    db: Database, node: str, document: Desired, source: str, changes: dict[str, list[Any]], now_ms: int
) -> None:
    text = encode(document).decode()
    db.execute(_UPSERT_DESIRED, (node, document.epoch, document.revision, document.hash, now_ms, text))
    line = json.dumps({path: [shortened(a), shortened(b)] for path, (a, b) in changes.items()}, ensure_ascii=False)
    db.execute(_INSERT_HISTORY, (node, document.epoch, document.revision, now_ms, source[:200], line))
    db.execute(_OLD_HISTORY, (node, HISTORY_MAX))


def keep_conflict(db: Database, node: str, conflict: Conflict, found_utc_ms: int) -> bool:
    """False where it is known."""
    text = json.dumps(fields_of(conflict), ensure_ascii=False)
    values = (node, conflict.path, conflict.coordinator_at, conflict.node_at, found_utc_ms, text)
    is_new = db.execute(_INSERT_CONFLICT, values).rowcount > 0
    if is_new:
        db.execute(_OLD_CONFLICTS, (node, CONFLICTS_MAX))
    return is_new


# ---- time --------------------------------------------------------------------------------------


def utc_ms(db: Database, now: MachineTime) -> int:
    """UTC that does not follow a jump of the wall clock, also over restarts of the process."""
    reading = reading_of(db, now)
    kept = reading.anchor
    if reading.is_news(int(meta.get(db, "clock_jump_ms") or 0)):
        log.warning("%s", reading.told())
        meta.put(db, "clock_jump_ms", str(reading.jump_ms))
    meta.put(db, "clock_anchor", json.dumps([kept.machine_boot, kept.steady_ms, kept.wall_ms]))
    return reading.utc_ms


def reading_of(db: Database, now: MachineTime) -> Reading:
    """The same for a question: nothing is kept."""
    text = meta.get(db, "clock_anchor")
    return read(MachineTime(*json.loads(text)) if text else None, now)


def clock_of(db: Database) -> Clock:
    text = meta.get(db, "hlc")
    clock = new_clock()
    return Clock(clock.node, Stamp.parse(text)) if text else clock


def keep_clock(db: Database, clock: Clock) -> None:
    if clock.last.node:
        meta.put(db, "hlc", str(clock.last))


# ---- for people --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DesiredView:
    """A node's desired document beside what it reports; empty documents where there is none."""

    node: str
    desired: Desired
    updated_utc_ms: int
    reported: Reported
    received_utc_ms: int


@dataclass(frozen=True, slots=True)
class RevisionView:
    """One step of a desired document. `changes`: by field the value before and after."""

    node: str
    epoch: int
    revision: int
    time_utc_ms: int
    source: str
    changes: dict[str, list[Any]]


@dataclass(frozen=True, slots=True)
class ConflictView:
    """A conflict and when the coordinator learnt of it."""

    node: str
    found_utc_ms: int
    conflict: dict[str, Any]


def view(db: Database, node: str) -> DesiredView:
    """Both documents of a node."""
    updated = db.execute("SELECT updated_utc_ms FROM desired WHERE node = ?", (node,)).fetchone()
    received = db.execute("SELECT received_utc_ms FROM reported WHERE node = ?", (node,)).fetchone()
    return DesiredView(
        node, desired(db, node), updated[0] if updated else 0, reported(db, node), received[0] if received else 0
    )


def history(db: Database, node: str) -> list[RevisionView]:
    """The revisions of a node that are remembered, oldest first."""
    sql = "SELECT epoch, revision, time_utc_ms, source, changes FROM desired_history WHERE node = ? ORDER BY id"
    return [
        RevisionView(node, epoch, revision, utc_ms, source, json.loads(changes))
        for epoch, revision, utc_ms, source, changes in db.execute(sql, (node,))
    ]


def found_conflicts(db: Database, node: str, limit: int) -> list[ConflictView]:
    """The newest conflicts, oldest of them first; of one node, or of all."""
    sql = """
        SELECT node, found_utc_ms, document FROM conflicts WHERE ?1 = '' OR node = ?1 ORDER BY id DESC LIMIT ?2
    """
    rows = db.execute(sql, (node, limit))
    return [ConflictView(name, found, json.loads(text)) for name, found, text in rows][::-1]
