"""`results.db`: what stays at the node. One writer thread; losing the last moments in a crash is fine, so nothing is
fsynced but by checkpoints.
"""

import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from agent.results.aggregate import Aggregate, ClassSummary, Summary
from agent.results.result import FRAME, Result
from agent.results.retention import Cut, Kept, Tier, next_cut
from agent.results.settings import ResultsSettings
from runtime.errors import PermanentError
from runtime.sqlite import Migration, StorageFormatError, Writer, connect, migrate, storage_errors, transaction
from schemas.shape import fields_of
from schemas.sync import DataFilter

CUT_ROWS = 2000  # dropped at a time: the writer has others to serve
CUTS_MAX = 50  # in one trim
WAL_BYTES = 4 * 1024 * 1024
VACUUM_PAGES = 4000  # given back to the disk at a time

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_results",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE results (
            id INTEGER PRIMARY KEY AUTOINCREMENT, -- never given twice: an interrupted sending goes on by it
            run_s REAL NOT NULL,
            time_utc_ms INTEGER NOT NULL,
            camera TEXT NOT NULL,
            pipeline TEXT NOT NULL,
            type TEXT NOT NULL,
            subject TEXT NOT NULL,
            local_only INTEGER NOT NULL,
            data BLOB NOT NULL
        );
        CREATE TABLE aggregates (
            id INTEGER PRIMARY KEY,
            run_s REAL NOT NULL,
            from_utc_ms INTEGER NOT NULL,
            window_s REAL NOT NULL,
            camera TEXT NOT NULL,
            pipeline TEXT NOT NULL,
            local_only INTEGER NOT NULL,
            data BLOB NOT NULL
        );
        CREATE TABLE dropped (tier TEXT NOT NULL, reason TEXT NOT NULL, rows INTEGER NOT NULL,
                              PRIMARY KEY (tier, reason)) WITHOUT ROWID;
        """,
    ),
    (
        "0002_told",
        f"""
        ALTER TABLE results ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
        -- What functions ask for: rare beside the results of frames.
        CREATE INDEX results_by_type ON results (type, time_utc_ms) WHERE type <> '{FRAME}';
        """,
    ),
)
_TABLES = {Tier.RAW: "results", Tier.AGGREGATES: "aggregates"}
Dropped = Mapping[tuple[str, str], int]
"""Rows by (tier, reason)."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A result as it is kept, with its number in the file."""

    id: int
    result: Result


class NoResultsError(PermanentError):
    """There is no such file at this place."""


class ResultStore:
    """The file, open for writing. `epoch` is drawn when it is created: numbers mean nothing in another file."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError; StorageFormatError for a damaged file, and for one of a newer version."""
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
        try:
            with _format_errors(path):
                self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._writer = Writer(db, name="results")

    def _prepare(self, db: sqlite3.Connection) -> None:
        if (
            db.execute("PRAGMA auto_vacuum").fetchone()[0] != 2
            and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        ):
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("VACUUM")
        migrate(db, MIGRATIONS, what=str(self.path))
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        kept = dict(db.execute("SELECT key, value FROM meta").fetchall())
        if (
            kept.get("closed") != "1"
            and kept
            and (wrong := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok"
        ):
            raise StorageFormatError(f"{self.path} is damaged: {wrong}")
        self.epoch = kept.get("epoch") or secrets.token_hex(8)
        self.run_s = float(kept.get("run_s", 0.0))
        self.dropped = Counter({(tier, reason): rows for tier, reason, rows in db.execute("SELECT * FROM dropped")})
        with transaction(db):
            _set(db, epoch=self.epoch, closed="0")

    # ---- writing --------------------------------------------------------------------------------

    def write(
        self, results: Sequence[Result], aggregates: Sequence[Aggregate], run_s: float, dropped: Dropped
    ) -> "Future[None]":
        """All of it in one transaction; `dropped` are rows that never came so far."""

        def job(db: sqlite3.Connection) -> None:
            db.executemany(
                "INSERT INTO results (run_s, time_utc_ms, camera, pipeline, type, subject, local_only, told, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        *(run_s, r.time_utc_ms, r.camera, r.pipeline, r.type, r.subject),
                        *(r.local_only, r.told, _packed(r.data)),
                    )
                    for r in results
                ],
            )
            db.executemany(
                "INSERT INTO aggregates (run_s, from_utc_ms, window_s, camera, pipeline, local_only, data)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (run_s, a.from_utc_ms, a.window_s, a.camera, a.pipeline, a.local_only, _packed(a.summary))
                    for a in aggregates
                ],
            )
            _count_dropped(db, dropped)
            _set(db, run_s=str(run_s))

        return self._writer.submit(job)

    def trim(
        self, settings: ResultsSettings, *, run_s: float, disk_free_bytes: int, short: bool
    ) -> "Future[Dropped]":
        """Drops what may not stay any longer, oldest first. The future says what it was."""

        def job(db: sqlite3.Connection) -> Dropped:
            gone: Counter[tuple[str, str]] = Counter()
            used = self._used_bytes(db)
            for _ in range(CUTS_MAX):
                now = self._used_bytes(db)
                kept = _kept(db, run_s, now, disk_free_bytes + used - now)
                cut = next_cut(settings, kept, short=short)
                if cut is None:
                    break
                gone[cut.tier.value, cut.reason] += _cut(db, cut)
            _count_dropped(db, gone)
            return gone

        return self._writer.submit(job)

    def give_back(self) -> "Future[None]":
        """Returns free pages of the file to the disk, a few at a time."""

        def job(db: sqlite3.Connection) -> None:
            if db.execute("PRAGMA freelist_count").fetchone()[0]:
                db.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES});")  # `execute` would free one page
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        return self._writer.maintain(job)

    def close(self) -> None:
        """Writes what waits, then closes in order."""
        self._writer.submit(lambda db: _set(db, closed="1"))
        self._writer.close()

    def _used_bytes(self, db: sqlite3.Connection) -> int:
        (pages,), (free,), (size,) = (
            db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)


def _set(db: sqlite3.Connection, **values: str) -> None:
    db.executemany("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", values.items())


def _count_dropped(db: sqlite3.Connection, dropped: Dropped) -> None:
    db.executemany(
        "INSERT INTO dropped (tier, reason, rows) VALUES (?, ?, ?)"
        " ON CONFLICT (tier, reason) DO UPDATE SET rows = rows + excluded.rows",
        [(*key, rows) for key, rows in dropped.items() if rows],
    )


def _kept(db: sqlite3.Connection, run_s: float, used_bytes: int, disk_free_bytes: int) -> Kept:
    figures: list[float] = []
    for table in _TABLES.values():
        # Numbers are given in order and dropped in order, so the first and the last say how many there are.
        first, last = db.execute(f"SELECT min(id), max(id) FROM {table}").fetchone()
        (oldest,) = db.execute(f"SELECT run_s FROM {table} WHERE id = ?", (first,)).fetchone() or (run_s,)
        figures += [0 if first is None else last - first + 1, oldest]
    raw, raw_oldest_s, aggregates, aggregate_oldest_s = figures
    return Kept(run_s, used_bytes, disk_free_bytes, int(raw), raw_oldest_s, int(aggregates), aggregate_oldest_s)


def _cut(db: sqlite3.Connection, cut: Cut) -> int:
    table = _TABLES[cut.tier]
    younger = "" if cut.before_s is None else "WHERE run_s < :before_s"
    (upto,) = db.execute(
        f"SELECT max(id) FROM (SELECT id, run_s FROM {table} ORDER BY id LIMIT {min(cut.rows, CUT_ROWS)}) {younger}",
        {"before_s": cut.before_s} if younger else {},
    ).fetchone()
    return db.execute(f"DELETE FROM {table} WHERE id <= ?", (upto,)).rowcount


def _packed(value: object) -> bytes:
    packed: bytes = msgpack.packb(fields_of(value) if isinstance(value, Summary) else value, default=fields_of)
    return packed


# ---- reading ----------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A reader, also while the agent writes. Raises NoResultsError, StorageError or StorageFormatError."""
    if not path.exists():
        raise NoResultsError(
            f"there are no results at {path}", hint="the agent keeps them when it runs; is node.data_dir right?"
        )
    with closing(connect(path, read_only=True)) as db, _format_errors(path):
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
            raise NoResultsError(f"{path} is being made", hint="ask again in a moment")
        known = {name for (name,) in db.execute("SELECT name FROM migrations")}
        if newer := known - {name for name, _ in MIGRATIONS}:
            raise StorageFormatError(f"{path} was written by a newer version ({', '.join(sorted(newer))})")
        yield db


@contextmanager
def _format_errors(path: Path) -> Iterator[None]:
    try:
        with storage_errors(str(path)):
            yield
    except PermanentError:
        raise
    except Exception as error:
        cause = error.__cause__
        if "malformed" in str(error) or (cause is not None and type(cause) is sqlite3.DatabaseError):
            raise StorageFormatError(f"{path} is damaged: {error}") from error
        raise


def results(
    db: sqlite3.Connection,
    data_filter: DataFilter,
    *,
    after_id: int = 0,
    upto_id: int = 2**62,
    count_max: int = 2**62,
    newest_first: bool = False,
) -> Iterator[Stored]:
    """Kept results that can be meant by the filter, by their numbers. What is in them is not looked at."""
    sql, values = _where(data_filter, "time_utc_ms")
    order = "DESC" if newest_first else "ASC"
    found = db.execute(
        "SELECT id, time_utc_ms, camera, pipeline, type, subject, data, local_only, told FROM results"
        f" WHERE id > ? AND id <= ?{sql}{_among('type', data_filter.types)} ORDER BY id {order} LIMIT ?",
        (after_id, upto_id, *values, *data_filter.types, count_max),
    )
    for number, time_utc_ms, camera, pipeline, kind, subject, data, local_only, told in found:
        fields = msgpack.unpackb(data, strict_map_key=False)
        result = Result(time_utc_ms, camera, pipeline, kind, subject, fields, bool(local_only), bool(told))
        yield Stored(number, result)


def facts(
    db: sqlite3.Connection,
    types: Sequence[str],
    cameras: Sequence[str],
    since_utc_ms: int,
    until_utc_ms: int,
    count_max: int,
) -> list[Result]:
    """The newest kept results of these types that may leave the node, in the order of their times; results of frames
    are not meant."""
    found = db.execute(
        "SELECT time_utc_ms, camera, pipeline, type, subject, data, local_only, told FROM results"
        f" WHERE type <> '{FRAME}' AND NOT local_only{_among('type', types)}{_among('camera', cameras)}"
        " AND time_utc_ms >= ? AND time_utc_ms < ? ORDER BY time_utc_ms DESC LIMIT ?",
        (*types, *cameras, since_utc_ms, until_utc_ms, count_max),
    ).fetchall()
    return [
        Result(
            at, camera, pipeline, kind, subject, msgpack.unpackb(data, strict_map_key=False), bool(local), bool(told)
        )
        for at, camera, pipeline, kind, subject, data, local, told in reversed(found)
    ]


def aggregates(db: sqlite3.Connection, data_filter: DataFilter) -> Iterator[Aggregate]:
    """Kept windows that begin within the filter's times, by their numbers."""
    sql, values = _where(data_filter, "from_utc_ms")
    found = db.execute(
        f"SELECT camera, pipeline, from_utc_ms, window_s, data, local_only FROM aggregates WHERE 1{sql} ORDER BY id",
        values,
    )
    for camera, pipeline, from_utc_ms, window_s, data, local_only in found:
        yield Aggregate(camera, pipeline, from_utc_ms, window_s, _summary(data), bool(local_only))


def first_times(db: sqlite3.Connection, data_filter: DataFilter, kind: str) -> dict[tuple[str, str], int]:
    """When the first result of a type was kept that can be meant by the filter, by camera and pipeline."""
    sql, values = _where(data_filter, "time_utc_ms")
    found = db.execute(
        f"SELECT camera, pipeline, min(time_utc_ms) FROM results WHERE type = ?{sql} GROUP BY camera, pipeline",
        (kind, *values),
    )
    return {(camera, pipeline): first for camera, pipeline, first in found}


def last_id(db: sqlite3.Connection) -> int:
    """The number of the newest result, 0 where there is none."""
    return int(db.execute("SELECT coalesce(max(id), 0) FROM results").fetchone()[0])


def figures(db: sqlite3.Connection) -> dict[str, Any]:
    """What there is, for people."""
    kept = _kept(db, 0.0, 0, 0)
    dropped = [f"{tier}/{reason}={rows}" for tier, reason, rows in db.execute("SELECT * FROM dropped")]
    return {"raw_rows": kept.raw_rows, "aggregate_rows": kept.aggregate_rows, "dropped": dropped}


def _where(data_filter: DataFilter, time_column: str) -> tuple[str, list[Any]]:
    sql = ""
    values: list[Any] = []
    if data_filter.since_utc_ms is not None:
        sql += f" AND {time_column} >= ?"
        values.append(data_filter.since_utc_ms)
    if data_filter.until_utc_ms is not None:
        sql += f" AND {time_column} < ?"
        values.append(data_filter.until_utc_ms)
    for column, names in (("camera", data_filter.cameras), ("pipeline", data_filter.pipelines)):
        sql += _among(column, names)
        values += names
    return sql, values


def _among(column: str, names: Sequence[str]) -> str:
    return f" AND {column} IN ({', '.join('?' * len(names))})" if names else ""


def _summary(data: bytes) -> Summary:
    fields = msgpack.unpackb(data)
    classes = {name: ClassSummary(**each) for name, each in fields.pop("classes").items()}
    return Summary(**{**fields, "bounds": tuple(fields["bounds"])}, classes=classes)
