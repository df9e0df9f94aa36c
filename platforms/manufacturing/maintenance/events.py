"""The data of the events about machines, field by field as they are declared."""

from dataclasses import dataclass, field

from platforms.manufacturing.types import AdviceReason, PointForecast


@dataclass(frozen=True, slots=True)
class MachineAdvice:
    """`MaintenanceAdvised`."""

    machine_id: str
    point: str
    reason: AdviceReason
    about: str
    level: float
    forecast: PointForecast | None = None


@dataclass(frozen=True, slots=True)
class MachineFigures:
    """`MachineMeasured`: the figures of a window."""

    machine_id: str
    point: str
    quantity: str
    trouble: str = ""
    level: float = 0.0
    rms: float | None = None
    peak: float | None = None
    crest: float | None = None
    kurtosis: float | None = None
    zone: str | None = None
    score: float | None = None
    damage: dict[str, float] = field(default_factory=dict)
    shaft_hz: float = 0.0
