"""The journal of calls: a command with an id is in it before it runs, its one answer before it is sent.

`Journal` is what the dispatcher asks of it; `SqlJournal` keeps it in a table of a database that somebody else opened,
and whose commits are durable.
"""

import time
from collections.abc import Callable, Collection
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from runtime.database import Database
from schemas.messages import CommandState

T = TypeVar("T")
KEPT_MAX = 10_000  # finished commands remembered, so that a repeated id is answered and not run again


@dataclass(frozen=True, slots=True)
class Journalled:
    """A command in the journal; `result` is the encoded answer once it has one."""

    id: str
    function: str
    state: CommandState
    packed: bool
    result: bytes | None
    answered: bool


class Journal(Protocol):
    """One responder's. The futures may hold a StorageError: the disk refused and nothing has changed."""

    cut_off: Collection[str]  # ids that an earlier start accepted and did not finish

    def accept(self, identifier: str, function: str, *, packed: bool) -> "Future[Journalled | None]":
        """Journals a new command and returns None, or returns what is known of this id already."""

    def find(self, identifier: str) -> "Future[Journalled | None]":
        """What is known of this id."""

    def running(self, identifier: str) -> "Future[None]":
        """The command has begun: after a crash it is reported as interrupted, not run again."""

    def finish(self, identifier: str, state: CommandState, result: bytes) -> "Future[None]":
        """The command has its one answer, which is not yet delivered."""

    def answered(self, identifier: str) -> "Future[None]":
        """The broker has the answer."""

    def unfinished(self) -> "Future[list[Journalled]]":
        """Commands without an answer delivered: cut off by a crash, or finished while the link was down."""


class Writes(Protocol):
    """The one writer of a database."""

    def submit(self, job: Callable[[Database], T]) -> "Future[T]":
        """Runs it in a transaction."""


def cut_off(db: Database) -> frozenset[str]:
    """What an earlier start left open. To be read before anything is accepted."""
    return frozenset(str(i) for (i,) in db.execute("SELECT id FROM commands WHERE result IS NULL"))


class SqlJournal:
    """The table `commands`, written by the one writer of its database. Beyond `KEPT_MAX` the oldest finished ones go
    first; with `age_max_s` those too that were accepted longer ago (a column `accepted_utc_s` with a default of now).
    """

    def __init__(self, writer: Writes, cut_off: Collection[str], *, age_max_s: int | None = None) -> None:
        self.cut_off = cut_off
        self._writer = writer
        self._age_max_s = age_max_s

    def accept(self, identifier: str, function: str, *, packed: bool) -> "Future[Journalled | None]":
        def job(db: Database) -> Journalled | None:
            if (known := _found(db, identifier)) is not None:
                return known
            db.execute(
                "INSERT INTO commands (id, function, state, packed, updated)"
                " VALUES (?, ?, ?, ?, (SELECT coalesce(max(updated), 0) + 1 FROM commands))",
                (identifier, function, CommandState.ACCEPTED.value, packed),
            )
            db.execute(
                "DELETE FROM commands WHERE result IS NOT NULL"
                " AND updated <= (SELECT max(updated) FROM commands) - ?",
                (KEPT_MAX,),
            )
            if self._age_max_s is not None:
                db.execute(
                    "DELETE FROM commands WHERE result IS NOT NULL AND accepted_utc_s < ?",
                    (int(time.time()) - self._age_max_s,),
                )
            return None

        return self._writer.submit(job)

    def find(self, identifier: str) -> "Future[Journalled | None]":
        return self._writer.submit(lambda db: _found(db, identifier))

    def running(self, identifier: str) -> "Future[None]":
        def job(db: Database) -> None:
            db.execute("UPDATE commands SET state = ? WHERE id = ?", (CommandState.RUNNING.value, identifier))

        return self._writer.submit(job)

    def finish(self, identifier: str, state: CommandState, result: bytes) -> "Future[None]":
        def job(db: Database) -> None:
            db.execute("UPDATE commands SET state = ?, result = ? WHERE id = ?", (state.value, result, identifier))

        return self._writer.submit(job)

    def answered(self, identifier: str) -> "Future[None]":
        def job(db: Database) -> None:
            db.execute("UPDATE commands SET answered = 1 WHERE id = ?", (identifier,))

        return self._writer.submit(job)

    def unfinished(self) -> "Future[list[Journalled]]":
        def job(db: Database) -> list[Journalled]:
            found = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE answered = 0 ORDER BY updated").fetchall()
            return [_journalled(row) for row in found]

        return self._writer.submit(job)


_COLUMNS = "id, function, state, packed, result, answered"


def _found(db: Database, identifier: str) -> Journalled | None:
    row = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE id = ?", (identifier,)).fetchone()
    return None if row is None else _journalled(row)


def _journalled(row: tuple[str, str, str, int, bytes | None, int]) -> Journalled:
    identifier, function, state, packed, result, answered = row
    return Journalled(identifier, function, CommandState(state), bool(packed), result, bool(answered))
