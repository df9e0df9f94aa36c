"""Gap records: rows that were given up here, until the coordinator has said which of them it had. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from schemas.identity import Lane

DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class OpenGap:
    """Numbers `first` to `last` of a lane, all of them given up, for one reason."""

    lane: Lane
    first: int
    last: int
    reason: str

    def __len__(self) -> int:
        return self.last - self.first + 1

    def cut(self, first: int, last: int) -> "tuple[OpenGap | None, list[OpenGap]]":
        """The part inside an inclusive range, and what is left outside it."""
        low, high = max(first, self.first), min(last, self.last)
        if low > high:
            return None, [self]
        rest = []
        if self.first < low:
            rest.append(replace(self, last=low - 1))
        if self.last > high:
            rest.append(replace(self, first=high + 1))
        return replace(self, first=low, last=high), rest


def count_within(first: int, last: int, ranges: Iterable[Sequence[int]]) -> int:
    """How many numbers of `first` to `last` lie in ranges that somebody else named: in any order, overlapping too."""
    total, beyond = 0, first
    for low, high in sorted((int(low), int(high)) for low, high in ranges):
        low, high = max(low, beyond), min(high, last)
        if low <= high:
            total += high - low + 1
            beyond = high + 1
    return total


def runs(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Ascending numbers as inclusive ranges without holes."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found
