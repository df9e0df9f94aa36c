"""A node as the coordinator knows it, and what can happen to it: values and one table. Pure."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from coordinator.fleet.flapping import Flap
from coordinator.fleet.twins import Seen
from schemas.messages import Birth
from schemas.values import quick_maker

NODES_MAX = 200_000
RECOUNT_AFTER_MS = 60_000
NOWHERE = -1


class FleetFullError(Exception):
    """No further node is registered."""


class NodeState(enum.Enum):
    """What is true of a node in that state."""

    ONLINE = "online"
    DRAINING = "draining"  # it said that it is stopping
    SUSPECT = "suspect"  # its will arrived, or heartbeats stay away: it may be back in a moment
    OFFLINE = "offline"


class Word(enum.IntEnum):
    """The last thing said of a session; later words overrule earlier ones in whatever order they arrive."""

    ALIVE = 0
    DRAINING = 1
    WILL = 2
    GOODBYE = 3


class Signal(enum.Enum):
    """What can happen to a node."""

    ALIVE = "alive"
    DRAINING = "draining"
    WILL = "will"
    GOODBYE = "goodbye"
    SILENT = "silent"
    HOLD_OVER = "hold over"


SAYS = {
    Word.ALIVE: Signal.ALIVE,
    Word.DRAINING: Signal.DRAINING,
    Word.WILL: Signal.WILL,
    Word.GOODBYE: Signal.GOODBYE,
}

_ONLINE, _DRAINING, _SUSPECT, _OFFLINE = NodeState
TRANSITIONS: dict[NodeState, dict[Signal, NodeState]] = {
    _ONLINE: {
        Signal.DRAINING: _DRAINING,
        Signal.WILL: _SUSPECT,
        Signal.SILENT: _SUSPECT,
        Signal.GOODBYE: _OFFLINE,
    },
    _DRAINING: {
        Signal.ALIVE: _ONLINE,
        Signal.WILL: _SUSPECT,
        Signal.SILENT: _SUSPECT,
        Signal.GOODBYE: _OFFLINE,
    },
    _SUSPECT: {
        Signal.ALIVE: _ONLINE,
        Signal.DRAINING: _DRAINING,
        Signal.HOLD_OVER: _OFFLINE,
        Signal.GOODBYE: _OFFLINE,
    },
    _OFFLINE: {
        Signal.ALIVE: _ONLINE,
        Signal.DRAINING: _DRAINING,
    },
}
"""From a state by a signal to a state; what is absent changes nothing."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, on a clock that never jumps and on the calendar's."""

    steady_ms: int
    utc_ms: int


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """When silence means something."""

    heartbeat_ms: int = 15_000
    missed_max: int = 3
    hold_ms: int = 3_000

    @property
    def silent_after_ms(self) -> int:
        """A tenth more: heartbeats are jittered."""
        return self.heartbeat_ms * self.missed_max * 11 // 10


class Condition(enum.Enum):
    """How a node that is there is doing, as its newest heartbeat says."""

    FINE = ""
    BUSY = "busy"  # its processor has hardly anything left
    ERROR = "error"  # a camera or an engine fails


class Shown(enum.Enum):
    """What operators see: one word for liveness, condition and maintenance together."""

    ONLINE = "online"
    BUSY = "busy"
    ERROR = "error"
    DRAINING = "draining"
    SUSPECT = "suspect"
    OFFLINE = "offline"
    MAINTENANCE = "maintenance"  # somebody works on it, whatever else it is


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two agents that have this name, when it was last noticed."""

    one: Seen
    other: Seen
    found_utc_ms: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """One gateway as the coordinator knows it."""

    name: str
    state: NodeState = NodeState.OFFLINE
    boot: int = 0
    session: int = 0
    word: Word = Word.ALIVE
    reason: str = ""
    first_seen_utc_ms: int = 0
    last_seen_utc_ms: int = 0
    since_utc_ms: int = 0  # in this state
    birth: Birth | None = None
    heartbeat_seq: int = -1  # newest of this session
    heard_ms: int = 0  # steady clock
    since_ms: int = 0  # steady clock
    condition: Condition = Condition.FINE
    problem: str = ""  # why its condition is an error
    window: str = ""  # the maintenance that it is in
    lost: bool = False  # it is away and that was told: its work may be elsewhere
    flap: Flap = Flap()
    conflict: Conflict | None = None
    broker: int = NOWHERE  # the one it was last heard on; not kept, so unknown after a start

    @property
    def shown(self) -> Shown:
        """Maintenance overrules; what a node said of its condition counts only while it is there."""
        if self.window:
            return Shown.MAINTENANCE
        if self.state is NodeState.ONLINE and self.condition is not Condition.FINE:
            return Shown(self.condition.value)
        return Shown(self.state.value)

    @property
    def site(self) -> str:
        return "" if self.birth is None else self.birth.site


_AT = {name: at for at, name in enumerate(Node.__slots__)}
_all_of = attrgetter(*Node.__slots__)
_made_of = quick_maker(Node)


def changed(node: Node, **values: Any) -> Node:
    """`dataclasses.replace` of a node in a fifth of the time: 50,000 nodes say 4,000 times a second that nothing is
    new."""
    found = list(_all_of(node))
    for name, value in values.items():
        found[_AT[name]] = value
    return _made_of(*found)


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something to tell everybody about a node; it gets its identity when it is stored."""

    type: str
    node: str
    data: Mapping[str, Any]
    time_utc_ms: int
