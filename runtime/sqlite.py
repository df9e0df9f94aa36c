"""SQLite files in the manner both processes need: WAL, one writer thread, migrations recorded with their effect."""

import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from runtime.errors import PermanentError, TemporaryError

log = logging.getLogger(__name__)

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
_Waiting = tuple[Job[Any], "Future[Any]", bool | None]
_NORMAL = 1  # as `PRAGMA synchronous` says it
QUEUE_MAX = 10_000  # jobs waiting for the writer; beyond that callers are refused, not delayed without end


class StorageError(TemporaryError):
    """The disk refused: full, read-only, failing. Nothing was committed."""


class DiskFullError(StorageError):
    """No room on the disk, or in the file where its size is limited. Nothing was committed."""


class StorageFormatError(PermanentError):
    """The file is damaged, or of a version this program does not know."""


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are begun by `transaction` alone."""
    target = f"file:{quote(str(path))}" + ("?mode=ro" if read_only else "")
    db: sqlite3.Connection | None = None
    try:
        db = sqlite3.connect(target, uri=True, isolation_level=None, check_same_thread=False, timeout=10.0)
        db.execute("PRAGMA foreign_keys = ON")
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
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


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
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
    """Brings the file up to the newest schema. Raises StorageFormatError for a file of a newer program."""
    db.execute(
        "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_utc TEXT DEFAULT CURRENT_TIMESTAMP)"
    )
    applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
    unknown = applied - {name for name, _ in migrations}
    if unknown:
        raise StorageFormatError(
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


class Writer:
    """The one thread that writes a file. Callers send it functions of the connection and get a future.

    Jobs waiting at the same time share one transaction (group commit): each still succeeds or fails alone, in a
    savepoint, and no future is resolved before the commit is on disk. What cannot be committed fails all of them.
    """

    BATCH_MAX = 256

    def __init__(self, db: sqlite3.Connection, *, name: str) -> None:
        self._db = db
        self._name = name
        (synchronous,) = db.execute("PRAGMA synchronous").fetchone()
        self._raise_by_job = synchronous == _NORMAL  # a file that is FULL anyway needs no switching
        # SimpleQueue hands over in C: a third of what queue.Queue costs the caller, who is the event loop.
        self._jobs: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job[T], *, durable: bool = False) -> "Future[T]":
        """Runs `job` in the writer's transaction. Raises StorageError when too many jobs wait.

        `durable`: the commit is fsynced whatever the file's own `synchronous` is, so that it survives a power cut
        (and with it everything committed before). After `close` the future holds a StorageError.
        """
        future: Future[T] = Future()
        if self._jobs.qsize() >= QUEUE_MAX:
            raise StorageError(
                f"{self._name}: {QUEUE_MAX} writes wait already", hint="the disk is too slow for this load"
            )
        self._jobs.put((job, future, durable))
        if self._ended:
            self._refuse_late()
        return future

    def maintain(self, job: Job[T]) -> "Future[T]":
        """Runs `job` between two transactions: for what SQLite refuses inside of one, such as a checkpoint."""
        future: Future[T] = Future()
        self._jobs.put((job, future, None))
        if self._ended:
            self._refuse_late()
        return future

    def close(self, timeout_s: float = 10.0) -> None:
        """Writes what waits, then ends the thread and closes the file."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join(timeout_s)
        if not self._thread.is_alive():
            self._db.close()

    def _run(self) -> None:
        self._work()
        self._ended = True
        self._refuse_late()

    def _refuse_late(self) -> None:
        """Whoever came after the end is told, not left waiting: the thread and late callers may both get here."""
        while True:
            try:
                late = self._jobs.get_nowait()
            except queue.Empty:
                return
            if late is not None and late[1].set_running_or_notify_cancel():
                late[1].set_exception(StorageError(f"{self._name}: closed already"))

    def _work(self) -> None:
        while True:
            first = self._jobs.get()
            if first is None:
                return
            batch = [first]
            last = False
            while len(batch) < self.BATCH_MAX:
                try:
                    job = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if job is None:
                    last = True
                    break
                batch.append(job)
            self._commit(batch)
            if last:
                return

    def _commit(self, waiting: "list[_Waiting]") -> None:
        # Whoever was cancelled while waiting does not want it any more; from here on nobody can cancel.
        wanted = [item for item in waiting if item[1].set_running_or_notify_cancel()]
        for job, future, durable in wanted:
            if durable is None:
                self._maintain(job, future)
        batch = [(job, future) for job, future, durable in wanted if durable is not None]
        if not batch:
            return
        durable = self._raise_by_job and any(item[2] for item in wanted)
        alone = len(batch) == 1
        done: list[tuple[Future[Any], Any]] = []
        failed: list[tuple[Future[Any], BaseException]] = []
        try:
            with self._synchronous(full=durable), transaction(self._db):
                for job, future in batch:
                    try:
                        done.append((future, self._one(job, alone=alone)))
                    except Exception as error:
                        if alone or not self._db.in_transaction:
                            raise  # without a savepoint the whole transaction takes it back
                        failed.append((future, _storage(error, self._name)))
        except Exception as error:  # noqa: BLE001 - supervision boundary: the thread must live, all callers are told
            for _, future in batch:
                if not future.done():
                    future.set_exception(_storage(error, self._name))
            return
        for future, value in done:
            future.set_result(value)
        for future, problem in failed:
            future.set_exception(problem)

    def _maintain(self, job: Job[Any], future: "Future[Any]") -> None:
        try:
            future.set_result(job(self._db))
        except Exception as error:  # noqa: BLE001 - supervision boundary: the thread must live, the caller is told
            future.set_exception(_storage(error, self._name))

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

    def _one(self, job: Job[T], *, alone: bool) -> T:
        if alone:
            return job(self._db)
        self._db.execute("SAVEPOINT job")
        try:
            value = job(self._db)
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO job")
                self._db.execute("RELEASE job")
            raise
        self._db.execute("RELEASE job")
        return value


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
