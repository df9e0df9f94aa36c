"""What the steps in force mean for each pipeline, by its priority and where it runs."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum

from agent.degrade.policy import Step


class Priority(StrEnum):
    """How long a pipeline goes on when the machine is short of something."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"  # never paused


_ORDER = list(Priority)


@dataclass(frozen=True, slots=True)
class Standing:
    """What matters about a pipeline here."""

    priority: Priority = Priority.NORMAL
    accelerated: bool = False  # runs on something else than the CPU now


@dataclass(frozen=True, slots=True)
class Pace:
    """How many of its camera's frames a pipeline takes: each `divisor`-th, or none."""

    divisor: int = 1
    paused: bool = False


def paces(steps: AbstractSet[Step], pipelines: Mapping[str, Standing]) -> dict[str, Pace]:
    """The pace of each pipeline."""
    rank = {name: _ORDER.index(pipeline.priority) for name, pipeline in pipelines.items()}
    lowest = min(rank.values(), default=0)
    is_alone = len(set(rank.values())) < 2  # nothing is gained for others by pausing all
    found = {}
    for name, pipeline in pipelines.items():
        is_lowest = rank[name] == lowest and pipeline.priority is not Priority.CRITICAL
        halved = (is_lowest and Step.HALF_RATE_LOWEST in steps) or Step.HALF_RATE_ALL in steps
        paused = (is_lowest and not is_alone and Step.PAUSE_LOWEST in steps) or (
            pipeline.accelerated and pipeline.priority is not Priority.CRITICAL and Step.PAUSE_ACCELERATED in steps
        )
        found[name] = Pace(2 if halved else 1, paused)
    return found
