"""The store in a PostgreSQL database. Only what needs one imports this: it needs the extra `postgres`."""

import logging
import time
from concurrent.futures import Future
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
_TABLES = "SELECT count(*) FROM pg_tables WHERE tablename = 'migrations' AND schemaname = ANY(current_schemas(false))"


class PostgresStore(SqlStore):
    """A database that one coordinator writes, or several that do not mind one another."""

    has_parts = True

    def __init__(self, place: PostgresPlace, limits: StoreLimits = DEFAULT_LIMITS, *, alone: bool = True) -> None:
        """Brings the schema up to date. `alone`: raises ForeignStoreError where another such one is connected."""
        super().__init__(limits, readers=place.readers, shared=True)
        self._place = place
        self._alone = alone
        db = self._open_first()
        try:
            migrate(db, POSTGRES_MIGRATIONS)
            with transaction(db):
                partitions.make_ahead(db, time.time_ns() // 1_000_000)
        finally:
            db.close()
        writer = PostgresWriter(self._open_first, name="store")
        try:
            writer.submit(self._load).result()
        except BaseException:
            writer.close()
            raise
        self._postgres = writer
        self._begin(writer)

    def _submit(self, job: Job[T], *, rows_alone: bool = False) -> "Future[T]":
        return self._postgres.submit(job, rows_alone=rows_alone)

    def _open_reader(self) -> Database:
        return self._connect(read_only=True)

    def _open_first(self) -> PostgresDatabase:
        """A connection that writes; where `alone`, the only such one."""
        db = self._connect()
        if self._alone:
            _be_alone(db, ALONE_WAIT_S)
        return db

    def _connect(self, *, read_only: bool = False) -> PostgresDatabase:
        timeout_s = self._place.statement_timeout_s
        return connect(self._place.dsn, name="edge-coordinator", statement_timeout_s=timeout_s, read_only=read_only)


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


def _be_alone(db: PostgresDatabase, wait_s: float) -> None:
    """Holds the lock of the one coordinator as long as the connection lives, or raises ForeignStoreError."""
    until_s = time.monotonic() + wait_s
    while not db.execute("SELECT pg_try_advisory_lock(?)", (ALONE,)).fetchone()[0]:
        if time.monotonic() >= until_s:
            db.close()
            raise ForeignStoreError(f"a coordinator writes to {db.what}", hint="stop it, or name another database")
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
