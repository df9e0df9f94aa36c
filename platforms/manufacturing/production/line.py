"""One line over its shift: each inspected part in, the figures of a window out.

Nothing here grows without bound: cycle times and parts are kept for `keep_s`, and no more than PARTS_MAX of them.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from platforms.manufacturing.production.charts import PChart
from platforms.manufacturing.production.oee import Oee, oee, takt_s
from platforms.manufacturing.production.shifts import Span, length_s, within
from platforms.manufacturing.production.spc import Limits, Signal
from platforms.manufacturing.production.stops import Stop, Stops

PARTS_MAX = 50_000


@dataclass(frozen=True, slots=True)
class LineSettings:
    """ideal_cycle_s: as the machine's maker says. stop_after: cycles without a part that make a stop. sample: parts
    of one point of the p chart. learn_samples: points from which its limits are made."""

    ideal_cycle_s: float
    stop_after: float = 5.0
    minor_s: float = 300.0
    demand_per_h: float = 0.0  # parts; 0: none is known
    sample: int = 50
    learn_samples: int = 20
    keep_s: float = 12 * 3600.0


@dataclass(frozen=True, slots=True)
class Part:
    """An inspected part. `defects`: their classes, empty for a good one; `rework`: it has been here before."""

    at_s: float
    defects: tuple[str, ...] = ()
    rework: bool = False
    good: bool | None = None  # None: one without defects is good
    unsure: bool = False  # pictures could not show it: not good, and not known to be bad
    ideal_cycle_s: float | None = None  # of its product; None: the line's

    @property
    def is_good(self) -> bool:
        return not self.defects if self.good is None else self.good


@dataclass(frozen=True, slots=True)
class Share:
    """One line of a Pareto chart: a defect's count, its share of all, and the share of it and those before it."""

    defect: str
    count: int
    share: float
    cumulative: float


@dataclass(frozen=True, slots=True)
class LineFigures:
    """Of a window. Cycle times in seconds; first-pass yield: parts good at their first inspection, of those that had
    their first."""

    parts: int
    good: int
    first_pass_yield: float | None
    oee: Oee
    cycle_s_p50: float | None
    cycle_s_p95: float | None
    takt_s: float | None
    stops: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    pareto: tuple[Share, ...] = ()
    rework: int = 0
    unsure: int = 0
    planned_s: float = 0.0
    stopped_s: float = 0.0


class Line:
    """Told of each part and of the time; asked for figures."""

    def __init__(self, settings: LineSettings, now_s: float) -> None:
        self._settings = settings
        after_s = settings.stop_after * settings.ideal_cycle_s
        self.stops = Stops(after_s=after_s, minor_s=max(settings.minor_s, 2 * after_s))
        self.stops.begin(now_s)
        self._began_s = now_s
        self._parts: deque[Part] = deque(maxlen=PARTS_MAX)
        self._chart = PChart("p", settings.sample, settings.learn_samples)

    @property
    def control_limits(self) -> Limits | None:
        """Of the p chart; None while it is being learnt."""
        return self._chart.tracks[0].limits

    def part(self, part: Part) -> tuple[Stop | None, list[Signal]]:
        """Takes a part. Returns the stop that it ends, and what its sample breaks on the p chart if it completes
        one."""
        self._parts.append(part)
        while self._parts and self._parts[0].at_s < part.at_s - self._settings.keep_s:
            self._parts.popleft()
        points = self._chart.add(part.at_s, float(not part.is_good))
        return self.stops.part(part.at_s), [signal for _, point in points for signal in point.signals]

    def figures(self, from_s: float, to_s: float, working: Sequence[Span] | None = None) -> LineFigures:
        """Of the window from `from_s` up to `to_s`, as far as the line is watched and remembered. `working`: when it
        is to run within it, in order and apart from each other; None: all the time. Parts made besides count, but
        not in OEE."""
        self.stops.tick(to_s)
        from_s = max(from_s, self._began_s)
        spans = within([(from_s, to_s)] if working is None else working, from_s, to_s)
        all_parts = [part for part in self._parts if from_s <= part.at_s < to_s]
        parts = [part for part in all_parts if any(begin <= part.at_s < end for begin, end in spans)]
        good = sum(part.is_good for part in parts)
        first = [part for part in all_parts if not part.rework]
        planned_s = max(0.0, length_s(spans) - sum(self.stops.planned_s(*span) for span in spans))
        lost_s = min(planned_s, sum(self.stops.lost_s(*span) for span in spans))
        ideals = [part.ideal_cycle_s or self._settings.ideal_cycle_s for part in parts]
        cycles = self._cycles(parts)
        demand = round(self._settings.demand_per_h * planned_s / 3600)
        return LineFigures(
            parts=len(all_parts),
            good=sum(part.is_good for part in all_parts),
            first_pass_yield=sum(part.is_good for part in first) / len(first) if first else None,
            oee=oee(
                planned_s=planned_s,
                stopped_s=lost_s,
                ideal_cycle_s=sum(ideals) / len(ideals) if ideals else self._settings.ideal_cycle_s,
                parts=len(parts),
                good=good,
            ),
            cycle_s_p50=_quantile(cycles, 0.5),
            cycle_s_p95=_quantile(cycles, 0.95),
            takt_s=takt_s(planned_s, demand),
            stops=self.stops.by_reason(spans),
            pareto=pareto(defect for part in all_parts if not part.is_good for defect in part.defects),
            rework=sum(part.rework for part in all_parts),
            unsure=sum(part.unsure for part in all_parts),
            planned_s=planned_s,
            stopped_s=lost_s,
        )

    def _cycles(self, parts: list[Part]) -> list[float]:
        """Times between parts that no stop lies between, ascending."""
        after_s = self._settings.stop_after * self._settings.ideal_cycle_s
        between = (later.at_s - earlier.at_s for earlier, later in pairwise(parts))
        return sorted(one for one in between if one < after_s)


def pareto(defects: Iterable[str]) -> tuple[Share, ...]:
    """The classes of defects, the commonest first."""
    counts = Counter(defects)
    total, so_far, found = counts.total(), 0, []
    for defect, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        so_far += count
        found.append(Share(defect, count, count / total, so_far / total))
    return tuple(found)


def _quantile(ordered: list[float], share: float) -> float | None:
    """The nearest value of a sorted list; None of an empty one."""
    return ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] if ordered else None
