"""What follows for one workload: by cases, and by every order of things that can happen."""

import math
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.workloads.command_line import mark_of
from agent.workloads.machine import Do, Ended, Machine, Now, Order, Pace, Phase, Standing, Step
from schemas.workloads import ContainerSpec, Restart, WorkloadSpec, WorkloadState, WorkloadType

PACE = Pace(restart_first_s=1.0, restart_max_s=8.0, stable_s=60.0, crash_loop_max=4)
CRASH, DONE = Ended(False, "ended with status 7"), Ended(True, "ended with status 0")
S = WorkloadState


def spec(generation: int = 1, restart: Restart = Restart.ALWAYS) -> WorkloadSpec:
    container = ContainerSpec("pump")
    return WorkloadSpec(WorkloadType.CONTAINER, generation, restart=restart, container=container)


def machine(wanted: WorkloadSpec, before: Standing | None = None) -> Machine:
    return Machine(PACE, wanted, mark_of(wanted), before, at(0))


def at(s: float) -> Now:
    return Now(s, round(s * 1000))


def run(one: Machine, s: float) -> None:
    assert one.next(s) == Step(Do.START)
    one.starting(at(s))
    one.running("", at(s))


def kinds(one: Machine) -> list[str]:
    found = [told.kind for told in one.told]
    one.told.clear()
    return found


@pytest.mark.parametrize(
    ("restart", "end", "state", "again"),
    [
        (Restart.ALWAYS, CRASH, S.STARTING, True),
        (Restart.ALWAYS, DONE, S.STARTING, True),
        (Restart.ON_FAILURE, CRASH, S.STARTING, True),
        (Restart.ON_FAILURE, DONE, S.STOPPED, False),
        (Restart.NEVER, CRASH, S.FAILED, False),
        (Restart.NEVER, DONE, S.STOPPED, False),
    ],
)
def test_the_policy_says_what_follows_an_end(restart: Restart, end: Ended, state: S, again: bool) -> None:
    one = machine(spec(restart=restart))
    run(one, 0)
    one.ended(end, at(10))
    assert (one.standing.state, one.standing.restarts) == (state, int(again))
    assert one.next(10.5).do is Do.WAIT
    assert one.next(11) == (Step(Do.START) if again else Step(Do.WAIT, math.inf))
    started, *rest = kinds(one)
    assert started == "WorkloadStarted"
    assert rest == (["WorkloadFailed"] if not end.ok else [] if again else ["WorkloadStopped"])


def test_the_wait_grows_and_a_crash_loop_ends() -> None:
    one, now_s, waits = machine(spec()), 0.0, []
    while (step := one.next(now_s)).until_s < math.inf or step.do is Do.START:
        if step.do is Do.WAIT:
            waits.append(step.until_s - now_s)
            now_s = step.until_s
            continue
        run(one, now_s)
        now_s += 0.5
        one.ended(CRASH, at(now_s))
    assert waits == [1, 2, 4, 8]
    assert one.standing.state is S.FAILED and one.standing.restarts == 4
    assert one.standing.reason == "ended 5 times in a row, given up; the last time: ended with status 7"
    one.order(Order.RESTART, at(now_s))
    assert one.next(now_s) == Step(Do.START)
    assert one.standing.reason == "restarted at the node"


def test_a_good_run_makes_the_next_wait_short_again() -> None:
    one, now_s = machine(spec()), 0.0
    for _ in range(3):
        run(one, now_s)
        one.ended(CRASH, at(now_s))
        now_s = one.next(now_s).until_s
    run(one, now_s)
    one.ended(CRASH, at(now_s + 60))
    assert one.next(now_s + 60) == Step(Do.WAIT, now_s + 61)
    assert one.standing.failures == 1 and one.standing.restarts == 4


def test_what_cannot_be_begun_is_tried_for_ever_and_told_once() -> None:
    one, now_s = machine(spec(restart=Restart.NEVER)), 0.0
    for _ in range(50):
        assert one.next(now_s) == Step(Do.START)
        one.starting(at(now_s))
        one.vain("image pump cannot be fetched", at(now_s))
        assert one.standing.state is S.FAILED
        now_s = one.next(now_s).until_s
    assert kinds(one) == ["WorkloadFailed"]
    assert one.standing.reason == "image pump cannot be fetched; tried again in 8 s"
    run(one, now_s)
    assert kinds(one) == ["WorkloadStarted"]


def test_another_generation_stops_the_old_one_first() -> None:
    one = machine(spec(1))
    run(one, 0)
    one.want(spec(2), mark_of(spec(2)), at(5))
    assert one.next(5) == Step(Do.STOP) and one.standing.generation == 1
    one.stopping(at(5))
    assert one.next(5) == Step(Do.WAIT)
    one.stopped(at(6))
    assert one.standing == Standing(WorkloadType.CONTAINER, S.STARTING, 2, since_utc_ms=6000, mark=mark_of(spec(2)))
    run(one, 6)
    assert kinds(one) == ["WorkloadStarted", "WorkloadStopped", "WorkloadStarted"]


def test_the_same_again_changes_nothing() -> None:
    one = machine(spec(1))
    run(one, 0)
    one.want(spec(1), mark_of(spec(1)), at(5))
    one.want(None, "", at(6))
    one.want(spec(1), mark_of(spec(1)), at(7))
    assert one.next(7) == Step(Do.WAIT)


def test_an_operator_stops_and_restarts_it_here() -> None:
    one = machine(spec())
    run(one, 0)
    one.order(Order.STOP, at(1))
    assert one.next(1) == Step(Do.STOP)
    one.stopping(at(1))
    one.stopped(at(2))
    assert (one.standing.state, one.standing.reason) == (S.STOPPED, "stopped at the node")
    again = machine(spec(), one.standing)  # the agent starts anew
    assert again.next(100) == Step(Do.WAIT)
    again.order(Order.RESTART, at(100))
    assert again.next(100) == Step(Do.START)
    one.want(spec(2), mark_of(spec(2)), at(3))
    assert one.next(3) == Step(Do.START)


def test_what_ran_when_the_agent_was_killed_is_found_again_and_nothing_is_told() -> None:
    before = Standing(WorkloadType.CONTAINER, S.RUNNING, 1, restarts=3, since_utc_ms=5, mark=mark_of(spec()))
    one = machine(spec(), before)
    assert one.resumes
    one.starting(at(1))
    one.running("found running", at(1), found=True)
    assert one.standing == before and kinds(one) == []
    one.ended(CRASH, at(2))
    assert one.standing.restarts == 4
    assert not machine(spec(2), before).resumes
    assert not machine(spec(), replace(before, state=S.STARTING)).resumes


class Workload(RuleBasedStateMachine):
    """A driver that does what it is told, and a world in which anything may happen at any time."""

    @initialize(restart=st.sampled_from(Restart))
    def begin(self, restart: Restart) -> None:
        self.now_s = 0.0
        self.wanted: WorkloadSpec | None = spec(1, restart)
        self.generation = 1
        self.machine = machine(self.wanted)
        self.runs: WorkloadSpec | None = None  # in the world
        self.loop = 0
        self.restarts = (1, 0)

    def now(self) -> Now:
        return at(self.now_s)

    @rule(s=st.sampled_from([0.0, 0.5, 1.0, 8.0, 61.0]))
    def time_passes(self, s: float) -> None:
        self.now_s += s

    @rule(restart=st.sampled_from(Restart), same=st.booleans())
    def is_wanted(self, restart: Restart, same: bool) -> None:
        if not same or self.wanted is None:
            self.generation += 1
            self.wanted = spec(self.generation, restart)
        self.machine.want(self.wanted, mark_of(self.wanted), self.now())

    @rule()
    def is_not_wanted(self) -> None:
        self.wanted = None
        self.machine.want(None, "", self.now())

    @rule(order=st.sampled_from(Order))
    def is_ordered(self, order: Order) -> None:
        self.machine.order(order, self.now())

    @rule()
    def the_driver_acts(self) -> None:
        step = self.machine.next(self.now_s)
        if step.do is Do.START:
            assert self.runs is None, "two at a time"
            assert self.wanted is not None and not self.machine.standing.held
            started = self.machine.starting(self.now())
            assert mark_of(started) == mark_of(self.wanted), "what is not wanted was started"
            self.runs = started
        elif step.do is Do.STOP:
            assert self.runs is not None
            self.machine.stopping(self.now())
        elif step.do is Do.FORGET:
            assert self.runs is None and self.wanted is None
        elif step.until_s < math.inf:
            assert self.now_s < step.until_s <= self.now_s + PACE.restart_max_s

    @precondition(lambda self: self.machine.phase is Phase.STARTING)
    @rule(found=st.booleans())
    def it_runs(self, found: bool) -> None:
        self.machine.running("", self.now(), found=found)

    @precondition(lambda self: self.machine.phase is Phase.STARTING)
    @rule()
    def it_cannot_be_begun(self) -> None:
        self.runs = None
        self.machine.vain("no image", self.now())

    @precondition(lambda self: self.machine.phase in (Phase.STARTING, Phase.RUNNING))
    @rule(end=st.sampled_from([CRASH, DONE]))
    def it_ends(self, end: Ended) -> None:
        self.runs = None
        self.machine.ended(end, self.now())

    @precondition(lambda self: self.machine.phase is Phase.STOPPING)
    @rule()
    def it_is_stopped(self) -> None:
        self.runs = None
        self.machine.stopped(self.now())

    @rule()
    def the_agent_is_killed(self) -> None:
        """Containers go on, and are found again by the next start where their spec is still wanted."""
        if self.wanted is not None:
            self.machine = Machine(PACE, self.wanted, mark_of(self.wanted), self.machine.standing, self.now())
            self.runs = None

    @invariant()
    def what_it_says_is_so(self) -> None:
        if not hasattr(self, "machine"):
            return
        one = self.machine
        assert (one.active is None) == (one.phase is Phase.IDLE)
        assert (self.runs is None) == (one.active is None)
        if one.phase is Phase.RUNNING:
            assert one.standing.state is S.RUNNING and one.active is not None
            assert one.standing.generation == one.active.generation
        if one.phase is Phase.IDLE and one.wanted is not None:
            assert one.standing.generation == one.wanted.generation
            assert one.standing.state is not S.RUNNING or one.resumes
        generation, restarts = self.restarts
        if one.standing.generation == generation:
            assert one.standing.restarts >= restarts
        self.restarts = (one.standing.generation, one.standing.restarts)

    @invariant()
    def it_is_up_in_the_end_unless_it_was_given_up_or_stopped(self) -> None:
        if not hasattr(self, "machine"):
            return
        one = self.machine
        if one.phase is Phase.IDLE and one.wanted is not None:
            waits = one.next(self.now_s).until_s == math.inf and one.next(self.now_s).do is Do.WAIT
            assert waits == (one.standing.held or one.standing.given_up)


TestWorkload = Workload.TestCase
TestWorkload.settings = settings(max_examples=80, stateful_step_count=30)
