"""`workloads.db`: what is remembered of each workload, what it said of itself, and the orders of operators here.

Small, and open to two processes at a time: the agent and `edge-agent workloads`, each in short transactions. The file
is expendable: what is to run stands in the desired document.
"""

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from agent.workloads.machine import Order, Standing
from runtime.small_file import SharedFile
from runtime.sqlite import Migration
from schemas.shape import ShapeError, fields_of, read

log = logging.getLogger(__name__)

FILE_NAME = "workloads.db"
NOTES_MAX = 200  # of each workload, the newest
ORDERS_MAX = 1000  # not taken yet

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_workloads",
        """
        CREATE TABLE workloads (name TEXT PRIMARY KEY, standing TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE notes (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL, time_utc_ms INTEGER NOT NULL, text TEXT NOT NULL
        );
        CREATE INDEX notes_by_name ON notes (name, id);
        CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT NOT NULL, what TEXT NOT NULL);
        """,
    ),
)


class WorkloadsFile(SharedFile):
    """One connection to the file. Methods raise StorageError when the disk refuses; nothing has changed then."""

    def __init__(self, path: Path, *, set_aside: bool = False) -> None:
        """Opens or makes the file; one that is damaged or of a newer version is set aside where the caller may."""
        lost = "restarts are counted from 0"
        super().__init__(path, MIGRATIONS, "NORMAL", set_aside=set_aside, lost=lost, newer_too=True)

    def standings(self) -> dict[str, Standing]:
        """What is remembered, by name; what cannot be read counts for nothing."""
        found = {}
        with self._looking() as db:
            rows = db.execute("SELECT name, standing FROM workloads ORDER BY name").fetchall()
        for name, text in rows:
            try:
                found[name] = read(Standing, json.loads(text), strict=False)
            except (ValueError, ShapeError) as error:
                log.error("%s: what is remembered of %s cannot be read: %s", self._what, name, error)
        return found

    def keep(self, standings: Mapping[str, Standing | None], notes: list[tuple[str, int, str]]) -> None:
        """Standings by name, None for one to be forgotten; notes as (name, UTC milliseconds, text)."""
        with self._changing() as db:
            for name, standing in standings.items():
                if standing is None:
                    db.execute("DELETE FROM workloads WHERE name = ?", (name,))
                else:
                    text = json.dumps(fields_of(standing), ensure_ascii=False)
                    db.execute("INSERT OR REPLACE INTO workloads (name, standing) VALUES (?, ?)", (name, text))
            db.executemany("INSERT INTO notes (name, time_utc_ms, text) VALUES (?, ?, ?)", notes)
            for name in {name for name, _, _ in notes}:
                db.execute(
                    "DELETE FROM notes WHERE name = ? AND id NOT IN"
                    " (SELECT id FROM notes WHERE name = ? ORDER BY id DESC LIMIT ?)",
                    (name, name, NOTES_MAX),
                )

    def notes(self, name: str, lines: int) -> list[str]:
        """The newest, oldest first."""
        with self._looking() as db:
            rows = db.execute(
                "SELECT time_utc_ms, text FROM notes WHERE name = ? ORDER BY id DESC LIMIT ?", (name, lines)
            ).fetchall()
        return [f"{_clock(ms)} {text}" for ms, text in reversed(rows)]

    def order(self, name: str, order: Order) -> None:
        """An operator's; taken by the agent within a second, or at its next start."""
        with self._changing() as db:
            db.execute("INSERT INTO orders (name, what) VALUES (?, ?)", (name, order.value))
            db.execute("DELETE FROM orders WHERE id <= (SELECT max(id) FROM orders) - ?", (ORDERS_MAX,))

    def take_orders(self) -> list[tuple[str, Order]]:
        """In the order they were given; each is taken once."""
        with self._changing() as db:
            rows = db.execute("SELECT name, what FROM orders ORDER BY id").fetchall()
            if rows:
                db.execute("DELETE FROM orders")
        return [(name, Order(what)) for name, what in rows if what in tuple(Order)]


def _clock(utc_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(utc_ms / 1000))
