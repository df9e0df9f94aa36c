"""Roll-outs as they run: the driver of all engines. One task steps them and carries out what they ask for.

What nodes say comes from ingest, after it is durable; what operators want by the functions. A step is carried out in
one transaction; what came of it is the news of the next. After a restart all goes on from the store.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from coordinator.fleet.facts import facts_of
from coordinator.fleet.registry import Fleet
from coordinator.fleet.registry import NodeState as Alive
from coordinator.fleet.selector import Selector
from coordinator.fleet.selector_text import parse
from coordinator.ingest.decode import News as Heard
from coordinator.rollout import follow, starting
from coordinator.rollout.arguments import AbortOf, OfRollout, StatusOf
from coordinator.rollout.engine import Engine, OrderRefusedError
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan, plan_mistakes
from coordinator.rollout.state import (
    UNDER_CONTROL,
    UNDER_WAY,
    Back,
    Beat,
    Joined,
    News,
    NodeState,
    Presence,
    Reported,
    State,
    Step,
)
from coordinator.store import documents, rollouts
from coordinator.store.rollouts import Done, IdTakenError, Kept
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Committed
from runtime.backoff import Backoff
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from runtime.errors import TemporaryError
from runtime.machine_time import machine_time
from runtime.sqlite import Job
from schemas import documents as wire
from schemas.messages import Birth, Heartbeat
from schemas.shape import fields_of

log = logging.getLogger(__name__)

T = TypeVar("T")
UNDER_CONTROL_MAX = 20  # at a time
COMPLETED_MAX = 5  # that go on, each with all its nodes in memory
LOOKED_AT_ONCE = 500  # nodes, before others may have the loop
UNANSWERED = UNDER_WAY | {NodeState.SILENT}
RETRY = Backoff(first_s=0.2, max_s=5.0)


@dataclass(slots=True)
class _Live:
    """A roll-out that may still do something."""

    kept: Kept
    engine: Engine
    selector: Selector
    news: dict[tuple[type, str], News] = field(default_factory=dict)  # of a node the newest of each kind
    outcomes: list[News] = field(default_factory=list)  # of the step before
    wake_ms: int | None = 0
    asked: list["asyncio.Future[None]"] = field(default_factory=list)  # orders that are not durable yet

    def tell(self, one: News) -> None:
        self.news[type(one), one.node] = one


class Rollouts:
    """All of one coordinator. `publish`: a node's desired document is this one now."""

    def __init__(
        self,
        store: SqliteStore,
        fleet: Fleet,
        publish: Callable[[str, wire.Desired], None],
        steady_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._publish = publish
        self._steady_ms = steady_ms
        self._ahead_ms = 0  # of UTC over the steady clock
        self._live: dict[str, _Live] = {}
        self._hearing_since_ms: int | None = None  # steady
        self._wake = asyncio.Event()
        self._loaded = asyncio.Event()
        self._starting = asyncio.Lock()
        self.on_events: Callable[[], None] = lambda: None
        self.on_state: Callable[[str, State], None] = lambda key, state: None  # of a roll-out; it is durable

    async def run(self) -> None:
        """Until cancelled. Begins with what the store has, also where an earlier run of it failed."""
        self._loaded.clear()
        await self._load()
        self._loaded.set()
        while True:
            now_ms = self._now_ms()
            for live in list(self._live.values()):
                if live.news or live.asked or (live.wake_ms is not None and live.wake_ms <= now_ms):
                    await self._advance(live)
            await self._sleep()

    async def _load(self) -> None:
        now_ms = await self._until_done(lambda db: documents.utc_ms(db, machine_time()))
        self._ahead_ms = now_ms - self._steady_ms()
        self._live = {}
        for kept in await self._until_done(rollouts.load):
            live = self._made(kept)
            if not live.engine.is_idle:
                self._live[kept.id] = live
                silent = [name for name, node in live.engine.nodes.items() if node.state in UNANSWERED]
                for said in await self._last_words(silent):
                    self._tell_report(live, said)
        self._let_go()
        self._wake.set()

    async def _last_words(self, nodes: list[str]) -> list[Reported]:
        return await self._until_done(lambda db: rollouts.last_words(db, nodes)) if nodes else []

    def _made(self, kept: Kept) -> _Live:
        engine = Engine(kept.id, kept.plan, kept.run, kept.nodes, self._look)
        return _Live(kept, engine, parse(kept.plan.select))

    async def _advance(self, live: _Live) -> None:
        """Steps it until it has nothing more to do just now."""
        while True:
            news = [*live.outcomes, *live.news.values()]
            asked, live.outcomes, live.asked = live.asked, [], []
            live.news.clear()
            since_ms = None if self._hearing_since_ms is None else self._hearing_since_ms + self._ahead_ms
            step = live.engine.step(self._now_ms(), since_ms, news)
            live.wake_ms = step.wake_utc_ms
            if not step.is_empty:
                done = await self._carry_out(live.kept, step)
                if done.forgotten:
                    self._live.pop(live.kept.id, None)
                live.outcomes = done.news
                for node, document in done.due.items():
                    self._publish(node, document)
                if step.events:
                    self.on_events()
                if step.run is not None:
                    self.on_state(live.kept.id, step.run.state)
            for one in asked:
                if not one.done():
                    one.set_result(None)
            if not live.outcomes:
                break
        if live.engine.is_idle and not live.news and not live.asked:
            self._live.pop(live.kept.id, None)
        self._let_go()

    def _let_go(self) -> None:
        """Completed ones go on waiting for who is away, or joins, but not all of them for ever."""
        done = [live for live in self._live.values() if live.engine.run.state is State.COMPLETED and not live.asked]
        for live in sorted(done, key=lambda live: live.kept.number)[:-COMPLETED_MAX]:
            del self._live[live.kept.id]

    async def _carry_out(self, kept: Kept, step: Step) -> Done:
        for kind, data in step.events:
            log.info("%s %s %s", kind, kept.id, data.get("reason", ""))

        def job(db: Any) -> tuple[Done, list[Any]]:
            done = rollouts.carry_out(db, kept, step, machine_time())
            return done, done.events

        return await self._patiently(lambda: self._store.run_telling(job))

    async def _until_done(self, job: Job[T]) -> T:
        return await self._patiently(lambda: self._store.run(job))

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A disk that refuses is waited out: nothing was changed by then."""
        attempt = 0
        while True:
            try:
                return await ask()
            except TemporaryError as error:
                log.log(logging.DEBUG if attempt else logging.ERROR, "roll-outs wait for the store: %s", error)
                await asyncio.sleep(RETRY.delay_s(attempt, 0.5))
                attempt += 1

    async def _sleep(self) -> None:
        """Until something is heard, or due."""
        due = min((live.wake_ms for live in self._live.values() if live.wake_ms is not None), default=None)
        try:
            async with asyncio.timeout(None if due is None else max(0.0, (due - self._now_ms()) / 1000)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    # ---- what is heard --------------------------------------------------------------------------

    def broker(self, *, heard: bool) -> None:
        """The coordinator's own link is up or down."""
        self._hearing_since_ms = self._steady_ms() if heard else None
        for live in self._live.values():
            live.wake_ms = 0
        self._wake.set()

    def heard(self, news: list[tuple[Heard, bytes]], committed: Committed) -> None:
        """It is durable now, and the fleet knows of it."""
        if not self._live:
            return
        for one, _ in news:
            for live in self._live.values():
                self._tell(live, one, committed)
        if any(live.news for live in self._live.values()):
            self._wake.set()

    def _tell(self, live: _Live, one: Heard, committed: Committed) -> None:
        name, engine = one.node, live.engine
        if engine.misses(name) and self._look(name) is Presence.HERE:
            live.tell(Back(name))
        match one.document:
            case wire.Reported() as said if engine.wants(name) and committed.reported.get(name) == said.hash:
                self._tell_report(live, Reported(name, said.epoch, said.revision, said.fields, said.refused))
            case Heartbeat() as beat if engine.wants(name):
                live.tell(Beat(name, beat.desired_hash, follow.illness(beat)))
            case Birth() if live.kept.plan.continuous and name not in engine.nodes:
                node = self._fleet.nodes.get(name)
                if node is not None and live.selector.matches(facts_of(node)):
                    live.tell(Joined(name))

    @staticmethod
    def _tell_report(live: _Live, said: Reported) -> None:
        """A workload that is on its way is waited for; one that has failed is refused."""
        plan = live.kept.plan
        if not starting.is_starting(plan, said.holds, said.refused):
            live.tell(replace(said, refused={**said.refused, **starting.failed_to_start(plan, said.holds)}))

    def _look(self, name: str) -> Presence:
        node = self._fleet.nodes.get(name)
        if node is None:
            return Presence.GONE
        return Presence.HERE if node.state is Alive.ONLINE else Presence.AWAY

    def _now_ms(self) -> int:
        return self._steady_ms() + self._ahead_ms

    # ---- what operators want --------------------------------------------------------------------

    def functions(self) -> list[Served]:
        return [
            plain("startRollout", Plan, self.start),
            plain("pauseRollout", OfRollout, self.pause),
            plain("resumeRollout", OfRollout, self.resume),
            plain("abortRollout", AbortOf, self.abort),
            plain("rolloutStatus", StatusOf, self.status),
        ]

    async def start(self, asked: Plan, names: list[str] | None = None) -> dict[str, Any]:
        """Begins a roll-out, to these nodes where they are given, whatever it selects. Raises CallRejectedError with
        every reason why it cannot be."""
        if wrong := plan_mistakes(asked):
            raise CallRejectedError("bad_arguments", "; ".join(wrong))
        await self._loaded.wait()
        async with self._starting:
            names = await self._selected(asked.select) if names is None else names
            if not names and not asked.continuous:
                raise CallRejectedError(
                    "nobody", f"no node is selected by {asked.select!r}; edgectl nodes lists them"
                )
            self._check_room(asked, names)
            try:
                kept = await self._store.run(lambda db: rollouts.begin(db, asked, names, self._now_ms()))
            except IdTakenError as error:
                raise CallRejectedError("taken", str(error)) from error
            self._live[kept.id] = await asyncio.to_thread(self._made, kept)  # of a large fleet it takes its time
        self._wake.set()
        here = sum(self._look(name) is Presence.HERE for name in names)
        return {"id": kept.id, "nodes": len(names), "here": here}

    def _check_room(self, asked: Plan, names: Iterable[str]) -> None:
        others = [live for live in self._live.values() if live.engine.run.state in UNDER_CONTROL]
        if len(others) >= UNDER_CONTROL_MAX:
            text = f"{len(others)} roll-outs are under way; at most {UNDER_CONTROL_MAX} may be"
            raise CallRejectedError("too_many", text)
        for live in others:
            both = live.engine.plan.paths & asked.paths
            node = next((name for name in names if name in live.engine.nodes), None) if both else None
            if node is not None:
                text = f"the roll-out {live.kept.id} is {live.engine.run.state} and writes {', '.join(sorted(both))}"
                hint = "wait for its end, or edgectl rollout abort it"
                raise CallRejectedError("overlaps", f"{text} of {node} too; {hint}")

    async def _selected(self, select: str) -> list[str]:
        selector, found = parse(select), []
        for at, node in enumerate(list(self._fleet.nodes.values())):
            if selector.matches(facts_of(node)):
                found.append(node.name)
            if at % LOOKED_AT_ONCE == LOOKED_AT_ONCE - 1:
                await asyncio.sleep(0)
        return found

    async def pause(self, asked: OfRollout) -> dict[str, Any]:
        """Nobody more is told."""
        reason = f"paused by {asked.source or 'somebody'}"
        return await self._order(asked.id, lambda engine: engine.pause(self._now_ms(), reason))

    async def resume(self, asked: OfRollout) -> dict[str, Any]:
        """Goes on where it was paused, by whomever."""
        return await self._order(asked.id, lambda engine: engine.resume(self._now_ms()))

    async def abort(self, asked: AbortOf) -> dict[str, Any]:
        """Ends it, putting the former values back where that is wanted."""
        reason = f"aborted by {asked.source or 'somebody'}"
        return await self._order(
            asked.id, lambda engine: engine.abort(self._now_ms(), reason, roll_back=asked.roll_back)
        )

    async def _order(self, key: str, give: Callable[[Engine], None]) -> dict[str, Any]:
        await self._loaded.wait()
        live = self._live.get(key)
        if live is None:
            for kept in await self._store.run(lambda db: rollouts.load(db, key)) if key else []:
                live = self._live.get(key) or self._made(kept)
        if live is None:
            raise CallRejectedError("unknown_rollout", f"there is no roll-out {key[:70]!r}; edgectl rollout ls")
        try:
            give(live.engine)
        except OrderRefusedError as error:
            raise CallRejectedError("wrong_state", f"{key}: {error}"[:REASON_CHARS_MAX]) from error
        durable = asyncio.get_running_loop().create_future()
        live.asked.append(durable)
        self._live[key] = live
        self._wake.set()
        await durable
        return {"id": key, "state": live.engine.run.state.value}

    async def status(self, asked: StatusOf) -> dict[str, Any]:
        """How far they are, as it is stored."""
        found = await self._store.read(lambda db: rollouts.views(db, asked.id))
        if asked.id and not found:
            raise CallRejectedError("unknown_rollout", f"there is no roll-out {asked.id[:70]!r}; edgectl rollout ls")
        said: dict[str, Any] = {"rollouts": fields_of(found)}
        if asked.id and asked.nodes:
            read = await self._store.read(lambda db: rollouts.node_views(db, asked.id, asked.state, asked.limit))
            said["nodes"] = fields_of(read)
        return said
