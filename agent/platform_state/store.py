"""`platform_state.db`, open for writing: one writer thread, one reader.

A commit survives the end of the process by any means. What leaves the node is on the disk first, so that a power cut
never makes the coordinator know of a write that the node has forgotten.
"""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from agent.platform_state import tables
from agent.platform_state.tables import MIGRATIONS, Kept, Limits, Name
from runtime.errors import PermanentError
from runtime.small_file import open_or_set_aside
from runtime.sqlite import Job, Writer, connect, storage_errors
from runtime.timeline import MachineTime, Reading, read
from schemas.hlc import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")


class NoStateError(PermanentError):
    """There is no such file at this place."""


class ValuesFile:
    """One connection that writes. Methods that return a future raise StorageError through it."""

    def __init__(self, path: Path, node: str) -> None:
        """Opens or makes the file; a damaged one is set aside. Raises StorageError or StorageFormatError."""
        db = open_or_set_aside(path, MIGRATIONS, "NORMAL", lost="the platform state of this node begins anew")
        with storage_errors(str(path)):
            self._clock: Clock = tables.read_clock(db, node)  # the writer's own from here on
            self._anchor = _anchor(tables.meta(db, "clock_anchor"))
            self.last_seq = int(tables.meta(db, "last_seq") or 0)  # of the outbox, as far as was written down
            self.lost = int(tables.meta(db, "lost") or 0)
        self._jump_ms = 0
        self._reader = connect(path, read_only=True)
        self._reading = threading.Lock()
        self._writer = Writer(db, name="platform-state")

    # ---- time, on the loop ------------------------------------------------------------------------

    def utc_ms(self, now: MachineTime) -> int:
        """UTC that does not follow a jump of the wall clock, also over restarts of the process."""
        reading = read(self._anchor, now)
        if reading.is_news(self._jump_ms):
            log.warning("platform state: %s", reading.told())
            self._jump_ms = reading.jump_ms
        self._anchor = reading.anchor
        return reading.utc_ms

    # ---- writing ----------------------------------------------------------------------------------

    def put(self, name: Name, text: str, now_ms: int, limits: Limits) -> "Future[bool]":
        """True when it has to leave. KeysFullError."""
        return self._ticking(lambda db: tables.put(db, name, text, self._clock, now_ms, limits))

    def delete(self, name: Name, now_ms: int, limits: Limits) -> "Future[bool]":
        """False when there was nothing."""
        return self._ticking(lambda db: tables.delete(db, name, self._clock, now_ms, limits))

    def _ticking(self, job: Job[Clock | None]) -> "Future[bool]":
        def run(db: sqlite3.Connection) -> bool:
            clock = job(db)
            if clock is not None:
                self._clock = clock  # ahead only, should the commit fail
            return clock is not None

        return self._writer.submit(run)

    # ---- leaving ----------------------------------------------------------------------------------

    def take(self, names: Sequence[Name]) -> "Future[list[Kept]]":
        """Those of the entries that have to leave; on the disk when the future is done."""
        anchor = self._anchor

        def job(db: sqlite3.Connection) -> list[Kept]:
            if anchor is not None:
                text = json.dumps([anchor.machine_boot, anchor.steady_ms, anchor.wall_ms])
                tables.set_meta(db, "clock_anchor", text)
            return tables.take(db, names)

        return self._writer.submit(job, durable=True)

    def mark_sent(self, kept: Sequence[Kept], last_seq: int) -> "Future[None]":
        """They are in the outbox."""
        return self._writer.submit(lambda db: tables.mark_sent(db, kept, last_seq))

    def say_again(self, collections: Iterable[str], last_seq: int, lost: int) -> "Future[list[Name]]":
        """All of these collections has to leave once more. See `tables.say_again`."""
        wanted = list(collections)

        def job(db: sqlite3.Connection) -> list[Name]:
            tables.say_again(db, wanted, last_seq, lost)
            return tables.unsent(db)

        return self._writer.submit(job)

    # ---- reading: takes a moment, so never on the loop ------------------------------------------------

    def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """One question at a time. Raises StorageError."""
        with self._reading, storage_errors("platform-state"):
            return question(self._reader)

    def close(self) -> None:
        """Writes what waits, then closes."""
        self._writer.close()
        with self._reading:
            self._reader.close()


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A reader, also while an agent writes. Raises NoStateError, StorageError or StorageFormatError."""
    if not path.exists():
        raise NoStateError(
            f"there is no platform state at {path}", hint="the agent keeps it when it runs; is node.data_dir right?"
        )
    with closing(connect(path, read_only=True)) as db, storage_errors(str(path)):
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'entries'").fetchone():
            raise NoStateError(f"{path} is being made", hint="ask again in a moment")
        yield db


def utc_ms(db: sqlite3.Connection, now: MachineTime) -> int:
    """UTC as the agent counts it."""
    reading: Reading = read(_anchor(tables.meta(db, "clock_anchor")), now)
    return reading.utc_ms


def _anchor(text: str | None) -> MachineTime | None:
    return MachineTime(*json.loads(text)) if text else None
