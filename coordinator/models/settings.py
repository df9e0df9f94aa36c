"""The `[models]` table of the coordinator."""

from dataclasses import dataclass
from typing import Annotated

from coordinator.evidence.settings import BackendKind
from schemas.shape import Limit


@dataclass(frozen=True, slots=True)
class ModelsTable:
    """How models are given out. Rates in bytes a second; 0 is no limit."""

    backend: BackendKind = BackendKind.DISK
    http_port: Annotated[int, Limit(ge=0, le=65535)] = 0  # 0: no HTTP
    http_host: Annotated[str, Limit(len_min=1, len_max=255)] = "127.0.0.1"
    connections_max: Annotated[int, Limit(ge=1, le=10_000)] = 256
    connections_client_max: Annotated[int, Limit(ge=1, le=10_000)] = 8
    bytes_s_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    bytes_s_client_max: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    stall_s: Annotated[float, Limit(ge=1, le=600)] = 30.0
