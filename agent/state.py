"""The small file of what an agent must remember exactly: its boot number, the journal of commands, standing orders.

Every commit is synchronous=FULL: a boot number is on disk before the first connect, a command before it is run.
"""

import sqlite3
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from runtime.sqlite import Migration, Writer, connect, migrate, storage_errors, transaction
from schemas.messages import CommandState

JOURNAL_MAX = 10_000  # finished commands remembered, so that a repeated id is answered and not run again

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_state",
        """
        CREATE TABLE boots (boot INTEGER PRIMARY KEY AUTOINCREMENT, started_utc TEXT DEFAULT CURRENT_TIMESTAMP);
        CREATE TABLE commands (
            id TEXT PRIMARY KEY,
            function TEXT NOT NULL,
            state TEXT NOT NULL,
            packed INTEGER NOT NULL,
            result BLOB,
            answered INTEGER NOT NULL DEFAULT 0,
            updated INTEGER NOT NULL
        );
        CREATE INDEX commands_updated ON commands (updated);
        """,
    ),
    ("0002_memory", "CREATE TABLE memory (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"),
)


@dataclass(frozen=True, slots=True)
class Journalled:
    """A command in the journal; `result` is the encoded answer once it has one."""

    id: str
    function: str
    state: CommandState
    packed: bool
    result: bytes | None
    answered: bool


class StateFile:
    """Opens `state.db` and draws the next boot number."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path)
        with storage_errors(str(path)):
            db.execute("PRAGMA synchronous = FULL")
            migrate(db, MIGRATIONS, what=str(path))
            with transaction(db):
                self.boot = int(db.execute("INSERT INTO boots DEFAULT VALUES RETURNING boot").fetchone()[0])
                db.execute("DELETE FROM boots WHERE boot < ?", (self.boot - 100,))
                # Accepted by an earlier boot and without a result: cut off.
                self.cut_off = frozenset(
                    str(i) for (i,) in db.execute("SELECT id FROM commands WHERE result IS NULL")
                )
            self._memory: dict[str, str] = dict(db.execute("SELECT key, value FROM memory").fetchall())
        self._writer = Writer(db, name="state")

    def accept(self, identifier: str, function: str, *, packed: bool) -> "Future[Journalled | None]":
        """Journals a new command and returns None, or returns what is known of this id already."""

        def job(db: sqlite3.Connection) -> Journalled | None:
            known = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE id = ?", (identifier,)).fetchone()
            if known is not None:
                return _journalled(known)
            db.execute(
                "INSERT INTO commands (id, function, state, packed, updated)"
                " VALUES (?, ?, ?, ?, (SELECT coalesce(max(updated), 0) + 1 FROM commands))",
                (identifier, function, CommandState.ACCEPTED.value, packed),
            )
            db.execute(
                "DELETE FROM commands WHERE answered AND updated <= (SELECT max(updated) FROM commands) - ?",
                (JOURNAL_MAX,),
            )
            return None

        return self._writer.submit(job)

    def running(self, identifier: str) -> "Future[None]":
        """The command has begun: after a crash it is reported as interrupted, not run again."""

        def job(db: sqlite3.Connection) -> None:
            db.execute("UPDATE commands SET state = ? WHERE id = ?", (CommandState.RUNNING.value, identifier))

        return self._writer.submit(job)

    def finish(self, identifier: str, state: CommandState, result: bytes) -> "Future[None]":
        """The command has its one answer, which is not yet delivered."""

        def job(db: sqlite3.Connection) -> None:
            db.execute("UPDATE commands SET state = ?, result = ? WHERE id = ?", (state.value, result, identifier))

        return self._writer.submit(job)

    def answered(self, identifier: str) -> "Future[None]":
        """The broker has the answer."""

        def job(db: sqlite3.Connection) -> None:
            db.execute("UPDATE commands SET answered = 1 WHERE id = ?", (identifier,))

        return self._writer.submit(job)

    def unfinished(self) -> "Future[list[Journalled]]":
        """Commands without an answer delivered: cut off by a crash, or finished while the link was down."""

        def job(db: sqlite3.Connection) -> list[Journalled]:
            found = db.execute(f"SELECT {_COLUMNS} FROM commands WHERE NOT answered ORDER BY updated").fetchall()
            return [_journalled(row) for row in found]

        return self._writer.submit(job)

    def recall(self, key: str) -> str:
        """What was last remembered under this key, also by an earlier start; empty for nothing."""
        return self._memory.get(key, "")

    def remember(self, key: str, value: str) -> "Future[None]":
        """Keeps a short text under a key. In memory at once, on disk when the future is done."""
        self._memory[key] = value

        def job(db: sqlite3.Connection) -> None:
            db.execute("INSERT OR REPLACE INTO memory (key, value) VALUES (?, ?)", (key, value))

        return self._writer.submit(job)

    def close(self) -> None:
        """Writes what waits, then closes."""
        self._writer.close()


_COLUMNS = "id, function, state, packed, result, answered"


def _journalled(row: tuple[str, str, str, int, bytes | None, int]) -> Journalled:
    identifier, function, state, packed, result, answered = row
    return Journalled(identifier, function, CommandState(state), bool(packed), result, bool(answered))
