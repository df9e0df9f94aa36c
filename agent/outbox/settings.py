"""The `[outbox]` table: how much may wait at the edge, and which lanes survive a power cut."""

import enum
from dataclasses import dataclass, field
from typing import Annotated

from schemas.identity import Lane
from schemas.shape import Limit

MIB = 1024 * 1024
ROW_BYTES_BESIDE = 64  # what a row takes in the file beside its payload, roughly: counted against every cap
UNLIMITED = 0

Cap = Annotated[int, Limit(ge=0, lt=2**50)]


class Durability(enum.Enum):
    """What a committed row survives."""

    PROCESS = "process"  # the end of the agent by any means; a power cut may take the last moments
    POWER = "power"  # a power cut too: on the disk before the row counts as committed, one fsync for each group


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """The caps of one lane; 0 is no cap of its own. Age is time that the agent was running, over all its starts."""

    rows_max: Cap = UNLIMITED
    bytes_max: Cap = UNLIMITED
    age_max_s: Cap = UNLIMITED
    durability: Durability = Durability.PROCESS


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """`bytes_max` bounds everything that waits; the last `reserve_bytes` of it only life-cycle and alerts may use."""

    bytes_max: Annotated[int, Limit(ge=MIB, lt=2**50)] = 1024 * MIB
    reserve_bytes: Annotated[int, Limit(ge=0, lt=2**50)] = 64 * MIB
    ballast_bytes: Annotated[int, Limit(ge=0, le=1024 * MIB)] = 8 * MIB
    quarantine_bytes_max: Annotated[int, Limit(ge=64 * 1024, lt=2**50)] = 64 * MIB
    lifecycle: LaneSettings = field(
        default_factory=lambda: LaneSettings(rows_max=100_000, durability=Durability.POWER)
    )
    alert: LaneSettings = field(default_factory=lambda: LaneSettings(rows_max=500_000, durability=Durability.POWER))
    event: LaneSettings = field(default_factory=LaneSettings)
    state: LaneSettings = field(default_factory=LaneSettings)
    sample: LaneSettings = field(default_factory=LaneSettings)
    evidence: LaneSettings = field(default_factory=LaneSettings)

    def lane(self, lane: Lane) -> LaneSettings:
        """The settings of one lane."""
        found: LaneSettings = getattr(self, lane.value)
        return found


def outbox_mistakes(settings: OutboxSettings) -> list[str]:
    """What does not fit together, each as `key: what`."""
    if settings.reserve_bytes >= settings.bytes_max:
        return [f"outbox.reserve_bytes: {settings.reserve_bytes} leaves nothing of bytes_max {settings.bytes_max}"]
    return []
