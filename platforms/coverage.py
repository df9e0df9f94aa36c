"""When a camera was heard of, going by the times of its results, and when it was silent. Pure.

A camera with nothing to tell still gives routine samples, so a silence beyond `gap_ms` means that nobody watched (or
that what was seen has not come here): counts of that time are unknown, not nought.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[int, int]
"""[from, to) in UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """A window [start_ms, end_ms) and the silences in it, in order and apart from each other."""

    start_ms: int
    end_ms: int
    silences: tuple[Interval, ...]

    @property
    def observed(self) -> list[Interval]:
        """The window without its silences."""
        edges = [self.start_ms, *(edge for silence in self.silences for edge in silence), self.end_ms]
        return [(begin, end) for begin, end in zip(edges[::2], edges[1::2], strict=True) if begin < end]

    @property
    def observed_s(self) -> float:
        return sum(end - begin for begin, end in self.observed) / 1000

    @property
    def share(self) -> float:
        """Of the window that was observed, 0 to 1."""
        length_ms = self.end_ms - self.start_ms
        return 1000 * self.observed_s / length_ms if length_ms > 0 else 0.0

    @property
    def longest_silence_s(self) -> float:
        return max((end - begin for begin, end in self.silences), default=0) / 1000


def coverage(times_ms: Iterable[int], start_ms: int, end_ms: int, gap_ms: int) -> Coverage:
    """What `times_ms` of a camera's results, from `start_ms - gap_ms` on and in any order, say about the window.

    Of the time before them nothing is known: a camera last heard of earlier than that counts as silent.
    """
    known_from_ms = start_ms - gap_ms
    heard = sorted(time_ms for time_ms in times_ms if known_from_ms <= time_ms < end_ms)
    silences = []
    for before_ms, after_ms in zip([known_from_ms, *heard], [*heard, end_ms], strict=True):
        if after_ms - before_ms > gap_ms and after_ms > start_ms:
            silences.append((max(before_ms, start_ms), after_ms))
    return Coverage(start_ms, end_ms, tuple(silences))


def least_share(coverages: Sequence[Coverage]) -> float:
    """Of the camera that was observed least; 0 where there is none."""
    return min((each.share for each in coverages), default=0.0)
