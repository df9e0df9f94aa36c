"""The `[state]` table: how much platform state a node keeps, and how often it leaves."""

from dataclasses import dataclass
from typing import Annotated

from schemas.shape import Limit
from schemas.state import VALUE_BYTES_MAX


@dataclass(frozen=True, slots=True)
class StateSettings:
    """For each collection of each platform."""

    keys_max: Annotated[int, Limit(ge=1, le=1_000_000)] = 10_000  # of a collection; a further key is refused
    value_bytes_max: Annotated[int, Limit(ge=16, le=VALUE_BYTES_MAX)] = 16 * 1024  # as JSON
    min_interval_s: Annotated[float, Limit(ge=0, le=3600)] = 1.0  # between two rows of a key: the newest value leaves
    refresh_s: Annotated[float, Limit(ge=1, le=86_400)] = 60.0  # a value said again unchanged leaves this often
