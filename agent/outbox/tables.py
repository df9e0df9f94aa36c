"""The tables of an outbox file and the statements on them that more than one part needs.

Per lane `pending` rows wait in `rows`; `unconfirmed` rows are those of the open `gaps`: given up here, and not yet
known to be at the coordinator or not.  produced = stored + pending + unconfirmed + shed + quarantined + damaged.
"""

import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from agent.outbox.gaps import OpenGap
from agent.outbox.rows import LANES
from agent.outbox.settings import ROW_BYTES_BESIDE
from agent.outbox.shed import Fill
from runtime.sqlite import Migration
from schemas.identity import Lane

MIGRATIONS: tuple[Migration, ...] = (
    (
        "0001_outbox",
        """
        CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
        CREATE TABLE lanes (
            lane TEXT PRIMARY KEY,
            next_seq INTEGER NOT NULL DEFAULT 1,
            produced INTEGER NOT NULL DEFAULT 0,
            stored INTEGER NOT NULL DEFAULT 0,
            quarantined INTEGER NOT NULL DEFAULT 0
        );
        CREATE TABLE rows (
            lane TEXT NOT NULL,
            seq INTEGER NOT NULL,
            type TEXT NOT NULL,
            severity TEXT,
            payload BLOB NOT NULL,
            created_utc_ms INTEGER NOT NULL,
            PRIMARY KEY (lane, seq)
        ) WITHOUT ROWID;
        CREATE TABLE quarantine (
            lane TEXT NOT NULL,
            seq INTEGER NOT NULL,
            type TEXT NOT NULL,
            payload BLOB NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (lane, seq)
        ) WITHOUT ROWID;
        """,
    ),
    (
        "0002_limits",
        f"""
        ALTER TABLE lanes ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE lanes ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE lanes ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE lanes ADD COLUMN shed INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE lanes ADD COLUMN damaged INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE lanes ADD COLUMN shed_before INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE rows ADD COLUMN run_s INTEGER NOT NULL DEFAULT 0;
        UPDATE lanes SET
            pending = (SELECT count(*) FROM rows WHERE rows.lane = lanes.lane),
            bytes = (SELECT coalesce(sum(length(payload) + {ROW_BYTES_BESIDE}), 0)
                     FROM rows WHERE rows.lane = lanes.lane);
        CREATE TABLE gaps (
            lane TEXT NOT NULL,
            first INTEGER NOT NULL,
            last INTEGER NOT NULL,
            reason TEXT NOT NULL,
            PRIMARY KEY (lane, first)
        ) WITHOUT ROWID;
        CREATE TABLE streams (
            lane TEXT NOT NULL,
            first_seq INTEGER NOT NULL,
            stream TEXT NOT NULL,
            PRIMARY KEY (lane, first_seq)
        ) WITHOUT ROWID;
        INSERT INTO streams SELECT lane, 1, value FROM lanes, meta WHERE key = 'stream';
        """,
    ),
)


_LANES = {lane.value: lane for lane in LANES}
_ROW_COLUMNS = 7
_INSERTS = [
    (
        count,
        "INSERT INTO rows (lane, seq, type, severity, payload, created_utc_ms, run_s) VALUES "
        + ", ".join(["(?, ?, ?, nullif(?, ''), ?, ?, ?)"] * count),
    )
    for count in (100, 20, 5, 1)  # few texts, which stay prepared; 700 values are within the limit of any SQLite
]


@dataclass(frozen=True, slots=True)
class LaneAccount:
    """Where the rows of one lane are: produced = stored + pending + shed + quarantined + damaged.

    `unconfirmed` of the pending ones are given up here (their bytes are gone), and the coordinator is being asked
    whether it has them: each becomes stored, shed or damaged by its answer. `bytes` is what the others take.
    """

    lane: str
    produced: int
    stored: int
    pending: int
    quarantined: int
    shed: int = 0
    damaged: int = 0
    unconfirmed: int = 0
    bytes: int = 0

    @property
    def holds(self) -> bool:
        """True when the sum is right."""
        return self.produced == self.stored + self.pending + self.shed + self.quarantined + self.damaged


def accounts(db: sqlite3.Connection) -> list[LaneAccount]:
    """The account of every lane, from one statement and so of one moment."""
    found = {
        lane: LaneAccount(
            lane, produced, stored, pending + unconfirmed, quarantined, shed, damaged, unconfirmed, size
        )
        for lane, produced, stored, pending, unconfirmed, quarantined, shed, damaged, size in db.execute(
            "SELECT lane, produced, stored, pending, unconfirmed, quarantined, shed, damaged, bytes FROM lanes"
        )
    }
    return [found[lane.value] for lane in LANES if lane.value in found]


def fills(db: sqlite3.Connection) -> dict[Lane, Fill]:
    """What waits in each lane."""
    return {Lane(lane): Fill(rows, size) for lane, rows, size in db.execute("SELECT lane, pending, bytes FROM lanes")}


def next_seqs(db: sqlite3.Connection) -> dict[Lane, int]:
    """The number that the next row of each lane gets."""
    return {_LANES[lane]: seq for lane, seq in db.execute("SELECT lane, next_seq FROM lanes")}


def insert_rows(db: sqlite3.Connection, values: Sequence[object]) -> None:
    """New rows: of each the lane, number, type, severity or "", payload, time and run time, one row after the other.

    Many in one statement: between two statements a thread lets others run, and gets its turn back late. A payload is
    best a bytearray and nothing an empty text: for bytes and None `sqlite3` first asks around who may adapt them.
    """
    at = 0
    for count, sql in _INSERTS:
        step = count * _ROW_COLUMNS
        while len(values) - at >= step:
            db.execute(sql, values[at : at + step])
            at += step


def add_produced(db: sqlite3.Connection, counts: Mapping[Lane, int], sizes: Mapping[Lane, int]) -> None:
    """New rows become part of the account: so many of each lane, of so many bytes."""
    db.executemany(
        "UPDATE lanes SET next_seq = next_seq + ?1, produced = produced + ?1, pending = pending + ?1,"
        " bytes = bytes + ?2 WHERE lane = ?3",
        [(count, sizes[lane], lane.value) for lane, count in counts.items() if count],
    )


def delete_rows(db: sqlite3.Connection, lane: Lane, first: int, last: int) -> int:
    """Deletes the waiting rows of an inclusive range from the file and from the lane's sums; says how many."""
    key = (lane.value, first, last)
    rows, size = db.execute(
        f"SELECT count(*), coalesce(sum(length(payload) + {ROW_BYTES_BESIDE}), 0)"
        " FROM rows WHERE lane = ? AND seq BETWEEN ? AND ?",
        key,
    ).fetchone()
    if rows:
        db.execute("DELETE FROM rows WHERE lane = ? AND seq BETWEEN ? AND ?", key)
        add(db, lane, pending=-rows, bytes=-size)
    return int(rows)


def add(db: sqlite3.Connection, lane: Lane, **amounts: int) -> None:
    """Adds to columns of the lane's account."""
    changes = ", ".join(f"{column} = {column} + :{column}" for column in amounts)
    db.execute(f"UPDATE lanes SET {changes} WHERE lane = :lane", amounts | {"lane": lane.value})


def oldest(db: sqlite3.Connection, lane: Lane, count_max: int) -> list[tuple[int, int, int]]:
    """The oldest waiting rows of a lane: (seq, bytes, run_s)."""
    return db.execute(
        f"SELECT seq, length(payload) + {ROW_BYTES_BESIDE}, run_s FROM rows WHERE lane = ? ORDER BY seq LIMIT ?",
        (lane.value, count_max),
    ).fetchall()


# ---- gaps -------------------------------------------------------------------------------------------


def gaps_within(db: sqlite3.Connection, lane: Lane, first: int, last: int) -> list[OpenGap]:
    """The open gaps that share a number with an inclusive range."""
    return [
        OpenGap(lane, *found)
        for found in db.execute(
            "SELECT first, last, reason FROM gaps WHERE lane = ? AND first <= ? AND last >= ? ORDER BY first",
            (lane.value, last, first),
        )
    ]


def replace_gap(db: sqlite3.Connection, gap: OpenGap, pieces: Iterable[OpenGap]) -> None:
    """What is left of a gap after part of it was answered for."""
    db.execute("DELETE FROM gaps WHERE lane = ? AND first = ?", (gap.lane.value, gap.first))
    write_gaps(db, pieces)


def write_gaps(db: sqlite3.Connection, gaps: Iterable[OpenGap]) -> None:
    """Keeps open gaps as they are."""
    db.executemany(
        "INSERT OR REPLACE INTO gaps (lane, first, last, reason) VALUES (?, ?, ?, ?)",
        [(gap.lane.value, gap.first, gap.last, gap.reason) for gap in gaps],
    )


# ---- streams ----------------------------------------------------------------------------------------


class Streams:
    """Which stream a number of a lane belongs to: a stream begins at a number and ends where the next one begins."""

    def __init__(self, entries: Iterable[tuple[str, int, str]]) -> None:
        """`entries` as the table has them: (lane, first_seq, stream)."""
        self._firsts: dict[Lane, list[int]] = {lane: [] for lane in LANES}
        self._names: dict[Lane, list[str]] = {lane: [] for lane in LANES}
        for lane, first, stream in sorted(entries, key=lambda entry: entry[1]):
            self._firsts[Lane(lane)].append(first)
            self._names[Lane(lane)].append(stream)

    def of(self, lane: Lane, seq: int) -> str:
        """Empty for a number below the first that is remembered: nothing of it is left."""
        at = bisect_right(self._firsts[lane], seq) - 1
        return self._names[lane][at] if at >= 0 else ""

    def span(self, lane: Lane, stream: str) -> tuple[int, int] | None:
        """The numbers of a lane that belong to a stream, first and last; None for a stream that is not known."""
        names, firsts = self._names[lane], self._firsts[lane]
        if stream not in names:
            return None
        at = names.index(stream)
        return firsts[at], firsts[at + 1] - 1 if at + 1 < len(firsts) else 2**63 - 1

    def begins(self, lane: Lane, seq: int) -> bool:
        """True where a stream begins at this number."""
        return seq in self._firsts[lane]

    def cut(self, lane: Lane, runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Inclusive ranges, cut where one stream ends and the next begins."""
        found = []
        for first, last in runs:
            for boundary in self._firsts[lane]:
                if first < boundary <= last:
                    found.append((first, boundary - 1))
                    first = boundary
            found.append((first, last))
        return found


def read_streams(db: sqlite3.Connection) -> Streams:
    """As they are remembered now."""
    return Streams(db.execute("SELECT lane, first_seq, stream FROM streams").fetchall())


def open_gaps(db: sqlite3.Connection, gaps: Iterable[OpenGap], streams: Streams) -> None:
    """New gaps; each grows the one before it if that ends where it begins, for the same reason in the same stream."""
    for gap in gaps:
        grown = (
            not streams.begins(gap.lane, gap.first)
            and db.execute(
                "UPDATE gaps SET last = ? WHERE lane = ? AND reason = ? AND last = ?"
                " AND first = (SELECT max(first) FROM gaps WHERE lane = ? AND first < ?)",
                (gap.last, gap.lane.value, gap.reason, gap.first - 1, gap.lane.value, gap.first),
            ).rowcount
        )
        if not grown:
            write_gaps(db, [gap])
