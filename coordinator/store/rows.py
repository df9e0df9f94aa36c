"""The tables of rows: events and samples, answers to commands, and what was refused."""

import hashlib
import json
from collections.abc import Iterable

from coordinator.store.store import RefusedMessage, ResultRow, Row
from runtime.database import Database, execute_rows
from schemas.messages import Event

RESULTS_MAX = 10_000

_COLUMNS = "node, stream, lane, seq, type, subject, severity, time_utc_ms, received_utc_ms, boot, data"
_INSERT = f"INSERT INTO {{table}} ({_COLUMNS}) VALUES {{rows}} ON CONFLICT DO NOTHING"
_UNNESTED = ", ".join(
    f"CAST(? AS {kind}[])"
    for kind in ("TEXT", "TEXT", "TEXT", "BIGINT", "TEXT", "TEXT", "TEXT", "BIGINT", "BIGINT", "BIGINT", "TEXT")
)
_INSERT_COLUMNS = f"INSERT INTO {{table}} ({_COLUMNS}) SELECT * FROM unnest({_UNNESTED}) ON CONFLICT DO NOTHING"
_INSERT_REFUSED = """
INSERT INTO refused (first_utc_ms, last_utc_ms, topic, node, stream, lane, seq, reason, digest, payload)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (topic, lane, seq, digest) DO UPDATE SET times = refused.times + 1, last_utc_ms = excluded.last_utc_ms
RETURNING times
"""
_OLDEST_REFUSED = "SELECT id, length(payload) FROM refused ORDER BY id LIMIT 1"


def insert(db: Database, table: str, rows: list[Row]) -> None:
    """Many rows by few statements."""
    if not rows:
        return
    if db.dialect.is_server:
        db.execute(_INSERT_COLUMNS.format(table=table), [list(column) for column in zip(*rows, strict=True)])
        return
    execute_rows(db, _INSERT.replace("{table}", table), rows)


def row_of(event: Event) -> Row:
    """An event of the coordinator itself."""
    who = event.identity
    return Row(
        who.node,
        who.stream,
        who.lane,
        who.seq,
        event.type,
        event.subject,
        None,
        event.time_utc_ms,
        event.time_utc_ms,
        event.boot,
        json.dumps(event.data, ensure_ascii=False),
    )


def write_results(db: Database, results: Iterable[ResultRow]) -> None:
    """The newest `RESULTS_MAX` are kept."""
    db.executemany(
        "INSERT INTO results (node, function, command_id, state, received_utc_ms, document)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(row.node, row.function, row.id, row.state, row.received_utc_ms, row.document) for row in results],
    )
    db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (RESULTS_MAX,))


class Quarantine:
    """Refused messages, raw; the oldest beyond the limits are shed."""

    def __init__(self, *, rows_max: int, bytes_max: int) -> None:
        self._rows_max = rows_max
        self._bytes_max = bytes_max

    def held(self, db: Database) -> tuple[int, int]:
        """Rows and their bytes."""
        rows, size = db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM refused").fetchone()
        return int(rows), int(size)

    def keep(self, db: Database, refused: Iterable[RefusedMessage], held: tuple[int, int]) -> tuple[int, int]:
        """Returns what is held then."""
        rows, size = held
        for item in refused:
            digest = hashlib.sha256(item.payload).digest()[:16]
            values = (item.received_utc_ms, item.topic, item.node, item.stream, item.lane, item.seq, item.reason,
                      digest, item.payload)  # fmt: skip
            ((times,),) = db.execute(_INSERT_REFUSED, values).fetchall()
            if times > 1:
                continue
            rows, size = rows + 1, size + len(item.payload)
            while rows > self._rows_max or (size > self._bytes_max and rows > 1):
                oldest = db.execute(_OLDEST_REFUSED).fetchone()
                if oldest is None:  # others have shed too
                    return 0, 0
                db.execute("DELETE FROM refused WHERE id = ?", (oldest[0],))
                rows, size = rows - 1, size - oldest[1]
        return rows, size
