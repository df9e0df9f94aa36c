"""Where a figure is going: a robust slope, and when it will reach a limit, with an interval.

Theil (1950) and Sen (Estimates of the regression coefficient based on Kendall's tau, JASA 63, 1968): the slope is the
median of the slopes of all pairs; its interval comes from the distribution of Kendall's S. A third of the values may
be wrong without moving it far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

POINTS_MIN = 8
POINTS_MAX = 200  # of more, evenly picked ones are taken: all pairs are looked at
_SURE = 1.96  # 95 % of a normal distribution


@dataclass(frozen=True, slots=True)
class Trend:
    """`slope` in units of the figure a second, between `low` and `high` with 95 %; `level` is what it is at the
    end."""

    slope: float
    low: float
    high: float
    level: float
    at_s: float

    @property
    def rises(self) -> bool:
        """Surely."""
        return self.low > 0

    @property
    def falls(self) -> bool:
        """Surely."""
        return self.high < 0


@dataclass(frozen=True, slots=True)
class TimeToLimit:
    """Seconds from the trend's end until the limit is reached; `latest_s` is infinite where that is not sure."""

    expected_s: float
    earliest_s: float
    latest_s: float


def trend(times_s: Sequence[float], values: Sequence[float]) -> Trend | None:
    """None for fewer than POINTS_MIN points at different times. Times ascend."""
    points = list(zip(times_s, values, strict=True))
    if len(points) > POINTS_MAX:
        step = len(points) / POINTS_MAX
        points = [points[math.floor(n * step)] for n in range(POINTS_MAX - 1)] + [points[-1]]
    if len(points) < POINTS_MIN or any(a[0] >= b[0] for a, b in pairwise(points)):
        return None
    slopes = sorted(
        (later[1] - earlier[1]) / (later[0] - earlier[0])
        for at, earlier in enumerate(points)
        for later in points[at + 1 :]
    )
    n, pairs = len(points), len(slopes)
    half = _SURE * math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
    first = max(0, math.floor((pairs - half) / 2))
    last = min(pairs - 1, math.ceil((pairs + half) / 2))
    slope = _median(slopes)
    end_s = points[-1][0]
    level = _median(sorted(value + slope * (end_s - time_s) for time_s, value in points))
    return Trend(slope, slopes[first], slopes[last], level, end_s)


def time_to(found: Trend, limit: float) -> TimeToLimit | None:
    """When it reaches the limit, if it goes on like this: 0 where it is beyond it already, in the direction in which
    it goes; None where it does not surely go anywhere."""
    away = limit - found.level
    if away == 0 or (away < 0) == (found.slope > 0):
        toward = found.rises if found.slope > 0 else found.falls
        return TimeToLimit(0.0, 0.0, 0.0) if toward else None
    fast, slow = (found.high, found.low) if away > 0 else (found.low, found.high)
    if not (found.rises if away > 0 else found.falls):
        return None
    return TimeToLimit(away / found.slope, away / fast, away / slow)


def _median(ordered: Sequence[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
