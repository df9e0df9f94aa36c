"""Which sequence numbers of one lane are here already: sorted, disjoint, merged ranges.

A lane counts without holes, so that in the long run one range covers it; what an outbox shed is closed when it says
so. Until then it is a hole, and so the number of ranges is limited. Pure: an addition answers with what has to be
deleted and written.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

RANGES_MAX = 10_000
Range = tuple[int, int]
"""Inclusive: (first, last)."""


@dataclass(slots=True)
class Addition:
    """What `Received.add` found. `deleted` (by first number), then `written` bring a stored copy up to date.

    It may be carried through several changes: what it says is then of all of them together.
    """

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
        for first, last in _runs(seqs):
            taken = self.take(first, last, done)
            if taken is None:
                done.overfull += range(first, last + 1)
                continue
            for found, ranges in ((done.duplicates, taken[0]), (done.new, taken[1])):
                for begin, end in ranges:
                    found += range(begin, end + 1)
        return done

    def take(self, first: int, last: int, done: Addition) -> tuple[list[Range], list[Range]] | None:
        """Takes an inclusive range in: (what was here of it, what was not), both ascending; `done` gets the changes.

        It costs by the ranges that it touches, whatever its length. None, and nothing is changed, when it stands
        alone and would be one range too many.
        """
        firsts, lasts = self._firsts, self._lasts
        low = bisect_left(lasts, first - 1)  # the first range that touches it
        high = bisect_right(firsts, last + 1)  # behind the last one
        if low == high:
            if len(firsts) >= self._ranges_max:
                return None
            firsts.insert(low, first)
            lasts.insert(low, last)
            done.written[first] = last
            return [], [(first, last)]
        touching = list(zip(firsts[low:high], lasts[low:high], strict=True))
        held = [(max(a, first), min(b, last)) for a, b in touching if a <= last and b >= first]
        missing = _without(first, last, held)
        if missing:
            begin, end = min(first, touching[0][0]), max(last, touching[-1][1])
            firsts[low:high], lasts[low:high] = [begin], [end]
            for old, _ in touching:
                done.written.pop(old, None)
                done.deleted.add(old)
            done.deleted.discard(begin)
            done.written[begin] = end
        return held, missing


def _without(first: int, last: int, held: Iterable[Range]) -> list[Range]:
    """What is left of an inclusive range without ascending disjoint parts of it."""
    left, at = [], first
    for begin, end in held:
        if at < begin:
            left.append((at, begin - 1))
        at = end + 1
    if at <= last:
        left.append((at, last))
    return left


def _runs(seqs: Iterable[int]) -> list[Range]:
    """Numbers as they come, those together that follow one another."""
    found: list[Range] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def merged(seqs: Iterable[int]) -> list[Range]:
    """Numbers in any order as ascending, disjoint ranges."""
    return merged_ranges((seq, seq) for seq in seqs)


def merged_ranges(ranges: Iterable[Range]) -> list[Range]:
    """Ranges in any order, overlapping too, as ascending ones that are disjoint and not adjacent."""
    found: list[Range] = []
    for first, last in sorted(ranges):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
