"""The journal of commands to the coordinator, in its store: each id runs once, also over a kill and a restart."""

from collections.abc import Collection

from runtime.calls.journal import SqlJournal, Writes

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


def open_journal(writer: Writes, left_open: Collection[str]) -> SqlJournal:
    """`left_open`: what `cut_off` found before the writer was given anything to do."""
    return SqlJournal(writer, left_open, age_max_s=KEPT_S)
