"""Customers in and out, and how many are inside, from crossings of entrance lines. Pure: numbers in, numbers out.

A person is known by a track, and a track ends where the camera loses sight. What a track can tell is told: somebody
who comes and goes again at once was no customer, and one who steps back and forth counts once. What it cannot tell is
left as it is: somebody who leaves and comes back under another track is counted again.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Interval = tuple[int, int]
"""[from, to) in UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Somebody crossed an entrance's line. `object_id` is empty where it is not known."""

    time_ms: int
    entrance: int  # which of the entrances that are counted
    object_id: str
    inward: bool
    is_staff: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """In the order of time: the crossings that count, and those with which somebody turned back."""

    counted: tuple[Crossing, ...]
    turned_back: tuple[Crossing, ...]


def settle(crossings: Iterable[Crossing], turn_back_ms: Sequence[int]) -> Settled:
    """What is left when each track is taken as one person; `turn_back_ms` by entrance.

    Of one track at one entrance:
        in, and out within turn_back_ms: nothing came of it, likewise out and in
        in, later out:                   both count
        in, and in again:                the way between was not seen: counts once
    """
    by_person: dict[tuple[int, str], list[Crossing]] = defaultdict(list)
    counted, turned_back = [], []
    for crossing in sorted(crossings, key=lambda one: one.time_ms):
        if crossing.object_id:
            by_person[crossing.entrance, crossing.object_id].append(crossing)
        else:
            counted.append(crossing)
    for (entrance, _), ways in by_person.items():
        left: list[Crossing] = []
        for way in ways:
            if not left or (
                left[-1].inward != way.inward and way.time_ms - left[-1].time_ms > turn_back_ms[entrance]
            ):
                left.append(way)
            elif left[-1].inward != way.inward:
                left.pop()
                turned_back.append(way)
        counted += left
    return Settled(tuple(sorted(counted, key=_time)), tuple(sorted(turned_back, key=_time)))


def pieces(start_ms: int, end_ms: int, length_ms: int | None) -> list[Interval]:
    """The range in intervals of this length from its start on, the last one as long as what is left."""
    if length_ms is None:
        return [(start_ms, end_ms)]
    return [(begin, min(begin + length_ms, end_ms)) for begin in range(start_ms, end_ms, length_ms)]


@dataclass(slots=True)
class Tally:
    """One entrance in one interval."""

    entered: int = 0
    left: int = 0
    turned_back: int = 0
    staff_entered: int = 0
    staff_left: int = 0

    def add(self, crossing: Crossing) -> None:
        match crossing.is_staff, crossing.inward:
            case True, True:
                self.staff_entered += 1
            case True, False:
                self.staff_left += 1
            case False, True:
                self.entered += 1
            case _:
                self.left += 1


@dataclass(slots=True)
class Inside:
    """Customers inside over one interval: at its end, most at a time; and exits of those never counted in."""

    customers: int
    peak: int
    unexplained: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """An interval: each entrance's tally, and how many customers were inside."""

    interval: Interval
    tallies: tuple[Tally, ...]
    inside: Inside = field(default_factory=lambda: Inside(0, 0))


def count(settled: Settled, entrances: int, intervals: Sequence[Interval], inside_before: int) -> list[Piece]:
    """The crossings in each interval; intervals are in order and without gaps.

    Nobody is inside twice or less than never: where more leave than are known to be inside, they had been missed on
    their way in; the number inside stays 0 and the exit counts as unexplained.
    """
    found, customers, next_counted = [], inside_before, 0
    for interval in intervals:
        tallies = tuple(Tally() for _ in range(entrances))
        inside = Inside(customers, customers)
        while next_counted < len(settled.counted) and settled.counted[next_counted].time_ms < interval[1]:
            crossing = settled.counted[next_counted]
            next_counted += 1
            if crossing.time_ms < interval[0]:
                continue
            tallies[crossing.entrance].add(crossing)
            if not crossing.is_staff:
                _move(inside, crossing.inward)
        for crossing in settled.turned_back:
            tallies[crossing.entrance].turned_back += interval[0] <= crossing.time_ms < interval[1]
        customers = inside.customers
        found.append(Piece(interval, tallies, inside))
    return found


def _move(inside: Inside, inward: bool) -> None:
    if inward:
        inside.customers += 1
        inside.peak = max(inside.peak, inside.customers)
    elif inside.customers:
        inside.customers -= 1
    else:
        inside.unexplained += 1


def _time(crossing: Crossing) -> int:
    return crossing.time_ms
