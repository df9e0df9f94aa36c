"""The store in a PostgreSQL database. Only what needs one imports this: it needs the extra `postgres`."""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import TypeVar

from coordinator.store import partitions
from coordinator.store.migrations import check_schema
from coordinator.store.place import DEFAULT_LIMITS, PostgresPlace
from coordinator.store.postgres_schema import POSTGRES_MIGRATIONS
from coordinator.store.sql import SqlStore, StoreLimits
from coordinator.store.store import ForeignStoreError
from runtime.database import Database, Job, transaction
from runtime.errors import PermanentError
from runtime.postgres import PostgresDatabase, connect
from runtime.postgres_writer import PostgresWriter, migrate

log = logging.getLogger(__name__)

T = TypeVar("T")
ALONE = 0x4564_6765_0003  # the advisory lock of the one coordinator
ALONE_WAIT_S = 5.0  # the server may not have noticed yet that the one before was killed
NAME = "edge-coordinator"  # of our connections, for whoever looks at the server
HUNG_S = 15.0
# The server's own limits (`idle_in_transaction_session_timeout`, `statement_timeout`) end nobody who was suspended
# between two messages of a pipeline, as `executemany` is sent: to them such a session is at work.
_END_HUNG = """
SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND application_name = ? AND state = 'active'
    AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - CAST(? AS DOUBLE PRECISION) * INTERVAL '1 s'
"""
_TABLES = "SELECT count(*) FROM pg_tables WHERE tablename = 'migrations' AND schemaname = ANY(current_schemas(false))"


class Part(Enum):
    """What the process that opens it is to the database."""

    ALONE = "alone"  # the one coordinator
    ROWS = "rows"  # one of several: it stores rows, and its own entry
    LEAD = "lead"  # the one of several that has the fleet, as long as it has the duty


class PostgresStore(SqlStore):
    """A database that one coordinator writes, or several."""

    has_parts = True

    def __init__(
        self,
        place: PostgresPlace,
        limits: StoreLimits = DEFAULT_LIMITS,
        *,
        part: Part = Part.ALONE,
        fence: Callable[[Database], None] | None = None,
    ) -> None:
        """Brings the schema up to date. `fence` begins each transaction: it raises where that must not be any more.

        Raises ForeignStoreError where a lone coordinator is connected, or any, and this is to be a lone one.
        """
        super().__init__(limits, readers=place.readers, shared=True, together=part is not Part.ALONE)
        self._place = place
        self._part = part
        self._fence = fence
        db = self._open_first()
        try:
            migrate(db, POSTGRES_MIGRATIONS)
            with transaction(db):
                partitions.make_ahead(db, time.time_ns() // 1_000_000)
        finally:
            db.close()
        writer = PostgresWriter(self._open_first, name="store")
        try:
            writer.submit(self._load_for_rows if part is Part.ROWS else self._fenced(self._load)).result()
        except BaseException:
            writer.close()
            raise
        self._postgres = writer
        self._begin(writer)

    def _submit(self, job: Job[T], *, rows_alone: bool = False) -> "Future[T]":
        return self._postgres.submit(self._fenced(job), rows_alone=rows_alone)

    def _fenced(self, job: Job[T]) -> Job[T]:
        fence = self._fence
        if fence is None:
            return job

        def fenced(db: Database) -> T:
            fence(db)
            return job(db)

        return fenced

    def _open_reader(self) -> Database:
        return _connect(self._place, read_only=True)

    def _open_first(self) -> PostgresDatabase:
        """A connection that writes; no lone coordinator has one beside it."""
        db = _connect(self._place)
        _be_alone(db, ALONE_WAIT_S, shared=self._part is not Part.ALONE)
        return db


class LeaseDesk:
    """A connection on which leases are asked for and nothing else is done: a row that somebody holds, and for which
    the store's own connection waits, does not keep a process from leading. With each question sessions of ours that
    hang are ended: they would hold their locks for as long as their process is suspended."""

    def __init__(self, place: PostgresPlace) -> None:
        """For a database that has its schema. Raises StorageError."""
        self._writer = PostgresWriter(lambda: _connect(place), name="leases")

    async def run(self, job: Job[T]) -> T:
        """In a transaction. Raises StorageError."""

        def asked(db: Database) -> T:
            for pid, _ in db.execute(_END_HUNG, (NAME, HUNG_S)).fetchall():
                log.warning(
                    "the server's process %d was ended: its coordinator hangs, and held what it wrote to", pid
                )
            return job(db)

        return await asyncio.wrap_future(self._writer.submit(asked, rows_alone=True))

    def close(self) -> None:
        self._writer.close()


def open_alone(place: PostgresPlace) -> PostgresDatabase:
    """A connection that writes, with the schema up to date. Raises ForeignStoreError or StorageError."""
    db = connect(place.dsn, name="edgectl", statement_timeout_s=place.statement_timeout_s)
    try:
        _be_alone(db, 0.0)
        migrate(db, POSTGRES_MIGRATIONS)
    except BaseException:
        db.close()
        raise
    return db


def _connect(place: PostgresPlace, *, read_only: bool = False) -> PostgresDatabase:
    timeout_s = place.statement_timeout_s
    return connect(place.dsn, name=NAME, statement_timeout_s=timeout_s, read_only=read_only)


def _be_alone(db: PostgresDatabase, wait_s: float, *, shared: bool = False) -> None:
    """Holds the lock as long as the connection lives, several together if all are `shared`.

    Raises ForeignStoreError.
    """
    ask = f"SELECT pg_try_advisory_lock{'_shared' if shared else ''}(?)"
    until_s = time.monotonic() + wait_s
    while not db.execute(ask, (ALONE,)).fetchone()[0]:
        if time.monotonic() >= until_s:
            db.close()
            hint = "stop it, name another database, or set coordinator.replicas in all of them"
            raise ForeignStoreError(f"a coordinator writes to {db.what}", hint=hint)
        time.sleep(0.1)


def open_reading(place: PostgresPlace) -> PostgresDatabase:
    """A connection that only reads. Raises PermanentError where there is no store, or StorageError."""
    db = connect(place.dsn, name="edgectl", statement_timeout_s=place.statement_timeout_s, read_only=True)
    try:
        if not db.execute(_TABLES).fetchone()[0]:
            raise PermanentError(
                f"there is no coordinator's store in {db.what}", hint="the coordinator makes it when it first runs"
            )
        applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        check_schema(applied, POSTGRES_MIGRATIONS, f"the store in {db.what}")
    except BaseException:
        db.close()
        raise
    return db
