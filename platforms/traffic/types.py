"""The records of `traffic.edge` that functions take and give, field by field as they are declared."""

from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    """Which way an object crossed a line."""

    IN = "in"
    OUT = "out"


class FlowDirection(StrEnum):
    """Into the junction, or out of it, by the same arm."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class LevelOfService(StrEnum):
    """How a driver finds the traffic."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"


class FlowTendency(StrEnum):
    """Whether flow has changed by more than chance does."""

    RISING = "rising"
    STEADY = "steady"
    FALLING = "falling"


@dataclass(frozen=True, slots=True)
class GeoCoordinates:
    """A place on the earth, WGS 84."""

    lat: float
    lon: float
    alt: float | None = None


@dataclass(frozen=True, slots=True)
class Approach:
    """One arm of a junction and what watches it."""

    name: str
    camera_id: str
    line: str
    inbound: Direction = Direction.IN
    lanes: int = 1
    road_segment: str | None = None
    zone: str | None = None
    zone_length_m: float | None = None
    uninterrupted: bool = False
    vehicle_classes: tuple[str, ...] = ("car", "truck", "bus", "motorcycle")
    heavy_classes: tuple[str, ...] = ("truck", "bus")
    gap_after_s: float = 90.0
    intersection_id: str | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class IntersectionSettings:
    """A junction, with the approaches that this node watches."""

    name: str = ""
    location: GeoCoordinates | None = None
    approaches: tuple[Approach, ...] = ()


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """`[platforms.traffic]` of a node's configuration."""

    intersections: dict[str, IntersectionSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IntersectionState:
    """A junction as it is known, to all of its nodes alike."""

    name: str = ""
    location: GeoCoordinates | None = None


@dataclass(frozen=True, slots=True)
class FlowPeak:
    """The busiest part of the window."""

    factor: float
    interval_s: int
    begins: int
    flow_vph: float


@dataclass(frozen=True, slots=True)
class FlowTrend:
    """Against the window of the same length before."""

    flow_before_vph: float
    tendency: FlowTendency
    change: float | None = None


@dataclass(frozen=True, slots=True)
class ApproachFlow:
    """What was counted at one approach. What is unknown is None, never nought."""

    approach: str
    node_id: str
    camera_id: str
    line: str
    vehicles: int
    vehicles_out: int
    coverage: float
    counts: dict[FlowDirection, dict[str, int]] = field(default_factory=dict)
    flow_vph: float | None = None
    heavy_vehicle_share: float | None = None
    headway_mean_s: float | None = None
    peak: FlowPeak | None = None
    occupancy: float | None = None
    vehicles_in_zone: float | None = None
    density_vpkm_lane: float | None = None
    level_of_service: LevelOfService | None = None
    level_of_service_basis: str = ""
    trend: FlowTrend | None = None


@dataclass(frozen=True, slots=True)
class CameraCoverage:
    """How much of the window a camera was heard of."""

    node_id: str
    camera_id: str
    results: int
    coverage: float
    gaps: int
    longest_gap_s: float
    newest_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class FlowQuality:
    """What the analysis rests on."""

    coverage: float
    cameras: tuple[CameraCoverage, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FlowAnalysis:
    """Traffic at a junction in a window of time: all approaches together, and each of them."""

    intersection_id: str
    window_start: int
    window_end: int
    vehicles: int
    vehicles_out: int
    approaches: tuple[ApproachFlow, ...]
    quality: FlowQuality
    counts: dict[FlowDirection, dict[str, int]] = field(default_factory=dict)
    flow_vph: float | None = None
    heavy_vehicle_share: float | None = None
    peak: FlowPeak | None = None
    trend: FlowTrend | None = None
