"""Whatever happens, in whatever order, and wherever it is killed: the promises of a roll-out hold."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from coordinator.rollout.engine import OrderRefusedError
from coordinator.rollout.plan import Ahead, OnFailure, Plan
from coordinator.rollout.state import BAD, FETCHES, FOLLOWED, SETTLED, UNDER_WAY, NodeState, Presence, State
from tests.rollout.field import FETCH, RELEASE, SOUND, WANTED, Field

ORDERS = st.sampled_from(["pause", "resume", "resume", "resume", "pause", "resume", "resume", "abort", "roll back"])
WAVES = [("100%",), ("1", "100%"), ("1", "25%", "100%"), ("2", "5", "50%", "100%"), ("10%", "20%", "100%")]


class RolloutMachine(RuleBasedStateMachine):
    """Nodes that answer, refuse, stay silent, go and come back, and an operator who changes her mind."""

    @initialize(
        count=st.sampled_from([14, 9, 12, 5, 2, 1, 0]),
        waves=st.sampled_from(WAVES),
        budget=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        sample_min=st.integers(1, 6),
        bake_s=st.sampled_from([0.0, 5.0]),
        rate=st.sampled_from([0.5, 3.0, 1000.0]),
        on_failure=st.sampled_from(OnFailure),
        flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
        ahead=st.sampled_from(Ahead),
        away=st.sets(st.integers(0, 13)),
    )
    def begin(
        self, count: int, waves: Any, budget: float, sample_min: int, bake_s: float, rate: float,
        on_failure: OnFailure, flags: tuple[bool, bool, bool], ahead: Ahead, away: set[int],
    ) -> None:  # fmt: skip
        plan = Plan(
            "all", SOUND, waves=waves, budget=budget, sample_min=sample_min, bake_s=bake_s, rate_per_s=rate,
            accept_s=20, verify_s=20, on_failure=on_failure, continuous=flags[0], healthy=flags[1],
            prefetch={FETCH: RELEASE} if flags[2] else {}, ahead=ahead, fetch_s=30, fetch_rate_per_s=2 * rate,
            fetch_at_once=4,
        )  # fmt: skip
        self.field = Field(plan, [f"n{i}" for i in range(count)])
        self.field.away(*(f"n{i}" for i in away if i < count))
        self.field.start()
        self.waves: list[int] = []

    def some(self, data: Any, *states: NodeState) -> list[str]:
        found = self.field.of(*states)
        return data.draw(st.lists(st.sampled_from(found), unique=True, max_size=3)) if found else []

    # ---- what happens ---------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.3, 3.0, 25.0]))
    def time_passes(self, seconds: float) -> None:
        self.field.pass_s(seconds)
        self.look_at_a_step()

    @rule(data=st.data())
    def nodes_hold_it(self, data: Any) -> None:
        names = self.some(data, *FOLLOWED)
        self.field.say(*names)
        self.field.beat(*names)
        self.look_at_a_step()

    @rule(data=st.data())
    def nodes_have_it(self, data: Any) -> None:
        self.field.beat(*self.some(data, *FOLLOWED))

    @rule(data=st.data())
    def nodes_still_work_on_it(self, data: Any) -> None:
        self.field.say(*self.some(data, *FOLLOWED), pending="43 %")
        self.look_at_a_step()

    @rule(data=st.data())
    def nodes_flap(self, data: Any) -> None:
        self.field.unsteady = set(self.some(data, *FOLLOWED))

    @rule(data=st.data())
    def nodes_refuse(self, data: Any) -> None:
        self.field.say(*self.some(data, *FOLLOWED), refused="there is no such pipeline")
        self.look_at_a_step()

    @rule(data=st.data())
    def nodes_are_ill(self, data: Any) -> None:
        self.field.beat(*self.some(data, *FOLLOWED), ill="cam1 is lost")

    @rule(data=st.data(), presence=st.sampled_from([Presence.AWAY, Presence.AWAY, Presence.GONE]))
    def nodes_go(self, data: Any, presence: Presence) -> None:
        for name in self.some(data, *NodeState):
            self.field.nodes[name].presence = presence

    @rule(data=st.data())
    def nodes_come_back(self, data: Any) -> None:
        self.field.back(*self.some(data, *NodeState))

    @rule(number=st.integers(14, 18))
    def a_node_joins(self, number: int) -> None:
        self.field.join(f"n{number}")
        self.look_at_a_step()

    @rule(data=st.data())
    def another_hand_writes(self, data: Any) -> None:
        for name in self.some(data, *FOLLOWED):
            node = self.field.nodes[name]
            node.value, node.revision, node.other_hand = "ERROR", node.revision + 1, True

    @rule(order=ORDERS, meanwhile=st.booleans())
    def an_order(self, order: str, meanwhile: bool) -> None:
        """Before a step, or while it is being carried out."""
        if meanwhile:
            self.look_at_a_step(lambda: self.give(order))
        else:
            self.give(order)
        self.look_at_a_step()

    def give(self, order: str) -> None:
        engine, now_ms = self.field.engine, self.field.now_ms
        with suppress(OrderRefusedError):
            match order:
                case "pause":
                    engine.pause(now_ms, "so")
                case "resume":
                    engine.resume(now_ms)
                case _:
                    engine.abort(now_ms, "so", roll_back=order == "roll back")

    @rule()
    def the_broker_is_lost(self) -> None:
        self.field.hearing_since_ms = None

    @rule()
    def the_broker_is_back(self) -> None:
        self.field.hearing_since_ms = self.field.now_ms

    @rule(late=st.booleans())
    def it_is_killed(self, late: bool) -> None:
        if late:
            self.field.lose_a_step()
        self.field.start()

    # ---- what holds -----------------------------------------------------------------------------

    def look_at_a_step(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        field = self.field
        news, field.news = field.news, []
        step = field.engine.step(field.now_ms, field.hearing_since_ms, news)
        if step.tell:
            kept = {**field.kept, **step.nodes}
            run = step.run or field.run
            assert run.state in (State.RUNNING, State.COMPLETED)
            assert field.hearing_since_ms is not None
            bad = sum(node.state in BAD and node.told for node in kept.values()) - run.forgiven
            settled = sum(node.state in SETTLED and node.told for node in kept.values()) - run.forgiven_of
            assert settled < field.plan.sample_min or bad <= field.plan.budget * settled, "told beyond the budget"
            told = sum(node.told for node in kept.values()) + len(step.tell)
            assert told <= field.plan.steps[run.wave].quota(len(kept)), "told beyond the wave"
            waits = NodeState.READY if field.plan.prefetch else NodeState.WAITING
            assert all(kept[name].state is waits for name in step.tell)
            assert all(field.nodes[name].presence is Presence.HERE for name in step.tell)
        if step.fetch:
            kept = {**field.kept, **step.nodes}
            assert all(kept[name].state is NodeState.WAITING for name in step.fetch)
            assert all(field.nodes[name].presence is Presence.HERE for name in step.fetch)
            assert len(step.fetch) + sum(node.state in FETCHES for node in kept.values()) <= field.plan.fetch_at_once
        meanwhile()
        field.carry_out(step)
        field.wake_ms = step.wake_utc_ms
        self.waves.append(field.run.wave)

    @invariant()
    def waves_come_in_order_and_each_node_is_told_once(self) -> None:
        if not hasattr(self, "field"):
            return
        assert self.waves == sorted(self.waves)
        assert all(max(node.told, node.noticed, node.restored) <= 1 for node in self.field.nodes.values())
        untold = [node for node in self.field.nodes.values() if not node.told and not node.other_hand]
        assert all(node.value == "INFO" for node in untold)

    @invariant()
    def counts_are_right(self) -> None:
        if hasattr(self, "field"):
            engine = self.field.engine
            assert {state: count for state, count in engine.counts.items() if count} == {
                state: n for state in NodeState if (n := sum(one.state is state for one in engine.nodes.values()))
            }

    def teardown(self) -> None:
        """Nodes behave and somebody says that it may go on: it comes to an end, and the end is right."""
        if not hasattr(self, "field"):
            return
        field = self.field
        field.hearing_since_ms = field.now_ms
        field.start()
        field.unsteady.clear()
        field.back(*field.nodes)
        for _ in range(600):
            if field.state is State.PAUSED:
                field.engine.resume(field.now_ms)
                field.wake_ms = field.now_ms
            if field.news or (field.wake_ms is not None and field.wake_ms <= field.now_ms):  # as the driver does
                self.look_at_a_step()
            names = field.of(*UNDER_WAY, *FETCHES)
            field.say(*names)
            field.beat(*names)
            field.pass_s(1)
        assert not field.of(*UNDER_WAY, *FETCHES) or field.state in (State.ABORTED, State.ROLLED_BACK)
        assert field.state in (State.COMPLETED, State.ABORTED, State.ROLLED_BACK)
        if field.state is State.COMPLETED:
            assert not field.of(NodeState.WAITING, NodeState.READY, NodeState.UNSTEADY)
            assert all(n.value == WANTED for n in field.nodes.values() if n.told and not n.other_hand)
        if field.state is State.ROLLED_BACK:
            for name, node in field.nodes.items():
                assert node.value == ("ERROR" if node.other_hand else node.former or "INFO"), name
            assert set(field.of(NodeState.KEPT)) == {name for name, node in field.nodes.items() if node.other_hand}


RolloutMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestRollout = RolloutMachine.TestCase
