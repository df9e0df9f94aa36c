"""The `[results]` table: how much of what was found stays at the node, and for how long."""

from dataclasses import dataclass
from typing import Annotated

from schemas.shape import Limit

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ResultsSettings:
    """Ages count the time that the agent is running: a clock that jumps drops nothing."""

    raw_hours: Annotated[float, Limit(ge=0, le=8784)] = 24.0  # 0: frame results are not kept
    raw_short_hours: Annotated[float, Limit(ge=0, le=8784)] = 1.0  # while the disk is short
    aggregate_days: Annotated[float, Limit(ge=0, le=3660)] = 30.0
    aggregate_s: Annotated[float, Limit(ge=1, le=86400)] = 60.0
    bytes_max: Annotated[int, Limit(ge=4 * MIB, lt=2**50)] = 512 * MIB
    disk_free_mb_min: Annotated[float, Limit(ge=0, le=1e9)] = 128.0
