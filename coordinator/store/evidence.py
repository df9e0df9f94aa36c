"""The index of the evidence in the store: which file belongs to which node and to which events."""

from collections.abc import Iterable
from dataclasses import dataclass

from runtime.database import Database

SPOOLED, STORED, LOST = "spooled", "stored", "lost"
"""Verified and waiting in the spool; in its place; neither, which only a disk that lost it can bring about."""

EVENTS_MAX = 1000  # of one file
FILE_BYTES_MIN = 4096  # what a file takes at least, here and on a disk: so much counts against the quotas

_COLUMNS = "node, sha256, bytes, content_type, camera_id, from_utc_ms, to_utc_ms, blurred, received_utc_ms, state"


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One verified file."""

    node: str
    sha256: str
    bytes: int
    content_type: str
    camera_id: str
    from_utc_ms: int
    to_utc_ms: int
    blurred: bool
    received_utc_ms: int
    state: str
    events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvidenceFilter:
    """What is looked for; unset fields ask for nothing. `sha256`: the first digits, or all of them."""

    node: str = ""
    camera_id: str = ""
    event_id: str = ""
    sha256: str = ""
    since_utc_ms: int = 0


def insert(db: Database, row: EvidenceRow) -> None:
    """A file that is known already gets the events it does not have yet."""
    db.execute(
        f"INSERT INTO evidence ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (row.node, row.sha256, row.bytes, row.content_type, row.camera_id, row.from_utc_ms, row.to_utc_ms,
         row.blurred, row.received_utc_ms, row.state),
    )  # fmt: skip
    bind(db, row.node, row.sha256, row.events)


def bind(db: Database, node: str, sha256: str, events: Iterable[str]) -> None:
    """The file belongs to these events too; beyond EVENTS_MAX they are not noted."""
    sql = """
        INSERT INTO evidence_events (node, sha256, event_id) SELECT ?1, ?2, ?3
        WHERE (SELECT count(*) FROM evidence_events WHERE node = ?1 AND sha256 = ?2) < ?4 ON CONFLICT DO NOTHING
    """
    db.executemany(sql, [(node, sha256, event_id, EVENTS_MAX) for event_id in events])


def size_of(db: Database, node: str, sha256: str) -> int | None:
    """Its bytes; None for a file that is not here."""
    sql = "SELECT bytes FROM evidence WHERE node = ? AND sha256 = ? AND state != ?"
    row = db.execute(sql, (node, sha256, LOST)).fetchone()
    return None if row is None else int(row[0])


def set_state(db: Database, node: str, sha256: str, state: str) -> None:
    db.execute("UPDATE evidence SET state = ? WHERE node = ? AND sha256 = ?", (state, node, sha256))


def remove(db: Database, node: str, sha256: str) -> None:
    db.execute("DELETE FROM evidence WHERE node = ? AND sha256 = ?", (node, sha256))


def totals(db: Database) -> dict[str, int]:
    """By node, what counts against the quotas."""
    sql = """
        SELECT node, sum(CASE WHEN bytes < ?1 THEN ?1 ELSE bytes END) FROM evidence WHERE state != ?2 GROUP BY node
    """
    return {node: int(size) for node, size in db.execute(sql, (FILE_BYTES_MIN, LOST))}


def oldest(db: Database, node: str, limit: int) -> list[tuple[str, str, int]]:
    """(node, sha256, bytes) of what lies longest in its place; of one node, or of all."""
    sql = """
        SELECT node, sha256, bytes FROM evidence WHERE state = ?1 AND (?2 = '' OR node = ?2)
        ORDER BY received_utc_ms, sha256 LIMIT ?3
    """
    return db.execute(sql, (STORED, node, limit)).fetchall()


def found(db: Database, wanted: EvidenceFilter, limit: int) -> list[EvidenceRow]:
    """The newest `limit` files that match, oldest of them first."""
    sql = f"""
        SELECT {_COLUMNS} FROM evidence WHERE (?1 = '' OR node = ?1) AND (?2 = '' OR camera_id = ?2)
        AND (?3 = '' OR (node, sha256) IN (SELECT node, sha256 FROM evidence_events WHERE event_id = ?3))
        AND substr(sha256, 1, length(?4)) = ?4 AND received_utc_ms >= ?5
        ORDER BY received_utc_ms DESC, sha256 LIMIT ?6
    """
    values = (wanted.node, wanted.camera_id, wanted.event_id, wanted.sha256, wanted.since_utc_ms, limit)
    rows = [tuple(row) for row in db.execute(sql, values)]
    return [_row(db, row) for row in rows[::-1]]


def spooled(db: Database) -> list[EvidenceRow]:
    """What waits for its place, oldest first."""
    sql = f"SELECT {_COLUMNS} FROM evidence WHERE state = ? ORDER BY received_utc_ms"
    return [_row(db, tuple(row)) for row in db.execute(sql, (SPOOLED,)).fetchall()]


def _row(db: Database, row: tuple[object, ...]) -> EvidenceRow:
    node, sha256, size, content_type, camera_id, from_ms, to_ms, blurred, received_ms, state = row
    sql = "SELECT event_id FROM evidence_events WHERE node = ? AND sha256 = ? ORDER BY event_id"
    events = tuple(str(event_id) for (event_id,) in db.execute(sql, (node, sha256)))
    return EvidenceRow(
        str(node), str(sha256), int(str(size)), str(content_type), str(camera_id), int(str(from_ms)),
        int(str(to_ms)), bool(blurred), int(str(received_ms)), str(state), events,
    )  # fmt: skip
