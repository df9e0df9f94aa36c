"""What is where: the nodes, the workloads, their replicas, and the step that is being made of it. Pure.

What is decided counts at once, so that one decision sees the one before. What then cannot be written is taken back.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from coordinator.fleet.node import Node, Word
from coordinator.schedule.index import Amounts, Index, Standing, covers
from coordinator.schedule.live import Live, Origin, Timers
from coordinator.schedule.placement import Ask
from coordinator.schedule.state import Drain, Kept, NodeChange, Phase, Placement, Step
from coordinator.schedule.workload import REASON_CHARS_MAX

AT_ONCE_MAX = 200  # nodes that one step changes
RETRY_MS = 500  # between two looks for a place, where something has changed
STUCK_MS = 60_000  # a node whose document cannot be changed is left alone
RESTART_MS = 20_000  # an agent that said goodbye may be back: its replicas stay so long
OF_WORKLOAD, OF_DRAIN, OF_NODE = "workload", "drain", "node"
Timer = tuple[str, str]


class Book:
    """One fleet's."""

    def __init__(self, index: Index) -> None:
        self.index = index
        self.lives: dict[str, Live] = {}
        self.on: dict[str, set[str]] = {}  # workloads by node
        self.homes: dict[str, set[str]] = {}  # workloads that go back to a node
        self.drains: dict[str, Drain] = {}
        self.lost_ms: dict[str, int] = {}  # since when what is there counts as lost; it may be a while ahead
        self.everywhere: set[str] = set()  # workloads
        self.pending: set[str] = set()  # workloads with replicas that have no place
        self.dirty: set[str] = set()
        self.timers: Timers[Timer] = Timers()
        self.asked: dict[str, NodeChange] = {}  # of the last step: what is not known to be written
        self.generations = 0
        self.hearing_since_ms: int | None = None
        self.now_ms = 0
        self.step = Step()

    @property
    def room(self) -> int:
        """How many more nodes the step may change."""
        return max(0, AT_ONCE_MAX - len(self.step.nodes))

    # ---- workloads ------------------------------------------------------------------------------

    def put(self, live: Live) -> None:
        """A workload is new, or was loaded with its replicas."""
        self.lives[live.name] = live
        self._watch(live)
        amounts = live.reserve(live.kept.other if live.kept.updating else None)
        for placement in live.placed.values():
            self._stand(live, placement)
            self._hold(live, placement.node, amounts)

    def redefine(self, live: Live, kept: Kept) -> None:
        """It is declared differently now; what its replicas hold stays, until they change."""
        live.define(kept)
        self.save(live, kept)
        self._watch(live)

    def _watch(self, live: Live) -> None:
        self.index.watch(live.name, live.selector)
        (self.everywhere.add if live.is_everywhere else self.everywhere.discard)(live.name)
        self.dirty.add(live.name)

    def save(self, live: Live, kept: Kept) -> None:
        if kept != live.kept or kept.name not in self.step.workloads:
            live.kept = self.step.workloads[live.name] = kept

    def forget(self, live: Live) -> None:
        del self.lives[live.name]
        self.index.forget(live.name)
        for names in (self.pending, self.dirty, self.everywhere):
            names.discard(live.name)
        self.step.workloads.pop(live.name, None)
        self.step.forgotten.append(live.name)

    def ask(self, live: Live, count: int) -> Ask:
        """What is wanted for so many more replicas."""
        slots, now_ms = self.index.slots, self.now_ms
        has = [slots[node] for node in live.placed if node in slots]
        avoided = [node for node, one in live.avoided.items() if one.until_utc_ms > now_ms]
        avoided += [node for node, until_ms in live.stuck.items() if until_ms > now_ms]
        shunned = [slots[node] for node in avoided if node in slots]
        homes = [slots[one.home] for one in live.origins if one.home in slots]
        spread, counts = live.workload.spread, Counter[Any]()
        if spread is not None:
            column = self.index.column(spread.by)
            for one in live.placed.values():
                if not one.leaving and one.node in slots and not self.is_lost(one.node):
                    counts[column.values[column.codes[slots[one.node]]]] += 1
        contained = live.workload.container is not None
        return Ask(live.name, live.need, count, spread, counts, has, shunned, homes, contained)

    # ---- replicas -------------------------------------------------------------------------------

    def place(self, live: Live, slot: int, home: str = "") -> Placement:
        """A replica on this node, which has none."""
        node = self.index.names[slot]
        assert node not in live.placed, "a node runs a workload once"
        placed = Placement(
            live.name, node, live.kept.generation, placed_utc_ms=self.now_ms, since_utc_ms=self.now_ms,
            home=(home or node) if live.workload.sticky else "",
        )  # fmt: skip
        live.placed[node] = placed
        self._stand(live, placed)
        self._hold(live, node, live.need)
        change = self.change(node)
        change.placed[live.name], change.specs[live.name] = placed, live.spec
        change.taken.pop(live.name, None)
        self.timers.remind((OF_WORKLOAD, live.name), self.now_ms + round(live.workload.start_s * 1000))
        return placed

    def take(self, live: Live, placement: Placement, why: str) -> None:
        """A replica goes from its node."""
        node = placement.node
        if live.stuck.get(node, 0) > self.now_ms:
            return
        del live.placed[node]
        self._leave(live, placement)
        change = self.change(node)
        if change.placed.pop(live.name, None) is None or placement.revision:
            change.taken[live.name], change.why[live.name] = placement, why
        change.specs.pop(live.name, None)
        self.step.placements.pop((live.name, node), None)
        self.gain(node)

    def renew(self, live: Live, placement: Placement) -> None:
        """The same place, and the spec of now."""
        change = self.change(placement.node)
        change.former.setdefault(live.name, placement)
        placement = replace(placement, generation=live.kept.generation, phase=Phase.DEPLOYING, reason="")
        placement = live.placed[placement.node] = replace(placement, since_utc_ms=self.now_ms)
        live.deploying.add(placement.node)
        self._hold(live, placement.node, live.need)
        change.placed[live.name], change.specs[live.name] = placement, live.spec
        self.timers.remind((OF_WORKLOAD, live.name), self.now_ms + round(live.workload.start_s * 1000))

    def mark(self, live: Live, placement: Placement, **changes: Any) -> Placement:
        """Something is known of a replica. Its phase is dated."""
        phase = changes.get("phase", placement.phase)
        if phase is not placement.phase:
            changes["since_utc_ms"] = self.now_ms
        changed = live.placed[placement.node] = replace(placement, **changes)
        (live.deploying.add if phase is Phase.DEPLOYING else live.deploying.discard)(placement.node)
        change = self.step.nodes.get(placement.node)
        if change is not None and live.name in change.placed:
            change.placed[live.name] = changed
        elif changed != placement:
            self.step.placements[live.name, placement.node] = changed
        return changed

    def change(self, node: str) -> NodeChange:
        """What the step changes at a node."""
        found = self.step.nodes.get(node)
        if found is None:
            found = self.step.nodes[node] = NodeChange(node, node not in self.index.slots)
        return found

    def tell(self, kind: str, change: NodeChange | None = None, **data: Any) -> None:
        """An event; with a change only if that can be made."""
        (self.step.events if change is None else change.events).append((kind, data))

    # ---- nodes ----------------------------------------------------------------------------------

    def look(self, name: str, node: Node | None) -> None:
        """A node is another now, or gone."""
        if node is None:
            self._gone(name)
            return
        was = self.index.slots.get(name)
        before = None if was is None else self.index.nodes[was]
        stood = None if was is None else self.index.standing[was]
        slot = self.index.put(node)
        if stood != self.index.standing[slot]:
            self.dirty.update(self.on.get(name, ()))
        if node.lost and name not in self.lost_ms:
            self.lost_ms[name] = self.now_ms + (RESTART_MS if node.word is Word.GOODBYE else 0)
            self.timers.remind((OF_NODE, name), self.lost_ms[name])
        elif not node.lost and self.lost_ms.pop(name, None) is not None:
            self.dirty.update(self.on.get(name, ()))
        if before is None or before.birth is not node.birth or self.index.standing[slot] == Standing.OPEN:
            self.gain(name)

    def is_lost(self, node: str) -> bool:
        """What is there may go elsewhere."""
        return self.lost_ms.get(node, self.now_ms + 1) <= self.now_ms

    def gain(self, name: str) -> None:
        """This node may take something that it could not before."""
        slot = self.index.slots.get(name)
        if slot is None:
            return
        is_open = self.index.standing[slot] == Standing.OPEN
        for one in self.pending if is_open else ():
            if self.index.members[one][slot] and self._may_help(self.lives[one], name, slot):
                self.timers.remind((OF_WORKLOAD, one), max(self.now_ms, self.lives[one].tried_ms + RETRY_MS))
        for one in self.everywhere:
            if (look := self.lives[one].look) is not None:
                look.add(slot)
            self.dirty.add(one)
        if is_open:
            self.dirty.update(self.homes.get(name, ()))

    def _may_help(self, live: Live, name: str, slot: int) -> bool:
        """It has room for one more, or something less important is there."""
        if covers(self.index.left(slot), live.need):
            return True
        return any(self.lives[other].priority < live.priority for other in self.on.get(name, ()))

    def _gone(self, name: str) -> None:
        """Its documents are gone with it, and what is kept of its replicas."""
        slot = self.index.slots.get(name)
        if slot is None:
            return
        for one in sorted(self.on.get(name, ())):
            live = self.lives[one]
            placement = live.placed.pop(name)
            self._leave(live, placement)
            change = self.change(name)
            change.is_gone, change.taken[one], change.why[one] = True, placement, f"{name} is not registered any more"
            change.placed.pop(one, None)
            change.specs.pop(one, None)
            live.origins.append(Origin(name, f"{name} is not registered any more", placement.home))
            self.dirty.add(one)
        for one in self.everywhere:
            if (look := self.lives[one].look) is not None:
                look.discard(slot)
        self.lost_ms.pop(name, None)
        self.drains.pop(name, None)
        self.dirty.update(self.everywhere)  # one less is meant
        self.index.remove(name)

    # ---- what was written -----------------------------------------------------------------------

    def written(self, node: str, epoch: int, revision: int) -> None:
        change = self.asked.pop(node, None)
        for name in () if change is None else change.placed:
            live = self.lives.get(name)
            if live is not None and node in live.placed:
                live.placed[node] = replace(live.placed[node], epoch=epoch, revision=revision)

    def not_written(self, node: str, reason: str) -> None:
        """It stays as it was, and is left alone for a while."""
        change = self.asked.pop(node, None)
        if change is None:
            return
        for name in change.placed:
            live = self.lives.get(name)
            if live is None or node not in live.placed:
                continue
            live.stuck[node] = self.now_ms + STUCK_MS
            if (former := change.former.get(name)) is not None:
                live.placed[node] = former
            else:
                self._leave(live, live.placed.pop(node))
            self._again(live)
        for name, placement in change.taken.items():
            live = self.lives.get(name)
            if live is not None and node not in live.placed and node in self.index.slots:
                live.stuck[node] = self.now_ms + STUCK_MS
                why = f"{change.why[name]}; it cannot be told: {reason}"[:REASON_CHARS_MAX]
                live.placed[node] = replace(placement, leaving=why)
                self._stand(live, placement)
                self._hold(live, node, live.need)
                self._again(live)

    def _again(self, live: Live) -> None:
        self.dirty.add(live.name)
        self.timers.remind((OF_WORKLOAD, live.name), self.now_ms + STUCK_MS)

    # ---- small things ---------------------------------------------------------------------------

    def _stand(self, live: Live, placement: Placement) -> None:
        self.on.setdefault(placement.node, set()).add(live.name)
        if placement.home:
            self.homes.setdefault(placement.home, set()).add(live.name)
        if placement.phase is Phase.DEPLOYING:
            live.deploying.add(placement.node)

    def _leave(self, live: Live, placement: Placement) -> None:
        node = placement.node
        self._hold(live, node, None)
        self.count(live, node, None)
        live.deploying.discard(node)
        if live.scaling is not None:
            live.scaling.hear(node, None)
        there = self.on.get(node, set())
        there.discard(live.name)
        if not there:
            self.on.pop(node, None)
        if placement.home and all(one.home != placement.home for one in live.placed.values()):
            at_home = self.homes.get(placement.home, set())
            at_home.discard(live.name)
            if not at_home:
                self.homes.pop(placement.home, None)

    def count(self, live: Live, node: str, amounts: Amounts | None) -> None:
        """The node has said something of its replica: these amounts are in what it says is allocated."""
        slot, before = self.index.slots.get(node), live.counted.get(node)
        if slot is None or before == amounts:
            return
        if before is not None:
            self.index.count(slot, live.counted.pop(node), -1)
        if amounts is not None:
            live.counted[node] = amounts
            self.index.count(slot, amounts)

    def _hold(self, live: Live, node: str, amounts: Amounts | None) -> None:
        slot, before = self.index.slots.get(node), live.held.pop(node, None)
        if slot is None:
            return
        if before is not None:
            self.index.occupy(slot, before, -1)
        if amounts is not None:
            live.held[node] = amounts
            self.index.occupy(slot, amounts)

    def reserve(self, live: Live, nodes: Iterable[str], other: Any) -> None:
        """Room for what they may become."""
        for node in nodes:
            self._hold(live, node, live.reserve(other))
