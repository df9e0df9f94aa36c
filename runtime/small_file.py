"""Small SQLite files, of which a node keeps several: looked through when opened, set aside where damaged.

A `SharedFile` is open to two processes at a time, say the agent and a command of an operator: each works in short
transactions, and notices the other's by `changes`.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from runtime.sqlite import (
    SMALL_WAL_PAGES,
    Connection,
    Migration,
    NewerVersionError,
    StorageFormatError,
    connect,
    migrate,
    move_aside,
    storage_errors,
    transaction,
)

log = logging.getLogger(__name__)

Synchronous = Literal["FULL", "NORMAL"]  # each commit survives a power cut; or the end of the process only


def open_small(path: Path, migrations: Sequence[Migration], synchronous: Synchronous) -> Connection:
    """Opens or makes the file, sound and of the newest schema.

    Raises StorageError; StorageFormatError of a damaged file; NewerVersionError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    db = connect(path, wal_pages=SMALL_WAL_PAGES)
    try:
        with storage_errors(str(path)):
            db.execute(f"PRAGMA synchronous = {synchronous}")
            (said,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if said != "ok":
                raise StorageFormatError(f"{path} is damaged: {said}")
            migrate(db, migrations, what=str(path))
    except BaseException:
        db.close()
        raise
    return db


def open_or_set_aside(
    path: Path, migrations: Sequence[Migration], synchronous: Synchronous, *, lost: str, newer_too: bool = False
) -> Connection:
    """The same, but a damaged file makes room for a new one, and is kept. `lost`: what that means, for the log.

    One of a newer version is left alone, which raises NewerVersionError, unless `newer_too`.
    """
    try:
        return open_small(path, migrations, synchronous)
    except StorageFormatError as error:
        if isinstance(error, NewerVersionError) and not newer_too:
            raise
        log.error("%s; it is kept as %s: %s", error, move_aside(path), lost)
        return open_small(path, migrations, synchronous)


class SharedFile:
    """One connection, for calls from any thread. Methods raise StorageError when the disk refuses."""

    def __init__(
        self,
        path: Path,
        migrations: Sequence[Migration],
        synchronous: Synchronous,
        *,
        set_aside: bool,
        lost: str,
        newer_too: bool = False,
    ) -> None:
        """As `open_or_set_aside`, where the caller may `set_aside`, and as `open_small` elsewhere."""
        self._what = str(path)
        if set_aside:
            self._db = open_or_set_aside(path, migrations, synchronous, lost=lost, newer_too=newer_too)
        else:
            self._db = open_small(path, migrations, synchronous)
        self._lock = threading.RLock()  # calls come from threads, and one may be under way when the owner closes

    def close(self) -> None:
        """Waits for whoever uses the file: a thread that outlives its task must not be at work in what is closed."""
        with self._lock:
            self._db.close()

    def changes(self) -> int:
        """Another number after another process has changed the file."""
        with self._looking() as db:
            return int(db.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _looking(self) -> Iterator[Connection]:
        with self._lock, storage_errors(self._what):
            yield self._db

    @contextmanager
    def _changing(self) -> Iterator[Connection]:
        """One transaction; nothing has changed when it raises."""
        with self._lock, storage_errors(self._what), transaction(self._db) as db:
            yield db
