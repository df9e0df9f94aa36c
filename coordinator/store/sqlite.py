"""The store in one SQLite file: WAL, one writer thread, every commit on disk before it is answered."""

import asyncio
import hashlib
import json
import logging
import secrets
import sqlite3
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from coordinator.documents.changes import Change, Changed
from coordinator.fleet.news import fleet_news
from coordinator.fleet.registry import FleetEvent, Memory, Node
from coordinator.ingest.dedupe import Addition, Received
from coordinator.store import calls, documents, fleet, gaps, model_figures, state
from coordinator.store.migrations import FILE_NAME, MIGRATIONS
from coordinator.store.store import (
    Batch,
    Committed,
    GapRow,
    LaneKey,
    RefusedMessage,
    ResultRow,
    Row,
    runs,
)
from runtime.machine_time import machine_time
from runtime.sqlite import Job, StorageError, Writer, connect, migrate, storage_errors, transaction
from schemas.documents import Desired
from schemas.identity import Identity, Lane
from schemas.messages import Event
from schemas.topics import FLEET

log = logging.getLogger(__name__)

T = TypeVar("T")
LANES_CACHED_MAX = 4096
RESULTS_MAX = 10_000
TOUCHED_MAX = 20_000  # ranges that the gap records of one transaction may touch; further records are put off
ROWS_AT_ONCE = 100

_INSERT = """
INSERT INTO {table} (node, stream, lane, seq, type, subject, severity, time_utc_ms, received_utc_ms, boot, data)
VALUES {rows} ON CONFLICT DO NOTHING
"""
_ONE_ROW = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_REPEAT_REFUSED = """
UPDATE refused SET times = times + 1, last_utc_ms = ? WHERE topic = ? AND lane = ? AND seq = ? AND digest = ?
"""
_INSERT_REFUSED = """
INSERT INTO refused (first_utc_ms, last_utc_ms, topic, node, stream, lane, seq, reason, digest, payload)
VALUES (?1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
"""
_OLDEST_REFUSED = "SELECT id, length(payload) FROM refused ORDER BY id LIMIT 1"

Ranges = dict[LaneKey, Received]


class SqliteStore:
    """See `Store`. What it remembers in memory changes only after the commit that it belongs to."""

    def __init__(
        self,
        folder: Path,
        *,
        refused_rows_max: int = 10_000,
        refused_bytes_max: int = 64 * 1024 * 1024,
        pages_max: int | None = None,
        state_rows_max: int = 100_000,
    ) -> None:
        """Opens or makes the file in `folder`. `pages_max` limits the file, as a full disk would."""
        path = folder / FILE_NAME
        db = connect(path)
        try:
            db.execute("PRAGMA synchronous = FULL")
            if pages_max is not None:
                db.execute(f"PRAGMA max_page_count = {pages_max:d}")
            migrate(db, MIGRATIONS, what=str(path))
            with transaction(db):
                self.stream = _meta(db, "stream") or secrets.token_hex(8)
                _set_meta(db, "stream", self.stream)
                self.boot = int(_meta(db, "boot") or 0) + 1
                _set_meta(db, "boot", str(self.boot))
                _set_meta(db, "started_utc_ms", str(time.time_ns() // 1_000_000))
        except sqlite3.OperationalError as error:
            db.close()
            raise StorageError(f"cannot prepare {path}: {error}", hint="is the disk full or read-only?") from error
        self._db = db
        self._ranges: OrderedDict[LaneKey, Received] = OrderedDict()
        self._refused_rows_max = refused_rows_max
        self._refused_bytes_max = refused_bytes_max
        self.state_rows_max = state_rows_max  # of a collection
        rows, size = db.execute("SELECT count(*), coalesce(sum(length(payload)), 0) FROM refused").fetchone()
        self._refused: tuple[int, int] = rows, size
        self._nodes, self._memory = fleet.nodes(db), fleet.memory(db)
        self._unannounced = self._read_unannounced(db)
        self.document_hashes = documents.hashes(db)
        self._reader = connect(path, read_only=True)
        self._reading = threading.Lock()
        self._writer = Writer(db, name="store")
        self.calls = calls.open_journal(db, self._writer)

    def nodes(self) -> list[Node]:
        """Every node as the file held it when it was opened."""
        return self._nodes

    def memory(self) -> Memory:
        """What else the file knew of the fleet then."""
        return self._memory

    async def commit(self, batch: Batch) -> Committed:
        """One transaction. Raises StorageError when the disk refuses; nothing has changed then."""

        def job(db: sqlite3.Connection) -> tuple[Committed, Ranges, tuple[int, int]]:
            committed, ranges = self._write(db, batch)
            return committed, ranges, self._quarantine(db, batch.refused)

        committed, ranges, self._refused = await asyncio.wrap_future(self._writer.submit(job))
        self._remember(ranges)
        self._unannounced += committed.fleet_events
        return committed

    def unannounced(self, after_seq: int, limit: int) -> list[Event]:
        at = bisect_right(self._unannounced, after_seq, key=lambda event: event.identity.seq)
        return self._unannounced[at : at + limit]

    async def save_counters(self, counters: dict[str, float], announced_seq: int) -> None:
        """Replaces the counters of before."""

        def job(db: sqlite3.Connection) -> None:
            db.executemany("INSERT OR REPLACE INTO counters (name, value) VALUES (?, ?)", counters.items())
            if announced_seq:
                _set_meta(db, "announced_seq", str(announced_seq))

        self._unannounced = [event for event in self._unannounced if event.identity.seq > announced_seq]
        await asyncio.wrap_future(self._writer.submit(job))

    async def run(self, job: Job[T]) -> T:
        """Something else than a batch in a transaction of the writer. Raises StorageError."""
        return await asyncio.wrap_future(self._writer.submit(job))

    async def run_telling(self, job: Job[tuple[T, list[FleetEvent]]]) -> T:
        """The same for something of which everybody is to be told; both are durable together. Raises StorageError."""

        def both(db: sqlite3.Connection) -> tuple[T, list[Event]]:
            done, drafts = job(db)
            return done, self._write_fleet_events(db, drafts) if drafts else []

        done, events = await asyncio.wrap_future(self._writer.submit(both))
        self._unannounced += events
        return done

    async def read(self, question: Job[T]) -> T:
        """Something that may take a while, beside the writer and not on the loop. Raises StorageError."""

        def ask() -> T:
            with self._reading, storage_errors("store"):
                return question(self._reader)

        return await asyncio.to_thread(ask)

    def run_now(self, job: Job[T]) -> T:
        """The same before the loop runs. Raises StorageError."""
        return self._writer.submit(job).result()

    async def change_desired(self, node: str, change: Change) -> Changed:
        """The next revision of a node's desired document. Raises ChangeRefusedError or StorageError."""
        job = self._writer.submit(lambda db: documents.change(db, node, change, machine_time()))
        return await asyncio.wrap_future(job)

    async def desired(self, node: str) -> Desired:
        """The desired document of a node; one of revision 0 where there is none."""
        return await asyncio.wrap_future(self._writer.submit(lambda db: documents.desired(db, node)))

    def close(self) -> None:
        self._writer.close()
        with self._reading:
            self._reader.close()

    # ---- in the writer's thread -----------------------------------------------------------------

    def _write(self, db: sqlite3.Connection, batch: Batch) -> tuple[Committed, Ranges]:
        committed = Committed()
        ranges: Ranges = {}
        for table, rows in (("events", batch.events), ("samples", batch.samples)):
            fresh = self._fresh(db, rows, ranges, committed)
            _insert(db, table, fresh)
            committed.new += len(fresh)
            if table == "events":
                committed.drafts += [news for row in fresh if (news := fleet_news(row)) is not None]
                model_figures.take(db, fresh)
            else:
                committed.state = state.take(db, fresh, self.state_rows_max)
        touched = 0
        for gap in batch.gaps:
            if touched >= TOUCHED_MAX:
                committed.gaps_put_off += 1
            else:
                touched += self._close(db, gap, ranges, committed)
        fleet.write(db, batch)
        if batch.results:
            _write_results(db, batch.results)
        for reported in batch.reported:
            taken = documents.take_reported(db, reported, machine_time())
            committed.drafts += taken.events
            committed.reported[reported.node] = taken.hash
            if taken.renewed is not None:
                committed.renewed[reported.node] = taken.renewed
        drafts = batch.fleet_events + committed.drafts
        if drafts:
            committed.fleet_events = self._write_fleet_events(db, drafts)
        return committed, ranges

    def _fresh(self, db: sqlite3.Connection, rows: list[Row], ranges: Ranges, committed: Committed) -> list[Row]:
        """The rows that are not here yet, in the order of arrival; their ranges are written."""
        fresh: list[tuple[int, int]] = []  # from, and up to but without
        by_lane = runs(rows)
        for key in sorted(by_lane):  # in one order everywhere, so that two writers could not lock each other out
            received, done = self._of(db, key, ranges), Addition()
            for run in by_lane[key]:
                shift = run.at - run.first
                taken = received.take(run.first, run.last, done)
                if taken is None:
                    committed.overfull += rows[run.at : run.last + shift + 1]
                    continue
                fresh += [(first + shift, last + shift + 1) for first, last in taken[1]]
                for first, last in taken[0]:
                    late = gaps.overlapping(db, key, first, last)
                    committed.late += [row for a, b in late for row in rows[a + shift : b + shift + 1]]
                    committed.duplicates += last - first + 1 - sum(b - a + 1 for a, b in late)
            _write_ranges(db, key, done)
        return [row for begin, end in sorted(fresh) for row in rows[begin:end]]

    def _close(self, db: sqlite3.Connection, gap: GapRow, ranges: Ranges, committed: Committed) -> int:
        """Takes the whole range as received; what was missing of it is kept as a gap and told to everybody.

        Returns how many ranges it touched: the work and the answer grow with them.
        """
        closed = self._of(db, gap.key, ranges).close(gap.first, gap.last)
        if closed is None:
            committed.overfull_gaps.append(gap)
            return 1
        held, missing, done = closed
        before = gaps.overlapping(db, gap.key, gap.first, gap.last)
        _write_ranges(db, gap.key, done)
        gaps.write(db, gap, missing)
        committed.closed += [(gap.node, said) for said in gaps.answer(gap, held, before)]
        if missing:
            count = sum(last - first + 1 for first, last in missing)
            data = {"stream": gap.stream, "lane": gap.lane, "first": gap.first, "last": gap.last}
            data |= {"missing": count, "reason": gap.reason}
            committed.drafts.append(FleetEvent("DataGapReported", gap.node, data, gap.received_utc_ms))
        return 1 + len(held) + len(before) + len(missing)

    def _of(self, db: sqlite3.Connection, key: LaneKey, ranges: Ranges) -> Received:
        """What is received of a lane, as far as this transaction has come."""
        received = ranges.get(key)
        if received is None:
            received = ranges[key] = self._received(db, key)
        return received

    def _received(self, db: sqlite3.Connection, key: LaneKey) -> Received:
        known = self._ranges.get(key)
        if known is not None:
            return known.copy()
        sql = "SELECT first, last FROM received WHERE node = ? AND stream = ? AND lane = ? ORDER BY first"
        return Received(db.execute(sql, key))

    def _write_fleet_events(self, db: sqlite3.Connection, drafts: list[FleetEvent]) -> list[Event]:
        lane = Lane.LIFECYCLE.value
        seq = int(_meta(db, "fleet_seq") or 0)
        events = [
            Event(
                Identity(FLEET, self.stream, lane, seq + i), draft.type, draft.node, draft.time_utc_ms, draft.data,
                self.boot,
            )
            for i, draft in enumerate(drafts, start=1)
        ]  # fmt: skip
        _insert(db, "events", [_row(event) for event in events])
        _set_meta(db, "fleet_seq", str(seq + len(drafts)))
        return events

    def _quarantine(self, db: sqlite3.Connection, refused: list[RefusedMessage]) -> tuple[int, int]:
        """Keeps the messages raw and sheds the oldest beyond the limits. Returns the rows and bytes kept."""
        rows, size = self._refused
        for item in refused:
            digest = hashlib.sha256(item.payload).digest()[:16]
            repeated = (item.received_utc_ms, item.topic, item.lane, item.seq, digest)
            if db.execute(_REPEAT_REFUSED, repeated).rowcount:
                continue
            db.execute(
                _INSERT_REFUSED,
                (item.received_utc_ms, item.topic, item.node, item.stream, item.lane, item.seq, item.reason, digest,
                 item.payload),
            )  # fmt: skip
            rows, size = rows + 1, size + len(item.payload)
            while rows > self._refused_rows_max or (size > self._refused_bytes_max and rows > 1):
                oldest, length = db.execute(_OLDEST_REFUSED).fetchone()
                db.execute("DELETE FROM refused WHERE id = ?", (oldest,))
                rows, size = rows - 1, size - length
        return rows, size

    # ---- in the loop's thread -------------------------------------------------------------------

    def _remember(self, ranges: Ranges) -> None:
        for key, received in ranges.items():
            self._ranges[key] = received
            self._ranges.move_to_end(key)
        while len(self._ranges) > LANES_CACHED_MAX:
            self._ranges.popitem(last=False)

    def _read_unannounced(self, db: sqlite3.Connection) -> list[Event]:
        sql = """
            SELECT lane, seq, type, subject, time_utc_ms, boot, data FROM events
            WHERE node = ? AND stream = ? AND lane = ? AND seq > ? ORDER BY seq LIMIT 10000
        """
        after = int(_meta(db, "announced_seq") or 0)
        return [
            Event(Identity(FLEET, self.stream, lane, seq), kind, subject, utc_ms, json.loads(data), boot)
            for lane, seq, kind, subject, utc_ms, boot, data in db.execute(
                sql, (FLEET, self.stream, Lane.LIFECYCLE.value, after)
            )
        ]


# ---- rows -------------------------------------------------------------------------------------------


def _write_results(db: sqlite3.Connection, results: Iterable[ResultRow]) -> None:
    db.executemany(
        "INSERT INTO results (node, function, command_id, state, received_utc_ms, document)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [(row.node, row.function, row.id, row.state, row.received_utc_ms, row.document) for row in results],
    )
    db.execute("DELETE FROM results WHERE id <= (SELECT max(id) FROM results) - ?", (RESULTS_MAX,))


def _insert(db: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    """Many rows by one statement: each statement gives the interpreter away and has to wait to get it back."""
    whole = len(rows) - len(rows) % ROWS_AT_ONCE
    many = _INSERT.format(table=table, rows=", ".join([_ONE_ROW] * ROWS_AT_ONCE))
    for at in range(0, whole, ROWS_AT_ONCE):
        db.execute(many, [value for row in rows[at : at + ROWS_AT_ONCE] for value in row])
    db.executemany(_INSERT.format(table=table, rows=_ONE_ROW), rows[whole:])


def _write_ranges(db: sqlite3.Connection, key: LaneKey, done: Addition) -> None:
    if done.deleted:
        db.executemany(
            "DELETE FROM received WHERE node = ? AND stream = ? AND lane = ? AND first = ?",
            [(*key, first) for first in done.deleted],
        )
    db.executemany(
        "INSERT OR REPLACE INTO received (node, stream, lane, first, last) VALUES (?, ?, ?, ?, ?)",
        [(*key, first, last) for first, last in done.written.items()],
    )


def _row(event: Event) -> Row:
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


def _meta(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row[0])


def _set_meta(db: sqlite3.Connection, key: str, value: str) -> None:
    db.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))
