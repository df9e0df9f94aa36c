"""The table of gaps: numbers that were given up at the edge and will never come.

A number in it counts as received, so that a copy that the broker still delivers is no new row; here it can be told
apart from one that is really stored.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice

from coordinator.ingest.holes import holes
from coordinator.store.store import GapRow, LaneKey
from runtime.database import Database
from schemas.messages import Closed

GAPS_MAX = 1_000_000  # remembered: the oldest are forgotten, and late copies of theirs then count as duplicates
HELD_PER_ANSWER_MAX = 1000

Range = tuple[int, int]

# Gaps are disjoint: of those that begin before the range only the last one can reach into it.
_OVERLAPPING = """
SELECT first, last FROM gaps WHERE node = ? AND stream = ? AND lane = ? AND first >= coalesce(
    (SELECT max(first) FROM gaps WHERE node = ? AND stream = ? AND lane = ? AND first <= ?), ?)
    AND first <= ? AND last >= ? ORDER BY first
"""


def overlapping(db: Database, key: LaneKey, first: int, last: int) -> list[Range]:
    """The parts of an inclusive range that are gaps already, ascending."""
    found = db.execute(_OVERLAPPING, (*key, *key, first, first, last, first))
    return [(max(a, first), min(b, last)) for a, b in found]


def write(db: Database, gap: GapRow, missing: Sequence[Range]) -> None:
    """Keeps what is missing."""
    db.executemany(
        "INSERT INTO gaps (node, stream, lane, first, last, reason, received_utc_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [(*gap.key, first, last, gap.reason, gap.received_utc_ms) for first, last in missing],
    )
    if missing:
        db.execute("DELETE FROM gaps WHERE id <= (SELECT max(id) FROM gaps) - ?", (GAPS_MAX,))


def answer(gap: GapRow, received: Sequence[Range], gaps_before: Sequence[Range]) -> list[Closed]:
    """What the node is told: of what counted as received, what is really here. The same however often it asks.

    Cut into several where too much would be in one: each speaks of its own part of the range.
    """
    held = _without(received, gaps_before)
    found, begin = [], gap.first
    for at in range(0, max(1, len(held)), HELD_PER_ANSWER_MAX):
        part = held[at : at + HELD_PER_ANSWER_MAX]
        is_last = at + HELD_PER_ANSWER_MAX >= len(held)
        end = gap.last if is_last else part[-1][1]
        found.append(Closed(gap.stream, gap.lane, begin, end, part))
        begin = end + 1
    return found


def _without(ranges: Sequence[Range], others: Sequence[Range]) -> list[Range]:
    """Disjoint ascending ranges less others; the others lie within them."""
    found: list[Range] = []
    at = 0
    for first, last in ranges:
        while at < len(others) and others[at][1] < first:
            at += 1
        while at < len(others) and others[at][0] <= last:
            if first < others[at][0]:
                found.append((first, others[at][0] - 1))
            first = others[at][1] + 1
            at += 1
        if first <= last:
            found.append((first, last))
    return found


# ---- for people -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GapView:
    """Numbers of a lane that are not here, all of them from `first` to `last`.

    `told`: the node gave them up, and `since_utc_ms` is when it said so. Otherwise a hole that nobody explained: rows
    still on their way, or what a store that was put back from a backup has forgotten; `since_utc_ms` is when the row
    after the hole came, 0 where that is not known.
    """

    node: str
    stream: str
    lane: str
    first: int
    last: int
    missing: int
    told: bool
    reason: str
    since_utc_ms: int


def told(db: Database, node: str, limit: int) -> list[GapView]:
    """The newest gap records, oldest of them first; of one node, or of all."""
    sql = """
        SELECT node, stream, lane, first, last, reason, received_utc_ms FROM gaps
        WHERE ?1 = '' OR node = ?1 ORDER BY id DESC LIMIT ?2
    """
    return [
        GapView(node, stream, lane, first, last, last - first + 1, True, reason, utc_ms)
        for node, stream, lane, first, last, reason, utc_ms in db.execute(sql, (node, limit))
    ][::-1]


def open_holes(db: Database, node: str, limit: int, until_utc_ms: int) -> list[GapView]:
    """What is missing without a reason and was so at that time already, in the order of the nodes and lanes."""
    return list(islice(_open_holes(db, node, until_utc_ms), limit))


def _open_holes(db: Database, node: str, until_utc_ms: int) -> Iterator[GapView]:
    # What was refused is kept as it came and so is not missing without a reason.
    sql = """
        SELECT node, lane, stream, first, last FROM received WHERE ?1 = '' OR node = ?1
        UNION ALL SELECT node, lane, stream, seq, seq FROM refused WHERE seq > 0 AND (?1 = '' OR node = ?1)
        ORDER BY 1, 2
    """
    for (name, lane), rows in groupby(db.execute(sql, (node,)), key=lambda row: (row[0], row[1])):
        streams: dict[str, list[Range]] = {}
        for _, _, stream, first, last in rows:
            streams.setdefault(stream, []).append((first, last))
        for hole in holes(streams):
            since_ms = _came(db, (name, hole.stream, lane), hole.last + 1)
            if since_ms <= until_utc_ms:
                count = hole.last - hole.first + 1
                yield GapView(name, hole.stream, lane, hole.first, hole.last, count, False, "", since_ms)


def _came(db: Database, key: LaneKey, seq: int) -> int:
    """When a number was accounted for; 0 where that is not known any more."""
    for table, column in (("events", "seq"), ("samples", "seq"), ("gaps", "first")):
        found = db.execute(
            f"SELECT received_utc_ms FROM {table} WHERE node = ? AND stream = ? AND lane = ? AND {column} = ?",
            (*key, seq),
        ).fetchone()
        if found:
            return int(found[0])
    return 0
