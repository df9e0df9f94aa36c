"""The one writer of a PostgreSQL database: it connects again, and learns what became of a commit that was cut off."""

import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from runtime.backoff import Backoff
from runtime.database import NewerVersionError, StorageError
from runtime.errors import EdgewrightError
from runtime.postgres import PostgresDatabase
from runtime.sqlite import Migration
from runtime.writer import Writer

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY = Backoff(first_s=0.1, max_s=5.0)
EXCLUSIVE = 0x4564_6765_0001  # advisory locks: of a transaction that may touch anything,
MIGRATING = 0x4564_6765_0002  # and of whoever changes the schema

# Of each writer the number of its last transaction: what a connection that broke in a commit is asked for afterwards.
SCHEMA = """
CREATE TABLE commits (
    writer TEXT PRIMARY KEY,
    number BIGINT NOT NULL,
    at TIMESTAMPTZ NOT NULL DEFAULT now()
);
"""
_REGISTER = "INSERT INTO commits (writer, number) VALUES (?, 0) ON CONFLICT DO NOTHING"
_LAST = "SELECT number FROM commits WHERE writer = ? FOR UPDATE"  # waits for a transaction that has not ended yet
_OLD = "DELETE FROM commits WHERE at < now() - INTERVAL '1 day' AND writer <> ?"


class PostgresWriter(Writer[PostgresDatabase]):
    """See `Writer`. While the server is away each job fails with a StorageError; it may be asked for again.

    A commit whose answer was lost is looked up once the server is back, so that nobody is told the wrong thing; until
    then all jobs wait.
    """

    def __init__(self, open_: Callable[[], PostgresDatabase], *, name: str) -> None:
        """`open_` makes a connection, or raises StorageError; also for the first one, which is made here."""
        self._open = open_
        self._id = secrets.token_hex(8)
        self._number = 0
        self._closing = threading.Event()
        self._attempt = 0
        self._again_s = 0.0
        self._away = ""  # why there is no connection
        self.reconnects_total = 0
        self._db = self._connected()
        self._db.execute(_OLD, (self._id,))
        super().__init__(name=name)

    def submit(self, job: Callable[[PostgresDatabase], T], *, rows_alone: bool = False) -> "Future[T]":
        """Runs `job` in a transaction. Raises StorageError when too many jobs wait.

        `rows_alone`: it locks what it touches itself. Without it nobody else's such job runs at the same time.
        """
        return self._put(job, flag=rows_alone)

    def close(self, timeout_s: float = 10.0) -> None:
        self._closing.set()
        super().close(timeout_s)

    @contextmanager
    def _transaction(self, flags: list[bool]) -> Iterator[PostgresDatabase]:
        self._number += 1
        lock = "" if all(flags) else f"SELECT pg_advisory_xact_lock({EXCLUSIVE}); "
        ours = f"UPDATE commits SET number = {self._number}, at = now() WHERE writer = '{self._id}'"
        db = self._begun(f"BEGIN; {lock}{ours}")
        try:
            yield db
        except BaseException:
            db.roll_back()
            raise
        try:
            db.script("COMMIT")
        except StorageError as error:
            db.roll_back()
            self._settle(error)

    def _begun(self, begin: str) -> PostgresDatabase:
        """A connection that broke while nothing was asked of it costs nobody a failure."""
        was = self._db
        db = self._between()
        try:
            db.script(begin)
        except StorageError:
            db.roll_back()
            if db is not was or not db.is_broken:
                raise
            db = self._between()
            try:
                db.script(begin)
            except StorageError:
                db.roll_back()
                raise
        return db

    def _settle(self, error: StorageError) -> None:
        """Returns where the transaction was committed all the same, else raises the error."""
        log.warning("the answer to a commit was lost: %s", error)
        while True:
            try:
                row = self._between().execute(_LAST, (self._id,)).fetchone()
                break
            except StorageError as away:
                if self._closing.wait(0.1):
                    raise error from away
        if row is None or row[0] != self._number:
            raise error
        log.warning("that commit had succeeded")

    def _between(self) -> PostgresDatabase:
        if not self._db.is_broken:
            return self._db
        if time.monotonic() < self._again_s:
            raise StorageError(self._away)
        try:
            self._db = self._connected()
        except EdgewrightError as error:  # whatever it is, it may be mended while we wait
            self._again_s = time.monotonic() + RETRY.delay_s(self._attempt, 0.5)
            self._attempt += 1
            self._away = str(error)
            raise StorageError(self._away) from error
        log.warning("%s: connected again", self._db.what)
        self._attempt = 0
        self.reconnects_total += 1
        return self._db

    def _connected(self) -> PostgresDatabase:
        db = self._open()
        try:
            db.execute(_REGISTER, (self._id,))
        except BaseException:
            db.close()
            raise
        return db

    def _explained(self, error: BaseException) -> BaseException:
        return error  # the connection has done it

    def _let_go(self) -> None:
        try:
            self._db.execute("DELETE FROM commits WHERE writer = ?", (self._id,))
        except StorageError as error:
            log.debug("%s", error)
        self._db.close()


def migrate(db: PostgresDatabase, migrations: Sequence[Migration]) -> None:
    """Brings the database up to the newest schema. Raises NewerVersionError for one of a newer program."""
    db.script("BEGIN")
    try:
        db.script(f"SELECT pg_advisory_xact_lock({MIGRATING})")
        db.script(
            "CREATE TABLE IF NOT EXISTS migrations (name TEXT PRIMARY KEY, applied_utc TEXT NOT NULL"
            " DEFAULT to_char(now(), 'YYYY-MM-DD HH24:MI:SS'))"
        )
        applied = {name for (name,) in db.execute("SELECT name FROM migrations")}
        unknown = applied - {name for name, _ in migrations}
        if unknown:
            raise NewerVersionError(
                f"{db.what} was written by a newer version (it knows {', '.join(sorted(unknown))})",
                hint="install that version again, or give this one a database of its own",
            )
        for name, script in migrations:
            if name not in applied:
                db.script(script)
                db.execute("INSERT INTO migrations (name) VALUES (?)", (name,))
                log.info("%s: applied migration %s", db.what, name)
        db.script("COMMIT")
    except BaseException:
        db.roll_back()
        raise
