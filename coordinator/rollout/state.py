"""What is true of a roll-out, and of each of its nodes; what it is told, and what it asks for. Values only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any


class State(StrEnum):
    """What is true of a roll-out in that state."""

    PENDING = "pending"  # declared; nobody was told
    RUNNING = "running"  # nodes of the wave are told, and answer
    BAKING = "baking"  # the wave is told; nobody more is, for a while
    PAUSED = "paused"  # nobody is told; those under way are still followed
    COMPLETED = "completed"  # all that are there were told; nodes that come back, or join, still are
    ABORTED = "aborted"  # over; what was changed stays
    ROLLING_BACK = "rolling_back"  # former values are put back
    ROLLED_BACK = "rolled_back"  # over; what was changed has its former values


OVER = frozenset({State.ABORTED, State.ROLLED_BACK})
UNDER_CONTROL = frozenset({State.PENDING, State.RUNNING, State.BAKING, State.PAUSED, State.ROLLING_BACK})
"""Neither over nor completed: another one may not write the same fields of the same nodes."""


class NodeState(StrEnum):
    """What is true of a node of a roll-out."""

    WAITING = "waiting"  # not told: its turn has not come, or it is away
    TOLD = "told"  # its desired document has the fields
    ACCEPTED = "accepted"  # the node has that document
    VERIFIED = "verified"  # and the fields hold there
    FAILED = "failed"  # it refused a field, or could not be verified in time
    SILENT = "silent"  # no answer in time
    EXCLUDED = "excluded"  # not told and never to be: it is gone, or belongs to a later roll-out
    ROLLED_BACK = "rolled_back"  # its desired document has the former values again
    KEPT = "kept"  # not rolled back: another hand has changed the fields since


UNDER_WAY = frozenset({NodeState.TOLD, NodeState.ACCEPTED})
BAD = frozenset({NodeState.FAILED, NodeState.SILENT})
SETTLED = BAD | {NodeState.VERIFIED}
TOLD_ONCE = UNDER_WAY | SETTLED


class Presence(Enum):
    """Where a node is, as the fleet has it."""

    HERE = "here"
    AWAY = "away"
    GONE = "gone"  # not registered


@dataclass(frozen=True, slots=True)
class Run:
    """All that is kept of a roll-out beside its plan and its nodes."""

    state: State = State.PENDING
    wave: int = 0  # counts from 0
    since_utc_ms: int = 0  # in this state
    reason: str = ""
    forgiven: int = 0  # failures that somebody has seen and resumed over
    forgiven_of: int = 0  # nodes that had settled then


@dataclass(frozen=True, slots=True)
class NodeRun:
    """All that is kept of a node of a roll-out. `changed`: there is something to put back."""

    name: str
    state: NodeState = NodeState.WAITING
    wave: int = 0
    epoch: int = 0  # of the document it was told
    revision: int = 0
    hash: str = ""
    changed: bool = False
    at_utc_ms: int = 0  # in this state
    reason: str = ""


# ---- what an engine is told --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """The node's document has the fields now. `changed`: it did not have them before."""

    node: str
    epoch: int
    revision: int
    hash: str
    changed: bool = True


@dataclass(frozen=True, slots=True)
class NotTold:
    """Its document cannot be changed so, or must not be (`excluded`)."""

    node: str
    reason: str
    excluded: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """The former values are back, or were `kept` from coming back by another hand's."""

    node: str
    kept: str = ""  # why not


@dataclass(frozen=True, slots=True)
class Reported:
    """A node's report."""

    node: str
    epoch: int
    revision: int
    holds: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's heartbeat. `ill`: which pipeline does not run, and why; "" for none."""

    node: str
    desired_hash: str = ""
    ill: str = ""


@dataclass(frozen=True, slots=True)
class Joined:
    """A node is selected, and was not before."""

    node: str


@dataclass(frozen=True, slots=True)
class Back:
    """A node is there again."""

    node: str


News = Told | NotTold | Restored | Reported | Beat | Joined | Back


# ---- what an engine asks for -------------------------------------------------------------------


@dataclass(slots=True)
class Step:
    """To be carried out as a whole, durably; what came of `tell` and `restore` is the news of the next step."""

    tell: list[str] = field(default_factory=list)
    restore: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    run: Run | None = None  # where it changed
    nodes: dict[str, NodeRun] = field(default_factory=dict)  # those that changed
    wake_utc_ms: int | None = None  # nothing changes by time alone before

    @property
    def is_empty(self) -> bool:
        """Nothing to be done, but perhaps to wait."""
        return not (self.tell or self.restore or self.events or self.run or self.nodes)
