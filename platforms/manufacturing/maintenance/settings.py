"""`[platforms.manufacturing.machines.<name>]`: which sensors tell of which machine, and what is known of it.

[platforms.manufacturing.machines.press1]
name = "Press 1"
vibration_class = "medium_rigid"           # of ISO 20816-3; or zones = { b = 1.4, c = 2.8, d = 4.5 }
shaft_rpm = 1770.0                         # or speed = "rpm1", a sensor that measures it
bearing = { elements = 9, element_diameter = 7.94, pitch_diameter = 39.04 }

[[platforms.manufacturing.machines.press1.points]]
sensor = "vib1"
channel = "x"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from platforms.context import FunctionError
from platforms.manufacturing.maintenance.bearing import Bearing
from platforms.manufacturing.maintenance.monitor import RESTING, Quantity
from platforms.manufacturing.maintenance.severity import CLASSES, Limits
from schemas.shape import Limit, ShapeError, read

DAY_S = 86400.0
MAINTENANCE_KEYS = ("machines", "vibration_classes")
UNITS: Mapping[Quantity, Mapping[str, float]] = {
    Quantity.ACCELERATION: {"m/s2": 1.0, "m/s²": 1.0, "g": 9.80665},
    Quantity.VELOCITY: {"mm/s": 1.0, "m/s": 1000.0, "in/s": 25.4},
    Quantity.CURRENT: {"A": 1.0, "mA": 0.001},
    Quantity.TEMPERATURE: {"C": 1.0, "°C": 1.0, "degC": 1.0},
}
"""What a sensor's unit is worth in the unit that is reckoned in, which is the first. No unit: it is that one."""


@dataclass(frozen=True, slots=True)
class PointSettings:
    """A channel of a sensor on the machine. `name`: the sensor's and channel's where it has none. `limit`: of the
    level of a current or temperature. `bearing`: the one beside the sensor, where it is not the machine's."""

    sensor: str
    channel: str = "value"
    name: str = ""
    quantity: Quantity = Quantity.ACCELERATION
    limit: float | None = None
    bearing: Bearing | None = None

    @property
    def title(self) -> str:
        return self.name or f"{self.sensor}.{self.channel}"


@dataclass(frozen=True, slots=True)
class MachineSettings:
    """A machine. `vibration_class`: one of ISO 20816-3 or of `[platforms.manufacturing.vibration_classes]`."""

    points: Annotated[tuple[PointSettings, ...], Limit(len_min=1, len_max=32)]
    name: str = ""
    vibration_class: str = ""
    zones: Limits | None = None
    shaft_rpm: Annotated[float, Limit(ge=0, le=1_000_000)] = 0.0
    speed: str = ""
    speed_channel: str = "value"
    bearing: Bearing | None = None
    learn_windows: Annotated[int, Limit(ge=5, le=500)] = 50
    sample_s: Annotated[float, Limit(ge=0, le=86400)] = 10.0
    advise_ahead_s: Annotated[float, Limit(ge=0, le=3650 * DAY_S)] = 14 * DAY_S


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """The keys of `[platforms.manufacturing]` that are about machines."""

    machines: Annotated[dict[str, MachineSettings], Limit(len_max=256)] = field(default_factory=dict)
    vibration_classes: dict[str, Limits] = field(default_factory=dict)

    def zones_of(self, machine: MachineSettings) -> Limits | None:
        if machine.zones is not None or not machine.vibration_class:
            return machine.zones
        return {**CLASSES, **self.vibration_classes}.get(machine.vibration_class)

    def mistakes(self) -> list[str]:
        """What the shape alone does not show."""
        found = []
        classes = {**CLASSES, **self.vibration_classes}
        for name, limits in self.vibration_classes.items():
            found += [f"vibration_classes.{name}.{text}" for text in (limits.mistakes() if limits else ())]
        for name, machine in self.machines.items():
            if not machine:  # too wrong to be read, which is told
                continue
            where = f"machines.{name}"
            if machine.vibration_class and machine.vibration_class not in classes:
                known = ", ".join(classes)
                found.append(f"{where}.vibration_class: there is no {machine.vibration_class!r} ({known})")
            if machine.zones is not None:
                found += [f"{where}.{text}" for text in machine.zones.mistakes()]
            points = [(n, point) for n, point in enumerate(machine.points) if point]
            titles = [point.title for _, point in points]
            found += [
                f"{where}.points: {one!r} is there twice"
                for one in sorted({t for t in titles if titles.count(t) > 1})
            ]
            for n, point in points:
                if point.limit is not None and point.quantity not in RESTING:
                    found.append(f"{where}.points[{n}].limit: vibration goes by the machine's zones")
                found += [f"{where}.points[{n}].bearing.{text}" for text in (point.bearing or _NO_BEARING).mistakes()]
            found += [f"{where}.bearing.{text}" for text in (machine.bearing or _NO_BEARING).mistakes()]
        return found


_NO_BEARING = Bearing(9, 1.0, 5.0)


def read_maintenance(settings: Mapping[str, Any]) -> MaintenanceSettings:
    """Raises FunctionError with every mistake."""
    mine = {key: settings[key] for key in MAINTENANCE_KEYS if key in settings}
    try:
        found = read(MaintenanceSettings, mine, strict=True)
    except ShapeError as error:
        raise FunctionError("bad_settings", f"[platforms.manufacturing]: {error}") from error
    if mistakes := found.mistakes():
        raise FunctionError("bad_settings", f"[platforms.manufacturing]: {'; '.join(mistakes)}")
    return found


def factor_of(quantity: Quantity, unit: str) -> float | None:
    """None for a unit that this quantity has not."""
    return UNITS[quantity].get(unit) if unit else 1.0
