"""Statistical process control: X-bar and R, p and u charts, and the Western Electric rules.

Constants and formulas: Montgomery, Introduction to Statistical Quality Control (7th ed., 2013), chapters 6 and 7 and
appendix VI. Rules: Western Electric, Statistical Quality Control Handbook (1956).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum


class Rule(IntEnum):
    """What is improbable in a process that is under control. Zones are counted in standard deviations."""

    BEYOND_3 = 1  # one point beyond 3
    TWO_OF_THREE_BEYOND_2 = 2  # on one side
    FOUR_OF_FIVE_BEYOND_1 = 3  # on one side
    EIGHT_ON_ONE_SIDE = 4


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a chart: the centre line and the control limits, 3 standard deviations away, not below `floor`."""

    low: float
    centre: float
    high: float

    @property
    def sigma(self) -> float:
        """One standard deviation of the plotted points."""
        return (self.high - self.centre) / 3


@dataclass(frozen=True, slots=True)
class Signal:
    """A rule that the last of the points breaks; `side` is 1 above the centre and -1 below it."""

    rule: Rule
    side: int


# A2, D3, D4, d2 by the size of the subgroup.
CONSTANTS: Mapping[int, tuple[float, float, float, float]] = {
    2: (1.880, 0.0, 3.267, 1.128),
    3: (1.023, 0.0, 2.574, 1.693),
    4: (0.729, 0.0, 2.282, 2.059),
    5: (0.577, 0.0, 2.114, 2.326),
    6: (0.483, 0.0, 2.004, 2.534),
    7: (0.419, 0.076, 1.924, 2.704),
    8: (0.373, 0.136, 1.864, 2.847),
    9: (0.337, 0.184, 1.816, 2.970),
    10: (0.308, 0.223, 1.777, 3.078),
}


def xbar_r(subgroups: Sequence[Sequence[float]]) -> tuple[Limits, Limits]:
    """Limits of the means and of the ranges, from subgroups of one size (2 to 10). Raises ValueError."""
    sizes = {len(group) for group in subgroups}
    if len(sizes) != 1 or not sizes <= set(CONSTANTS):
        raise ValueError(f"subgroups of {sorted(sizes)}: all of one size from 2 to 10 are wanted")
    a2, d3, d4, _ = CONSTANTS[sizes.pop()]
    mean = sum(sum(group) / len(group) for group in subgroups) / len(subgroups)
    spread = sum(max(group) - min(group) for group in subgroups) / len(subgroups)
    return Limits(mean - a2 * spread, mean, mean + a2 * spread), Limits(d3 * spread, spread, d4 * spread)


def p_chart(defective: int, inspected: int, sample: int) -> Limits:
    """Of the share of defective parts in a sample, from a longer run. Raises ValueError."""
    if not 0 <= defective <= inspected or inspected < 1 or sample < 1:
        raise ValueError(f"{defective} defective of {inspected}, samples of {sample}: cannot be")
    share = defective / inspected
    reach = 3 * math.sqrt(share * (1 - share) / sample)
    return Limits(max(0.0, share - reach), share, min(1.0, share + reach) if reach else share)


def u_chart(defects: int, units: float, sample: float) -> Limits:
    """Of the defects a unit in a sample of so many units, from a longer run. Raises ValueError."""
    if defects < 0 or units <= 0 or sample <= 0:
        raise ValueError(f"{defects} defects on {units:g} units, samples of {sample:g}: cannot be")
    rate = defects / units
    reach = 3 * math.sqrt(rate / sample)
    return Limits(max(0.0, rate - reach), rate, rate + reach)


def western_electric(points: Sequence[float], limits: Limits | Sequence[Limits]) -> list[Signal]:
    """The rules that the last point completes. `limits`: one for all points, or each point's own (p and u charts
    whose samples differ)."""
    each = [limits] * len(points) if isinstance(limits, Limits) else list(limits)
    scores = [_score(point, one) for point, one in zip(points, each, strict=True)][-8:]
    return [
        Signal(rule, side)
        for side in (1, -1)
        for rule, last, wanted, beyond in (
            (Rule.BEYOND_3, 1, 1, 3.0),
            (Rule.TWO_OF_THREE_BEYOND_2, 3, 2, 2.0),
            (Rule.FOUR_OF_FIVE_BEYOND_1, 5, 4, 1.0),
            (Rule.EIGHT_ON_ONE_SIDE, 8, 8, 0.0),
        )
        if _breaks([side * score for score in scores[-last:]], last, wanted, beyond)
    ]


def _score(point: float, limits: Limits) -> float:
    if limits.sigma <= 0:
        return 0.0 if point == limits.centre else math.copysign(math.inf, point - limits.centre)
    return (point - limits.centre) / limits.sigma


def _breaks(scores: list[float], last: int, wanted: int, beyond: float) -> bool:
    """The last point is among those beyond: so a pattern is told when it is complete, and not again afterwards."""
    enough = len(scores) >= min(last, wanted)
    return enough and scores[-1] > beyond and sum(score > beyond for score in scores) >= wanted


def capability(mean: float, sigma: float, lower: float, upper: float) -> tuple[float, float]:
    """(Cp, Cpk) for tolerances: how often the process's spread fits, and with where its centre is. Raises
    ValueError."""
    if sigma <= 0 or lower >= upper:
        raise ValueError(f"no capability of a deviation of {sigma:g} between {lower:g} and {upper:g}")
    return (upper - lower) / (6 * sigma), min(upper - mean, mean - lower) / (3 * sigma)
