"""Whatever happens to nodes and workloads, in any order, with kills in between: no node is given more than it has,
nothing stands where it must not, and every replica has a place or a reason."""

from dataclasses import replace
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.fleet.facts import facts_of
from coordinator.fleet.node import NodeState, Word
from coordinator.schedule.scheduler import OrderRefusedError
from coordinator.schedule.state import Drain, NodeChange, Phase, Step
from coordinator.schedule.workload import EVERYWHERE, selector_of
from schemas.workloads import Restart
from tests.schedule.yard import Yard, born, workload

NAMES = [f"n{i}" for i in range(6)]
WORKLOADS = ["low", "mid", "top"]
PRIORITY = {"low": 1, "mid": 5, "top": 10}
names, some = st.sampled_from(NAMES), st.sampled_from(WORKLOADS)
WHY = ("is lost", "is drained", "it failed", "it gives way", "are wanted", "is removed", "not registered",
       "not selected", "is back", "no room")  # fmt: skip


class Watched(Yard):
    """Looks at each step before it is done."""

    def carry_out(self, step: Step) -> None:
        for change in step.nodes.values():
            self._check(change)
        super().carry_out(step)

    def _check(self, change: NodeChange) -> None:
        for name, why in change.why.items():
            assert any(words in why for words in WHY), why
            victim = self.scheduler.book.lives[name]
            if why.startswith("it gives way to "):
                winner = self.scheduler.book.lives[why.removeprefix("it gives way to ")]
                assert winner.priority > victim.priority
                assert winner.name in change.placed, "nobody leaves without need"
        for name in change.placed.keys() - change.former.keys():
            node, live = self.nodes[change.node], self.scheduler.book.lives[name]
            assert node.state is NodeState.ONLINE and not node.lost and not node.window
            assert node.name not in self.drains or node.name not in self.scheduler.book.drains
            assert selector_of(live.workload).matches(facts_of(node))
            spread = live.workload.spread
            if spread is not None and spread.max is not None:
                there = [one.node for one in live.placed.values() if not one.leaving and one.node in self.nodes]
                same = [n for n in there if self.nodes[n].site == node.site and not self.scheduler.book.is_lost(n)]
                assert len(same) <= spread.max
            avoided = self.avoided.get((name, node.name))
            assert avoided is None or avoided.until_utc_ms <= self.now_ms


class Scheduling(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.yard = Watched()
        for name in NAMES[:3]:
            self.yard.add(name, cores=2, site=name[1])
        self.yard.settle()

    @initialize(low=st.integers(0, 3), mid=st.integers(0, 3), top=st.integers(0, 3))
    def are_declared(self, **replicas: int) -> None:
        for name, count in replicas.items():
            if count:
                self.yard.apply(workload(name, replicas=count, priority=PRIORITY[name], resources={"cpu_cores": 1}))

    # ---- nodes ----------------------------------------------------------------------------------

    @rule(name=names, cores=st.integers(1, 4), site=st.sampled_from("ab"), label=st.sampled_from("xy"))
    def comes(self, name: str, cores: int, site: str, label: str) -> None:
        known = self.yard.nodes.get(name)
        if known is None:
            self.yard.add(name, cores=cores, site=site, labels={"l": label})
        elif known.birth is not None:
            has = max(cores, known.birth.resources["cores"])
            self.yard.change(name, birth=born(cores=has, site=site, labels={"l": label}))

    def _known(self, name: str) -> bool:
        return name in self.yard.nodes

    @rule(name=names, word=st.sampled_from([Word.WILL, Word.GOODBYE]))
    def is_lost(self, name: str, word: Word) -> None:
        if self._known(name):
            self.yard.lose(name, word=word)

    @rule(name=names)
    def is_suspect(self, name: str) -> None:
        if self._known(name) and not self.yard.nodes[name].lost:
            self.yard.suspect(name)

    @rule(name=names)
    def is_back(self, name: str) -> None:
        if self._known(name):
            self.yard.back(name)

    @rule(name=names, window=st.sampled_from(["", "m-1"]))
    def is_in_maintenance(self, name: str, window: str) -> None:
        if self._known(name):
            self.yard.change(name, window=window)

    @rule(name=names)
    def is_deregistered(self, name: str) -> None:
        if self._known(name):
            self.yard.deregister(name)

    @rule(name=names, for_s=st.sampled_from([0, 30]))
    def is_drained(self, name: str, for_s: int) -> None:
        self.yard.settle()
        if self._known(name):
            until_ms = self.yard.now_ms + for_s * 1000 if for_s else 0
            self.yard.scheduler.drain(Drain(name, self.yard.now_ms, until_ms), self.yard.now_ms)

    @rule(name=names)
    def is_undrained(self, name: str) -> None:
        self.yard.settle()
        if name in self.yard.drains:
            self.yard.scheduler.undrain(name, self.yard.now_ms)

    # ---- workloads ------------------------------------------------------------------------------

    @rule(
        name=some,
        replicas=st.sampled_from([0, 1, 2, 3, "all"]),
        cores=st.integers(1, 3),
        selector=st.sampled_from(["all", "l = x", "not l = x"]),
        spread=st.sampled_from([None, {"by": "site", "max": 1}, {"by": "site", "even": True}]),
        sticky=st.booleans(),
        restart=st.sampled_from(list(Restart)),
    )
    def is_declared(self, name: str, replicas: Any, spread: Any, cores: int, restart: Restart, **more: Any) -> None:
        self.yard.settle()
        live = self.yard.scheduler.book.lives.get(name)
        if live is not None and live.placed:
            cores, restart = int(live.workload.resources.cpu_cores), live.workload.restart  # as it is: no update
        asked = workload(
            name, replicas=replicas, priority=PRIORITY[name], resources={"cpu_cores": cores}, restart=restart.value,
            spread=None if replicas == "all" else spread, **more,
        )  # fmt: skip
        try:
            self.yard.scheduler.apply(asked, self.yard.now_ms)
        except OrderRefusedError as error:
            assert live is not None and (live.kept.removed or live.kept.updating), error

    @rule(name=some, replicas=st.integers(0, 4))
    def is_scaled(self, name: str, replicas: int) -> None:
        live = self.yard.scheduler.book.lives.get(name)
        if live is not None and not live.is_everywhere:
            self.yard.scheduler.scale(name, replicas, "", self.yard.now_ms)

    @rule(name=some)
    def is_removed(self, name: str) -> None:
        live = self.yard.scheduler.book.lives.get(name)
        if live is not None and not live.kept.removed and not live.kept.updating:
            self.yard.scheduler.remove(name, self.yard.now_ms)

    @rule(node=names, name=some, phase=st.sampled_from(list(Phase)))
    def says(self, node: str, name: str, phase: Phase) -> None:
        self.yard.settle()
        if self._known(node):
            self.yard.say(node, name=name, phase=phase, reason="so")

    @rule()
    def all_run(self) -> None:
        self.yard.settle()
        for name in WORKLOADS:
            self.yard.run(name)

    # ---- time, and kills ------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1, 30, 100, 2000]))
    def time_passes(self, seconds: int) -> None:
        self.yard.settle()
        self.yard.pass_s(seconds)

    @rule()
    def is_killed_before_it_writes(self) -> None:
        self.yard.lose_a_step()

    @rule()
    def begins_anew(self) -> None:
        self.yard.settle()
        self.yard.start()

    # ---- what holds -----------------------------------------------------------------------------

    @invariant()
    def nobody_has_more_than_there_is(self) -> None:
        for name, node in self.yard.nodes.items():
            assert node.birth is not None
            assert self.yard.used(name)["cpu_cores"] <= node.birth.resources["cores"] + 1e-6

    @invariant()
    def documents_and_rows_say_the_same(self) -> None:
        yard = self.yard
        rows = {(name, node) for name, node in yard.placements if node in yard.nodes}
        assert rows == {(name, node) for node, has in yard.specs.items() for name in has}

    @invariant()
    def nothing_was_missed(self) -> None:
        """A new scheduler, from what is kept, would do nothing that this one has not done."""
        yard = self.yard
        yard.settle()
        yard.pass_s(1)
        anew = yard.made()
        books = (yard.scheduler.book, anew.book)
        if any(at_ms > yard.now_ms for book in books for at_ms in book.lost_ms.values()):
            return  # who said goodbye would have its time anew
        step = anew.step(yard.now_ms, 0)
        assert not step.nodes
        for name, kept in step.workloads.items():
            assert replace(kept, reason="") == replace(yard.kept[name], reason="")

    @invariant()
    def every_replica_has_a_place_or_a_reason(self) -> None:
        yard = self.yard
        yard.settle()
        book = yard.scheduler.book
        for name, kept in yard.kept.items():
            if kept.removed:
                assert not any(key[0] == name for key in yard.placements)
                continue
            mine = [one for one in yard.placements.values() if one.workload == name]
            standing = [one for one in mine if not one.leaving and not book.is_lost(one.node)]
            assert kept.missing == 0 or kept.reason
            if kept.replicas == EVERYWHERE:
                meant = [n for n in yard.nodes.values() if selector_of(kept.workload).matches(facts_of(n))]
                assert kept.missing == max(0, len(meant) - len(mine))
                continue
            assert kept.missing == max(0, kept.replicas - len(standing))
            assert len(standing) <= kept.replicas

    def teardown(self) -> None:
        self.yard.settle()


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
