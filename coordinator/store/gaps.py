"""The table of gaps: numbers that were given up at the edge and will never come.

A number in it counts as received, so that a copy that the broker still delivers is no new row; here it can be told
apart from one that is really stored.
"""

import sqlite3
from collections.abc import Sequence

from coordinator.store.store import GapRow, LaneKey
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


def overlapping(db: sqlite3.Connection, key: LaneKey, first: int, last: int) -> list[Range]:
    """The parts of an inclusive range that are gaps already, ascending."""
    found = db.execute(_OVERLAPPING, (*key, *key, first, first, last, first))
    return [(max(a, first), min(b, last)) for a, b in found]


def write(db: sqlite3.Connection, gap: GapRow, missing: Sequence[Range]) -> None:
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
