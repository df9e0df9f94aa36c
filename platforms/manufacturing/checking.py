"""What is wrong in `[platforms.manufacturing]`: machines, classes of vibration, lines."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from platforms.checking import Here, not_here, unknown_keys
from platforms.functions import check_settings
from platforms.manufacturing.maintenance.settings import MAINTENANCE_KEYS, MaintenanceSettings
from platforms.manufacturing.production.settings import PRODUCTION_KEYS, ProductionSettings
from schemas.shape import read_what_can_be

T = TypeVar("T", MaintenanceSettings, ProductionSettings)


@check_settings
def check_manufacturing(settings: Mapping[str, Any], here: Here) -> list[str]:
    """Every mistake; that a machine's sensor or a line's camera is there, where the host knows what it has."""
    mistakes = unknown_keys(settings, (*MAINTENANCE_KEYS, *PRODUCTION_KEYS))
    maintenance = _read(MaintenanceSettings, settings, MAINTENANCE_KEYS, mistakes)
    production = _read(ProductionSettings, settings, PRODUCTION_KEYS, mistakes)
    if maintenance is not None:
        mistakes += maintenance.mistakes()
        mistakes += _sensors(maintenance, here)
    if production is not None:
        mistakes += production.mistakes()
        for name, line in production.lines.items():
            if line and line.camera_id:
                mistakes += not_here(f"lines.{name}.camera_id", "camera", line.camera_id, here.cameras)
    return mistakes


def _read(cls: type[T], settings: Mapping[str, Any], keys: tuple[str, ...], mistakes: list[str]) -> T | None:
    found, wrong = read_what_can_be(cls, {key: settings[key] for key in keys if key in settings})
    mistakes += wrong
    return found


def _sensors(settings: MaintenanceSettings, here: Here) -> Iterator[str]:
    for name, machine in settings.machines.items():
        if not machine:
            continue
        for n, point in enumerate(machine.points):
            if point:
                yield from not_here(f"machines.{name}.points[{n}].sensor", "sensor", point.sensor, here.sensors)
        if machine.speed:
            yield from not_here(f"machines.{name}.speed", "sensor", machine.speed, here.sensors)
