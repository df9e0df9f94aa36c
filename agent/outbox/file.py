"""The outbox's SQLite file: append, take, acknowledge, refuse. One writer thread, one reader.

Account, per lane and exact at all times:  produced = stored + pending + quarantined  (shedding and salvage will add
their terms). `produced` counts what was committed here, `stored` what the coordinator has answered for.
"""

import json
import secrets
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import msgpack

from agent.outbox.rows import BATCHED_LANES, LANES, Draft, Row, event_of
from runtime.sqlite import Migration, Writer, connect, migrate, storage_errors, transaction
from schemas.codec import encode_event
from schemas.errors import LocalWireError
from schemas.identity import Identity, Lane
from schemas.messages import Refusal, Severity, SyncRow
from schemas.shape import ShapeError, fields_of, read
from schemas.topics import RULES, Kind

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_outbox",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE lanes (
            lane TEXT PRIMARY KEY,
            next_seq INTEGER NOT NULL DEFAULT 1,
            produced INTEGER NOT NULL DEFAULT 0,
            stored INTEGER NOT NULL DEFAULT 0,
            quarantined INTEGER NOT NULL DEFAULT 0
        );
        CREATE TABLE rows (
            lane TEXT NOT NULL,
            seq INTEGER NOT NULL,
            type TEXT NOT NULL,
            severity TEXT,
            payload BLOB NOT NULL,
            created_utc_ms INTEGER NOT NULL,
            PRIMARY KEY (lane, seq)
        ) WITHOUT ROWID;
        CREATE TABLE quarantine (
            lane TEXT NOT NULL,
            seq INTEGER NOT NULL,
            type TEXT NOT NULL,
            payload BLOB NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (lane, seq)
        ) WITHOUT ROWID;
        """,
    ),
)


@dataclass(frozen=True, slots=True)
class LaneAccount:
    """Where the rows of one lane are."""

    lane: str
    produced: int
    stored: int
    pending: int
    quarantined: int


class OutboxFile:
    """One file, one `stream`: the random id that makes its sequence numbers its own."""

    def __init__(self, path: Path, *, node: str, boot: int) -> None:
        """Opens or creates the file. Raises StorageError or StorageFormatError; a damaged file is left as it is."""
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
        with storage_errors(str(path)):
            # A crash of the process loses nothing at NORMAL in WAL mode; a power cut may lose the last moments.
            db.execute("PRAGMA synchronous = NORMAL")
            migrate(db, MIGRATIONS, what=str(path))
            self.stream = _stream_id(db)
        self._node = node
        self._boot = boot
        self._reader = connect(path, read_only=True)
        self._reading = threading.Lock()
        self._writer = Writer(db, name="outbox")

    def append(self, drafts: Sequence[Draft]) -> "Future[list[Row]]":
        """Commits the drafts together, in order; the future holds the rows they became."""
        return self._writer.submit(lambda db: [self._insert(db, draft) for draft in drafts])

    def take(self, lane: Lane, after_seq: int, count_max: int) -> list[Row]:
        """Up to `count_max` pending rows of a lane with a sequence above `after_seq`, oldest first."""
        with self._reading, storage_errors("outbox"):
            found = self._reader.execute(
                "SELECT seq, type, severity, payload FROM rows WHERE lane = ? AND seq > ? ORDER BY seq LIMIT ?",
                (lane.value, after_seq, count_max),
            ).fetchall()
        return [
            Row(lane, seq, kind, payload, None if severity is None else Severity(severity))
            for seq, kind, severity, payload in found
        ]

    def acknowledge(self, answered: Iterable[tuple[Lane, int, int]]) -> "Future[int]":
        """Deletes the rows of each inclusive (lane, from, to): the coordinator has them. Counts them."""
        ranges = list(answered)

        def job(db: sqlite3.Connection) -> int:
            total = 0
            for lane, first, last in ranges:
                deleted = db.execute(
                    "DELETE FROM rows WHERE lane = ? AND seq BETWEEN ? AND ?", (lane.value, first, last)
                ).rowcount
                db.execute("UPDATE lanes SET stored = stored + ? WHERE lane = ?", (deleted, lane.value))
                total += deleted
            return total

        return self._writer.submit(job)

    def quarantine(self, refusals: Iterable[Refusal]) -> "Future[int]":
        """Sets rows aside that can never be stored, with the reason; they block nobody and are reported."""
        refused = list(refusals)

        def job(db: sqlite3.Connection) -> int:
            total = 0
            for item in refused:
                key = (item.lane, item.seq)
                moved = db.execute(
                    "INSERT OR REPLACE INTO quarantine (lane, seq, type, payload, reason)"
                    " SELECT lane, seq, type, payload, ? FROM rows WHERE lane = ? AND seq = ?",
                    (item.reason, *key),
                ).rowcount
                db.execute("DELETE FROM rows WHERE lane = ? AND seq = ?", key)
                db.execute("UPDATE lanes SET quarantined = quarantined + ? WHERE lane = ?", (moved, item.lane))
                total += moved
            return total

        return self._writer.submit(job)

    def account(self) -> list[LaneAccount]:
        """The account of every lane, read in one moment."""
        with self._reading, storage_errors("outbox"):
            return _account(self._reader)

    def close(self) -> None:
        """Writes what waits, then closes."""
        self._writer.close()
        with self._reading:
            self._reader.close()

    def _insert(self, db: sqlite3.Connection, draft: Draft) -> Row:
        lane = draft.lane.value
        (seq,) = db.execute(
            "UPDATE lanes SET next_seq = next_seq + 1, produced = produced + 1 WHERE lane = ? RETURNING next_seq - 1",
            (lane,),
        ).fetchone()
        payload = self._encode(draft, seq)
        severity = None if draft.severity is None else draft.severity.value
        db.execute(
            "INSERT INTO rows (lane, seq, type, severity, payload, created_utc_ms) VALUES (?, ?, ?, ?, ?, ?)",
            (lane, seq, draft.type, severity, payload, draft.time_utc_ms),
        )
        return Row(draft.lane, seq, draft.type, payload, draft.severity)

    def _encode(self, draft: Draft, seq: int) -> bytes:
        if draft.lane not in BATCHED_LANES:
            identity = Identity(self._node, self.stream, draft.lane.value, seq)
            return encode_event(event_of(draft, identity, self._boot))
        row = SyncRow(draft.lane.value, seq, draft.type, draft.subject, draft.time_utc_ms, dict(draft.data))
        payload: bytes = msgpack.packb(fields_of(row))
        if len(payload) > RULES[Kind.SYNC].payload_bytes_max // 2:
            raise LocalWireError(f"{draft.lane.value} row {draft.type} of {len(payload)} bytes does not fit a batch")
        return payload


def sync_row(row: Row) -> SyncRow:
    """A batched row as it was appended. Raises LocalWireError when its bytes are damaged."""
    try:
        return read(SyncRow, msgpack.unpackb(row.payload), strict=False)
    except (ValueError, msgpack.UnpackException, ShapeError) as error:
        raise LocalWireError(f"{row.lane.value} row {row.seq} is no row of a batch: {error}") from error


def account(path: Path) -> list[LaneAccount]:
    """The account of an outbox file, for people; the file may be in use."""
    db = connect(path, read_only=True)
    try:
        return _account(db)
    finally:
        db.close()


def _account(db: sqlite3.Connection) -> list[LaneAccount]:
    found = db.execute(
        "SELECT lane, produced, stored, quarantined,"
        " (SELECT count(*) FROM rows WHERE rows.lane = lanes.lane) FROM lanes"
    ).fetchall()
    by_lane = {row[0]: row for row in found}
    return [
        LaneAccount(lane.value, row[1], row[2], row[4], row[3])
        for lane in LANES
        if (row := by_lane.get(lane.value)) is not None
    ]


def export(path: Path) -> Iterator[str]:
    """Every pending row of an outbox file as JSON lines, for people; the file may be in use."""
    db = connect(path, read_only=True)
    try:
        for lane, seq, kind, payload in db.execute("SELECT lane, seq, type, payload FROM rows ORDER BY lane, seq"):
            yield _shown(payload, lane=lane, seq=seq, type=kind)
    finally:
        db.close()


def quarantined(path: Path) -> Iterator[str]:
    """Every row that was set aside, with the reason, as JSON lines, for people; the file may be in use."""
    db = connect(path, read_only=True)
    try:
        found = db.execute("SELECT lane, seq, type, reason, payload FROM quarantine ORDER BY lane, seq")
        for lane, seq, kind, reason, payload in found:
            yield _shown(payload, lane=lane, seq=seq, type=kind, reason=reason)
    finally:
        db.close()


def _shown(payload: bytes, **beside: object) -> str:
    body = json.loads(payload) if payload[:1] == b"{" else fields_of(msgpack.unpackb(payload))
    return json.dumps(beside | {"row": body}, ensure_ascii=False)


def _stream_id(db: sqlite3.Connection) -> str:
    with transaction(db):
        for lane in LANES:
            db.execute("INSERT OR IGNORE INTO lanes (lane) VALUES (?)", (lane.value,))
        db.execute("INSERT OR IGNORE INTO meta (key, value) VALUES ('stream', ?)", (secrets.token_hex(8),))
        (stream,) = db.execute("SELECT value FROM meta WHERE key = 'stream'").fetchone()
    return str(stream)
