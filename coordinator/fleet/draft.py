"""Changes on top of a fleet, not yet durable. Pure; time is an argument.

Rules kept here:

- `(boot, session)` orders what is said of a node, however late it arrives: a late will of an older session changes
  nothing. Within a session the last word is the strongest: alive < draining < will < goodbye.
- A will makes a node suspect; after a hold it is offline. So does silence for a number of heartbeats. A goodbye of
  its own makes it offline at once.
- A node that has been offline for a while and is heard live with older numbers has lost its count (a new disk): it
  is believed. Nothing late is that late.
- Nothing late or kept by a broker brings a deregistered node back (`tombstones`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from coordinator.fleet import telling
from coordinator.fleet.condition import condition_of
from coordinator.fleet.facts import LazyFacts
from coordinator.fleet.guard import Turn
from coordinator.fleet.maintenance import Window, over, window_key, window_of
from coordinator.fleet.node import (
    NODES_MAX,
    RECOUNT_AFTER_MS,
    SAYS,
    TRANSITIONS,
    Conflict,
    FleetEvent,
    FleetFullError,
    Moment,
    Node,
    NodeState,
    Signal,
    Word,
    changed,
)
from coordinator.fleet.tombstones import Tombstone
from schemas.messages import Birth, Heartbeat, Presence, Status

if TYPE_CHECKING:
    from coordinator.fleet.registry import Fleet

THERE = (NodeState.ONLINE, NodeState.DRAINING)
AWAY = (NodeState.SUSPECT, NodeState.OFFLINE)


@dataclass(slots=True)
class Draft:
    """`changed` and what stands below it is to be made durable; what is `touched` was merely heard."""

    fleet: "Fleet"
    changed: dict[str, Node] = field(default_factory=dict)
    touched: dict[str, Node] = field(default_factory=dict)
    heartbeats: dict[str, Heartbeat] = field(default_factory=dict)
    events: list[FleetEvent] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    tombstones: dict[str, Tombstone] = field(default_factory=dict)
    lifted: list[str] = field(default_factory=list)  # tombstones
    windows: dict[str, Window] = field(default_factory=dict)
    windows_over: list[str] = field(default_factory=list)
    windows_looked_utc_ms: int = 0
    unknown: int = 0  # heartbeats of nodes that never registered

    @property
    def is_empty(self) -> bool:
        """True when nothing of it needs to be durable."""
        return not (
            self.changed or self.events or self.turns or self.gone or self.tombstones or self.lifted
            or self.windows or self.windows_over
        )  # fmt: skip

    # ---- what nodes say --------------------------------------------------------------------------

    def status(self, name: str, status: Status, now: Moment, *, live: bool, broker: int = 0) -> bool:
        """A node's status or its will. `live`: sent just now, not kept by the broker from an unknown time.

        False: the node was deregistered, and this should not stand on its topic.
        """
        if (tombstone := self._tombstone(name)) is not None:
            later = tombstone.gives_way(status.boot, status.session, status.instance, now.utc_ms, live=live)
            return later and status.state is Presence.ONLINE  # its birth follows and brings it back
        self._hear(name, status.boot, status.session, telling.word_of(status), status.reason, now, live, broker)
        return True

    def birth(self, name: str, birth: Birth, now: Moment, *, live: bool, broker: int = 0) -> bool:
        """A node's registration. False: it was deregistered, and this does not bring it back."""
        if (tombstone := self._tombstone(name)) is not None:
            if not tombstone.gives_way(birth.boot, birth.session, birth.instance, now.utc_ms, live=live):
                return False
            self.tombstones.pop(name, None)
            self.lifted.append(name)
        if live:
            self._watch_twins(name, birth, now)
        node = self._hear(name, birth.boot, birth.session, Word.ALIVE, "", now, live, broker)
        if node is None or node.birth == birth:
            return True
        if node.birth is None:
            self.events.append(telling.registered(name, birth, now))
        node = changed(node, birth=birth)
        self._put(changed(node, window=self._window_of(node, now)))
        return True

    def heartbeat(self, name: str, heartbeat: Heartbeat, now: Moment, broker: int = 0) -> bool:
        """A node's heartbeat; an older one than the last changes nothing. False: its node was deregistered."""
        if (tombstone := self._tombstone(name)) is not None:
            # Of a later connection: it is asked for its birth, which brings it back.
            return tombstone.gives_way(heartbeat.boot, heartbeat.session, "", now.utc_ms, live=True)
        before = self._get(name)
        if before is None or before.birth is None:
            self.unknown += 1
        elif _goes_on(before, heartbeat):
            self._beat(before, heartbeat, now, broker)
            return True
        node = self._hear(name, heartbeat.boot, heartbeat.session, Word.ALIVE, "", now, True, broker)
        if node is None:
            return True
        same_session = before is not None and (before.boot, before.session, before.word) == (
            node.boot,
            node.session,
            node.word,
        )
        if same_session and heartbeat.seq <= node.heartbeat_seq:
            return True
        self._beat(node, heartbeat, now, broker)
        return True

    def node(self, name: str) -> Node | None:
        """As it is with this draft."""
        return self._get(name)

    def is_registered(self, name: str) -> bool:
        """True for a node of which anything else than a document was ever heard."""
        return self._get(name) is not None

    def is_buried(self, name: str) -> bool:
        """True for a node that was deregistered and is not back."""
        return self._tombstone(name) is not None

    # ---- what time brings ------------------------------------------------------------------------

    def sweep(self, now: Moment) -> None:
        """Freezes begin and end; every node whose silence or hold is over moves on; windows open and close."""
        fleet = self.fleet
        self.turns = fleet.guard.tick(fleet.sizes, now.steady_ms)
        self.events += [telling.frozen(turn, now) for turn in self.turns if not turn.quiet]
        if any(not turn.frozen for turn in self.turns):
            fleet.thaw()
        for node in fleet.due(now.steady_ms):
            if node.name in self.changed or node.name in self.touched or node.name in self.gone:
                continue
            suspect = node.state is NodeState.SUSPECT
            signal = Signal.HOLD_OVER if suspect else Signal.SILENT
            reason = node.reason if suspect else "heartbeats stay away"
            self._move(node, signal, reason, now, went_well=False)
        for node in fleet.steady(now.steady_ms):
            if (here := self._get(node.name)) is not None:
                self._steady(here, now)
        due_ms, looked_ms = fleet.windows_due_utc_ms, fleet.windows_looked_utc_ms
        if due_ms is not None and (now.utc_ms >= due_ms or now.utc_ms < looked_ms):  # the calendar's clock may jump
            self._look_at_windows(now)

    # ---- what operators want ---------------------------------------------------------------------

    def deregister(self, name: str, now: Moment, *, ban: bool, by: str) -> None:
        """Takes a node out: one that is not registered is only kept out from now on."""
        node = self._get(name) or Node(name, boot=-1)
        instance = "" if node.birth is None else node.birth.instance
        tombstone = Tombstone(name, node.boot, node.session, instance, now.utc_ms, ban, by)
        before = self._tombstone(name)
        if before is not None and (before.boot, before.session) > (node.boot, node.session):
            tombstone = replace(tombstone, boot=before.boot, session=before.session, instance=before.instance)
        self.tombstones[name] = tombstone
        self.lifted = [one for one in self.lifted if one != name]
        self.gone.append(name)
        for held in (self.changed, self.touched, self.heartbeats):
            held.pop(name, None)
        self.events.append(telling.deregistered(node, now, ban=ban, by=by))

    def admit(self, name: str, now: Moment) -> bool:
        """Ends a ban; False where there is none. What is late does not bring the node back all the same."""
        tombstone = self._tombstone(name)
        if tombstone is None or not tombstone.banned:
            return False
        self.tombstones[name] = replace(tombstone, banned=False, at_utc_ms=now.utc_ms)
        return True

    def add_window(self, window: Window, now: Moment) -> int:
        """A further maintenance; says how many nodes it means now."""
        self.windows[window.id] = window
        meant = [node for node in self._nodes() if window.selector.matches(LazyFacts(node))]
        self._rewindow((node.name for node in meant), now)
        self.windows_looked_utc_ms = now.utc_ms
        return len(meant)

    def end_window(self, identifier: str, now: Moment) -> None:
        """Before its time, or at it."""
        self.windows_over.append(identifier)
        self._rewindow(list(self.fleet.selections[window_key(identifier)].members), now)
        self.windows_looked_utc_ms = now.utc_ms

    # ---- small steps -----------------------------------------------------------------------------

    def _get(self, name: str) -> Node | None:
        if name in self.gone and name not in self.changed:
            return None
        return self.changed.get(name) or self.touched.get(name) or self.fleet.nodes.get(name)

    def _nodes(self) -> Iterable[Node]:
        return (node for name in self.fleet.nodes if (node := self._get(name)) is not None)

    def _put(self, node: Node) -> None:
        self.touched.pop(node.name, None)
        self.changed[node.name] = node

    def _touch(self, node: Node) -> None:
        (self.changed if node.name in self.changed else self.touched)[node.name] = node

    def _tombstone(self, name: str) -> Tombstone | None:
        if name in self.tombstones:
            return self.tombstones[name]
        return None if name in self.lifted else self.fleet.tombstones.get(name)

    def _hear(
        self, name: str, boot: int, session: int, word: Word, reason: str, now: Moment, live: bool, broker: int
    ) -> Node | None:
        """The node after hearing this of it, or None when that is no news."""
        node = known = self._get(name)
        if node is None or known is None:
            if len(self.fleet.nodes) + len(self.changed) >= NODES_MAX:
                raise FleetFullError(f"{NODES_MAX} nodes are registered already")
            node = Node(name, boot=-1, first_seen_utc_ms=now.utc_ms, since_utc_ms=now.utc_ms, lost=True)
        said, before = (boot, session), (node.boot, node.session)
        went_well = known is None or known.word is Word.GOODBYE
        if said > before or self._recounts(node, word, now, live):
            node = changed(node, boot=boot, session=session, word=word, heartbeat_seq=-1)
        elif said < before or (node.word >= Word.WILL and word < node.word):
            return None
        elif word > node.word:
            node = changed(node, word=word)
        elif not live:
            return node  # kept by the broker from an unknown time: no sign of life
        if word < Word.WILL:
            node = changed(node, heard_ms=now.steady_ms, last_seen_utc_ms=now.utc_ms, broker=broker)
        moved = self._move(node, SAYS[node.word], reason, now, went_well=went_well)
        is_durable = known is None or (moved.boot, moved.session, moved.word) != (
            known.boot,
            known.session,
            known.word,
        )
        if moved is node:
            (self._put if is_durable else self._touch)(node)
        return moved

    def _beat(self, node: Node, heartbeat: Heartbeat, now: Moment, broker: int) -> None:
        """The newest heartbeat of a node that is there."""
        resources = {} if node.birth is None else node.birth.resources
        condition, problem = condition_of(heartbeat, resources, node.condition, self.fleet.more.condition)
        changes = condition is not node.condition or problem != node.problem
        node = changed(
            node, heard_ms=now.steady_ms, last_seen_utc_ms=now.utc_ms, broker=broker, heartbeat_seq=heartbeat.seq,
            condition=condition, problem=problem,
        )  # fmt: skip
        (self._put if changes else self._touch)(node)
        self.heartbeats[node.name] = heartbeat

    def _recounts(self, node: Node, word: Word, now: Moment, live: bool) -> bool:
        away_ms = now.steady_ms - node.since_ms
        return live and word < Word.WILL and node.state is NodeState.OFFLINE and away_ms >= RECOUNT_AFTER_MS

    def _move(self, node: Node, signal: Signal, reason: str, now: Moment, *, went_well: bool) -> Node:
        """`went_well`: it had left in order, or was never there."""
        state = TRANSITIONS[node.state].get(signal, node.state)
        if state is node.state:
            return node
        if state is NodeState.OFFLINE:
            node = self._gone_offline(node, reason, now)
        elif state in THERE and node.state in AWAY:
            node = self._come_back(node, reason, now, went_well=went_well)
        node = changed(node, state=state, reason=reason[:200], since_ms=now.steady_ms, since_utc_ms=now.utc_ms)
        self._put(node)
        return node

    def _gone_offline(self, node: Node, reason: str, now: Moment) -> Node:
        if node.lost or node.window:
            return node
        if not node.flap.flaps:
            self.events.append(telling.offline(node, reason, now))
        return changed(node, lost=True)

    def _come_back(self, node: Node, reason: str, now: Moment, *, went_well: bool) -> Node:
        """A return after a loss counts as one; not after an outage of all, and not in maintenance."""
        rules, flap = self.fleet.more.flapping, node.flap.at(now.steady_ms, self.fleet.more.flapping)
        if not (went_well or node.window or self.fleet.holds(node)):
            flap = flap.lost(now.steady_ms, rules)
            if flap.flaps and not node.flap.flaps:
                self.events.append(telling.flapping(node, flap, now))
        node = changed(node, flap=flap)
        if flap.flaps or not node.lost:
            return node
        self.events.append(telling.online(node, reason, now))
        return changed(node, lost=False)

    def _steady(self, node: Node, now: Moment) -> None:
        flap = node.flap.at(now.steady_ms, self.fleet.more.flapping)
        if flap.flaps:
            return
        self.events.append(telling.steady(node, now))
        self._put(changed(node, flap=flap, lost=node.lost and node.state not in THERE))

    def _watch_twins(self, name: str, birth: Birth, now: Moment) -> None:
        """Whoever is heard live counts, whichever of them the numbers prefer."""
        node = self._get(name)
        known = None if node is None or node.birth is None else telling.seen(node.birth, now)
        said, before = telling.seen(birth, now), self.fleet.seen.get(name) or known
        if known is not None and said.instance != known.instance:
            self.fleet.seen[name] = said
        else:
            self.fleet.seen.pop(name, None)
        twins = self.fleet.twins.birth(name, before, said)
        if twins is None or node is None:
            return
        self.events.append(telling.conflict(twins, now))
        self._put(changed(node, conflict=Conflict(twins.one, twins.other, now.utc_ms)))

    # ---- maintenance -----------------------------------------------------------------------------

    def _window_of(self, node: Node, now: Moment) -> str:
        windows = {**self.fleet.windows, **self.windows}
        there = [window for name, window in windows.items() if name not in self.windows_over]
        found = window_of(there, LazyFacts(node), now.utc_ms) if there else None
        return "" if found is None else found.id

    def _look_at_windows(self, now: Moment) -> None:
        """Some began or ended."""
        self.windows_looked_utc_ms = now.utc_ms
        self.windows_over += over(self.fleet.windows, now.utc_ms)
        for name in self.fleet.windows:
            self._rewindow(list(self.fleet.selections[window_key(name)].members), now)

    def _rewindow(self, names: Iterable[str], now: Moment) -> None:
        for name in names:
            node = self._get(name)
            if node is None or (window := self._window_of(node, now)) == node.window:
                continue
            node = changed(node, window=window)
            if not window and node.state is NodeState.OFFLINE:
                node = self._gone_offline(node, "its maintenance is over and it is not back", now)
            self._put(node)


def _goes_on(node: Node, heartbeat: Heartbeat) -> bool:
    """Nearly every heartbeat: the next of a session in which nothing else was said."""
    return (
        node.state is NodeState.ONLINE
        and node.word is Word.ALIVE
        and heartbeat.seq > node.heartbeat_seq
        and (heartbeat.boot, heartbeat.session) == (node.boot, node.session)
    )
