"""One roll-out's life: what is done next, and when to look again. Pure; time is an argument.

Rules kept here:

- Nodes are told in one order, drawn from the roll-out's id: a wave is a sample of all sites. Who is away is passed
  over and told when it is back; a wave's share is of the nodes that are there.
- A wave ends when as many were told as it asks for and all of them have settled; then it bakes; then comes the next.
- Where something has to be fetched first, a node is told that, ahead of its turn, and has its turn once it holds it.
- When the failure budget is spent, nobody more is told: what goes wrong beyond it was under way already. It is spent
  by those that were told the change, or by those that were told what to fetch; each is a sample of its own.
- A node that flaps, or is in maintenance, holds up nobody and counts as nothing before it is steady.
- Silence counts only while the coordinator itself hears the broker.
- All that counts is in `Run` and `NodeRun`: an engine made from them goes on where the one before was killed. What is
  asked for by `fetch`, `tell` and `restore` is asked for again by the next engine when nothing was written of it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from coordinator.rollout import follow
from coordinator.rollout.budget import SPENT, Budget
from coordinator.rollout.ledger import Ledger
from coordinator.rollout.plan import Ahead, OnFailure, Plan
from coordinator.rollout.rate import Rate
from coordinator.rollout.state import (
    FETCHES,
    FOLLOWED,
    OVER,
    UNDER_WAY,
    Back,
    Joined,
    News,
    NodeRun,
    NodeState,
    Notified,
    NotTold,
    Presence,
    Restored,
    Run,
    State,
    Step,
    Told,
)
from coordinator.rollout.turns import Turns

_MAY_COME = FETCHES | {NodeState.WAITING, NodeState.READY, NodeState.SILENT, NodeState.UNSTEADY}
AT_ONCE_MAX = 1000  # nodes told or put back by one step
RATE_PER_S_MAX = 100_000


class OrderRefusedError(Exception):
    """The roll-out is in no state for that."""


class Engine:
    """One roll-out. `look` says where a node is; it is asked for those whose turn it is, and for all at the start."""

    def __init__(
        self,
        key: str,
        plan: Plan,
        run: Run,
        nodes: Iterable[NodeRun],
        look: Callable[[str], Presence],
        spares: Callable[[str], bool] = lambda name: False,
    ) -> None:
        """`spares`: no answer of this node means nothing, for the time being."""
        self.key = key
        self.plan = plan
        self.run = run
        self._ledger = Ledger(plan, nodes, spares)
        self._budget = Budget(plan, self._ledger)
        self.nodes, self.counts = self._ledger.nodes, self._ledger.counts
        self._waves = plan.steps
        self._turns = Turns(key, self.nodes.values(), look, fetches=bool(plan.prefetch))
        self._rate, self._fetch_rate = Rate(plan.rate_per_s), Rate(plan.fetch_rate_per_s)
        self._grows_since_ms: int | None = None
        self._restore: deque[str] = deque()
        self._asked: set[str] = set()  # to be told or put back; the outcome is the news of the next step
        self._noticed: set[str] = set()  # to be told what to fetch; the same
        self._step = Step()
        self._now_ms = 0
        if run.state is State.ROLLING_BACK:
            self._gather_restores()

    @property
    def is_over(self) -> bool:
        return self.run.state in OVER

    @property
    def told(self) -> int:
        """How many were told, or are just being told."""
        asked = len(self._asked) if self.run.state is not State.ROLLING_BACK else 0
        return self._ledger.told.total() + asked

    @property
    def under_way(self) -> int:
        """How many were told and have not settled."""
        return self._ledger.count(UNDER_WAY) + len(self._asked)

    @property
    def _fetching(self) -> int:
        return self._ledger.count(FETCHES) + len(self._noticed)

    @property
    def _to_come(self) -> int:
        """How many are there and have not been told."""
        return len(self._turns.to_tell) + len(self._turns.to_fetch) + self._fetching

    @property
    def is_spent(self) -> bool:
        """The failure budget is spent: of a sample large enough, too large a share went wrong."""
        return self._budget.is_spent(self.run)

    def wants(self, name: str) -> bool:
        """True where a report or heartbeat of this node may change something; it may answer before we know that it
        was told."""
        node = self.nodes.get(name)
        return node is not None and (name in self._asked or name in self._noticed or self._follows(node))

    def misses(self, name: str) -> bool:
        """True where the node's turn has come, or may come, and it is away."""
        return name in self._turns.away

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
        bad, settled = self._ledger.sample
        fetches = self._ledger.fetches[0]
        self._move(State.RUNNING, "", forgiven=bad, forgiven_of=settled, forgiven_fetches=fetches)

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
        step.wave = self.run.wave
        step.nodes = dict(self._ledger.changed)
        self._ledger.changed.clear()
        step.wake_utc_ms = self._wake_ms(hearing_since_ms)
        return step

    def _advance(self) -> None:
        if self.run.state is State.PENDING:
            self._move(State.RUNNING, "")
            self._announce("RolloutStarted", select=self.plan.select, nodes=len(self.nodes), source=self.plan.source)
        if self.run.state in (State.RUNNING, State.BAKING, State.COMPLETED) and self.is_spent:
            self._fail(SPENT)
        if self.run.state is State.BAKING:
            self._bake()
        if self.run.state in (State.RUNNING, State.BAKING, State.COMPLETED):
            self._fetch()
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
        why = self._budget.why_failed(self.run, is_last=self._is_last)
        if why:
            self._fail(why)
        return bool(why)

    def _bake(self) -> None:
        if self._now_ms < self._bake_ends_ms or self._fails_as_a_wave():
            return
        self._announce("RolloutWaveDone", wave=self.run.wave + 1, waves=len(self._waves), nodes=self.told)
        if self._is_last:
            self._move(State.COMPLETED, "")
            self._announce("RolloutCompleted", nodes=self.told)
            if self.plan.model:
                name, _, version = self.plan.model.partition("@")
                deployed = {"model_id": name, "version": version, "node_count": self.counts[NodeState.VERIFIED]}
                self._step.events.append(("ModelDeployed", {**deployed, "deployment": self.key}))
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

    def _quota(self, wave: int, in_hand: int = 0) -> int:
        return self._waves[wave].quota(self.told + self._to_come + in_hand)

    def _is_told_and_settled(self) -> bool:
        if self.under_way or (self._to_come and self.told < self._quota(self.run.wave)):
            return False
        return self.told > 0 or self._ledger.fetches[0] > 0 or not self._turns.away

    # ---- telling and putting back ---------------------------------------------------------------

    def _fetch(self) -> None:
        """Nodes are told what to fetch."""
        room = self._fetch_rate.take(self._now_ms, min(AT_ONCE_MAX, self._room_to_fetch()))
        for name, is_here in self._turns.take(self._turns.to_fetch) if room else ():
            if not is_here:
                self._set_gone(name)
                continue
            self._noticed.add(name)
            self._step.fetch.append(name)
            room -= 1
            if not room:
                break
        self._fetch_rate.give_back(room)

    def _room_to_fetch(self) -> int:
        """How many more may fetch just now, but for the rate."""
        room = min(len(self._turns.to_fetch), self.plan.fetch_at_once - self._fetching)
        if self.plan.ahead is Ahead.WAVE:
            begun = self.told + len(self._turns.to_tell) + self._fetching
            room = min(room, self._quota(self.run.wave) - begun)
        return max(0, room)

    def _tell(self) -> None:
        room = min(AT_ONCE_MAX, self._quota(self.run.wave) - self.told, len(self._turns.to_tell))
        if room <= 0:
            return
        self._grow()
        room = self._rate.take(self._now_ms, room)
        for name, is_here in self._turns.take(self._turns.to_tell) if room else ():
            if not is_here:
                self._set_gone(name)
                continue
            if self.told >= self._quota(self.run.wave, 1):  # smaller where some are gone, or away
                self._turns.to_tell.appendleft(name)
                break
            self._asked.add(name)
            self._step.tell.append(name)
            room -= 1
            if not room:
                break
        self._rate.give_back(room)

    def _grow(self) -> None:
        """The rate grows from the first that is told, anew after a restart."""
        if self.plan.rate_growth == 1:
            return
        if self._grows_since_ms is None:
            self._grows_since_ms = self._now_ms
        minutes = min(1000.0, (self._now_ms - self._grows_since_ms) / 60_000)
        self._rate.set(min(RATE_PER_S_MAX, self.plan.rate_per_s * self.plan.rate_growth**minutes))

    def _put_back(self) -> None:
        while self._restore and len(self._asked) < AT_ONCE_MAX:
            name = self._restore.popleft()
            self._asked.add(name)
            self._step.restore.append(name)
        if not self._restore and not self._asked:
            self._move(State.ROLLED_BACK, self.run.reason)
            self._announce("RolledBack", reason=self.run.reason)

    def _gather_restores(self) -> None:
        changed = [one.name for one in self._ledger.of(FOLLOWED) if one.changed]
        self._restore = deque(sorted(changed, key=self._turns.place))

    # ---- ends -----------------------------------------------------------------------------------

    def _fail(self, why: str) -> None:
        reason = f"{why}: {self._budget.counted(self.run)}"
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
                state = NodeState.EXCLUDED if news.excluded else NodeState.WAITING
                self._ledger.add(NodeRun(news.node, state, own=news.own, reason=news.excluded))
                self._turns.wait(self.nodes[news.node])
            return
        node = self.nodes.get(news.node)
        if node is None:
            return
        match news:
            case Back():
                self._turns.back(node)
            case Told() | Notified() | NotTold() | Restored():
                self._asked.discard(node.name)
                self._noticed.discard(node.name)
                is_kept = isinstance(news, Notified | Restored) or (isinstance(news, Told) and news.revision > 0)
                self._ledger.put(follow.outcome(node, news, self.run.wave), self._now_ms, kept=is_kept)
                if isinstance(news, Told | Notified) and news.changed and self.run.state is State.ROLLING_BACK:
                    self._restore.append(node.name)
            case _:
                after = follow.verdict(self.plan, node, news) if self._follows(node) else None
                if after is not None:
                    self._follow(node, after)

    def _follow(self, before: NodeRun, after: NodeRun) -> None:
        self._ledger.put(after, self._now_ms)
        if after.state is before.state:
            return
        if after.state is NodeState.READY:
            self._turns.wait(after)
        elif before.state is NodeState.READY:
            self._turns.leave(after.name)

    def _follows(self, node: NodeRun) -> bool:
        """True where the node's word may change something."""
        if self.is_over or node.state not in FOLLOWED or not node.revision:
            return False
        return node.state is not NodeState.VERIFIED or self.plan.healthy

    def _set_gone(self, name: str) -> None:
        gone = replace(self.nodes[name], state=NodeState.EXCLUDED, reason="no longer registered")
        self._ledger.put(gone, self._now_ms)

    def _wake_ms(self, hearing_since_ms: int | None) -> int | None:
        state = self.run.state
        if self.is_over or hearing_since_ms is None:
            return self._now_ms if state is State.ROLLING_BACK and self._restore else None
        found = [] if self._ledger.next_ms is None else [self._ledger.next_ms]
        if state is State.BAKING:
            found.append(self._bake_ends_ms)
        if state is State.ROLLING_BACK and self._restore:
            found.append(self._now_ms)
        tells = state in (State.RUNNING, State.COMPLETED)
        if tells and self._turns.to_tell and self.told < self._quota(self.run.wave):
            found.append(self._rate.next_ms(self._now_ms))
        if (tells or state is State.BAKING) and self._room_to_fetch():
            found.append(self._fetch_rate.next_ms(self._now_ms))
        return min(found, default=None)
