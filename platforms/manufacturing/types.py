"""The records of `manufacturing.edge` that functions take and give, field by field as they are declared."""

from dataclasses import dataclass, field
from enum import StrEnum

from schemas.sync import TimeWindow


@dataclass(frozen=True, slots=True)
class ProcessingPipeline:
    """How a camera's stream is to be processed. Whatever is left out is as the node's configuration has it."""

    name: str = ""
    model: str | None = None
    confidence_min: float | None = None
    classes: tuple[str, ...] = ()
    fps_max: float | None = None
    version: int | None = None


@dataclass(frozen=True, slots=True)
class InspectionResult:
    """The verdict of a part that a call has asked for."""

    camera_id: str
    station: str
    verdict: str
    part: int = 0
    part_id: str = ""
    serial: str = ""
    reasons: tuple[str, ...] = ()
    defects: int = 0


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
    version: int = 0


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


# ---- production ----------------------------------------------------------------------------------


class PartSource(StrEnum):
    """Where a line's parts are counted."""

    INSPECTIONS = "inspections"
    CROSSINGS = "crossings"


class ChartKind(StrEnum):
    """What a control chart plots."""

    P = "p"
    U = "u"
    XBAR_R = "xbar_r"


class LineState(StrEnum):
    """What is true of a line."""

    RUNNING = "running"
    STOPPED = "stopped"
    BREAK = "break"


class Direction(StrEnum):
    """Which way an object crossed a line."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class ChartSettings:
    """A control chart of a line."""

    kind: ChartKind = ChartKind.P
    sample: int = 50
    learn: int = 20
    field: str = ""


@dataclass(frozen=True, slots=True)
class ProductionLine:
    """A line and how its parts are counted."""

    ideal_cycle_s: float
    name: str = ""
    source: PartSource = PartSource.INSPECTIONS
    camera_id: str = ""
    inspected: str = "PartInspected"
    crossing: str = ""
    direction: Direction = Direction.IN
    classes: tuple[str, ...] = ()
    product: str = ""
    demand_per_h: float = 0.0
    stop_after: float = 5.0
    minor_s: float = 300.0
    gap_after_s: float = 90.0
    sample_s: float = 60.0
    figures_s: float = 3600.0
    timezone: str = ""
    shifts: tuple[TimeWindow, ...] = ()
    breaks: tuple[TimeWindow, ...] = ()
    charts: tuple[ChartSettings, ...] = ()
    node_id: str = ""


@dataclass(frozen=True, slots=True)
class LinePlan:
    """What was said of a line since its configuration; what is null is as configured."""

    product: str | None = None
    ideal_cycle_s: float | None = None
    demand_per_h: float | None = None
    shifts: tuple[TimeWindow, ...] | None = None
    breaks: tuple[TimeWindow, ...] | None = None
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class StopShare:
    """Unplanned stops of one reason."""

    reason: str
    count: int
    stopped_s: float


@dataclass(frozen=True, slots=True)
class DefectShare:
    """A line of the Pareto chart."""

    defect: str
    count: int
    share: float
    cumulative: float


@dataclass(frozen=True, slots=True)
class LineReport:
    """The figures of a line over a window."""

    line_id: str
    node_id: str
    window_start: int
    window_end: int
    state: LineState
    product: str = ""
    parts: int = 0
    good: int = 0
    rework: int = 0
    unsure: int = 0
    first_pass_yield: float | None = None
    availability: float | None = None
    performance: float | None = None
    quality: float | None = None
    oee: float | None = None
    planned_s: float = 0.0
    stopped_s: float = 0.0
    ideal_cycle_s: float = 0.0
    cycle_s_p50: float | None = None
    cycle_s_p95: float | None = None
    takt_s: float | None = None
    stops: tuple[StopShare, ...] = ()
    pareto: tuple[DefectShare, ...] = ()
    observed: float = 0.0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """A point of a control chart, and the Western Electric rules that it breaks."""

    at: int
    value: float
    rules: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ControlChart:
    """A control chart; without limits while they are learnt."""

    name: str
    kind: ChartKind
    centre: float | None = None
    low: float | None = None
    high: float | None = None
    points: tuple[ChartPoint, ...] = ()


@dataclass(frozen=True, slots=True)
class StopExplanation:
    """What was said of a stop."""

    line_id: str
    at: int
    reason: str
    planned: bool = False
    by: str = ""
