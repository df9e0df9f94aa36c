"""One sensor on one machine: windows in, and what is to be told of them out.

A window is looked at for trouble of the sensor first; a troubled one says nothing about the machine. Then its level
is held against what was learnt (change), against the zones of the machine's class (severity), its envelope against
the bearing's frequencies (damage), and the course of the level is drawn on to the next zone (forecast). What is told
is told once, when it begins and when it is over.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from platforms.change import Cusum
from platforms.manufacturing.maintenance.baseline import Baseline, Recent, Usual
from platforms.manufacturing.maintenance.bearing import Bearing, Fault, fault_frequencies
from platforms.manufacturing.maintenance.envelope import FOUND_LOG10_P, Envelopes, Finding
from platforms.manufacturing.maintenance.severity import Limits, Zone, velocity_rms
from platforms.manufacturing.maintenance.trend import TimeToLimit, time_to, trend
from platforms.manufacturing.maintenance.window import Figures, Signal, Trouble, figures, filled, trouble

CONFIRM = 2  # windows, of the last CONFIRM_OF, that must say so
CONFIRM_OF = 3
TREND_POINTS = 200
FORECAST_EVERY = 10  # windows
LIMIT_SLACK = 0.05  # share of a limit by which the level must be below it again


class Quantity(StrEnum):
    """What the sensor measures."""

    ACCELERATION = "acceleration"  # m/s²
    VELOCITY = "velocity"  # mm/s
    CURRENT = "current"  # A
    TEMPERATURE = "temperature"  # degrees Celsius


RESTING = (Quantity.CURRENT, Quantity.TEMPERATURE)
"""A machine that stands draws no current and has the temperature of the hall: neither is a fault of the sensor."""


@dataclass(frozen=True, slots=True)
class Watched:
    """What is known of a sensor and its machine. Only vibration with a bearing and a speed is asked for damage.

    rate_hz: samples a second. window: samples. zones: of the machine's class, for vibration. limit: of the level
    itself (a temperature, a current), for the forecast where there are no zones.
    """

    rate_hz: float
    window: int
    quantity: Quantity = Quantity.ACCELERATION
    bearing: Bearing | None = None
    zones: Limits | None = None
    limit: float | None = None
    learn_windows: int = 50


class Kind(StrEnum):
    """What is told."""

    SENSOR_TROUBLE = "sensor_trouble"
    SENSOR_WELL = "sensor_well"
    LEVEL_CHANGED = "level_changed"
    LEVEL_USUAL = "level_usual"
    ZONE_CHANGED = "zone_changed"
    LIMIT_REACHED = "limit_reached"
    LIMIT_LEFT = "limit_left"
    DAMAGE_FOUND = "damage_found"
    DAMAGE_GONE = "damage_gone"
    FORECAST = "forecast"


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to be told; `about` names the trouble, the direction, the zone, the fault."""

    kind: Kind
    about: str
    level: float = 0.0
    score: float = (
        0.0  # of a change: distance from what is usual in spreads; of damage: log10 of chance's probability
    )
    hz: float = 0.0
    forecast: TimeToLimit | None = None


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a window came to. `level`: r.m.s. of vibration and current, mean of a temperature."""

    trouble: Trouble = Trouble.NONE
    figures: Figures | None = None
    level: float = 0.0
    zone: Zone | None = None
    score: float | None = None  # None while it is being learnt
    findings: Mapping[str, Finding] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a monitor has learnt. `course`: (seconds, level), ascending."""

    usual: Usual | None = None
    values: tuple[float, ...] = ()
    course: tuple[tuple[float, float], ...] = ()


class Monitor:
    """`take` each window in order."""

    def __init__(self, watched: Watched) -> None:
        self.watched = watched
        self.windows_total = 0
        self._baseline = Baseline(watched.learn_windows)
        self._recent = Recent()
        self._cusum = Cusum()
        self._direction = 0
        self._trouble = Trouble.NONE
        self._zone: Zone | None = None
        self._beyond = False
        self._seen: dict[str, deque[bool]] = {fault.value: deque(maxlen=CONFIRM_OF) for fault in Fault}
        self._damage: set[str] = set()
        self._course: deque[tuple[float, float]] = deque(maxlen=TREND_POINTS)

    def take(self, signal: Signal, at_s: float, shaft_hz: float = 0.0, told: Trouble = Trouble.NONE) -> Assessment:
        """`signal`: (window,) samples, NaN where one is missing; `at_s`: seconds of a clock that never goes back;
        `shaft_hz`: the speed now, 0 where it is not known: no damage is looked for then; `told`: what the sensor
        itself is known to suffer from."""
        self.windows_total += 1
        found = told or trouble(signal, self.watched.window, may_rest=self.watched.quantity in RESTING)
        notices = self._about_sensor(found)
        if found is not Trouble.NONE:
            return Assessment(found, notices=tuple(notices))
        signal = filled(signal)
        shape = figures(signal)
        level = self._level(signal, shape)
        score = self._about_change(level, notices)
        zone = self._about_zone(level, notices)
        self._about_limit(level, notices)
        findings = self._about_damage(signal, shaft_hz, notices)
        self._about_future(level, at_s, notices)
        return Assessment(found, shape, level, zone, score, findings, tuple(notices))

    @property
    def usual(self) -> Usual | None:
        """What is usual of the level; None while it is being learnt."""
        return self._baseline.usual

    def memory(self) -> Memory:
        """What has to survive a restart."""
        return Memory(self._baseline.usual, self._baseline.values, tuple(self._course))

    def remember(self, memory: Memory) -> None:
        """As it was before a restart. A course that does not go forward in time is left out: a clock was put back."""
        self._baseline.remember(memory.usual, memory.values)
        if all(earlier[0] < later[0] for earlier, later in pairwise(memory.course)):
            self._course.extend(memory.course)

    def relearn(self) -> None:
        """After a repair: what is usual is learnt anew."""
        self._baseline.forget()
        self._cusum.reset()
        self._course.clear()

    def _level(self, signal: Signal, shape: Figures) -> float:
        match self.watched.quantity:
            case Quantity.TEMPERATURE:
                return shape.mean
            case Quantity.ACCELERATION if self.watched.zones is not None:
                return velocity_rms(signal, self.watched.rate_hz)
            case _:
                return shape.rms

    def _about_sensor(self, found: Trouble) -> list[Notice]:
        if found is self._trouble:
            return []
        self._trouble = found
        return [Notice(Kind.SENSOR_TROUBLE, found.value) if found else Notice(Kind.SENSOR_WELL, "")]

    def _about_change(self, level: float, notices: list[Notice]) -> float | None:
        usual = self._baseline.usual
        if usual is None:
            self._baseline.learn(level)
            return None
        score = usual.score(level)
        direction = self._cusum.add(score)
        if direction != self._direction:
            self._direction = direction
            if direction:
                notices.append(Notice(Kind.LEVEL_CHANGED, "risen" if direction > 0 else "fallen", level, score))
            else:
                notices.append(Notice(Kind.LEVEL_USUAL, "", level, score))
        return score

    def _about_zone(self, level: float, notices: list[Notice]) -> Zone | None:
        limits = self.watched.zones
        if limits is None:
            return None
        zone = limits.zone(self._recent.add(level))
        if zone is not self._zone:
            if self._zone is not None or zone is not Zone.A:
                notices.append(Notice(Kind.ZONE_CHANGED, zone.value, level))
            self._zone = zone
        return zone

    def _about_limit(self, level: float, notices: list[Notice]) -> None:
        limit = self.watched.limit
        if limit is None or self.watched.zones is not None:
            return
        now = self._recent.add(level)
        if now >= limit and not self._beyond:
            notices.append(Notice(Kind.LIMIT_REACHED, f"{limit:g}", level))
        elif self._beyond and now < limit - LIMIT_SLACK * abs(limit):
            notices.append(Notice(Kind.LIMIT_LEFT, f"{limit:g}", level))
        else:
            return
        self._beyond = not self._beyond

    def _about_damage(self, signal: Signal, shaft_hz: float, notices: list[Notice]) -> dict[str, Finding]:
        bearing = self.watched.bearing
        if bearing is None or shaft_hz <= 0:
            return {}
        frequencies = {fault.value: hz for fault, hz in fault_frequencies(bearing, shaft_hz).items()}
        findings = Envelopes(signal, self.watched.rate_hz).find_all(frequencies)
        for name, finding in findings.items():
            seen = self._seen[name]
            seen.append(finding.log10_p < FOUND_LOG10_P)
            if name not in self._damage and sum(seen) >= CONFIRM:
                self._damage.add(name)
                notices.append(Notice(Kind.DAMAGE_FOUND, name, score=finding.log10_p, hz=finding.hz))
            elif name in self._damage and len(seen) == CONFIRM_OF and not any(seen):
                self._damage.discard(name)
                notices.append(Notice(Kind.DAMAGE_GONE, name, score=finding.log10_p))
        return findings

    def _about_future(self, level: float, at_s: float, notices: list[Notice]) -> None:
        if self._course and at_s <= self._course[-1][0]:
            self._course.clear()  # the clock was put back while the agent was down
        self._course.append((at_s, level))
        limit = self._next_limit()
        if limit is None or self.windows_total % FORECAST_EVERY:
            return
        course = trend([time_s for time_s, _ in self._course], [value for _, value in self._course])
        if course is not None and course.rises and (ahead := time_to(course, limit)) is not None:
            notices.append(Notice(Kind.FORECAST, f"{limit:g}", course.level, forecast=ahead))

    def _next_limit(self) -> float | None:
        limits = self.watched.zones
        if limits is None:
            return self.watched.limit
        return {Zone.A: limits.b, Zone.B: limits.c, Zone.C: limits.d}.get(self._zone or Zone.A)
