"""The figures of traffic from vehicles that crossed a line and from counts in a zone. Pure: numbers in, numbers out.

HCM is the Highway Capacity Manual, 6th edition (Transportation Research Board, 2016), whose terms are used: volume
is a count, flow rate the same as vehicles an hour, headway the time between two vehicles' passing of one point,
occupancy the share of time that a detection zone is occupied, density the vehicles on a length of lane.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

Interval = tuple[int, int]
"""[from, to) in milliseconds."""

PEAK_INTERVALS_S = ((3600, 900), (900, 300), (300, 60))  # (a window of at least this, is cut into intervals of this)
KM_PER_MILE = 1.609344
LEVELS_PC_PER_MILE_LANE = (("A", 11.0), ("B", 18.0), ("C", 26.0), ("D", 35.0), ("E", 45.0))
EQUIVALENT_HEAVY = 2.0  # passenger cars for one heavy vehicle on level terrain: HCM exhibit 12-25
SURE = 1.96  # standard deviations: 95 % of what chance does is within


def flow_vph(vehicles: int, observed_s: float) -> float | None:
    """Flow rate in vehicles an hour; None where nothing was observed."""
    return vehicles * 3600 / observed_s if observed_s > 0 else None


@dataclass(frozen=True, slots=True)
class Peak:
    """The busiest interval. factor: 1 for even traffic, 1/n where all of n intervals came in one."""

    factor: float
    interval_s: int
    begins_ms: int
    flow_vph: float


def peak(times_ms: Sequence[int], start_ms: int, end_ms: int) -> Peak | None:
    """PF = V / (n × V_max) over n intervals that end with the window; None without vehicles, or below 5 minutes.

    Over an hour and more, intervals are 15 minutes long and n is 4, in the hour that had most: the peak-hour factor
    PHF = V / (4 × V_15) of the HCM (chapter 4). Shorter windows have no PHF; theirs is the same with shorter
    intervals, and reads lower because of chance.
    """
    window_s = (end_ms - start_ms) // 1000
    interval_s = next((each for least, each in PEAK_INTERVALS_S if window_s >= least), 0)
    if not interval_s:
        return None
    in_all = window_s // interval_s
    edges = [end_ms - n * interval_s * 1000 for n in range(in_all, -1, -1)]
    ordered = sorted(times_ms)
    marks = [bisect_left(ordered, edge) for edge in edges]
    volumes = [after - before for before, after in pairwise(marks)]
    n = 4 if window_s >= 3600 else in_all
    first = max(range(in_all - n + 1), key=lambda at: sum(volumes[at : at + n]))
    busiest = max(range(first, first + n), key=lambda at: volumes[at])
    most = volumes[busiest]
    if not most:
        return None
    factor = sum(volumes[first : first + n]) / (n * most)
    return Peak(factor, interval_s, edges[busiest], most * 3600 / interval_s)


def headways_s(times_ms: Iterable[int], unknown: Sequence[Interval] = ()) -> list[float]:
    """Seconds between each two vehicles that followed each other over one line; none across a time that is unknown.

    Where several lanes cross the line together these are the headways of all lanes as one stream.
    """
    ordered = sorted(times_ms)
    return [
        (after - before) / 1000
        for before, after in pairwise(ordered)
        if not any(before <= begin and end <= after for begin, end in unknown)
    ]


def mean(values: Sequence[float]) -> float | None:
    """None without any."""
    return sum(values) / len(values) if values else None


@dataclass(frozen=True, slots=True)
class Occupancy:
    """share: of the time, in which at least one vehicle was in the zone; vehicles: in it on average."""

    share: float
    vehicles: float


def occupancy(first: int, steps: Iterable[tuple[int, int]], observed: Sequence[Interval]) -> Occupancy | None:
    """Of a zone with `first` vehicles in it at the beginning and, from each (time_ms, count) of `steps` on, `count`.

    Only the time in `observed`, in order, counts; None where there is none.
    """
    ordered = sorted(steps)
    total_ms = occupied_ms = vehicle_ms = 0
    for begin, end in observed:
        at, count = begin, first
        for time_ms, following in ordered:
            if time_ms >= end:
                break
            if time_ms > at:
                occupied_ms += (time_ms - at) * (count > 0)
                vehicle_ms += (time_ms - at) * count
                at = time_ms
            count = following
        occupied_ms += (end - at) * (count > 0)
        vehicle_ms += (end - at) * count
        total_ms += end - begin
    return Occupancy(occupied_ms / total_ms, vehicle_ms / total_ms) if total_ms else None


def density_per_km_lane(vehicles: float, length_m: float, lanes: int) -> float:
    """Vehicles on a kilometre of one lane, from the mean number on a stretch of all its lanes."""
    return vehicles / (length_m / 1000 * lanes)


def passenger_cars(vehicles: float, heavy_share: float) -> float:
    """Vehicles as passenger-car equivalents: each heavy one counts EQUIVALENT_HEAVY (HCM equation 12-10, level)."""
    return vehicles * (1 + heavy_share * (EQUIVALENT_HEAVY - 1))


def level_of_service(density_pc_per_km_lane: float) -> str:
    """A to F of uninterrupted flow by density (HCM exhibit 12-15, basic freeway and multilane highway segments).

    A junction's approach is graded by control delay instead (HCM chapters 19 and 20), which counts cannot tell.
    """
    per_mile = density_pc_per_km_lane * KM_PER_MILE
    return next((level for level, most in LEVELS_PC_PER_MILE_LANE if per_mile <= most), "F")


@dataclass(frozen=True, slots=True)
class Counted:
    """Vehicles at one place in a window and in the one before it, each with the seconds that were observed."""

    vehicles: int
    observed_s: float
    vehicles_before: int
    observed_before_s: float

    @property
    def comparable(self) -> bool:
        return self.observed_s > 0 and self.observed_before_s > 0


@dataclass(frozen=True, slots=True)
class Change:
    """share: of the flow before, None where that was nought; sign: 1, 0 or -1, nought for what chance may do."""

    flow_before_vph: float
    share: float | None
    sign: int


def change(places: Sequence[Counted]) -> Change | None:
    """How flow at these places together differs from that before; None where nothing can be compared.

    Arrivals are taken as Poisson processes: with e the ratio of the times observed, the difference n - e × n0 of a
    place has the variance n + e² × n0; one within 1.96 standard deviations is none (the normal approximation of the
    comparison of two Poisson counts, Przyborowski and Wilenski 1940).
    """
    known = [place for place in places if place.comparable]
    if not known:
        return None
    ratios = [place.observed_s / place.observed_before_s for place in known]
    expected = sum(ratio * place.vehicles_before for ratio, place in zip(ratios, known, strict=True))
    variance = sum(p.vehicles + ratio * ratio * p.vehicles_before for ratio, p in zip(ratios, known, strict=True))
    difference = sum(place.vehicles for place in known) - expected
    sign = 0 if abs(difference) <= SURE * math.sqrt(variance) else 1 if difference > 0 else -1
    before_vph = sum(place.vehicles_before * 3600 / place.observed_before_s for place in known)
    return Change(before_vph, difference / expected if expected else None, sign)
