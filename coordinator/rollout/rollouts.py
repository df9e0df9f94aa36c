"""Roll-outs as they run: the driver of all engines. One task steps them and carries out what they ask for.

What nodes say comes from ingest, after it is durable; what operators want by the functions. A step is carried out in
one transaction; what came of it is the news of the next. After a restart all goes on from the store.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from coordinator.fleet.registry import Fleet
from coordinator.fleet.registry import NodeState as Alive
from coordinator.fleet.selector_text import parse
from coordinator.ingest.decode import News as Heard
from coordinator.models.channels import Deployable
from coordinator.models.release import ModelRefusedError
from coordinator.rollout.arguments import AbortOf, OfRollout, StatusOf
from coordinator.rollout.beginning import Beginning, Find, IsMeant, Own
from coordinator.rollout.engine import Engine, OrderRefusedError
from coordinator.rollout.live import Live, check_room
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.state import (
    FETCHES,
    UNDER_WAY,
    Joined,
    News,
    NodeState,
    Presence,
    Reported,
    State,
    Step,
)
from coordinator.store import documents, rollouts
from coordinator.store.patience import patiently
from coordinator.store.rollouts import Done, IdTakenError, Kept
from coordinator.store.sql import SqlStore
from coordinator.store.store import Committed
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from runtime.database import Job
from runtime.machine_time import machine_time
from schemas import documents as wire
from schemas.shape import fields_of

log = logging.getLogger(__name__)

T = TypeVar("T")
COMPLETED_MAX = 5  # that go on, each with all its nodes in memory
JOINED_AT_ONCE = 500
BACKLOG_MAX = 5000  # documents: beyond it they would have to be read from the disk again, one by one
BACKLOG_EVERY_S = 0.05
UNANSWERED = UNDER_WAY | FETCHES | {NodeState.SILENT, NodeState.UNSTEADY}


class Rollouts:
    """All of one coordinator. `publish`: a node's desired document is this one now."""

    def __init__(
        self,
        store: SqlStore,
        fleet: Fleet,
        publish: Callable[[str, wire.Desired], None],
        steady_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
        find: Find | None = None,
    ) -> None:
        """`find`: a release that may be given to nodes; without it there are no models."""
        self._store = store
        self._fleet = fleet
        self._publish = publish
        self._steady_ms = steady_ms
        self._beginning = Beginning(store, fleet, find or _no_models)
        self._ahead_ms = 0  # of UTC over the steady clock
        self._live: dict[str, Live] = {}
        self._hearing_since_ms: int | None = None  # steady
        self._wake = asyncio.Event()
        self._loaded = asyncio.Event()
        self._starting = asyncio.Lock()
        self.on_events: Callable[[], None] = lambda: None
        self.backlog: Callable[[], int] = lambda: 0  # documents that are still to be published
        self.on_state: Callable[[str, State], None] = lambda key, state: None  # of a roll-out; it is durable

    async def run(self) -> None:
        """Until cancelled. Begins with what the store has, also where an earlier run of it failed."""
        self._loaded.clear()
        await self._load()
        self._loaded.set()
        while True:
            now_ms = self._now_ms()
            for live in list(self._live.values()):
                if live.is_due or (live.wake_ms is not None and live.wake_ms <= now_ms):
                    await self._advance(live)
            await self._sleep()

    async def _load(self) -> None:
        now_ms = await self._until_done(lambda db: documents.utc_ms(db, machine_time()))
        self._ahead_ms = now_ms - self._steady_ms()
        for key in list(self._live):
            self._drop(key)
        for kept in await self._until_done(rollouts.load):
            live = self._made(kept)
            if not live.engine.is_idle:
                self._add(live)
                silent = [name for name, node in live.engine.nodes.items() if node.state in UNANSWERED]
                for said in await self._last_words(silent):
                    live.tell_report(said)
        self._let_go()
        self._wake.set()

    async def _last_words(self, nodes: list[str]) -> list[Reported]:
        return await self._until_done(lambda db: rollouts.last_words(db, nodes)) if nodes else []

    def _made(self, kept: Kept) -> Live:
        engine = Engine(kept.id, kept.plan, kept.run, kept.nodes, self._look, self._spares)
        return Live(kept, engine)

    def _add(self, live: Live) -> None:
        """From now on it is stepped; one that is continuous follows its selector."""
        self._live[live.kept.id] = live
        if live.kept.plan.continuous and not live.engine.is_over:
            selections, key = self._fleet.selections, _selection(live.kept.id)
            chosen = selections.add(key, parse(live.kept.plan.select), self._fleet.nodes.values())
            chosen.on_change = functools.partial(self._chosen, live)
            for name in chosen.members:
                live.chosen(name, joined=True)

    def _chosen(self, live: Live, name: str, joined: bool) -> None:
        live.chosen(name, joined=joined)
        self._wake.set()

    def _drop(self, key: str) -> None:
        self._live.pop(key, None)
        self._fleet.selections.remove(_selection(key))

    async def _advance(self, live: Live) -> None:
        """Steps it until it has nothing more to do just now, and no faster than documents are published."""
        while True:
            while self.backlog() > BACKLOG_MAX and not live.asked:
                await asyncio.sleep(BACKLOG_EVERY_S)
            joined = await patiently("roll-outs wait", lambda: self._join(live)) if live.joining else []
            news = [*live.outcomes, *live.news.values(), *joined]
            asked, live.outcomes, live.asked = live.asked, [], []
            live.news.clear()
            since_ms = None if self._hearing_since_ms is None else self._hearing_since_ms + self._ahead_ms
            step = live.engine.step(self._now_ms(), since_ms, news)
            live.wake_ms = step.wake_utc_ms
            if not step.is_empty:
                done = await self._carry_out(live.kept, step)
                if done.forgotten:
                    self._drop(live.kept.id)
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
            if not live.outcomes and not live.joining:
                break
        if live.engine.is_idle and not live.is_due:
            self._drop(live.kept.id)
        self._let_go()

    def _let_go(self) -> None:
        """Completed ones go on waiting for who is away, or joins, but not all of them for ever."""
        done = [live for live in self._live.values() if live.engine.run.state is State.COMPLETED and not live.asked]
        for live in sorted(done, key=lambda live: live.kept.number)[:-COMPLETED_MAX]:
            self._drop(live.kept.id)

    async def _carry_out(self, kept: Kept, step: Step) -> Done:
        for kind, data in step.events:
            log.info("%s %s %s", kind, kept.id, data.get("reason", ""))

        def job(db: Any) -> tuple[Done, list[Any]]:
            done = rollouts.carry_out(db, kept, step, machine_time())
            return done, done.events

        return await patiently("roll-outs wait", lambda: self._store.run_telling(job))

    async def _until_done(self, job: Job[T]) -> T:
        return await patiently("roll-outs wait", lambda: self._store.run(job))

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
                live.hear(one, committed, self._look)
        if any(live.news or live.joining for live in self._live.values()):
            self._wake.set()

    async def _join(self, live: Live) -> list[News]:
        """Nodes that came to be selected, with what a model means for each."""
        names, plan, found = list(live.joining)[:JOINED_AT_ONCE], live.kept.plan, list[News]()
        if not plan.model:
            found = [Joined(name) for name in names]
        elif (deployment := await self._beginning.again(plan)) is None:
            found = [Joined(name, excluded=f"{plan.model} is given to nobody any more") for name in names]
        else:
            fits = await self._beginning.fits(deployment, names)
            live.unheard |= {name for name, fit in fits.items() if fit.unheard}
            found = [Joined(name, fit.own, fit.excluded) for name, fit in fits.items() if not fit.unheard]
        for name in names:
            live.joining.pop(name, None)
        return found

    def _look(self, name: str) -> Presence:
        node = self._fleet.nodes.get(name)
        if node is None:
            return Presence.GONE
        return Presence.HERE if node.state is Alive.ONLINE and not node.window else Presence.AWAY

    def _spares(self, name: str) -> bool:
        """No answer of a node that flaps, or that somebody works on, means nothing."""
        node = self._fleet.nodes.get(name)
        return node is not None and bool(node.flap.flaps or node.window)

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

    async def start(
        self,
        asked: Plan,
        own: Own | None = None,
        names: Sequence[str] | None = None,
        is_meant: IsMeant = lambda found: "",
    ) -> dict[str, Any]:
        """Begins a roll-out. Raises CallRejectedError with every reason why it cannot be.

        From inside nodes may be named: those of `own` with the fields of their own beside those of the plan (None
        takes one back), or `names`. The plan's `select` is then for people.
        """
        await self._loaded.wait()
        async with self._starting:
            begun = await self._beginning.prepare(asked, own, names, is_meant)
            check_room(begun, self._live.values())
            plan, now_ms = begun.plan, self._now_ms()
            try:
                kept = await self._store.run(
                    lambda db: rollouts.begin(db, plan, begun.names, now_ms, begun.own, begun.excluded)
                )
            except IdTakenError as error:
                raise CallRejectedError("taken", str(error)) from error
            live = await asyncio.to_thread(self._made, kept)  # of a large fleet it takes its time
            self._add(live)
        self._wake.set()
        here = sum(self._look(name) is Presence.HERE for name in begun.names)
        more = {"model": plan.model, "excluded": len(begun.excluded)} if plan.model else {}
        return {"id": kept.id, "nodes": len(begun.names), "here": here, **more}

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
        if key not in self._live:
            self._add(live)
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


def _selection(key: str) -> str:
    return f"roll-out {key}"


async def _no_models(reference: str) -> Deployable:
    raise ModelRefusedError(f"{reference}: there is no model registry here")
