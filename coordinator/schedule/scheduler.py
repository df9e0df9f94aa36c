"""What follows from what happens to nodes, replicas and workloads: the scheduler of one fleet. Pure; time is an
argument.

It is told news and orders, and asks by a step for what is to be written. All that counts is in what is written: a
scheduler made from that goes on where the one before was killed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from coordinator.fleet.facts import LazyFacts
from coordinator.fleet.selector import Verdict
from coordinator.schedule import draining, updating
from coordinator.schedule.book import OF_DRAIN, OF_NODE, OF_WORKLOAD, Book
from coordinator.schedule.failing import fail
from coordinator.schedule.index import Index, needs
from coordinator.schedule.live import Live
from coordinator.schedule.placement import ever, why_not, why_not_at
from coordinator.schedule.reconcile import reconcile, rescale, scale
from coordinator.schedule.scaling import figure_of
from coordinator.schedule.state import (
    Avoided,
    Beat,
    Changed,
    Drain,
    Kept,
    News,
    NotWritten,
    Phase,
    Placement,
    Said,
    Step,
    UpdateOver,
    Written,
)
from coordinator.schedule.workload import REASON_CHARS_MAX, WORKLOADS_MAX, Workload
from schemas.workloads import WorkloadReport, WorkloadState

PHASES = {
    WorkloadState.STARTING: Phase.DEPLOYING,
    WorkloadState.RUNNING: Phase.RUNNING,
    WorkloadState.STOPPED: Phase.STOPPED,
    WorkloadState.FAILED: Phase.FAILED,
}
LOOKS_MAX = 25  # at workloads, by one step: others may have the loop in between
PREPARED = ("site", "type", "hardware.arch", "hardware.accelerators")  # facts that nearly every selector asks for


class OrderRefusedError(Exception):
    """The order makes no sense as things are. `code` is for programs."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Scheduler:
    """Of one fleet, from what was kept."""

    def __init__(
        self,
        index: Index,
        kept: Iterable[Kept] = (),
        placements: Iterable[Placement] = (),
        drains: Iterable[Drain] = (),
        avoided: Iterable[Avoided] = (),
        generations: int = 0,
        now_ms: int = 0,
    ) -> None:
        """The `index` has every node. What happened to them meanwhile is found by the first step."""
        self.book = book = Book(index)
        book.now_ms, book.generations = now_ms, generations
        for fact in PREPARED:
            index.column(fact)
        for one in drains:
            book.drains[one.node] = one
            index.drain(one.node, drained=True)
            if one.until_utc_ms:
                book.timers.remind((OF_DRAIN, one.node), one.until_utc_ms)
        placed: dict[str, list[Placement]] = {}
        for placement in placements:
            placed.setdefault(placement.workload, []).append(placement)
        shunned: dict[str, list[Avoided]] = {}
        for shun in avoided:
            shunned.setdefault(shun.workload, []).append(shun)
        for declared in kept:
            book.put(Live(declared, placed.get(declared.name, ()), shunned.get(declared.name, ())))
        for name, slot in index.slots.items():
            node = index.nodes[slot]
            if node is not None and node.lost:
                book.look(name, node)
        self._unregistered = sorted(set(book.on) - index.slots.keys())

    # ---- a step ---------------------------------------------------------------------------------

    def step(self, now_ms: int, hearing_since_ms: int | None, news: Sequence[News] = ()) -> Step:
        """What follows. `hearing_since_ms`: since when the coordinator hears the broker; None while it does not."""
        book = self.book
        if hearing_since_ms is not None and book.hearing_since_ms is None:
            book.dirty.update(book.lives)  # silence counts again
        book.now_ms, book.hearing_since_ms = now_ms, hearing_since_ms
        for name in self._unregistered:
            self._drop(name)
        self._unregistered = []
        for one in news:
            self._take(one)
        for kind, name in book.timers.take(now_ms):
            if kind == OF_DRAIN:
                draining.due(book, name)
            elif kind == OF_WORKLOAD:
                book.dirty.update({name} & book.lives.keys())
            elif (lost_ms := book.lost_ms.get(name, 0)) > now_ms:  # it was back in between
                book.timers.remind((OF_NODE, name), lost_ms)
            else:
                book.dirty.update(book.on.get(name, ()))
        for _ in range(LOOKS_MAX):
            if not (book.dirty and book.room):
                break
            name = min(book.dirty, key=lambda name: (-book.lives[name].priority, name))
            book.dirty.discard(name)
            reconcile(book, book.lives[name])
        draining.settle(book)
        step, book.step = book.step, Step()
        book.asked = dict(step.nodes)
        step.wake_utc_ms = now_ms if book.dirty else book.timers.next_ms
        return step

    def _take(self, one: News) -> None:
        book = self.book
        match one:
            case Changed(name, node):
                book.look(name, node)
            case Beat():
                self._beat(one)
            case Said():
                for name in list(book.on.get(one.node, ())):
                    self._said(book.lives[name], one)
            case Written(node, epoch, revision):
                book.written(node, epoch, revision)
            case NotWritten(node, reason):
                book.not_written(node, reason)
            case UpdateOver():
                for live in book.lives.values():
                    if live.kept.rollout == one.rollout:
                        updating.end(book, live, one)

    def _beat(self, one: Beat) -> None:
        book, name = self.book, one.node
        book.index.beat(name, one.heartbeat)
        for workload in book.on.get(name, ()) if name in book.index.slots else ():
            live = book.lives[workload]
            if live.scaling is None:
                continue
            runs = live.placed[name].phase is Phase.RUNNING and not live.placed[name].leaving
            cores = float(book.index.capacity[0, book.index.slots[name]])
            figure = figure_of(one.heartbeat, live.scaling.rule.on, cores, workload) if runs else None
            live.scaling.hear(name, figure)
            rescale(book, live)

    def _said(self, live: Live, said: Said) -> None:
        """What a node says of a replica; what it said before it was told means nothing."""
        placement = live.placed[said.node]
        if not placement.revision or (said.epoch, said.revision) < (placement.epoch, placement.revision):
            return
        kept, report = live.kept, said.states.get(live.name)
        refused = said.refused.get(live.name, "")
        if refused:
            report = WorkloadReport(WorkloadState.FAILED, placement.generation, reason=f"refused: {refused}"[:500])
        known = {placement.generation, kept.other_generation if kept.updating else placement.generation}
        if report is None or report.generation not in known:
            return
        is_other = kept.updating and report.generation == kept.other_generation
        self.book.count(live, said.node, needs(kept.other.resources) if is_other and kept.other else live.need)
        phase = PHASES[report.state]
        reason = report.reason[:REASON_CHARS_MAX]
        before = placement.phase
        placement = self.book.mark(live, placement, phase=phase, reason=reason, restarts=report.restarts)
        if phase is Phase.FAILED and not kept.updating:
            fail(self.book, live, placement, reason or "it says so")
        elif phase is not before:
            self.book.dirty.add(live.name)

    def _drop(self, name: str) -> None:
        """Replicas of a node that was taken out of the fleet meanwhile."""
        book = self.book
        for workload in sorted(book.on.get(name, ())):
            live = book.lives[workload]
            live.stuck.pop(name, None)
            book.take(live, live.placed[name], f"{name} is not registered any more")

    # ---- orders ---------------------------------------------------------------------------------

    def apply(self, workload: Workload, now_ms: int) -> Kept:
        """Declares it, or changes what is not told to nodes. Raises OrderRefusedError. See `begin_update`."""
        book, live = self._at(now_ms), self.book.lives.get(workload.name)
        if live is None:
            if workload.exists:
                raise OrderRefusedError("unknown_workload", f"there is no workload {workload.name!r} to update")
            if len(book.lives) >= WORKLOADS_MAX:
                raise OrderRefusedError("too_many", f"there are {WORKLOADS_MAX} workloads already")
            kept = Kept(workload, self._generation(), updating.replicas_of(workload, None), declared_utc_ms=now_ms)
            live = Live(kept)
            book.put(live)
            book.save(live, kept)
            return kept
        self._check(live)
        generation = live.kept.generation if live.workload.same_spec(workload) else self._generation()
        kept = replace(
            live.kept, workload=workload, generation=generation, replicas=updating.replicas_of(workload, live.kept)
        )
        book.redefine(live, replace(kept, failures=0))
        return live.kept

    def needs_update(self, workload: Workload) -> bool:
        """Nodes run it, and would have to run something else."""
        live = self.book.lives.get(workload.name)
        return live is not None and bool(live.placed) and not live.workload.same_spec(workload)

    def begin_update(self, workload: Workload, now_ms: int) -> tuple[Kept, list[str]]:
        """Another spec for nodes that run it, by a roll-out; says to which. What else is declared changes with its
        end. Raises OrderRefusedError."""
        book, live = self._at(now_ms), self.book.lives[workload.name]
        self._check(live)
        names = updating.begin(book, live, workload, self._generation())
        return live.kept, names

    def updated_nodes(self, name: str) -> list[str]:
        """Those that can run the spec that it is updated to; others lose it when the update is over."""
        return updating.nodes_of(self.book, self.book.lives[name])

    def cancel_update(self, name: str, now_ms: int) -> None:
        """The roll-out could not begin: nothing of it holds."""
        updating.cancel(self._at(now_ms), self.book.lives[name])

    def scale(self, name: str, replicas: int, source: str, now_ms: int) -> Kept:
        """So many replicas from now on. Raises OrderRefusedError."""
        self._at(now_ms)
        live = self._live(name)
        if live.is_everywhere:
            raise OrderRefusedError("wrong_state", f"{name} runs on every node that its selector means; narrow that")
        rule = live.workload.scale
        if rule is not None and not rule.min <= replicas <= rule.max:
            raise OrderRefusedError("out_of_range", f"{name} scales from {rule.min} to {rule.max}, not to {replicas}")
        if replicas != live.kept.replicas:
            scale(self.book, live, replicas, f"by {source or 'somebody'}")
            self.book.dirty.add(name)
        return live.kept

    def remove(self, name: str, now_ms: int) -> Kept:
        """It goes from its nodes, and then is forgotten. Raises OrderRefusedError."""
        book, live = self._at(now_ms), self._live(name)
        self._check(live)
        book.save(live, replace(live.kept, removed=True))
        book.dirty.add(name)
        return live.kept

    def drain(self, drain: Drain, now_ms: int) -> int:
        """Nothing new for a node, and what is there goes elsewhere. Says how many replicas are there."""
        book = self._at(now_ms)
        if drain.node not in book.index.slots:
            raise OrderRefusedError("unknown_node", f"there is no node {drain.node}; edgectl nodes lists them")
        return draining.begin(book, drain)

    def undrain(self, node: str, now_ms: int) -> None:
        """It may be given something again. Raises OrderRefusedError."""
        book = self._at(now_ms)
        if node not in book.drains:
            raise OrderRefusedError("not_drained", f"{node} is not drained")
        draining.end(book, node)

    # ---- questions ------------------------------------------------------------------------------

    def why(self, name: str, node: str, now_ms: int) -> dict[str, Any]:
        """Why it is where it is and not elsewhere: of one node in full, or of all by their commonest reasons."""
        book, live = self._at(now_ms), self._live(name)
        ask = book.ask(live, 1)
        if not node:
            reasons = why_not(book.index, ask)
            free = len(book.index) - reasons.total()
            reasons_told = [{"reason": reason, "nodes": count} for reason, count in reasons.most_common()]
            found = {"nodes": len(book.index), "ever": ever(book.index, ask), "free": free, "reasons": reasons_told}
            return {"workload": name, "missing": live.kept.missing, "reason": live.kept.reason, **found}
        slot = book.index.slots.get(node)
        if slot is None:
            raise OrderRefusedError("unknown_node", f"there is no node {node}; edgectl nodes lists them")
        placed = live.placed.get(node)
        found = {"placed": placed is not None, "leaving": placed.leaving if placed is not None else ""}
        reasons_at = why_not_at(book.index, ask, slot)
        if (avoided := live.avoided.get(node)) is not None and avoided.until_utc_ms > book.now_ms:
            reasons_at.append(f"it failed there {avoided.failures} times: {avoided.reason}")
        return {"workload": name, "node": node, **found, "reasons": reasons_at}

    def selector_verdict(self, name: str, node: str) -> Verdict | None:
        """Part by part whom the workload means, for one node."""
        live, slot = self._live(name), self.book.index.slots.get(node)
        there = None if slot is None else self.book.index.nodes[slot]
        return None if there is None else live.selector.explain(LazyFacts(there))

    def wants_beats(self, node: str) -> bool:
        """A rule on load goes by what this node says."""
        return any(self.book.lives[name].scaling is not None for name in self.book.on.get(node, ()))

    def is_update(self, rollout: str) -> bool:
        """It brings, or has brought, the spec of a workload."""
        return any(live.kept.rollout == rollout for live in self.book.lives.values())

    @property
    def figures(self) -> dict[str, int]:
        book = self.book
        placed = sum(len(live.placed) for live in book.lives.values())
        return {"workloads": len(book.lives), "placements": placed, "workloads_pending": len(book.pending)}

    # ---- small things ---------------------------------------------------------------------------

    def _at(self, now_ms: int) -> Book:
        self.book.now_ms = now_ms
        return self.book

    def _live(self, name: str) -> Live:
        live = self.book.lives.get(name)
        if live is None:
            raise OrderRefusedError(
                "unknown_workload", f"there is no workload {name[:70]!r}; edgectl workload ls lists them"
            )
        return live

    def _check(self, live: Live) -> None:
        if live.kept.removed:
            raise OrderRefusedError("wrong_state", f"{live.name} is being removed; try again in a moment")
        if live.kept.updating:
            hint = f"wait for the end of the roll-out {live.kept.rollout}, or edgectl rollout abort it"
            raise OrderRefusedError("wrong_state", f"{live.name} is being updated; {hint}")

    def _generation(self) -> int:
        self.book.generations += 1
        self.book.step.generations = self.book.generations
        return self.book.generations
