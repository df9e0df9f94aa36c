"""The records of `manufacturing.edge` that functions take and give, field by field as they are declared."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ProcessingPipeline:
    """How a camera's stream is to be processed. Whatever is left out is as the node's configuration has it."""

    name: str = ""
    model: str | None = None
    confidence_min: float | None = None
    classes: tuple[str, ...] = ()
    fps_max: float | None = None


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
