"""The records of `retail.edge` that functions take and give, field by field as they are declared."""

from dataclasses import dataclass, field
from enum import StrEnum


class Direction(StrEnum):
    """Which way an object crossed a line."""

    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` up to, and without, `end`; UTC milliseconds."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Entrance:
    """A line of a camera's pipeline that everybody crosses who comes in or goes out, and nobody else."""

    camera_id: str
    line: str
    inward: Direction = Direction.IN
    customer_classes: tuple[str, ...] = ("person",)
    staff_classes: tuple[str, ...] = ()
    turn_back_s: float = 10.0
    gap_after_s: float = 90.0
    store_id: str | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """A shop in which the node stands."""

    name: str = ""
    entrances: tuple[Entrance, ...] = ()


@dataclass(frozen=True, slots=True)
class RetailSettings:
    """`[platforms.retail]` of a node's configuration."""

    stores: dict[str, StoreSettings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera, by the name that its node gives it. What is left out is as the node's settings have it."""

    camera_id: str
    node_id: str | None = None
    line: str | None = None
    inward: Direction | None = None


@dataclass(frozen=True, slots=True)
class CustomerCount:
    """What was counted at an entrance in an interval, or at all of them together (`camera_id` is empty then)."""

    interval_start: int
    interval_end: int
    entered: int
    left: int
    coverage: float
    camera_id: str = ""
    node_id: str | None = None
    line: str | None = None
    turned_back: int = 0
    staff_entered: int = 0
    staff_left: int = 0
    occupancy: int | None = None
    occupancy_peak: int | None = None
    unexplained_exits: int | None = None
