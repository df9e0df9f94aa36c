"""When the node does less, what it gives up in which order, and when it takes that back.

Each cause has a ladder of steps. A figure beyond its limit for `down_after_s` goes one step down, a figure that is
fine for `up_after_s` one step up; between the two (hysteresis) nothing moves, and after each step the time begins
anew: so two changes of one cause are never closer than these times. The steps of all causes together are in force.
Events, alerts and life-cycle notes are on no ladder.

A figure that cannot be read (None) moves nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from agent.degrade.settings import DegradationSettings
from agent.degrade.switches import Switch


class Cause(StrEnum):
    """What the machine is short of."""

    CPU = "cpu"
    LOOP = "loop"  # the event loop answers late
    HEAT = "heat"
    MEMORY = "memory"
    DISK = "disk"
    BACKLOG = "backlog"  # the broker or the link is slower than what is produced


class Step(StrEnum):
    """What is true while it is in force."""

    HALF_RATE_LOWEST = "half_rate_lowest"  # pipelines of the lowest priority take every second frame
    PAUSE_LOWEST = "pause_lowest"  # they take none, unless they are all there is, or critical
    HALF_RATE_ALL = "half_rate_all"  # every pipeline takes every second frame, critical ones too
    PAUSE_ACCELERATED = "pause_accelerated"  # pipelines on an accelerator take none, unless critical
    NO_CLIPS = "no_clips"
    SHORT_RETENTION = "short_retention"
    NO_RAW = "no_raw"
    NO_SAMPLES = "no_samples"
    COARSE = "coarse"
    SAMPLES_STAY = "samples_stay"  # new ones only: a backlog that may not drain would keep the step in force


LADDERS: dict[Cause, tuple[Step, ...]] = {
    Cause.CPU: (Step.HALF_RATE_LOWEST, Step.NO_CLIPS, Step.PAUSE_LOWEST),
    Cause.LOOP: (Step.HALF_RATE_LOWEST, Step.NO_CLIPS, Step.PAUSE_LOWEST),
    Cause.HEAT: (Step.HALF_RATE_ALL, Step.PAUSE_ACCELERATED),
    Cause.MEMORY: (Step.NO_CLIPS, Step.HALF_RATE_LOWEST, Step.PAUSE_LOWEST),
    Cause.DISK: (Step.NO_CLIPS, Step.SHORT_RETENTION, Step.NO_RAW, Step.NO_SAMPLES),
    Cause.BACKLOG: (Step.COARSE, Step.SAMPLES_STAY),
}
"""In the order of stepping down; back up it is the other way round."""

SWITCHED: dict[Step, Switch] = {
    Step.NO_CLIPS: Switch.EVIDENCE_CLIPS,
    Step.SHORT_RETENTION: Switch.RAW_RETENTION,
    Step.NO_RAW: Switch.RAW_RESULTS,
    Step.NO_SAMPLES: Switch.SAMPLES,
    Step.COARSE: Switch.FINE_AGGREGATES,
    Step.SAMPLES_STAY: Switch.SAMPLES_SENT,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """A figure is bad beyond `bad`, fine from `fine` on, on the other side; between them it is neither."""

    bad: float
    fine: float

    def is_bad(self, figure: float) -> bool:
        return figure > self.bad if self.bad > self.fine else figure < self.bad

    def is_fine(self, figure: float) -> bool:
        return figure <= self.fine if self.bad > self.fine else figure >= self.fine


@dataclass(frozen=True, slots=True)
class Change:
    """One step of one cause: `step` came into force (`down`) or is over."""

    cause: Cause
    step: Step
    down: bool
    level_from: int
    level_to: int
    figure: float
    threshold: float


@dataclass(slots=True)
class _Ladder:
    limits: Limits
    level: int = 0
    bad_since_s: float | None = None
    fine_since_s: float | None = None


def limits_of(settings: DegradationSettings) -> dict[Cause, Limits]:
    return {
        Cause.CPU: Limits(settings.cpu_percent_max, settings.cpu_percent_ok),
        Cause.LOOP: Limits(settings.loop_late_ms_max, settings.loop_late_ms_ok),
        Cause.HEAT: Limits(settings.temperature_c_max, settings.temperature_c_ok),
        Cause.MEMORY: Limits(settings.memory_free_mb_min, settings.memory_free_mb_ok),
        Cause.DISK: Limits(settings.disk_free_mb_min, settings.disk_free_mb_ok),
        Cause.BACKLOG: Limits(settings.backlog_rows_max, settings.backlog_rows_ok),
    }


class Policy:
    """Told the figures now and then, it says what changes. Times are monotonic seconds."""

    def __init__(self, settings: DegradationSettings) -> None:
        self._settings = settings
        self._ladders = {cause: _Ladder(limits) for cause, limits in limits_of(settings).items()}

    @property
    def levels(self) -> dict[Cause, int]:
        """How many steps down each cause is; 0: all is normal."""
        return {cause: ladder.level for cause, ladder in self._ladders.items()}

    @property
    def steps(self) -> frozenset[Step]:
        """What is in force."""
        return frozenset(step for cause, ladder in self._ladders.items() for step in LADDERS[cause][: ladder.level])

    def observe(self, figures: Mapping[Cause, float | None], now_s: float) -> list[Change]:
        """At most one step a cause. Figures that are not given are not known."""
        changes = (self._move(cause, ladder, figures.get(cause), now_s) for cause, ladder in self._ladders.items())
        return [change for change in changes if change is not None]

    def _move(self, cause: Cause, ladder: _Ladder, figure: float | None, now_s: float) -> Change | None:
        is_bad = figure is not None and ladder.limits.is_bad(figure)
        is_fine = figure is not None and ladder.limits.is_fine(figure)
        ladder.bad_since_s = _since(ladder.bad_since_s, is_bad, now_s)
        ladder.fine_since_s = _since(ladder.fine_since_s, is_fine, now_s)
        if figure is None:
            return None
        down = _held(ladder.bad_since_s, now_s, self._settings.down_after_s) and ladder.level < len(LADDERS[cause])
        up = _held(ladder.fine_since_s, now_s, self._settings.up_after_s) and ladder.level > 0
        if not down and not up:
            return None
        before, ladder.level = ladder.level, ladder.level + (1 if down else -1)
        ladder.bad_since_s = now_s if is_bad else None
        ladder.fine_since_s = now_s if is_fine else None
        step = LADDERS[cause][min(before, ladder.level)]
        threshold = ladder.limits.bad if down else ladder.limits.fine
        return Change(cause, step, down, before, ladder.level, figure, threshold)


def _since(since_s: float | None, holds: bool, now_s: float) -> float | None:
    return (now_s if since_s is None else since_s) if holds else None


def _held(since_s: float | None, now_s: float, for_s: float) -> bool:
    return since_s is not None and now_s - since_s >= for_s
