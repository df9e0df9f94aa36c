"""The arguments of the functions of roll-outs; those of `startRollout` are a `Plan`."""

from dataclasses import dataclass
from typing import Annotated

from schemas.shape import Limit

NODES_TOLD_MAX = 1000  # in one answer of `rolloutStatus`


@dataclass(frozen=True, slots=True)
class OfRollout:
    """The arguments of `pauseRollout` and `resumeRollout`."""

    id: str
    source: Annotated[str, Limit(len_max=200)] = ""


@dataclass(frozen=True, slots=True)
class AbortOf:
    """The arguments of `abortRollout`."""

    id: str
    roll_back: bool = False
    source: Annotated[str, Limit(len_max=200)] = ""


@dataclass(frozen=True, slots=True)
class StatusOf:
    """The arguments of `rolloutStatus`; without an id all are told, without their nodes."""

    id: str = ""
    nodes: bool = False
    state: str = ""  # only the nodes in it
    limit: Annotated[int, Limit(ge=1, le=NODES_TOLD_MAX)] = NODES_TOLD_MAX
