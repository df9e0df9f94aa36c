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
    NOTIFIED = "notified"  # its desired document says what it is to fetch
    FETCHING = "fetching"  # it has that document, and fetches
    READY = "ready"  # what it needs is on its disk; its turn has not come
    TOLD = "told"  # its desired document has the fields
    ACCEPTED = "accepted"  # the node has that document
    VERIFIED = "verified"  # and the fields hold there
    FAILED = "failed"  # it refused a field, or could not be verified in time
    SILENT = "silent"  # no answer in time
    UNSTEADY = "unsteady"  # no answer in time, and it flaps or is in maintenance: that counts only afterwards
    EXCLUDED = "excluded"  # not told and never to be: it is gone, cannot run it, or belongs to a later roll-out
    ROLLED_BACK = "rolled_back"  # its desired document has the former values again
    KEPT = "kept"  # not rolled back: another hand has changed the fields since


FETCHES = frozenset({NodeState.NOTIFIED, NodeState.FETCHING})
UNDER_WAY = frozenset({NodeState.TOLD, NodeState.ACCEPTED})
BAD = frozenset({NodeState.FAILED, NodeState.SILENT})
SETTLED = BAD | {NodeState.VERIFIED}
FOLLOWED = FETCHES | UNDER_WAY | SETTLED | {NodeState.READY, NodeState.UNSTEADY}
"""Its document was changed: what it says may count, and there may be something to put back."""


class Presence(Enum):
    """Where a node is, as the fleet has it."""

    HERE = "here"
    AWAY = "away"  # or in maintenance
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
    forgiven_fetches: int = 0  # the same of nodes that could not fetch


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
    told: bool = False  # of the change itself: what becomes of it counts for the wave
    pending: bool = False  # it has said that it is still working on a field
    own: Mapping[str, Any] = field(default_factory=dict)  # its fields beside those of the plan; None: unset
    p99_ms: Mapping[str, float] = field(default_factory=dict)  # by pipeline before the change, where it is wanted


# ---- what an engine is told --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """The node's document has the fields now. `changed`: it did not have them before."""

    node: str
    epoch: int
    revision: int
    hash: str
    changed: bool = True
    p99_ms: Mapping[str, float] = field(default_factory=dict)  # by pipeline before, where the plan asks for it


@dataclass(frozen=True, slots=True)
class Notified:
    """The node's document says what it is to fetch."""

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
    fetch: bool = False  # of what it is to fetch


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
    pending: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Beat:
    """A node's heartbeat. `ill`: which pipeline does not run, and why, or "". `p99_ms`: inference by pipeline."""

    node: str
    desired_hash: str = ""
    ill: str = ""
    p99_ms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Joined:
    """A node is selected, and was not before. `excluded`: why it cannot take part."""

    node: str
    own: Mapping[str, Any] = field(default_factory=dict)
    excluded: str = ""


@dataclass(frozen=True, slots=True)
class Back:
    """A node is there again."""

    node: str


News = Told | Notified | NotTold | Restored | Reported | Beat | Joined | Back


# ---- what an engine asks for -------------------------------------------------------------------


@dataclass(slots=True)
class Step:
    """To be carried out as a whole, durably; what came of `fetch`, `tell`, `restore` is the news of the next step."""

    fetch: list[str] = field(default_factory=list)  # to be told what to fetch
    tell: list[str] = field(default_factory=list)
    restore: list[str] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    wave: int = 0  # of those that are told
    run: Run | None = None  # where it changed
    nodes: dict[str, NodeRun] = field(default_factory=dict)  # those that changed
    wake_utc_ms: int | None = None  # nothing changes by time alone before

    @property
    def is_empty(self) -> bool:
        """Nothing to be done, but perhaps to wait."""
        return not (self.fetch or self.tell or self.restore or self.events or self.run or self.nodes)
