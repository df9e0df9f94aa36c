"""One roll-out's life: what is done next, and when to look again. Pure; time is an argument.

Rules kept here:

- Nodes are told in one order, drawn from the roll-out's id: a wave is a sample of all sites. Who is away is passed
  over and told when it is back; a wave's share is of the nodes that are there.
- A wave ends when as many were told as it asks for and all of them have settled; then it bakes; then comes the next.
- When the failure budget is spent, nobody more is told: what goes wrong beyond it was under way already.
- Silence counts only while the coordinator itself hears the broker.
- All that counts is in `Run` and `NodeRun`: an engine made from them goes on where the one before was killed. What is
  asked for by `tell` and `restore` is asked for again by the next engine when nothing was written of it.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from coordinator.rollout import follow
from coordinator.rollout.ledger import Ledger
from coordinator.rollout.plan import OnFailure, Plan
from coordinator.rollout.rate import Rate
from coordinator.rollout.state import (
    BAD,
    OVER,
    SETTLED,
    TOLD_ONCE,
    Back,
    Joined,
    News,
    NodeRun,
    NodeState,
    NotTold,
    Presence,
    Restored,
    Run,
    State,
    Step,
    Told,
)

_WAITING = frozenset({NodeState.WAITING})
_MAY_COME = frozenset({NodeState.WAITING, NodeState.SILENT})
AT_ONCE_MAX = 200  # nodes told or put back by one step


class OrderRefusedError(Exception):
    """The roll-out is in no state for that."""


class Engine:
    """One roll-out. `look` says where a node is; it is asked for those whose turn it is, and for all at the start."""

    def __init__(
        self, key: str, plan: Plan, run: Run, nodes: Iterable[NodeRun], look: Callable[[str], Presence]
    ) -> None:
        self.key = key
        self.plan = plan
        self.run = run
        self._ledger = Ledger(plan, nodes)
        self.nodes, self.counts = self._ledger.nodes, self._ledger.counts
        self._waves = plan.steps
        self._look = look
        self._rate = Rate(plan.rate_per_s)
        self._away: set[str] = set()
        self._queue: deque[str] = deque()
        self._restore: deque[str] = deque()
        self._asked: set[str] = set()  # to be told or put back; the outcome is the news of the next step
        self._step = Step()
        self._now_ms = 0
        for name in sorted((one.name for one in self._ledger.of(_WAITING)), key=self._place):
            self._wait(name)
        if run.state is State.ROLLING_BACK:
            self._gather_restores()

    @property
    def is_over(self) -> bool:
        return self.run.state in OVER

    @property
    def told(self) -> int:
        """How many were told, or are just being told."""
        asked = len(self._asked) if self.run.state is not State.ROLLING_BACK else 0
        return self._ledger.count(TOLD_ONCE) + asked

    @property
    def under_way(self) -> int:
        """How many were told and have not settled."""
        return self.told - self._ledger.count(SETTLED)

    @property
    def is_spent(self) -> bool:
        """The failure budget is spent: of a sample large enough, too large a share went wrong."""
        bad, settled = self._sample()
        return settled >= self.plan.sample_min and bad > self.plan.budget * settled

    def wants(self, name: str) -> bool:
        """True where a report or heartbeat of this node may change something; it may answer before we know that it
        was told."""
        node = self.nodes.get(name)
        return node is not None and (name in self._asked or self._follows(node))

    def misses(self, name: str) -> bool:
        """True where the node's turn has come, or may come, and it is away."""
        return name in self._away

    @property
    def is_idle(self) -> bool:
        """Nothing can happen any more but by an order."""
        done = self.run.state is State.COMPLETED and not self.plan.continuous
        return self.is_over or (done and not self.under_way and not self._ledger.count(_MAY_COME))

    # ---- orders ---------------------------------------------------------------------------------

    def pause(self, now_ms: int, reason: str) -> None:
        """Nobody more is told. Raises OrderRefusedError."""
        self._now_ms = now_ms
        if self.run.state not in (State.PENDING, State.RUNNING, State.BAKING):
            raise OrderRefusedError(f"it is {self.run.state}: there is nothing to pause")
        self._pause(reason)

    def resume(self, now_ms: int) -> None:
        """Goes on; what has failed so far is forgiven. A bake begins anew. Raises OrderRefusedError."""
        self._now_ms = now_ms
        if self.run.state is not State.PAUSED:
            raise OrderRefusedError(f"it is {self.run.state}, not paused")
        bad, settled = self._ledger.count(BAD), self._ledger.count(SETTLED)
        self._move(State.RUNNING, "", forgiven=bad, forgiven_of=settled)

    def abort(self, now_ms: int, reason: str, *, roll_back: bool) -> None:
        """Ends it. With `roll_back` former values are put back, also where it has ended. Raises OrderRefusedError."""
        self._now_ms = now_ms
        state = self.run.state
        if state in (State.ROLLED_BACK, State.ROLLING_BACK) or (state is State.ABORTED and not roll_back):
            raise OrderRefusedError(f"it is {state} already")
        if roll_back:
            self._roll_back(reason)
        else:
            self._abort(reason)

    # ---- a step ---------------------------------------------------------------------------------

    def step(self, now_ms: int, hearing_since_ms: int | None, news: Sequence[News] = ()) -> Step:
        """What follows from the news and from the time. O(news and what is due).

        `hearing_since_ms`: since when the broker is heard; None while it is not.
        """
        self._now_ms = now_ms
        for one in news:
            self._take(one)
        if not self.is_over and hearing_since_ms is not None:
            self._ledger.expire(now_ms, hearing_since_ms)
            self._advance()
        elif self.run.state is State.ROLLING_BACK:
            self._put_back()
        step, self._step = self._step, Step()
        step.nodes = dict(self._ledger.changed)
        self._ledger.changed.clear()
        step.wake_utc_ms = self._wake_ms(hearing_since_ms)
        return step

    def _advance(self) -> None:
        if self.run.state is State.PENDING:
            self._move(State.RUNNING, "")
            self._announce("RolloutStarted", select=self.plan.select, nodes=len(self.nodes), source=self.plan.source)
        if self.run.state in (State.RUNNING, State.BAKING, State.COMPLETED) and self.is_spent:
            self._fail("the failure budget is spent")
        if self.run.state is State.BAKING:
            self._bake()
        if self.run.state in (State.RUNNING, State.COMPLETED):
            self._tell()
        if self.run.state is State.RUNNING and self._is_told_and_settled():
            self._end_wave()
        if self.run.state is State.ROLLING_BACK:
            self._put_back()

    def _end_wave(self) -> None:
        if not self._fails_as_a_wave():
            self._move(State.BAKING, "")

    def _fails_as_a_wave(self) -> bool:
        """Judges what has settled, where it is no sample too: all of it went wrong, or no more is to come."""
        bad, settled = self._sample()
        if bad <= self.plan.budget * settled or not (self._is_last or bad == settled):
            return False
        self._fail("no node of the sample is verified" if bad == settled else "the failure budget is spent")
        return True

    def _bake(self) -> None:
        if self._now_ms < self._bake_ends_ms or self._fails_as_a_wave():
            return
        self._announce("RolloutWaveDone", wave=self.run.wave + 1, waves=len(self._waves), nodes=self.told)
        if self._is_last:
            self._move(State.COMPLETED, "")
            self._announce("RolloutCompleted", nodes=self.told)
            return
        wave = self.run.wave + 1
        while wave + 1 < len(self._waves) and self._quota(wave) <= self.told:
            wave += 1  # of few nodes some waves are the same
        self._move(State.RUNNING, "", wave=wave)

    @property
    def _is_last(self) -> bool:
        return self.run.wave + 1 >= len(self._waves)

    @property
    def _bake_ends_ms(self) -> int:
        return self.run.since_utc_ms + round(self.plan.bake_s * 1000)

    def _quota(self, wave: int) -> int:
        return self._waves[wave].quota(self.told + len(self._queue))

    def _is_told_and_settled(self) -> bool:
        if self._asked or self.under_way or (self._queue and self.told < self._quota(self.run.wave)):
            return False
        return self.told > 0 or not self._away

    def _sample(self) -> tuple[int, int]:
        """Failures, of so many that have settled, since somebody last said that it may go on."""
        bad = self._ledger.count(BAD) - self.run.forgiven
        settled = self._ledger.count(SETTLED) - self.run.forgiven_of
        return max(0, bad), max(0, settled)

    # ---- telling and putting back ---------------------------------------------------------------

    def _tell(self) -> None:
        room = self._rate.take(self._now_ms, AT_ONCE_MAX)
        quota = self._quota(self.run.wave)
        told = self.told
        while self._queue and room and told < quota:
            name = self._queue.popleft()
            match self._look(name):
                case Presence.GONE:
                    self._set(name, NodeState.EXCLUDED, "no longer registered")
                case Presence.AWAY:
                    self._away.add(name)
                case Presence.HERE:
                    self._asked.add(name)
                    self._step.tell.append(name)
                    room, told = room - 1, told + 1
            quota = self._waves[self.run.wave].quota(told + len(self._queue))
        self._rate.give_back(room)

    def _put_back(self) -> None:
        while self._restore and len(self._asked) < AT_ONCE_MAX:
            name = self._restore.popleft()
            self._asked.add(name)
            self._step.restore.append(name)
        if not self._restore and not self._asked:
            self._move(State.ROLLED_BACK, self.run.reason)
            self._announce("RolledBack", reason=self.run.reason)

    def _gather_restores(self) -> None:
        changed = [one.name for one in self._ledger.of(TOLD_ONCE) if one.changed]
        self._restore = deque(sorted(changed, key=self._place))

    # ---- ends -----------------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        bad, settled = self._sample()
        reason = f"{why}: {bad} of {settled} failed or silent, {self.plan.budget:.1%} are allowed"
        match self.plan.on_failure:
            case OnFailure.PAUSE:
                self._pause(reason)
            case OnFailure.ABORT:
                self._abort(reason)
            case OnFailure.ROLLBACK:
                self._roll_back(reason)

    def _pause(self, reason: str) -> None:
        self._move(State.PAUSED, reason)
        self._announce("RolloutPaused", reason=reason)

    def _abort(self, reason: str) -> None:
        self._move(State.ABORTED, reason)
        self._announce("RolloutAborted", reason=reason, roll_back=False)

    def _roll_back(self, reason: str) -> None:
        self._announce("RolloutAborted", reason=reason, roll_back=True)
        self._move(State.ROLLING_BACK, reason)
        self._gather_restores()

    def _move(self, state: State, reason: str, **changes: int) -> None:
        self.run = replace(self.run, state=state, reason=reason, since_utc_ms=self._now_ms, **changes)
        self._step.run = self.run

    def _announce(self, kind: str, **data: Any) -> None:
        counts = {str(state): count for state, count in sorted(self.counts.items()) if count}
        self._step.events.append((kind, {"rollout": self.key, **data, "counts": counts}))

    # ---- nodes ----------------------------------------------------------------------------------

    def _take(self, news: News) -> None:
        if isinstance(news, Joined):
            if news.node not in self.nodes and self.plan.continuous and not self.is_over:
                self._ledger.add(news.node)
                self._wait(news.node)
            return
        node = self.nodes.get(news.node)
        if node is None:
            return
        match news:
            case Back():
                if node.name in self._away:
                    self._away.discard(node.name)
                    self._queue.append(node.name)
            case Told() | NotTold() | Restored():
                self._asked.discard(node.name)
                self._ledger.put(follow.outcome(node, news, self.run.wave), self._now_ms)
                if isinstance(news, Told) and news.changed and self.run.state is State.ROLLING_BACK:
                    self._restore.append(node.name)
            case _:
                verdict = follow.verdict(self.plan, node, news) if self._follows(node) else None
                if verdict is not None:
                    self._set(node.name, *verdict)

    def _follows(self, node: NodeRun) -> bool:
        """True where the node's word may change something."""
        if self.is_over or node.state not in TOLD_ONCE or not node.revision:
            return False
        return node.state is not NodeState.VERIFIED or self.plan.healthy

    def _set(self, name: str, state: NodeState, reason: str = "") -> None:
        self._ledger.put(replace(self.nodes[name], state=state, reason=reason), self._now_ms)

    def _wait(self, name: str) -> None:
        if self._look(name) is Presence.AWAY:
            self._away.add(name)
        else:
            self._queue.append(name)

    def _place(self, name: str) -> bytes:
        return hashlib.sha256(f"{self.key}/{name}".encode()).digest()

    def _wake_ms(self, hearing_since_ms: int | None) -> int | None:
        state = self.run.state
        if self.is_over or hearing_since_ms is None:
            return self._now_ms if state is State.ROLLING_BACK and self._restore else None
        found = [] if self._ledger.next_ms is None else [self._ledger.next_ms]
        if state is State.BAKING:
            found.append(self._bake_ends_ms)
        if state is State.ROLLING_BACK and self._restore:
            found.append(self._now_ms)
        tells = state in (State.RUNNING, State.COMPLETED) and self._queue and self.told < self._quota(self.run.wave)
        if tells:
            found.append(self._rate.next_ms(self._now_ms))
        return min(found, default=None)
