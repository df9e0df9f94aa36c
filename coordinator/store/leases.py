"""The table of leases. A write of a duty begins with `fence`, in the same transaction: that is what makes it safe."""

from dataclasses import dataclass

from runtime.database import Database
from runtime.errors import TemporaryError

# Migration 0012.
SCHEMA = """
CREATE TABLE leases (
    duty TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    token INTEGER NOT NULL,                      -- one more with each new holder
    since_utc_ms INTEGER NOT NULL,
    until_utc_ms INTEGER NOT NULL,               -- by the clock of the database
    writes INTEGER NOT NULL DEFAULT 0,           -- under this token
    refused INTEGER NOT NULL DEFAULT 0,          -- writes with a token of before
    refused_holder TEXT NOT NULL DEFAULT '',     -- the last of them: whose, and when
    refused_utc_ms INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""
_TAKE = """
INSERT INTO leases (duty, holder, token, since_utc_ms, until_utc_ms) VALUES (?1, ?2, 1, {now}, {now} + ?3)
ON CONFLICT (duty) DO UPDATE SET
    token = CASE WHEN leases.holder = excluded.holder THEN leases.token ELSE leases.token + 1 END,
    writes = CASE WHEN leases.holder = excluded.holder THEN leases.writes ELSE 0 END,
    since_utc_ms = CASE WHEN leases.holder = excluded.holder THEN leases.since_utc_ms ELSE excluded.since_utc_ms END,
    holder = excluded.holder, until_utc_ms = excluded.until_utc_ms
WHERE leases.holder = excluded.holder OR leases.until_utc_ms <= {now}
RETURNING token
"""


class LeaseLostError(TemporaryError):
    """Somebody else has the duty: nothing was written."""


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A duty and who has it. `left_ms` below 0: its time is over and nobody has taken it."""

    duty: str
    holder: str
    token: int
    since_utc_ms: int
    left_ms: int
    writes: int
    refused: int
    refused_holder: str
    refused_utc_ms: int


def take(db: Database, duty: str, holder: str, lasts_ms: int) -> int:
    """The token of a lease that was free or was ours; 0: another has it. A holder's name is that of one process."""
    found = db.execute(_TAKE.format(now=db.dialect.now_ms), (duty, holder, lasts_ms)).fetchall()
    return int(found[0][0]) if found else 0


def release(db: Database, duty: str, token: int) -> None:
    """Another may take it at once."""
    db.execute("UPDATE leases SET until_utc_ms = 0 WHERE duty = ? AND token = ?", (duty, token))


def fence(db: Database, duty: str, token: int) -> None:
    """Nobody takes the duty until this transaction ends. Raises LeaseLostError where somebody has."""
    sql = "UPDATE leases SET writes = writes + 1 WHERE duty = ? AND token = ?"
    if not db.execute(sql, (duty, token)).rowcount:
        raise LeaseLostError(f"the duty {duty} has another holder", hint="edgectl leases shows which")


def note_refused(db: Database, duty: str, holder: str) -> None:
    """A write was refused; in a transaction of its own, for that one was rolled back."""
    now = db.dialect.now_ms
    sql = f"UPDATE leases SET refused = refused + 1, refused_holder = ?, refused_utc_ms = {now} WHERE duty = ?"
    db.execute(sql, (holder, duty))


def views(db: Database) -> list[LeaseView]:
    """All duties by name."""
    sql = f"""
        SELECT duty, holder, token, since_utc_ms, until_utc_ms - {db.dialect.now_ms}, writes, refused, refused_holder,
            refused_utc_ms FROM leases ORDER BY duty
    """
    return [LeaseView(*row) for row in db.execute(sql)]
