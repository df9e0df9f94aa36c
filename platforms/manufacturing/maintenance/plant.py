"""The machines of a node: windows in, figures, conditions and advice out. Pure; time comes with the windows.

    window of a sensor ─► its points' monitors ─► notices ─► condition of the machine ─► what is to be told

A machine is as bad as its worst point. What is told is told when it changes; advice is given once for a reason, and
once more when its date has moved a lot.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from platforms.manufacturing.maintenance.events import MachineAdvice, MachineFigures
from platforms.manufacturing.maintenance.monitor import Assessment, Kind, Memory, Monitor, Notice, Quantity, Watched
from platforms.manufacturing.maintenance.settings import (
    MachineSettings,
    MaintenanceSettings,
    PointSettings,
    factor_of,
)
from platforms.manufacturing.maintenance.severity import Limits, Zone
from platforms.manufacturing.maintenance.trend import TimeToLimit
from platforms.manufacturing.types import (
    AdviceReason,
    MachineCondition,
    MachineState,
    PointForecast,
    PointState,
)
from platforms.samples import SampleWindow, Signal, Trouble

VIBRATION = (Quantity.ACCELERATION, Quantity.VELOCITY)
LOG10_P_MIN = -300.0  # told at least: what is less sure than that is not less than it
MOVED = 0.5  # share by which a date must have moved to be told again
_RANK = (
    MachineCondition.UNKNOWN,
    MachineCondition.LEARNING,
    MachineCondition.GOOD,
    MachineCondition.WATCH,
    MachineCondition.WARNING,
    MachineCondition.CRITICAL,
)


@dataclass(slots=True)
class Point:
    """One channel on a machine."""

    settings: PointSettings
    machine: MachineSettings
    zones: Limits | None
    memory: Memory | None = None  # of before the restart, until the first window comes
    monitor: Monitor | None = None
    latest: Assessment = Assessment()
    zone: Zone | None = None
    change: str = ""
    beyond: bool = False
    faults: set[str] = field(default_factory=set)
    forecast: TimeToLimit | None = None
    advised: dict[str, float] = field(default_factory=dict)  # reason -> seconds to the date that was told
    sampled_s: float = -math.inf

    def take(self, window: SampleWindow, at_s: float, shaft_hz: float) -> Assessment | None:
        """None where the window has no such channel. `at_s`: as of `Monitor.take`."""
        signal = window.channels.get(self.settings.channel)
        factor = factor_of(self.settings.quantity, window.unit)
        if signal is None or factor is None:
            return None
        monitor = self._monitor(window.rate_hz, len(signal))
        told = window.troubles.get(self.settings.channel, Trouble.NONE)
        scaled: Signal = signal if factor == 1.0 else signal * factor
        self.latest = found = monitor.take(scaled, at_s, shaft_hz, told)
        for notice in found.notices:
            self._note(notice)
        self.zone = found.zone or self.zone
        return found

    def _monitor(self, rate_hz: float, length: int) -> Monitor:
        """Another rate or length is another sensor: what is usual has to be learnt anew."""
        if self.monitor is None or (self.monitor.watched.rate_hz, self.monitor.watched.window) != (rate_hz, length):
            vibrates = self.settings.quantity in VIBRATION
            self.monitor = Monitor(
                Watched(
                    rate_hz,
                    length,
                    self.settings.quantity,
                    (self.settings.bearing or self.machine.bearing) if vibrates else None,
                    self.zones if vibrates else None,
                    self.settings.limit,
                    self.machine.learn_windows,
                )
            )
            if self.memory is not None:
                self.monitor.remember(self.memory)
                self.memory = None
        return self.monitor

    def _note(self, notice: Notice) -> None:
        match notice.kind:
            case Kind.LEVEL_CHANGED:
                self.change = notice.about
            case Kind.LEVEL_USUAL:
                self.change = ""
                self.advised.pop(AdviceReason.CHANGE, None)
            case Kind.LIMIT_REACHED:
                self.beyond = True
            case Kind.LIMIT_LEFT:
                self.beyond = False
                self.advised.pop(AdviceReason.LIMIT, None)
            case Kind.DAMAGE_FOUND:
                self.faults.add(notice.about)
            case Kind.DAMAGE_GONE:
                self.faults.discard(notice.about)
                self.advised.pop(f"{AdviceReason.DAMAGE}.{notice.about}", None)
            case Kind.FORECAST:
                self.forecast = notice.forecast
            case Kind.ZONE_CHANGED:
                self.zone = Zone(notice.about)
                self.forecast = None
                self.advised = {key: at for key, at in self.advised.items() if not key.startswith(AdviceReason.ZONE)}

    @property
    def condition(self) -> MachineCondition:
        if self.latest.trouble or self.monitor is None:
            return MachineCondition.UNKNOWN
        if self.zone is Zone.D or self.beyond:
            return MachineCondition.CRITICAL
        if self.zone is Zone.C or self.faults:
            return MachineCondition.WARNING
        if self.change == "risen" or self._soon():
            return MachineCondition.WATCH
        return MachineCondition.LEARNING if self.monitor.usual is None else MachineCondition.GOOD

    def _soon(self) -> bool:
        return self.forecast is not None and self.forecast.expected_s <= self.machine.advise_ahead_s

    def reasons(self) -> list[str]:
        """Why it is not good, in words."""
        name = self.settings.title
        if self.latest.trouble:
            return [f"{name}: the sensor is {self.latest.trouble}"]
        found = [f"{name}: bearing, {fault.upper()}" for fault in sorted(self.faults)]
        if self.zone in (Zone.C, Zone.D):
            found.append(f"{name}: zone {self.zone} of ISO 20816")
        if self.beyond:
            found.append(f"{name}: beyond {self.settings.limit:g}")
        if self.change:
            found.append(f"{name}: the level has {self.change}")
        if self._soon() and self.forecast is not None:
            found.append(f"{name}: the next limit in {self.forecast.expected_s / 86400:.1f} days")
        return found

    def advice(self, machine_id: str) -> Iterator[MachineAdvice]:
        """What has not been advised yet."""
        if self.latest.trouble:
            return
        wanted: dict[str, tuple[AdviceReason, str, float]] = {}
        for fault in self.faults:
            wanted[f"{AdviceReason.DAMAGE}.{fault}"] = (AdviceReason.DAMAGE, fault, 0.0)
        if self.zone in (Zone.C, Zone.D):
            wanted[f"{AdviceReason.ZONE}.{self.zone}"] = (AdviceReason.ZONE, str(self.zone), 0.0)
        if self.beyond:
            wanted[AdviceReason.LIMIT] = (AdviceReason.LIMIT, f"{self.settings.limit:g}", 0.0)
        if self.change == "risen":
            wanted[AdviceReason.CHANGE] = (AdviceReason.CHANGE, self.change, 0.0)
        if self._soon() and self.forecast is not None and self.forecast.expected_s > 0:
            wanted[AdviceReason.FORECAST] = (AdviceReason.FORECAST, "", self.forecast.expected_s)
        for key, (reason, about, due_s) in wanted.items():
            before = self.advised.get(key)
            if before is not None and abs(due_s - before) <= MOVED * before:
                continue
            self.advised[key] = due_s
            yield MachineAdvice(
                machine_id,
                self.settings.title,
                reason,
                about,
                self.latest.level,
                forecast=_forecast(self.forecast) if reason is AdviceReason.FORECAST else None,
            )

    def figures(self, machine_id: str, shaft_hz: float) -> MachineFigures:
        found = self.latest
        shape = found.figures
        return MachineFigures(
            machine_id,
            self.settings.title,
            self.settings.quantity.value,
            trouble=found.trouble.value,
            level=round(found.level, 6),
            rms=_rounded(shape.rms if shape else None),
            peak=_rounded(shape.peak if shape else None),
            crest=_rounded(shape.crest if shape else None),
            kurtosis=_rounded(shape.kurtosis if shape else None),
            zone=None if found.zone is None else found.zone.value,
            score=_rounded(found.score),
            damage={name: max(LOG10_P_MIN, round(one.log10_p, 2)) for name, one in found.findings.items()},
            shaft_hz=round(shaft_hz, 4),
        )

    def state(self) -> PointState:
        usual = self.monitor.usual if self.monitor else None
        return PointState(
            self.settings.sensor,
            self.settings.channel,
            self.settings.quantity.value,
            level=_rounded(self.latest.level) or 0.0,
            usual=_rounded(usual.centre if usual else None),
            zone=None if self.zone is None else self.zone.value,
            trouble=self.latest.trouble.value,
            change=self.change,
            faults=tuple(sorted(self.faults)),
            forecast=_forecast(self.forecast),
        )

    def relearn(self) -> None:
        """After a repair."""
        self.memory, self.change, self.forecast = None, "", None
        self.advised.clear()
        if self.monitor is not None:
            self.monitor.relearn()


@dataclass(slots=True)
class Machine:
    """One machine. `told`: the state that others know."""

    id: str
    settings: MachineSettings
    points: list[Point]
    shaft_hz: float = 0.0
    condition: MachineCondition = MachineCondition.UNKNOWN
    told: MachineState | None = None
    told_s: float = -math.inf

    def judge(self) -> MachineCondition:
        """Its condition now. A point whose sensor is in trouble says nothing as long as another one is well."""
        return max((point.condition for point in self.points), key=_RANK.index)

    def reasons(self) -> list[str]:
        return [text for point in self.points for text in point.reasons()]

    def state(self, node_id: str) -> MachineState:
        return MachineState(
            self.settings.name or self.id,
            node_id,
            self.condition,
            tuple(self.reasons()),
            {point.settings.title: point.state() for point in self.points if point.monitor is not None},
        )


@dataclass(frozen=True, slots=True)
class Told:
    """What a window came to, for one machine."""

    machine: Machine
    figures: tuple[MachineFigures, ...] = ()
    before: MachineCondition | None = None  # where the condition has changed
    advice: tuple[MachineAdvice, ...] = ()
    learnt: tuple[Point, ...] = ()  # whose baseline or course is worth keeping


class Plant:
    """All machines of a node."""

    def __init__(self, settings: MaintenanceSettings) -> None:
        self.machines = {
            name: Machine(
                name,
                one,
                [Point(point, one, settings.zones_of(one)) for point in one.points],
                shaft_hz=one.shaft_rpm / 60,
            )
            for name, one in settings.machines.items()
        }
        self._offset_s: float | None = None

    def concerned(self, sensor: str) -> list[Machine]:
        """Machines that a sensor tells something of."""
        return [
            machine
            for machine in self.machines.values()
            if machine.settings.speed == sensor or any(point.settings.sensor == sensor for point in machine.points)
        ]

    def take(self, machine: Machine, window: SampleWindow) -> Told:
        """A window of a sensor that concerns the machine."""
        if self._offset_s is None:  # UTC that goes on with the steady clock, so that a restart does not end a course
            self._offset_s = window.ended_utc_ms / 1000 - window.ended_s
        at_s = window.ended_s + self._offset_s
        if machine.settings.speed == window.sensor:
            self._speed(machine, window)
        figures, learnt = [], []
        for point in machine.points:
            if point.settings.sensor != window.sensor:
                continue
            found = point.take(window, at_s, machine.shaft_hz)
            if found is None or point.monitor is None:
                continue
            if at_s - point.sampled_s >= machine.settings.sample_s or found.notices:
                point.sampled_s = at_s
                figures.append(point.figures(machine.id, machine.shaft_hz))
            if point.monitor.usual is None or point.monitor.windows_total % 10 == 0:
                learnt.append(point)
        advice = [one for point in machine.points for one in point.advice(machine.id)]
        before, machine.condition = machine.condition, machine.judge()
        changed = before if before is not machine.condition else None
        return Told(machine, tuple(figures), changed, tuple(advice), tuple(learnt))

    @staticmethod
    def _speed(machine: Machine, window: SampleWindow) -> None:
        """A speed in revolutions a minute, or in Hz if that is its unit. Unknown while the sensor is in trouble."""
        channel = machine.settings.speed_channel
        signal = window.channels.get(channel)
        if signal is None or channel in window.troubles or np.isnan(signal).all():
            machine.shaft_hz = 0.0
            return
        speed = float(np.nanmedian(signal))
        machine.shaft_hz = max(0.0, speed if window.unit == "Hz" else speed / 60)


def _forecast(found: TimeToLimit | None) -> PointForecast | None:
    if found is None:
        return None
    latest = None if math.isinf(found.latest_s) else round(found.latest_s, 1)
    return PointForecast(round(found.expected_s, 1), round(found.earliest_s, 1), latest)


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def memories(kept: Mapping[str, Memory], plant: Plant) -> None:
    """Gives points back what they had learnt, by `machine/point`."""
    for machine in plant.machines.values():
        for point in machine.points:
            point.memory = kept.get(f"{machine.id}/{point.settings.title}")
