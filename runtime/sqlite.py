"""SQLite files in the manner both processes need: WAL, one writer thread, migrations recorded with their effect."""

import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from runtime import writer
from runtime.database import SQLITE
from runtime.database import DiskFullError as DiskFullError
from runtime.database import NewerVersionError as NewerVersionError
from runtime.database import StorageError as StorageError
from runtime.database import StorageFormatError as StorageFormatError

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
_NORMAL = 1  # as `PRAGMA synchronous` says it


class Connection(sqlite3.Connection):
    """Fulfils `Database`."""

    dialect = SQLITE
    is_broken = False


SMALL_WAL_PAGES = 256


def connect(path: Path, *, read_only: bool = False, wal_pages: int = 0) -> Connection:
    """A connection in autocommit mode: transactions are begun by `transaction` alone.

    `wal_pages`: from how many pages on the write-ahead file is written back (0: SQLite's own, about 4 MB). Files that
    hold little take `SMALL_WAL_PAGES`: on a small disk the write-ahead files would be most of what a node holds.
    """
    target = f"file:{quote(str(path))}" + ("?mode=ro" if read_only else "")
    db: Connection | None = None
    try:
        db = sqlite3.connect(
            target, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0, factory=Connection
        )
        db.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            if wal_pages:
                db.execute(f"PRAGMA wal_autocheckpoint = {wal_pages:d}")
        opened, db = db, None
    except sqlite3.OperationalError as error:
        raise StorageError(
            f"cannot open {path}: {error}", hint="check that the folder exists and is writable"
        ) from error
    except sqlite3.DatabaseError as error:
        raise StorageFormatError(
            f"{path} is no SQLite file: {error}", hint="move it aside; it is not deleted"
        ) from error
    finally:
        if db is not None:
            db.close()
    return opened


C = TypeVar("C", bound=sqlite3.Connection)


@contextmanager
def transaction(db: C) -> Iterator[C]:
    """One `BEGIN IMMEDIATE … COMMIT`; rolled back on any error, which passes on."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Errors of SQLite inside become StorageError or StorageFormatError that name `what`."""
    try:
        yield
    except sqlite3.Error as error:
        raise _storage(error, what) from error


def move_aside(path: Path) -> Path:
    """Moves a file that nobody has open, with what belongs to it, to a name of its own; nothing is deleted."""
    number = next(n for n in range(1, 10_000) if not path.with_name(f"{path.name}.damaged-{n}").exists())
    for ending in ("-wal", "-shm", ""):
        part = path.with_name(path.name + ending)
        if part.exists():
            part.rename(path.with_name(f"{path.name}.damaged-{number}{ending}"))
    return path.with_name(f"{path.name}.damaged-{number}")


Migration = tuple[str, str]
"""(name, SQL script): applied once, in order, each recorded in the same transaction."""


def migrate(db: sqlite3.Connection, migrations: Sequence[Migration], *, what: str) -> None:
    """Brings the file up to the newest schema. Raises NewerVersionError for a file of a newer program."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_utc TEXT DEFAULT CURRENT_TIMESTAMP)"
    )
    applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
    unknown = applied - {name for name, _ in migrations}
    if unknown:
        raise NewerVersionError(
            f"{what} was written by a newer version (it knows {', '.join(sorted(unknown))})",
            hint="install that version again, or give this one a folder of its own",
        )
    for name, script in migrations:
        if name in applied:
            continue
        with transaction(db):
            if db.execute("SELECT 1 FROM migrations WHERE name = ?", (name,)).fetchone():
                continue  # another process was faster
            for statement in _statements(script):
                db.execute(statement)
            db.execute("INSERT INTO migrations (name) VALUES (?)", (name,))
        log.info("%s: applied migration %s", what, name)


def _statements(script: str) -> list[str]:
    found: list[str] = []
    rest = ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    if rest.strip():
        found.append(rest)
    return found


class Writer(writer.Writer[Connection]):
    """The one thread that writes a file."""

    def __init__(self, db: Connection, *, name: str) -> None:
        self._db = db
        (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
        self._raise_by_job = synchronous == _NORMAL  # a file that is FULL anyway needs no switching
        super().__init__(name=name)

    def submit(self, job: Callable[[Connection], T], *, durable: bool = False) -> "Future[T]":
        """Runs `job` in the writer's transaction. Raises StorageError when too many jobs wait.

        `durable`: the commit is fsynced whatever the file's own `synchronous` is, so that it survives a power cut
        (and with it everything committed before). After `close` the future holds a StorageError.
        """
        return self._put(job, flag=durable)

    @contextmanager
    def _transaction(self, flags: list[bool]) -> Iterator[Connection]:
        with self._synchronous(full=self._raise_by_job and any(flags)), transaction(self._db) as db:
            yield db

    def _between(self) -> Connection:
        return self._db

    def _explained(self, error: BaseException) -> BaseException:
        return _storage(error, self._name)

    def _let_go(self) -> None:
        self._db.close()

    @contextmanager
    def _synchronous(self, *, full: bool) -> Iterator[None]:
        """The pragma may change between transactions only."""
        if not full:
            yield
            return
        self._db.execute("PRAGMA synchronous = FULL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = NORMAL")


def _storage(error: BaseException, name: str) -> BaseException:
    if isinstance(error, sqlite3.OperationalError):
        text = f"{name}: write failed: {error}"
        wrapped: BaseException = (
            DiskFullError(text, hint="free space on the disk")
            if "full" in text
            else StorageError(text, hint="check the disk and the folder's permissions")
        )
    elif type(error) is sqlite3.DatabaseError:  # its subclasses blame the statement or the values, not the file
        wrapped = StorageFormatError(
            f"{name}: the file is damaged: {error}", hint="stop and keep the file; salvage it"
        )
    else:
        return error
    wrapped.__cause__ = error
    return wrapped
