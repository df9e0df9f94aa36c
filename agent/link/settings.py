"""The `[link]` table: how much of the line the agent takes, and how it is shared."""

from dataclasses import dataclass
from typing import Annotated

from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Rates of 0 are no limit. Life-cycle events and alerts never wait for a rate; what follows them does."""

    live_share: Annotated[float, Limit(ge=0.1, le=0.9)] = 0.7
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    messages_s_max: Annotated[int, Limit(ge=0, lt=2**30)] = 0
    burst_s: Annotated[float, Limit(ge=0.1, le=60)] = 1.0
    answer_target_s: Annotated[float, Limit(ge=0.02, le=10)] = 0.1
