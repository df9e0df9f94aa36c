"""Control charts that learn their limits: p, u, X-bar and R. Pure.

The limits come from the first `learn` points and then stand: a process is held against what it could do, not against
what it has drifted to.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from platforms.manufacturing.production.spc import Limits, Signal, p_chart, u_chart, western_electric, xbar_r

POINTS_MAX = 100


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """One point; `signals`: the rules that it breaks."""

    at_s: float
    value: float
    signals: tuple[Signal, ...] = ()


@dataclass(slots=True)
class Track:
    """The points of one line of a chart against its limits."""

    name: str
    limits: Limits | None = None
    points: deque[ChartPoint] = field(default_factory=lambda: deque(maxlen=POINTS_MAX))

    def add(self, at_s: float, value: float) -> ChartPoint:
        """With limits: the point is held against the rules."""
        values = [point.value for point in self.points] + [value]
        signals = western_electric(values, self.limits) if self.limits is not None else []
        point = ChartPoint(at_s, value, tuple(signals))
        self.points.append(point)
        return point


class Chart(Protocol):
    """Told of each part; `tracks` are its lines, the ranges' second."""

    @property
    def tracks(self) -> Sequence[Track]: ...

    def add(self, at_s: float, value: float) -> list[tuple[Track, ChartPoint]]:
        """`value`: 1 for a defective part, its defects, or its measured value. Returns what points it completes."""


class _Samples(ABC):
    """p and u: `sample` parts make a point."""

    def __init__(self, name: str, sample: int, learn: int) -> None:
        self.tracks = (Track(name),)
        self._sample, self._learn = sample, learn
        self._so_far: list[float] = []
        self._learnt: list[float] = []

    @abstractmethod
    def limits_of(self, total: float, parts: int) -> Limits:
        """Of a learnt process of so many parts."""

    def add(self, at_s: float, value: float) -> list[tuple[Track, ChartPoint]]:
        self._so_far.append(value)
        if len(self._so_far) < self._sample:
            return []
        total = sum(self._so_far)
        self._so_far.clear()
        (track,) = self.tracks
        if track.limits is None:
            self._learnt.append(total)
            if len(self._learnt) < self._learn:
                return []
            track.limits = self.limits_of(sum(self._learnt), self._sample * len(self._learnt))
            return []
        return [(track, track.add(at_s, total / self._sample))]


class PChart(_Samples):
    """The share of defective parts."""

    def limits_of(self, total: float, parts: int) -> Limits:
        return p_chart(round(total), parts, self._sample)


class UChart(_Samples):
    """Defects a part."""

    def limits_of(self, total: float, parts: int) -> Limits:
        return u_chart(round(total), parts, self._sample)


class XbarR:
    """Means and ranges of subgroups of a measured value."""

    def __init__(self, name: str, subgroup: int, learn: int) -> None:
        """`subgroup`: 2 to 10 parts."""
        self.tracks = (Track(name), Track(f"{name}.range"))
        self._subgroup, self._learn = subgroup, learn
        self._so_far: list[float] = []
        self._learnt: list[list[float]] = []

    def add(self, at_s: float, value: float) -> list[tuple[Track, ChartPoint]]:
        self._so_far.append(value)
        if len(self._so_far) < self._subgroup:
            return []
        group, self._so_far = self._so_far, []
        means, ranges = self.tracks
        if means.limits is None:
            self._learnt.append(group)
            if len(self._learnt) >= self._learn:
                means.limits, ranges.limits = xbar_r(self._learnt)
            return []
        mean, spread = sum(group) / len(group), max(group) - min(group)
        return [(means, means.add(at_s, mean)), (ranges, ranges.add(at_s, spread))]
