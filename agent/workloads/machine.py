"""What follows for one workload: start it, stop it, wait, or give up. Pure: time is an argument.

                    ┌──────────── its end, by the restart policy, after a growing wait ────────────┐
                    ▼                                                                              │
    IDLE ── START ─► STARTING ── runs ─► RUNNING ── has ended ─────────────────────────────────► IDLE
      ▲                 └────────────── STOP ───────────┘ another spec, an order at the node, or none wanted
      └──────────────────────────── STOPPING ◄──────────┘

Rules kept here: at most one thing is active, always of one spec; the old one is stopped before a new one starts;
nothing starts that is not wanted. What cannot be begun (no image, no engine) is tried again for ever, at growing
waits. What began and ended follows the restart policy: more than `crash_loop_max` ends in a row, none of them after
`stable_s`, and it stays down until an operator or a new spec says otherwise.
"""

import enum
import math
from dataclasses import dataclass, replace
from typing import Any

from schemas.workloads import Restart, WorkloadReport, WorkloadSpec, WorkloadState, WorkloadType

REASON_CHARS_MAX = 500


class Phase(enum.Enum):
    """What is true of the thing itself."""

    IDLE = "idle"  # nothing runs
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


class Order(enum.StrEnum):
    """Of an operator at the node."""

    STOP = "stop"  # until a restart is ordered, or another spec comes
    RESTART = "restart"


class Do(enum.Enum):
    """What the driver is to do next."""

    START = "start"
    STOP = "stop"
    WAIT = "wait"
    FORGET = "forget"  # nothing runs and nothing is wanted


@dataclass(frozen=True, slots=True)
class Step:
    """`until_s`: for WAIT, when to ask again at the latest, math.inf for not before something is told."""

    do: Do
    until_s: float = math.inf


@dataclass(frozen=True, slots=True)
class Ended:
    """It has ended by itself. `ok`: as it should."""

    ok: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Pace:
    """As `[workloads]` says."""

    restart_first_s: float = 1.0
    restart_max_s: float = 300.0
    stable_s: float = 60.0
    crash_loop_max: int = 10

    def wait_s(self, failures: int) -> float:
        """Before the start that follows `failures` in a row; the first is 1."""
        return min(self.restart_max_s, self.restart_first_s * 2.0 ** min(max(0, failures - 1), 32))


@dataclass(frozen=True, slots=True)
class Standing:
    """What the node says and remembers of a workload, also over its own restarts."""

    type: WorkloadType
    state: WorkloadState = WorkloadState.STARTING
    generation: int = 0
    restarts: int = 0
    reason: str = ""
    since_utc_ms: int = 0
    failures: int = 0  # ends or vain starts in a row, none of them after a good run
    held: bool = False  # stopped by an operator at the node
    given_up: bool = False  # it ended for good
    mark: str = ""  # of the spec that all this is about

    @property
    def report(self) -> WorkloadReport:
        return WorkloadReport(self.state, self.generation, self.restarts, self.reason, self.since_utc_ms)


@dataclass(frozen=True, slots=True)
class Now:
    """Monotonic seconds, and UTC for people."""

    s: float
    utc_ms: int


@dataclass(frozen=True, slots=True)
class Told:
    """An event of the node."""

    kind: str  # WorkloadStarted, WorkloadFailed, WorkloadStopped
    standing: Standing

    @property
    def data(self) -> dict[str, Any]:
        one = self.standing
        return {"generation": one.generation, "reason": one.reason, "restarts": one.restarts}


class Machine:
    """One workload. The driver asks `next` after everything it tells, and hands on what `told` has."""

    def __init__(self, pace: Pace, spec: WorkloadSpec, mark: str, before: Standing | None, now: Now) -> None:
        """`mark` stands for the spec. `before`: what is remembered from an earlier start of the agent."""
        self._pace = pace
        self._wanted: WorkloadSpec | None = spec
        self._mark = mark
        self._now = now
        self._due_s = now.s
        self._began_s = now.s
        self._restart = False
        self.phase = Phase.IDLE
        self.active: WorkloadSpec | None = None
        self.told: list[Told] = []
        self.resumes = before is not None and before.mark == mark and before.state is WorkloadState.RUNNING
        if before is not None and before.mark == mark:
            self.standing = before
            if before.given_up or before.held:
                self._due_s = math.inf
            elif before.failures:
                self._due_s = now.s + pace.wait_s(before.failures)
        else:
            self.standing = self._fresh(spec, mark)

    # ---- asked by the driver --------------------------------------------------------------------

    @property
    def wanted(self) -> WorkloadSpec | None:
        return self._wanted

    def next(self, now_s: float) -> Step:
        """What to do now. START and STOP are to be answered by `starting` and `stopping` before the next question."""
        if self.phase in (Phase.STARTING, Phase.RUNNING):
            goes_on = self._wanted is self.active and not self._restart and not self.standing.held
            return Step(Do.WAIT) if goes_on else Step(Do.STOP)
        if self.phase is Phase.STOPPING:
            return Step(Do.WAIT)
        if self._wanted is None:
            return Step(Do.FORGET)
        if self.standing.held:
            return Step(Do.WAIT)
        return Step(Do.START) if now_s >= self._due_s else Step(Do.WAIT, self._due_s)

    # ---- told by the coordinator and by operators -------------------------------------------------

    def want(self, spec: WorkloadSpec | None, mark: str, now: Now) -> None:
        """From now on this, or nothing. The same spec once more changes nothing."""
        self._now = now
        if spec is None:
            self._wanted = None
        elif self.active is not None and mark == self.standing.mark:
            self._wanted, self._mark = self.active, mark  # what is active is wanted again
        elif self._wanted is None or mark != self._mark:
            self._wanted, self._mark, self._due_s = spec, mark, now.s
            self.resumes = False
            if self.phase is Phase.IDLE:
                self.standing = self._fresh(spec, mark)
            else:
                self.standing = replace(self.standing, held=False)

    def order(self, order: Order, now: Now) -> None:
        """An operator at the node has a say until the next spec."""
        self._now = now
        self.resumes = False
        idle = self.phase is Phase.IDLE
        if order is Order.STOP:
            self.standing = replace(self.standing, held=True)
            if idle:
                self._say(WorkloadState.STOPPED, "stopped at the node", event="WorkloadStopped")
            return
        was_given_up = self.standing.given_up
        self.standing = replace(self.standing, held=False, given_up=False, failures=0)
        self._due_s, self._restart = now.s, not idle
        if idle and (was_given_up or self.standing.state is not WorkloadState.STARTING):
            self._say(WorkloadState.STARTING, "restarted at the node")

    # ---- told by the driver -----------------------------------------------------------------------

    def starting(self, now: Now) -> WorkloadSpec:
        """The answer to START; returns what to start."""
        assert self.phase is Phase.IDLE and self._wanted is not None
        self._now, self.phase, self.active = now, Phase.STARTING, self._wanted
        self._began_s = now.s
        if self.standing.state is not WorkloadState.FAILED and not self.resumes:
            self._say(WorkloadState.STARTING, self.standing.reason)
        return self._wanted

    def running(self, note: str, now: Now, *, found: bool = False) -> None:
        """It runs. `found`: it ran already, from an earlier start of the agent."""
        if self.phase is not Phase.STARTING:
            return
        self._now, self.phase, self._began_s = now, Phase.RUNNING, now.s
        self.resumes = False
        if found and self.standing.state is WorkloadState.RUNNING:
            return
        self._say(WorkloadState.RUNNING, note, event="WorkloadStarted")

    def noted(self, state: WorkloadState, reason: str, now: Now) -> None:
        """While it is active: it waits for something (STARTING), or is well again (RUNNING)."""
        self._now = now
        if self.phase is Phase.RUNNING:
            self._say(state, reason)

    def vain(self, reason: str, now: Now) -> None:
        """It could not be begun, for a reason outside of it: tried again for ever."""
        self._now = now
        if self.phase is not Phase.STARTING:
            return
        if self._is_over(Ended(False, reason)):
            return
        self._leave_active()
        failures = self.standing.failures + 1
        wait_s = self._pace.wait_s(failures)
        self._due_s = now.s + wait_s
        self.standing = replace(self.standing, failures=failures)
        self._fail(f"{reason}; tried again in {wait_s:g} s", repeats=reason)

    def ended(self, end: Ended, now: Now) -> None:
        """It has ended by itself, or could not be begun for a reason of its own."""
        self._now = now
        if self.phase not in (Phase.STARTING, Phase.RUNNING) or self.active is None:
            return
        if self._is_over(end):
            return
        policy = self.active.restart
        good_run = self.phase is Phase.RUNNING and now.s - self._began_s >= self._pace.stable_s
        self._leave_active()
        again = policy is Restart.ALWAYS or (policy is Restart.ON_FAILURE and not end.ok)
        if not again:
            self.standing = replace(self.standing, given_up=True)
            self._due_s = math.inf
            if end.ok:
                self._say(WorkloadState.STOPPED, end.reason, event="WorkloadStopped")
            else:
                self._fail(end.reason)
            return
        failures = 1 if good_run else self.standing.failures + 1
        self.standing = replace(self.standing, failures=failures)
        if 0 < self._pace.crash_loop_max < failures:
            self.standing = replace(self.standing, given_up=True)
            self._due_s = math.inf
            self._fail(f"ended {failures} times in a row, given up; the last time: {end.reason}")
            return
        wait_s = self._pace.wait_s(failures)
        self._due_s = now.s + wait_s
        if not end.ok:
            self._fail(end.reason)
        self.standing = replace(self.standing, restarts=self.standing.restarts + 1)
        self._say(WorkloadState.STARTING, f"{end.reason}; again in {wait_s:g} s")

    def stopping(self, now: Now) -> None:
        """The answer to STOP."""
        self._now, self.phase = now, Phase.STOPPING
        self.resumes = False

    def stopped(self, now: Now) -> None:
        """Nothing of it runs any more."""
        assert self.phase is Phase.STOPPING
        self._now = now
        if not self._is_over():
            self._leave_active()  # what was not wanted for a moment is wanted again
            self._say(WorkloadState.STARTING, "wanted again")

    def shut(self, reason: str, now: Now) -> None:
        """The agent stops and has ended it: the next start begins it again."""
        self._now = now
        if self.standing.state is WorkloadState.RUNNING:
            self._say(WorkloadState.STARTING, reason)

    # ---- inside -----------------------------------------------------------------------------------

    def _is_over(self, end: Ended | None = None) -> bool:
        """Whether something else is wanted than what was active, which has stopped, or `end`ed just before that.

        If so nothing is active any more, and the policy has no say.
        """
        changed = self._wanted is not None and self._mark != self.standing.mark
        if self._wanted is None:
            why = "no longer wanted"
        elif changed:
            why = f"replaced by generation {self._wanted.generation}"
        elif self.standing.held:
            why = "stopped at the node"
        elif self._restart:
            self._leave_active()
            self._say(WorkloadState.STARTING, "restarted at the node")
            return True
        else:
            return False
        self._leave_active()
        self._say(WorkloadState.STOPPED, f"{why}; {end.reason}" if end else why, event="WorkloadStopped")
        if changed and self._wanted is not None:
            self.standing = self._fresh(self._wanted, self._mark)
            self._due_s = self._now.s
        return True

    def _leave_active(self) -> None:
        self.phase, self.active, self._restart = Phase.IDLE, None, False

    def _fresh(self, spec: WorkloadSpec, mark: str) -> Standing:
        return Standing(spec.type, WorkloadState.STARTING, spec.generation, since_utc_ms=self._now.utc_ms, mark=mark)

    def _fail(self, reason: str, repeats: str = "") -> None:
        """`repeats`: what the reason begins with; said as an event once, however often it comes."""
        known = repeats and self.standing.state is WorkloadState.FAILED and self.standing.reason.startswith(repeats)
        self._say(WorkloadState.FAILED, reason, event="" if known else "WorkloadFailed")

    def _say(self, state: WorkloadState, reason: str, event: str = "") -> None:
        since = self.standing.since_utc_ms if state is self.standing.state else self._now.utc_ms
        self.standing = replace(self.standing, state=state, reason=reason[:REASON_CHARS_MAX], since_utc_ms=since)
        if event:
            self.told.append(Told(event, self.standing))
