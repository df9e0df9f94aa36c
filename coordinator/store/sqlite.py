"""The store in one SQLite file: WAL, one writer thread, every commit on disk before it is answered."""

import sqlite3
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from coordinator.store.migrations import FILE_NAME, MIGRATIONS
from coordinator.store.sql import SqlStore, StoreLimits
from runtime.database import Database, Job
from runtime.sqlite import StorageError, Writer, connect, migrate, storage_errors, transaction

T = TypeVar("T")
READERS = 2
# A transaction of a large fleet changes a thousand pages and more. With SQLite's own 500 pages of cache some of them
# are written several times, and with its 1000 of write-ahead file each commit writes all of them back as well.
CACHE_KIB = 64 * 1024
WAL_PAGES = 8_192


class SqliteStore(SqlStore):
    """The file in a folder that belongs to one process."""

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
        super().__init__(
            StoreLimits(refused_rows_max, refused_bytes_max, state_rows_max), readers=READERS, shared=False
        )
        path = folder / FILE_NAME
        db = connect(path, wal_pages=WAL_PAGES)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA cache_size = {-CACHE_KIB:d}")
            if pages_max is not None:
                db.execute(f"PRAGMA max_page_count = {pages_max:d}")
            migrate(db, MIGRATIONS, what=str(path))
            with transaction(db):
                self._load(db)
        except sqlite3.OperationalError as error:
            db.close()
            raise StorageError(f"cannot prepare {path}: {error}", hint="is the disk full or read-only?") from error
        self._path = path
        self._begin(Writer(db, name="store"))

    def _submit(self, job: Job[T], *, rows_alone: bool = False) -> "Future[T]":
        return self._writer.submit(job)

    def _ask(self, question: Job[T]) -> T:
        with storage_errors("store"):
            return super()._ask(question)

    def _open_reader(self) -> Database:
        return connect(self._path, read_only=True)
