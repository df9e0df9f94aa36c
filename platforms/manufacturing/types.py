"""The records of `manufacturing.edge` that functions take and give, field by field as they are declared."""

from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ProcessingPipeline:
    """How a camera's stream is to be processed. Whatever is left out is as the node's configuration has it."""

    name: str = ""
    model: str | None = None
    confidence_min: float | None = None
    classes: tuple[str, ...] = ()
    fps_max: float | None = None


@dataclass(frozen=True, slots=True)
class StreamResult:
    """A stream that is processed: what state it is in and how it performs."""

    camera_id: str
    pipeline: str
    state: str
    engine: str = ""
    frames: int = 0
    frames_dropped: int = 0
    detections: int = 0
    fps: float = 0.0
    infer_ms_p50: float = 0.0
    infer_ms_p99: float = 0.0
    decide_ms_p99: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    error: str = ""


# ---- maintenance ---------------------------------------------------------------------------------


class MachineCondition(StrEnum):
    """How a machine is; the worst of its points."""

    UNKNOWN = "unknown"
    LEARNING = "learning"
    GOOD = "good"
    WATCH = "watch"
    WARNING = "warning"
    CRITICAL = "critical"


class AdviceReason(StrEnum):
    """Why maintenance is advised."""

    DAMAGE = "damage"
    ZONE = "zone"
    LIMIT = "limit"
    CHANGE = "change"
    FORECAST = "forecast"


@dataclass(frozen=True, slots=True)
class PointForecast:
    """When a level reaches its next limit, if it goes on like this, with the bounds of 95 %."""

    expected_s: float
    earliest_s: float
    latest_s: float | None = None


@dataclass(frozen=True, slots=True)
class PointState:
    """What a sensor on a machine says."""

    sensor: str
    channel: str
    quantity: str
    level: float = 0.0
    usual: float | None = None
    zone: str | None = None
    trouble: str = ""
    change: str = ""
    faults: tuple[str, ...] = ()
    forecast: PointForecast | None = None


@dataclass(frozen=True, slots=True)
class MachineState:
    """A machine as its node knows it."""

    name: str
    node_id: str
    condition: MachineCondition = MachineCondition.UNKNOWN
    reasons: tuple[str, ...] = ()
    points: dict[str, PointState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MachineBaseline:
    """What is usual at a point, and what it was learnt from; `course`: seconds and level by turns."""

    centre: float | None = None
    spread: float | None = None
    windows: int = 0
    values: tuple[float, ...] = ()
    course: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class MachineReport:
    """A machine, as `machineCondition` answers."""

    machine_id: str
    state: MachineState
    age_s: float = 0.0
