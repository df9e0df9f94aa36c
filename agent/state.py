"""The small file of what an agent must remember exactly: its boot number, the journal of commands, standing orders.

Every commit is synchronous=FULL: a boot number is on disk before the first connect, a command before it is run.
"""

import sqlite3
from concurrent.futures import Future
from pathlib import Path

from runtime.calls.journal import SqlJournal, cut_off
from runtime.sqlite import SMALL_WAL_PAGES, Migration, Writer, connect, migrate, storage_errors, transaction

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


class StateFile:
    """Opens `state.db` and draws the next boot number."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = connect(path, wal_pages=SMALL_WAL_PAGES)
        with storage_errors(str(path)):
            db.execute("PRAGMA synchronous = FULL")
            migrate(db, MIGRATIONS, what=str(path))
            with transaction(db):
                self.boot = int(db.execute("INSERT INTO boots DEFAULT VALUES RETURNING boot").fetchone()[0])
                db.execute("DELETE FROM boots WHERE boot < ?", (self.boot - 100,))
                left_open = cut_off(db)
            self._memory: dict[str, str] = dict(db.execute("SELECT key, value FROM memory").fetchall())
        self._writer = Writer(db, name="state")
        self.journal = SqlJournal(self._writer, left_open)

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
