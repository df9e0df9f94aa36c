"""The store over an SQL database: one writer's thread, every commit durable before it is answered.

SQLite and PostgreSQL bring their connections; what is written is the same text for both.
"""

import asyncio
import json
import logging
import queue
import secrets
import time
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, TypeVar

from coordinator.documents.changes import Change, Changed
from coordinator.fleet.news import fleet_news
from coordinator.fleet.registry import FleetEvent, Memory, Node
from coordinator.state.judge import is_state
from coordinator.store import calls, documents, fleet, gaps, meta, model_figures, rows, state
from coordinator.store.lanes import Lanes, Opened
from coordinator.store.reports import take_reports
from coordinator.store.store import Batch, Committed, GapRow, LaneKey, RefusedMessage, Row, Run, runs
from runtime.calls.journal import cut_off
from runtime.database import Database, Job, StorageError, upsert
from runtime.machine_time import machine_time
from runtime.writer import Writer
from schemas.documents import Desired
from schemas.identity import Identity, Lane
from schemas.messages import Event
from schemas.topics import FLEET

log = logging.getLogger(__name__)

T = TypeVar("T")
READER_WAIT_S = 30.0
CLOSE_WAIT_S = 5.0
TOUCHED_MAX = 20_000  # ranges that the gap records of one transaction may touch; further records are put off
_OF_ROWS_ALONE = frozenset({"events", "samples", "gaps", "fleet_events"})
_UPSERT_COUNTER = upsert("counters", ("name",), ("value",))


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How much is kept of what has no end of its own."""

    refused_rows_max: int = 10_000
    refused_bytes_max: int = 64 * 1024 * 1024
    state_rows_max: int = 100_000  # of a collection


class SqlStore(ABC):
    """See `Store`. What it remembers in memory changes only after the commit that it belongs to."""

    has_parts = False  # `samples` is cut into parts: `partitions`

    def __init__(self, limits: StoreLimits, *, readers: int, shared: bool, together: bool = False) -> None:
        """`readers`: connections beside the writer's. `shared`: other processes may have written the same database.

        `together`: others write it meanwhile. Whoever derives from this calls `_load`, or `_load_for_rows` where
        another has the fleet, and `_begin`.
        """
        self._together = together
        self._nodes: list[Node] = []
        self._memory = Memory()
        self._unannounced: list[Event] = []
        self._left_open: Collection[str] = ()
        self.document_hashes: tuple[dict[str, str], dict[str, str]] = ({}, {})
        self._readers: queue.SimpleQueue[Database | None] = queue.SimpleQueue()
        for _ in range(readers):
            self._readers.put(None)  # made when it is needed
        self._readers_count = readers
        self._lanes = Lanes(shared=shared)
        self._refused_limits = rows.Quarantine(rows_max=limits.refused_rows_max, bytes_max=limits.refused_bytes_max)
        self.state_rows_max = limits.state_rows_max

    def _load(self, db: Database) -> None:
        """A new boot, and what earlier ones left; in the first transaction."""
        self.stream = _stream(db)
        self.boot = meta.add(db, "boot", 1)
        meta.put(db, "started_utc_ms", str(time.time_ns() // 1_000_000))
        self._refused = self._refused_limits.held(db)
        self._nodes, self._memory = fleet.nodes(db), fleet.memory(db)
        self._unannounced = self._read_unannounced(db)
        self.document_hashes = documents.hashes(db)
        self._left_open = cut_off(db)  # commands

    def _load_for_rows(self, db: Database) -> None:
        """For a process that stores rows and leaves the fleet to another: no boot, and nothing of others is ended."""
        self.stream, self.boot = _stream(db), int(meta.get(db, "boot") or 0)
        self._refused = self._refused_limits.held(db)

    def _begin(self, writer: Writer[Any]) -> None:
        """From now on this is the writer."""
        self._writer = writer
        self.calls = calls.open_journal(_Jobs(self._submit), self._left_open)

    # ---- what a database gives ------------------------------------------------------------------

    @abstractmethod
    def _submit(self, job: Job[T], *, rows_alone: bool = False) -> "Future[T]":
        """In a transaction of the writer. `rows_alone`: it touches nothing but rows and their lanes."""

    @abstractmethod
    def _open_reader(self) -> Database:
        """A connection that only reads, beside the writer. Raises StorageError."""

    # ---- for everybody --------------------------------------------------------------------------

    def nodes(self) -> list[Node]:
        """Every node as the file held it when it was opened."""
        return self._nodes

    def memory(self) -> Memory:
        """What else the file knew of the fleet then."""
        return self._memory

    async def commit(self, batch: Batch) -> Committed:
        """One transaction. Raises StorageError when the disk refuses; nothing has changed then."""

        def job(db: Database) -> tuple[Committed, Opened, tuple[int, int]]:
            committed, lanes = self._write(db, batch)
            return committed, lanes, self._quarantine(db, batch.refused)

        future = self._submit(job, rows_alone=_is_rows_alone(batch))
        committed, lanes, self._refused = await asyncio.wrap_future(future)
        self._lanes.remember(lanes)
        if not self._together:
            self._unannounced += committed.fleet_events
        return committed

    async def see_unannounced(self) -> bool:
        """Fleet events that other processes wrote, in the order of their commits. True where there are new ones."""
        if not self._together:
            return False
        after = self._unannounced[-1].identity.seq if self._unannounced else 0
        found = await self.read(lambda db: self._read_unannounced(db, after))
        self._unannounced += found
        return bool(found)

    def unannounced(self, after_seq: int, limit: int) -> list[Event]:
        at = bisect_right(self._unannounced, after_seq, key=lambda event: event.identity.seq)
        return self._unannounced[at : at + limit]

    async def save_counters(self, counters: dict[str, float], announced_seq: int) -> None:
        """Replaces the counters of before."""

        def job(db: Database) -> None:
            db.executemany(_UPSERT_COUNTER, list(counters.items()))
            if announced_seq:
                meta.put(db, "announced_seq", str(announced_seq))

        self._unannounced = [event for event in self._unannounced if event.identity.seq > announced_seq]
        await asyncio.wrap_future(self._submit(job))

    async def run(self, job: Job[T]) -> T:
        """Something else than a batch in a transaction of the writer. Raises StorageError."""
        return await asyncio.wrap_future(self._submit(job))

    async def run_telling(self, job: Job[tuple[T, list[FleetEvent]]]) -> T:
        """The same for something of which everybody is to be told; both are durable together. Raises StorageError."""

        def both(db: Database) -> tuple[T, list[Event]]:
            done, drafts = job(db)
            return done, self._write_fleet_events(db, drafts) if drafts else []

        done, events = await asyncio.wrap_future(self._submit(both))
        if not self._together:
            self._unannounced += events
        return done

    async def read(self, question: Job[T]) -> T:
        """Something that may take a while, beside the writer and not on the loop. Raises StorageError."""
        return await asyncio.to_thread(self._ask, question)

    def run_now(self, job: Job[T]) -> T:
        """The same before the loop runs. Raises StorageError."""
        return self._submit(job).result()

    async def change_desired(self, node: str, change: Change) -> Changed:
        """The next revision of a node's desired document. Raises ChangeRefusedError or StorageError."""
        job = self._submit(lambda db: documents.change(db, node, change, machine_time()))
        return await asyncio.wrap_future(job)

    async def desired(self, node: str) -> Desired:
        """The desired document of a node; one of revision 0 where there is none."""
        return await asyncio.wrap_future(self._submit(lambda db: documents.desired(db, node)))

    def close(self) -> None:
        """Finishes what was begun and lets go of the database."""
        readers, self._readers_count = self._readers_count, 0
        for _ in range(readers):
            try:
                db = self._readers.get(timeout=CLOSE_WAIT_S)
            except queue.Empty:  # a question that takes so long loses its connection with the process
                break
            if db is not None:
                db.close()
        self._writer.close()  # the last one: SQLite then brings all of its log into the file

    def _ask(self, question: Job[T]) -> T:
        try:
            db = self._readers.get(timeout=READER_WAIT_S)
        except queue.Empty:
            raise StorageError("all connections that read are busy", hint="raise [store] readers") from None
        try:
            if db is not None and not db.is_broken:
                try:
                    return question(db)
                except StorageError:
                    if not db.is_broken:
                        raise  # else it broke while nobody asked, perhaps, and the server is there again
            db = self._open_reader()
            return question(db)
        finally:
            self._readers.put(db)

    # ---- in the writer's thread -----------------------------------------------------------------

    def _write(self, db: Database, batch: Batch) -> tuple[Committed, Opened]:
        committed = Committed()
        events, samples = runs(batch.events), runs(batch.samples)
        lanes = self._lanes.open(db, {*events, *samples, *(gap.key for gap in batch.gaps)})
        fresh = _fresh(db, batch.events, events, lanes, committed)
        rows.insert(db, "events", fresh)
        committed.drafts += [news for row in fresh if (news := fleet_news(row)) is not None]
        model_figures.take(db, fresh)
        committed.new += len(fresh)
        fresh = _fresh(db, batch.samples, samples, lanes, committed)
        rows.insert(db, "samples", fresh)
        committed.new += len(fresh)
        committed.state = state.take(db, fresh, self.state_rows_max)
        touched = 0
        for gap in batch.gaps:
            if touched >= TOUCHED_MAX:
                committed.gaps_put_off += 1
            else:
                touched += _close(db, gap, lanes, committed)
        lanes.write()
        fleet.write(db, batch)
        if batch.results:
            rows.write_results(db, batch.results)
        taken_all = take_reports(db, batch.reported, machine_time())
        for reported, taken in zip(batch.reported, taken_all, strict=True):
            committed.drafts += taken.events
            committed.reported[reported.node] = taken.hash
            if taken.renewed is not None:
                committed.renewed[reported.node] = taken.renewed
        drafts = batch.fleet_events + committed.drafts
        if drafts:
            committed.fleet_events = self._write_fleet_events(db, drafts)
        return committed, lanes

    def _quarantine(self, db: Database, refused: list[RefusedMessage]) -> tuple[int, int]:
        held = self._refused_limits.held(db) if self._together and refused else self._refused
        return self._refused_limits.keep(db, refused, held)

    def _write_fleet_events(self, db: Database, drafts: list[FleetEvent]) -> list[Event]:
        lane = Lane.LIFECYCLE.value
        seq = meta.add(db, "fleet_seq", len(drafts)) - len(drafts)
        events = [
            Event(
                Identity(FLEET, self.stream, lane, seq + i), draft.type, draft.node, draft.time_utc_ms, draft.data,
                self.boot,
            )
            for i, draft in enumerate(drafts, start=1)
        ]  # fmt: skip
        rows.insert(db, "events", [rows.row_of(event) for event in events])
        return events

    def _read_unannounced(self, db: Database, after_seq: int = 0) -> list[Event]:
        sql = """
            SELECT lane, seq, type, subject, time_utc_ms, boot, data FROM events
            WHERE node = ? AND stream = ? AND lane = ? AND seq > ? ORDER BY seq LIMIT 10000
        """
        after = max(after_seq, int(meta.get(db, "announced_seq") or 0))
        return [
            Event(Identity(FLEET, self.stream, lane, seq), kind, subject, utc_ms, json.loads(data), boot)
            for lane, seq, kind, subject, utc_ms, boot, data in db.execute(
                sql, (FLEET, self.stream, Lane.LIFECYCLE.value, after)
            )
        ]


def _stream(db: Database) -> str:
    """The name under which the fleet's own events have their identity: one for each store."""
    found = meta.get(db, "stream")
    if found is None:
        found = secrets.token_hex(8)
        meta.put(db, "stream", found)
    return found


class _Jobs:
    """What the journal of calls writes through."""

    def __init__(self, submit: Callable[[Job[Any]], "Future[Any]"]) -> None:
        self._submit = submit

    def submit(self, job: Callable[[Database], T]) -> "Future[T]":
        return self._submit(job)


# ---- rows and their lanes ---------------------------------------------------------------------------


def _fresh(
    db: Database, found: list[Row], by_lane: dict[LaneKey, list[Run]], lanes: Opened, committed: Committed
) -> list[Row]:
    """The rows that are not here yet, in the order of arrival."""
    fresh: list[tuple[int, int]] = []  # from, and up to but without
    for key in sorted(by_lane):
        received, done = lanes.of(key)
        for run in by_lane[key]:
            shift = run.at - run.first
            taken = received.take(run.first, run.last, done)
            if taken is None:
                committed.overfull += found[run.at : run.last + shift + 1]
                continue
            fresh += [(first + shift, last + shift + 1) for first, last in taken[1]]
            for first, last in taken[0]:
                late = gaps.overlapping(db, key, first, last)
                committed.late += [row for a, b in late for row in found[a + shift : b + shift + 1]]
                committed.duplicates += last - first + 1 - sum(b - a + 1 for a, b in late)
    return [row for begin, end in sorted(fresh) for row in found[begin:end]]


def _close(db: Database, gap: GapRow, lanes: Opened, committed: Committed) -> int:
    """Takes the whole range as received; what was missing of it is kept as a gap and told to everybody.

    Returns how many ranges it touched: the work and the answer grow with them.
    """
    received, done = lanes.of(gap.key)
    closed = received.take(gap.first, gap.last, done)
    if closed is None:
        committed.overfull_gaps.append(gap)
        return 1
    held, missing = closed
    before = gaps.overlapping(db, gap.key, gap.first, gap.last)
    gaps.write(db, gap, missing)
    committed.closed += [(gap.node, said) for said in gaps.answer(gap, held, before)]
    if missing:
        count = sum(last - first + 1 for first, last in missing)
        data = {"stream": gap.stream, "lane": gap.lane, "first": gap.first, "last": gap.last}
        data |= {"missing": count, "reason": gap.reason}
        committed.drafts.append(FleetEvent("DataGapReported", gap.node, data, gap.received_utc_ms))
    return 1 + len(held) + len(before) + len(missing)


def _is_rows_alone(batch: Batch) -> bool:
    """Nothing in it but rows and gaps, whose lanes are locked one by one; others who write need not wait."""
    others = any(getattr(batch, name) for name in batch.__slots__ if name not in _OF_ROWS_ALONE)
    return not others and not any(map(is_state, batch.samples))
