"""The journal of commands to the coordinator, in its store: each id runs once, also over a kill and a restart."""

import sqlite3

from runtime.calls.journal import SqliteJournal, cut_off
from runtime.sqlite import Writer

KEPT_S = 30 * 86_400  # how long a finished command is remembered; beyond `KEPT_MAX` of them the oldest go before

# Released as migration 0006: never changed.
SCHEMA = """
CREATE TABLE commands (
    id TEXT PRIMARY KEY,
    function TEXT NOT NULL,
    state TEXT NOT NULL,
    packed INTEGER NOT NULL,
    result BLOB,
    answered INTEGER NOT NULL DEFAULT 0,
    updated INTEGER NOT NULL,
    accepted_utc_s INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
);
CREATE INDEX commands_updated ON commands (updated);
CREATE INDEX commands_accepted ON commands (accepted_utc_s);
"""


def open_journal(db: sqlite3.Connection, writer: Writer) -> SqliteJournal:
    """Before the writer has been given anything to do."""
    return SqliteJournal(writer, cut_off(db), age_max_s=KEPT_S)
