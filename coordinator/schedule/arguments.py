"""The arguments of the coordinator's functions about workloads, beside `Workload` itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from coordinator.schedule.workload import DAY_S, REPLICAS_MAX, Workload, read_workload
from runtime.calls.errors import CallRejectedError
from schemas.shape import Limit, ShapeError

Text = Annotated[str, Limit(len_max=200)]


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """The arguments of `scaleWorkload`."""

    name: str
    replicas: Annotated[int, Limit(ge=0, le=REPLICAS_MAX)]
    source: Text = ""


@dataclass(frozen=True, slots=True)
class OfWorkload:
    """The arguments of `removeWorkload`."""

    name: str
    source: Text = ""


@dataclass(frozen=True, slots=True)
class WorkloadStatusOf:
    """The arguments of `workloadStatus`. Without a name: all workloads."""

    name: str = ""
    nodes: bool = False
    limit: Annotated[int, Limit(ge=1, le=1000)] = 1000


@dataclass(frozen=True, slots=True)
class WhyOf:
    """The arguments of `whyWorkload`. Without a node: the commonest reasons of all."""

    name: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class DrainNode:
    """The arguments of `drainNode`. Without `for_s`: until `undrainNode`."""

    node: str
    for_s: Annotated[float, Limit(ge=1, le=30 * DAY_S)] | None = None
    reason: Text = ""
    source: Text = ""


@dataclass(frozen=True, slots=True)
class UndrainNode:
    """The arguments of `undrainNode`."""

    node: str
    source: Text = ""


def parse_workload_call(raw: Mapping[str, Any]) -> Workload:
    """Raises CallRejectedError with every mistake."""
    try:
        return read_workload(raw)
    except ShapeError as error:
        field = error.mistakes[0].partition(":")[0] if ":" in error.mistakes[0] else ""
        raise CallRejectedError("bad_arguments", str(error), field) from error
