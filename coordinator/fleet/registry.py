"""Nodes and whether they are alive: values and one table. Pure; time is an argument.

Rules kept here:

- `(boot, session)` orders what is said of a node, however late it arrives: a late will of an older session changes
  nothing. Within a session the last word is the strongest: alive < draining < will < goodbye.
- A will makes a node suspect; after a hold it is offline. So does silence for a number of heartbeats. A goodbye of
  its own makes it offline at once.
- Silence and holds count only while the coordinator itself hears the broker.
- A node that has been offline for a while and is heard live with older numbers has lost its count (a new disk): it
  is believed. Nothing late is that late.
"""

import enum
import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from schemas.messages import Birth, Heartbeat, Presence, Status

NODES_MAX = 200_000
RECOUNT_AFTER_MS = 60_000


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


_SAYS = {
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


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """Something to tell everybody about a node; it gets its identity when it is stored."""

    type: str
    node: str
    data: Mapping[str, Any]
    time_utc_ms: int


class FleetFullError(Exception):
    """No further node is registered."""


class Fleet:
    """The nodes as last committed. Changes are drafted first and adopted once they are durable."""

    def __init__(self, nodes: Iterable[Node], rules: LivenessRules, now_ms: int) -> None:
        """Nodes of an earlier run count as heard just now: nobody listened in between."""
        self.rules = rules
        self.nodes = {node.name: replace(node, heard_ms=now_ms, since_ms=now_ms) for node in nodes}
        self.hears_broker = False
        self._hearing_since_ms = now_ms
        self._deadlines: list[tuple[int, str]] = []
        self._reminders: dict[str, int] = {}  # the entry of each node in the heap that counts
        for node in self.nodes.values():
            self._remind(node)

    def broker(self, *, heard: bool, now_ms: int) -> None:
        """The coordinator's own link is up or down."""
        self.hears_broker = heard
        self._hearing_since_ms = now_ms

    def draft(self) -> "Draft":
        return Draft(self)

    def adopt(self, draft: "Draft") -> None:
        """The draft's changes are durable."""
        self.nodes.update(draft.changed)
        for node in draft.changed.values():
            self._remind(node)

    def due(self, now_ms: int) -> list[Node]:
        """The nodes whose silence or hold is over. O(nodes that are due), not O(nodes)."""
        if not self.hears_broker:
            return []
        found: list[Node] = []
        while self._deadlines and self._deadlines[0][0] <= now_ms:
            at_ms, name = heapq.heappop(self._deadlines)
            if self._reminders.get(name) != at_ms:
                continue
            del self._reminders[name]
            node = self.nodes[name]
            deadline_ms = self._deadline_ms(node)
            if deadline_ms is not None and deadline_ms <= now_ms:
                found.append(node)
            else:
                self._remind(node)
        for node in found:  # due until the change that it calls for is adopted
            self._remind(node)
        return found

    def counts(self) -> dict[str, int]:
        """Nodes by state."""
        found = dict.fromkeys((state.value for state in NodeState), 0)
        for node in self.nodes.values():
            found[node.state.value] += 1
        return found

    def _deadline_ms(self, node: Node) -> int | None:
        if node.state is NodeState.OFFLINE:
            return None
        if node.state is NodeState.SUSPECT:
            return max(node.since_ms, self._hearing_since_ms) + self.rules.hold_ms
        return max(node.heard_ms, self._hearing_since_ms) + self.rules.silent_after_ms

    def _remind(self, node: Node) -> None:
        """Only an earlier deadline needs an entry: one that moved later is found out when the entry is due."""
        deadline_ms = self._deadline_ms(node)
        if deadline_ms is not None and deadline_ms < self._reminders.get(node.name, deadline_ms + 1):
            self._reminders[node.name] = deadline_ms
            heapq.heappush(self._deadlines, (deadline_ms, node.name))


@dataclass(slots=True)
class Draft:
    """Changes on top of a fleet, not yet durable."""

    fleet: Fleet
    changed: dict[str, Node] = field(default_factory=dict)
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    events: list[FleetEvent] = field(default_factory=list)

    def status(self, name: str, status: Status, now: Moment, *, live: bool) -> None:
        """A node's status or its will. `live`: sent just now, not kept by the broker from an unknown time."""
        self._hear(name, status.boot, status.session, _word(status), status.reason, now, live)

    def birth(self, name: str, birth: Birth, now: Moment, *, live: bool) -> None:
        """A node's registration."""
        node = self._hear(name, birth.boot, birth.session, Word.ALIVE, "", now, live)
        if node is None or node.birth == birth:
            return
        if node.birth is None:
            data: dict[str, Any] = {
                "node": name,
                "node_id": name,
                "location": _place(birth.location),
                "node_type": birth.node_type,
            }
            data |= {"site": birth.site, "labels": birth.labels}
            self.events.append(FleetEvent("NodeRegistered", name, data, now.utc_ms))
        self.changed[name] = replace(node, birth=birth)

    def heartbeat(self, name: str, heartbeat: Heartbeat, now: Moment) -> None:
        """A node's heartbeat; an older one than the last changes nothing."""
        before = self._get(name)
        node = self._hear(name, heartbeat.boot, heartbeat.session, Word.ALIVE, "", now, live=True)
        if node is None:
            return
        same_session = before is not None and (before.boot, before.session, before.word) == (
            node.boot,
            node.session,
            node.word,
        )
        if same_session and heartbeat.seq <= node.heartbeat_seq:
            return
        self.changed[name] = replace(node, heartbeat_seq=heartbeat.seq)
        self.heartbeats[name] = heartbeat

    def is_registered(self, name: str) -> bool:
        """True for a node of which anything else than a document was ever heard."""
        return self._get(name) is not None

    def sweep(self, now: Moment) -> None:
        """Moves on every node whose silence or hold is over."""
        for node in self.fleet.due(now.steady_ms):
            if node.name in self.changed:
                continue
            suspect = node.state is NodeState.SUSPECT
            signal = Signal.HOLD_OVER if suspect else Signal.SILENT
            reason = node.reason if suspect else "heartbeats stay away"
            self._move(node, signal, reason, now)

    def _get(self, name: str) -> Node | None:
        return self.changed.get(name) or self.fleet.nodes.get(name)

    def _hear(
        self, name: str, boot: int, session: int, word: Word, reason: str, now: Moment, live: bool
    ) -> Node | None:
        """The node after hearing this of it, or None when that is no news."""
        node = self._get(name)
        if node is None:
            if len(self.fleet.nodes) + len(self.changed) >= NODES_MAX:
                raise FleetFullError(f"{NODES_MAX} nodes are registered already")
            node = Node(name, boot=-1, first_seen_utc_ms=now.utc_ms, since_utc_ms=now.utc_ms)
        said, known = (boot, session), (node.boot, node.session)
        if said > known or self._recounts(node, word, now, live):
            node = replace(node, boot=boot, session=session, word=word, heartbeat_seq=-1)
        elif said < known or (node.word >= Word.WILL and word < node.word):
            return None
        elif word > node.word:
            node = replace(node, word=word)
        elif not live:
            return node  # kept by the broker from an unknown time: no sign of life
        if word < Word.WILL:
            node = replace(node, heard_ms=now.steady_ms, last_seen_utc_ms=now.utc_ms)
        return self._move(node, _SAYS[node.word], reason, now)

    def _recounts(self, node: Node, word: Word, now: Moment, live: bool) -> bool:
        away_ms = now.steady_ms - node.since_ms
        return live and word < Word.WILL and node.state is NodeState.OFFLINE and away_ms >= RECOUNT_AFTER_MS

    def _move(self, node: Node, signal: Signal, reason: str, now: Moment) -> Node:
        state = TRANSITIONS[node.state].get(signal, node.state)
        if state is not node.state:
            if state is NodeState.OFFLINE:
                self._tell("NodeOffline", node, now, reason)
            elif node.state is NodeState.OFFLINE:
                self._tell("NodeOnline", node, now, reason)
            node = replace(node, state=state, reason=reason[:200], since_ms=now.steady_ms, since_utc_ms=now.utc_ms)
        self.changed[node.name] = node
        return node

    def _tell(self, kind: str, node: Node, now: Moment, reason: str) -> None:
        data = {"node": node.name, "boot": node.boot, "session": node.session, "reason": reason[:200]}
        self.events.append(FleetEvent(kind, node.name, data, now.utc_ms))


def _place(location: Mapping[str, float]) -> dict[str, float] | None:
    """A place on the earth, where a node has told one that can be; None otherwise."""
    lat, lon, alt = (location.get(name) for name in ("lat", "lon", "alt"))
    if lat is None or lon is None or not (-90 <= lat <= 90 and -180 <= lon <= 180):
        return None
    return {"lat": lat, "lon": lon} | ({} if alt is None else {"alt": alt})


def _word(status: Status) -> Word:
    """A will is written when the connection begins and so has no time; a goodbye has."""
    if status.state is Presence.ONLINE:
        return Word.ALIVE
    if status.state is Presence.DRAINING:
        return Word.DRAINING
    return Word.GOODBYE if status.time_utc_ms else Word.WILL
