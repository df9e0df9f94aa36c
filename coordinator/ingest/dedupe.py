"""Which sequence numbers of one lane are here already: sorted, disjoint, merged ranges.

A lane counts from 1 without holes, so that in the long run one range covers it; what an outbox shed stays a hole for
ever, and so the number of ranges is limited. Pure: an addition answers with what has to be deleted and written.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

RANGES_MAX = 10_000
Range = tuple[int, int]
"""Inclusive: (first, last)."""


@dataclass(slots=True)
class Addition:
    """What `Received.add` found. `deleted` (by first number) and `written` bring a stored copy up to date."""

    new: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    overfull: list[int] = field(default_factory=list)  # would open a range beyond the limit: not taken
    deleted: set[int] = field(default_factory=set)
    written: dict[int, int] = field(default_factory=dict)  # first: last


class Received:
    """The ranges of one `(node, stream, lane)`."""

    __slots__ = ("_firsts", "_lasts", "_ranges_max")

    def __init__(self, ranges: Iterable[Range] = (), *, ranges_max: int = RANGES_MAX) -> None:
        """`ranges` as `ranges()` gave them: ascending, disjoint."""
        self._firsts: list[int] = []
        self._lasts: list[int] = []
        self._ranges_max = ranges_max
        for first, last in ranges:
            self._firsts.append(first)
            self._lasts.append(last)

    def __contains__(self, seq: int) -> bool:
        at = bisect_right(self._firsts, seq) - 1
        return at >= 0 and seq <= self._lasts[at]

    def ranges(self) -> list[Range]:
        """Ascending, disjoint and not adjacent."""
        return list(zip(self._firsts, self._lasts, strict=True))

    def copy(self) -> "Received":
        return Received(self.ranges(), ranges_max=self._ranges_max)

    def add(self, seqs: Iterable[int]) -> Addition:
        """Takes the numbers in, each told apart: new, duplicate, or one gap too many."""
        done = Addition()
        for seq in seqs:
            self._add_one(seq, done)
        return done

    def _add_one(self, seq: int, done: Addition) -> None:
        firsts, lasts = self._firsts, self._lasts
        at = bisect_right(firsts, seq) - 1
        if at >= 0 and seq <= lasts[at]:
            done.duplicates.append(seq)
            return
        joins_left = at >= 0 and lasts[at] == seq - 1
        joins_right = at + 1 < len(firsts) and firsts[at + 1] == seq + 1
        if joins_left:
            lasts[at] = lasts[at + 1] if joins_right else seq
            if joins_right:
                self._forget(at + 1, done)
        elif joins_right:
            at += 1
            last = lasts[at]
            self._forget(at, done)
            firsts.insert(at, seq)
            lasts.insert(at, last)
        elif len(firsts) >= self._ranges_max:
            done.overfull.append(seq)
            return
        else:
            at += 1
            firsts.insert(at, seq)
            lasts.insert(at, seq)
        done.written[firsts[at]] = lasts[at]
        done.new.append(seq)

    def close(self, first: int, last: int) -> tuple[list[Range], list[Range], Addition]:
        """Takes a whole inclusive range in, whatever its length: (what was here of it, what was not, the changes)."""
        firsts, lasts = self._firsts, self._lasts
        low = bisect_left(lasts, first - 1)  # the first range that touches it
        high = bisect_right(firsts, last + 1)  # behind the last one
        touching = list(zip(firsts[low:high], lasts[low:high], strict=True))
        held = [(max(a, first), min(b, last)) for a, b in touching if a <= last and b >= first]
        missing = []
        at = first
        for a, b in held:
            if at < a:
                missing.append((at, a - 1))
            at = b + 1
        if at <= last:
            missing.append((at, last))
        done = Addition(deleted={a for a, _ in touching})
        whole = (min(first, touching[0][0]), max(last, touching[-1][1])) if touching else (first, last)
        firsts[low:high], lasts[low:high] = [whole[0]], [whole[1]]
        done.deleted.discard(whole[0])
        done.written[whole[0]] = whole[1]
        return held, missing, done

    def _forget(self, at: int, done: Addition) -> None:
        first = self._firsts.pop(at)
        self._lasts.pop(at)
        done.written.pop(first, None)
        done.deleted.add(first)


def merged(seqs: Iterable[int]) -> list[Range]:
    """Numbers in any order as ascending, disjoint ranges."""
    found: list[Range] = []
    for seq in sorted(seqs):
        if found and seq <= found[-1][1] + 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
