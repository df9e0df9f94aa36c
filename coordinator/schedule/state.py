"""What is true of workloads and of their replicas; what the scheduler is told, and what it asks for. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from coordinator.fleet.node import Node
from coordinator.schedule.workload import Workload
from schemas.messages import Heartbeat
from schemas.workloads import WorkloadReport


class Phase(StrEnum):
    """What is true of a replica; one that has no place yet is `pending`, and is no placement."""

    DEPLOYING = "deploying"  # its node was told, and does not run it yet
    RUNNING = "running"
    FAILED = "failed"  # and stays so: its restart policy is `never`
    STOPPED = "stopped"  # it has ended as it should


@dataclass(frozen=True, slots=True)
class Kept:
    """All that is kept of a workload. `other`: while it is updated what it is to be, afterwards what it was."""

    workload: Workload
    generation: int  # of its spec; grows over all workloads of a fleet
    replicas: int  # that are wanted now, or EVERYWHERE
    declared_utc_ms: int = 0
    rollout: str = ""  # the last one that brought a spec to its nodes
    updating: bool = False  # it is not over
    other: Workload | None = None
    other_generation: int = 0
    failures: int = 0  # one after another, wherever
    failed_utc_ms: int = 0
    missing: int = 0  # replicas without a place
    reason: str = ""  # why
    scaled_utc_ms: int = 0
    removed: bool = False  # as soon as it runs nowhere

    @property
    def name(self) -> str:
        return self.workload.name


@dataclass(frozen=True, slots=True)
class Placement:
    """A replica on its node. `epoch` and `revision` are those of the document that told the node."""

    workload: str
    node: str
    generation: int
    epoch: int = 0
    revision: int = 0
    phase: Phase = Phase.DEPLOYING
    reason: str = ""
    restarts: int = 0
    placed_utc_ms: int = 0
    since_utc_ms: int = 0  # in this phase
    leaving: str = ""  # why it goes, once another one runs
    home: str = ""  # where it goes back to


@dataclass(frozen=True, slots=True)
class Drain:
    """A node that gets nothing new, and whose replicas go elsewhere."""

    node: str
    since_utc_ms: int
    until_utc_ms: int = 0  # 0: until somebody says so
    reason: str = ""
    source: str = ""
    moved: int = 0
    done: bool = False  # nothing is there any more, and that was told


@dataclass(frozen=True, slots=True)
class Avoided:
    """A node where a workload failed."""

    workload: str
    node: str
    until_utc_ms: int
    failures: int
    reason: str


# ---- what a scheduler is told ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Changed:
    """A node is another now, or (None) not registered any more."""

    name: str
    node: Node | None


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's heartbeat."""

    node: str
    heartbeat: Heartbeat


@dataclass(frozen=True, slots=True)
class Said:
    """A node's report: what it says of each workload, and which it refuses."""

    node: str
    epoch: int
    revision: int
    states: Mapping[str, WorkloadReport] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """What was asked for at a node is durable, in this revision of its document."""

    node: str
    epoch: int
    revision: int


@dataclass(frozen=True, slots=True)
class NotWritten:
    """Nothing of it is: the document cannot be changed so."""

    node: str
    reason: str


@dataclass(frozen=True, slots=True)
class UpdateOver:
    """The roll-out of a spec has ended, or was rolled back later. `reached`: revision of each node that has it."""

    rollout: str
    completed: bool
    rolled_back: bool
    reached: Mapping[str, tuple[int, int]] = field(default_factory=dict)


News = Changed | Beat | Said | Written | NotWritten | UpdateOver


# ---- what it asks for --------------------------------------------------------------------------

Told = tuple[str, dict[str, Any]]
"""An event: its type and its data."""


@dataclass(slots=True)
class NodeChange:
    """All that changes at one node, in one revision of its document. The events are told if that can be done."""

    node: str
    is_gone: bool = False  # it has no document any more
    placed: dict[str, Placement] = field(default_factory=dict)
    specs: dict[str, dict[str, Any]] = field(default_factory=dict)
    former: dict[str, Placement] = field(default_factory=dict)  # of those placed: what is renewed
    taken: dict[str, Placement] = field(default_factory=dict)
    why: dict[str, str] = field(default_factory=dict)
    events: list[Told] = field(default_factory=list)


@dataclass(slots=True)
class Step:
    """To be carried out as a whole, durably; Written and NotWritten are the news of the next one."""

    nodes: dict[str, NodeChange] = field(default_factory=dict)
    placements: dict[tuple[str, str], Placement] = field(default_factory=dict)  # that changed where they are
    workloads: dict[str, Kept] = field(default_factory=dict)
    forgotten: list[str] = field(default_factory=list)  # workloads
    drains: dict[str, Drain] = field(default_factory=dict)
    undrained: list[str] = field(default_factory=list)
    avoided: dict[tuple[str, str], Avoided] = field(default_factory=dict)
    forgiven: list[tuple[str, str]] = field(default_factory=list)  # avoided no longer
    generations: int | None = None  # given so far
    events: list[Told] = field(default_factory=list)
    wake_utc_ms: int | None = None

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, name) for name in self.__slots__ if name not in ("wake_utc_ms", "generations"))
