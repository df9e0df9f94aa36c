"""The index of the evidence: its schema and rows."""

import sqlite3
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runtime.sqlite import Migration
from schemas.codec import format_utc
from schemas.shape import fields_of

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001-evidence",
        """
        CREATE TABLE evidence (
            id INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of making
            sha256 TEXT NOT NULL UNIQUE,
            bytes INTEGER NOT NULL,
            content_type TEXT NOT NULL,
            camera_id TEXT NOT NULL,
            from_utc_ms INTEGER NOT NULL,
            to_utc_ms INTEGER NOT NULL,
            width INTEGER NOT NULL,
            height INTEGER NOT NULL,
            blurred INTEGER NOT NULL,
            local_only INTEGER NOT NULL,   -- never leaves the node
            reason TEXT NOT NULL,          -- why it stays, or why it was refused
            state TEXT NOT NULL,
            alert INTEGER NOT NULL,        -- bound to an alert
            made_run_s REAL NOT NULL       -- observed run time over all starts: a clock that jumps makes nothing old
        );
        CREATE INDEX evidence_by_camera ON evidence (camera_id, from_utc_ms);
        CREATE INDEX evidence_by_state ON evidence (state, id);
        CREATE TABLE bindings (
            sha256 TEXT NOT NULL REFERENCES evidence (sha256) ON DELETE CASCADE,
            event_id TEXT NOT NULL,
            event_type TEXT NOT NULL,
            alert_id TEXT NOT NULL,
            severity TEXT NOT NULL,
            time_utc_ms INTEGER NOT NULL,
            told INTEGER NOT NULL DEFAULT 0,  -- its EvidenceStored is in the outbox
            PRIMARY KEY (sha256, event_id)
        ) WITHOUT ROWID;
        CREATE INDEX bindings_by_event ON bindings (event_id);
        CREATE INDEX bindings_untold ON bindings (told) WHERE NOT told;
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
        """,
    ),
    (
        "0002-view",
        "ALTER TABLE evidence ADD COLUMN view TEXT NOT NULL DEFAULT '';  -- `heat`: a heat map over it",
    ),
)

# What goes first when room is needed: what the coordinator has, then what no alert is about, then the oldest. What
# somebody asked for and does not have yet goes last.
SHED_ORDER = "state = 'sent' DESC, state = 'asked' ASC, alert ASC, id ASC"

# What is sent first: what was asked for, then alerts, pictures before clips, then in order.
SEND_ORDER = "state = 'asked' DESC, alert DESC, content_type = 'image/jpeg' DESC, id ASC"


class State(StrEnum):
    """What is true of a piece of evidence."""

    KEPT = "kept"  # here, and not sent
    ASKED = "asked"  # somebody asked for it: sent as soon as possible
    SENT = "sent"  # the coordinator has it, verified
    REFUSED = "refused"  # the coordinator does not take it; asking again tries again


@dataclass(frozen=True, slots=True)
class Binding:
    """The event that a piece of evidence is about. `event_id` is that of its CloudEvent."""

    event_id: str
    event_type: str
    time_utc_ms: int
    alert_id: str = ""
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """One file of evidence as it is made."""

    content_type: str
    camera_id: str
    from_utc_ms: int
    to_utc_ms: int
    width: int = 0
    height: int = 0
    blurred: bool = False
    local_only: bool = False
    reason: str = ""
    view: str = ""  # `heat`: with how unlike the taught pictures each place is drawn over it


@dataclass(frozen=True, slots=True)
class Kept:
    """A row of the index."""

    sha256: str
    bytes: int
    piece: Piece
    state: State
    events: tuple[Binding, ...] = ()


COLUMNS = (
    "sha256, bytes, content_type, camera_id, from_utc_ms, to_utc_ms, width, height, "
    "blurred, local_only, reason, state, view"
)


def kept_of(
    row: tuple[str, int, str, str, int, int, int, int, int, int, str, str, str], db: sqlite3.Connection
) -> Kept:
    """A row of COLUMNS with the events that belong to it."""
    sha256, size, kind, camera_id, from_ms, to_ms, width, height, blurred, local_only, reason, state, view = row
    sql = "SELECT event_id, event_type, time_utc_ms, alert_id, severity FROM bindings WHERE sha256 = ?"
    events = tuple(Binding(*found) for found in db.execute(sql + " ORDER BY time_utc_ms, event_id", (sha256,)))
    piece = Piece(kind, camera_id, from_ms, to_ms, width, height, bool(blurred), bool(local_only), reason, view)
    return Kept(sha256, size, piece, State(state), events)


def listed(
    db: sqlite3.Connection, *, camera_id: str = "", since_utc_ms: int = 0, until_utc_ms: int = 2**62,
    event_id: str = "", limit: int = 100,
) -> list[Kept]:  # fmt: skip
    """The newest `limit` pieces that match, newest first."""
    sql = f"""
        SELECT {COLUMNS} FROM evidence WHERE (?1 = '' OR camera_id = ?1) AND to_utc_ms >= ?2 AND from_utc_ms <= ?3
        AND (?4 = '' OR sha256 IN (SELECT sha256 FROM bindings WHERE event_id = ?4)) ORDER BY id DESC LIMIT ?5
    """
    return [kept_of(row, db) for row in db.execute(sql, (camera_id, since_utc_ms, until_utc_ms, event_id, limit))]


def shown(kept: Kept) -> dict[str, Any]:
    """As JSON has it."""
    piece = fields_of(kept.piece)
    for name in ("from_utc_ms", "to_utc_ms"):
        piece[name.removesuffix("_utc_ms")] = format_utc(piece[name])
    events = fields_of(list(kept.events))
    return {"sha256": kept.sha256, "bytes": kept.bytes, "state": kept.state.value, **piece, "events": events}
