"""Workloads as they run: the driver of the scheduler. One task steps it and carries out what it asks for.

What nodes say comes from ingest, after it is durable; what becomes of nodes from the fleet; what operators want by
the functions. A step is carried out in one transaction; what came of it is the news of the next. Nothing is polled: a
node that is lost wakes the task at once. After a restart all goes on from the store.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from coordinator.fleet.registry import Fleet
from coordinator.ingest.decode import News as Heard
from coordinator.rollout.rollouts import Rollouts
from coordinator.rollout.state import State as RolloutState
from coordinator.schedule.arguments import (
    DrainNode,
    OfWorkload,
    ScaleTo,
    UndrainNode,
    WhyOf,
    WorkloadStatusOf,
    parse_workload_call,
)
from coordinator.schedule.index import Index
from coordinator.schedule.scheduler import OrderRefusedError, Scheduler
from coordinator.schedule.state import Beat, Changed, Drain, Kept, News, Said, Step, UpdateOver
from coordinator.schedule.workload import Workload, update_plan
from coordinator.store import documents, schedule, schedule_views
from coordinator.store.patience import patiently
from coordinator.store.schedule import Done, Loaded
from coordinator.store.sql import SqlStore
from coordinator.store.store import Committed
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Call, Served, plain
from runtime.errors import TemporaryError
from runtime.machine_time import machine_time
from schemas import documents as wire
from schemas.messages import Heartbeat
from schemas.shape import fields_of
from schemas.topics import check_node_name

log = logging.getLogger(__name__)

T = TypeVar("T")
AT_ONCE = 500  # nodes, before others may have the loop
ENDED = frozenset({RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.ROLLED_BACK})


@dataclass(slots=True)
class _Inbox:
    """What the next step is told; of a node the newest of each kind."""

    changed: dict[str, None] = field(default_factory=dict)  # nodes of the fleet that are to be looked at again
    said: dict[str, Said] = field(default_factory=dict)
    beats: dict[str, Heartbeat] = field(default_factory=dict)
    over: dict[str, None] = field(default_factory=dict)  # roll-outs that have ended
    outcomes: list[News] = field(default_factory=list)  # of the step before
    asked: list["asyncio.Future[None]"] = field(default_factory=list)  # orders that are not durable yet

    @property
    def is_empty(self) -> bool:
        return not (self.changed or self.said or self.beats or self.over or self.outcomes or self.asked)


class Schedules:
    """All of one coordinator. `publish`: a node's desired document is this one now."""

    def __init__(
        self,
        store: SqlStore,
        fleet: Fleet,
        rollouts: Rollouts,
        publish: Callable[[str, wire.Desired], None],
        steady_ms: Callable[[], int] = lambda: time.monotonic_ns() // 1_000_000,
    ) -> None:
        self._store = store
        self._fleet = fleet
        self._rollouts = rollouts
        self._publish = publish
        self._steady_ms = steady_ms
        self._ahead_ms = 0  # of UTC over the steady clock
        self._scheduler: Scheduler | None = None  # none before there is a workload
        self._inbox = _Inbox()
        self._wake_ms: int | None = None
        self._hearing_since_ms: int | None = None  # steady
        self._building = False
        self._unread: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._loaded = asyncio.Event()
        self._ordering = asyncio.Lock()
        self.step_ms_max = 0.0  # the longest decision so far
        self.on_events: Callable[[], None] = lambda: None
        fleet.on_change = self.changed
        rollouts.on_state = self._rollout_changed

    async def run(self) -> None:
        """Until cancelled. Begins with what the store has, also where an earlier run of it failed."""
        self._loaded.clear()
        self._scheduler = None
        for one in self._inbox.asked:
            if not one.done():
                one.set_exception(TemporaryError("the scheduler begins anew", hint="ask again in a moment"))
        now_ms = await self._until_done(lambda db: documents.utc_ms(db, machine_time()))
        self._ahead_ms = now_ms - self._steady_ms()
        loaded = await self._until_done(schedule.load)
        if loaded.kept or loaded.drains:
            await self._build(loaded)
        self._loaded.set()
        while True:
            await self._advance()
            await self._sleep()

    def figures(self) -> dict[str, float]:
        if self._scheduler is None:
            return {}
        return {**self._scheduler.figures, "schedule_ms_max": round(self.step_ms_max, 3)}

    # ---- at the start ---------------------------------------------------------------------------

    async def _build(self, loaded: Loaded) -> Scheduler:
        """From what is kept and from the fleet. What changes meanwhile is looked at by the first step."""
        for name, why in loaded.unread.items():
            log.error("workload %s is passed over: %s", name, why)  # written by a later version, perhaps
        self._unread, self._building = loaded.unread, True
        index, self._inbox = Index(), _Inbox()
        for at, node in enumerate(list(self._fleet.nodes.values())):
            index.put(node)
            if at % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
        for name in list(self._inbox.changed):
            if name not in self._fleet.nodes:
                index.remove(name)
        kept = (loaded.kept, loaded.placements, loaded.drains, loaded.avoided, loaded.generations)
        self._scheduler, self._building = Scheduler(index, *kept, self._now_ms()), False
        after = ""
        while found := await self._store.read(lambda db: schedule.last_words(db, after, AT_ONCE)):  # noqa: B023
            for said in found:
                self._inbox.said.setdefault(said.node, said)
            after = found[-1].node
        for workload in loaded.kept:
            if workload.rollout:
                await self._resume(self._scheduler, workload)
        return self._scheduler

    async def _resume(self, scheduler: Scheduler, kept: Kept) -> None:
        """An update that was begun, or was rolled back, just before we were killed."""
        if kept.updating and not await self._store.read(lambda db: schedule.is_begun(db, kept.rollout)):
            assert kept.other is not None, "it is updated to something"
            try:
                await self._start_rollout(kept, kept.other, scheduler.updated_nodes(kept.name))
            except CallRejectedError as error:
                log.error("%s is not updated: %s", kept.name, error)
                scheduler.cancel_update(kept.name, self._now_ms())
        self._inbox.over[kept.rollout] = None

    # ---- steps ----------------------------------------------------------------------------------

    async def _advance(self) -> None:
        """Steps it until it has nothing more to do just now."""
        scheduler = self._scheduler
        if scheduler is None:
            return
        while not self._inbox.is_empty or (self._wake_ms is not None and self._wake_ms <= self._now_ms()):
            inbox, self._inbox = self._inbox, _Inbox()
            news: list[News] = [*inbox.outcomes]
            news += [Changed(name, self._fleet.nodes.get(name)) for name in inbox.changed]
            news += [Beat(name, beat) for name, beat in inbox.beats.items()]
            news += inbox.said.values()
            news += [over for key in inbox.over if (over := await self._ended(key)) is not None]
            since_ms = None if self._hearing_since_ms is None else self._hearing_since_ms + self._ahead_ms
            began_s = time.perf_counter()
            step = scheduler.step(self._now_ms(), since_ms, news)
            self.step_ms_max = max(self.step_ms_max, (time.perf_counter() - began_s) * 1000)
            self._wake_ms = step.wake_utc_ms
            if not step.is_empty:
                done = await self._carry_out(step)
                self._inbox.outcomes += done.news
                for node, document in done.due.items():
                    self._publish(node, document)
                if done.events:
                    self.on_events()
            for one in inbox.asked:
                if not one.done():
                    one.set_result(None)
            await asyncio.sleep(0)

    async def _ended(self, rollout: str) -> UpdateOver | None:
        return await self._until_done(lambda db: schedule.update_over(db, rollout))

    async def _carry_out(self, step: Step) -> Done:
        def job(db: Any) -> tuple[Done, list[Any]]:
            done = schedule.carry_out(db, step, machine_time())
            return done, done.events

        done = await patiently("workloads wait", lambda: self._store.run_telling(job))
        for event in done.events:
            log.info("%s %s", event.type, json.dumps(event.data, ensure_ascii=False))
        return done

    async def _until_done(self, job: Callable[[Any], T]) -> T:
        return await patiently("workloads wait", lambda: self._store.run(job))

    async def _sleep(self) -> None:
        """Until something is heard, or due."""
        due_ms = self._wake_ms
        try:
            async with asyncio.timeout(None if due_ms is None else max(0.0, (due_ms - self._now_ms()) / 1000)):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    # ---- what is heard --------------------------------------------------------------------------

    def broker(self, *, heard: bool) -> None:
        """The coordinator's own link is up or down."""
        self._hearing_since_ms = self._steady_ms() if heard else None
        if self._scheduler is not None:
            self._wake_ms = 0
            self._wake.set()

    def changed(self, name: str) -> None:
        """A node of the fleet is another now, or gone."""
        if self._scheduler is not None or self._building:  # else whoever builds looks at all of them
            self._inbox.changed[name] = None
            self._wake.set()

    def heard(self, news: list[tuple[Heard, bytes]], committed: Committed) -> None:
        """It is durable now, and the fleet knows of it."""
        if self._scheduler is None:
            return
        book = self._scheduler.book
        for one, _ in news:
            match one.document:
                case wire.Reported() as said if committed.reported.get(one.node) == said.hash and one.node in book.on:
                    report = {name: getattr(said, name) for name in ("epoch", "revision", "fields", "refused")}
                    self._inbox.said[one.node] = schedule.said_of(one.node, report)
                    self._wake.set()
                case Heartbeat() as beat:
                    book.index.beat(one.node, beat)
                    if one.node in book.on and self._scheduler.wants_beats(one.node):
                        self._inbox.beats[one.node] = beat
                        self._wake.set()

    def _rollout_changed(self, key: str, state: RolloutState) -> None:
        if state in ENDED and self._scheduler is not None and self._scheduler.is_update(key):
            self._inbox.over[key] = None
            self._wake.set()

    def _now_ms(self) -> int:
        return self._steady_ms() + self._ahead_ms

    # ---- what operators want --------------------------------------------------------------------

    def functions(self) -> list[Served]:
        async def apply(call: Call, given: Workload) -> Any:
            return await self.apply(given)

        return [
            Served("applyWorkload", parse_workload_call, apply),
            plain("scaleWorkload", ScaleTo, self.scale),
            plain("removeWorkload", OfWorkload, self.remove),
            plain("workloadStatus", WorkloadStatusOf, self.status),
            plain("whyWorkload", WhyOf, self.why),
            plain("drainNode", DrainNode, self.drain),
            plain("undrainNode", UndrainNode, self.undrain),
        ]

    async def apply(self, asked: Workload) -> dict[str, Any]:
        """Declares a workload, or changes one: another spec reaches its nodes by a roll-out."""
        scheduler = await self._there()
        if asked.name in self._unread:
            raise CallRejectedError("unreadable", f"{asked.name} was declared by a later version; remove it there")
        async with self._ordering:
            if not scheduler.needs_update(asked):
                kept = await self._order(lambda: scheduler.apply(asked, self._now_ms()))
                return {"name": kept.name, "generation": kept.generation, "rollout": "", "nodes": 0}
            kept, names = await self._order(lambda: scheduler.begin_update(asked, self._now_ms()))
            try:
                await self._start_rollout(kept, asked, names)
            except CallRejectedError:
                await self._order(lambda: scheduler.cancel_update(kept.name, self._now_ms()))
                raise
        generation = kept.other_generation
        return {"name": kept.name, "generation": generation, "rollout": kept.rollout, "nodes": len(names)}

    async def _start_rollout(self, kept: Kept, asked: Workload, names: list[str]) -> None:
        """Where no node can run it where it is, there is nothing to roll out: all of it moves."""
        if not names:
            self._inbox.outcomes.append(UpdateOver(kept.rollout, completed=True, rolled_back=False))
            self._wake.set()
            return
        source = f"workload {kept.name}, by {asked.source or 'somebody'}"[:200]
        plan = update_plan(asked, kept.other_generation, source, kept.rollout)
        await self._rollouts.start(plan, names=names)

    async def scale(self, asked: ScaleTo) -> dict[str, Any]:
        """Another number of replicas."""
        scheduler = await self._there()
        kept = await self._order(lambda: scheduler.scale(asked.name, asked.replicas, asked.source, self._now_ms()))
        return {"name": kept.name, "replicas": kept.replicas}

    async def remove(self, asked: OfWorkload) -> dict[str, Any]:
        """It goes from its nodes."""
        scheduler = await self._there()
        kept = await self._order(lambda: scheduler.remove(asked.name, self._now_ms()))
        return {"name": kept.name}

    async def drain(self, asked: DrainNode) -> dict[str, Any]:
        """Nothing new for a node; what is there goes elsewhere."""
        if wrong := check_node_name(asked.node):
            raise CallRejectedError("bad_arguments", f"node: {wrong}", "node")
        scheduler, now_ms = await self._there(), self._now_ms()
        until_ms = 0 if asked.for_s is None else now_ms + round(asked.for_s * 1000)
        drain = Drain(asked.node, now_ms, until_ms, asked.reason, asked.source)
        there = await self._order(lambda: scheduler.drain(drain, self._now_ms()))
        return {"node": asked.node, "replicas": there, "until_utc_ms": until_ms}

    async def undrain(self, asked: UndrainNode) -> dict[str, Any]:
        """The node may be given something again."""
        scheduler = await self._there()
        await self._order(lambda: scheduler.undrain(asked.node, self._now_ms()))
        return {"node": asked.node}

    async def status(self, asked: WorkloadStatusOf) -> dict[str, Any]:
        """How they stand, as it is stored."""
        found = await self._store.read(lambda db: schedule_views.views(db, asked.name))
        if asked.name and not found:
            raise CallRejectedError("unknown_workload", f"there is no workload {asked.name[:70]!r}")
        said: dict[str, Any] = {"workloads": fields_of(found)}
        if asked.name and asked.nodes:
            read = await self._store.read(lambda db: schedule_views.placement_views(db, asked.name, asked.limit))
            said["nodes"] = fields_of(read)
        return said

    async def why(self, asked: WhyOf) -> dict[str, Any]:
        """Why a workload is where it is, and not elsewhere."""
        scheduler = await self._there()
        try:
            found = scheduler.why(asked.name, asked.node, self._now_ms())
            verdict = scheduler.selector_verdict(asked.name, asked.node) if asked.node else None
        except OrderRefusedError as error:
            raise CallRejectedError(error.code, str(error)) from error
        return found if verdict is None else {**found, "selector": fields_of(verdict)}

    async def _there(self) -> Scheduler:
        """The scheduler, which is made with the first order."""
        await self._loaded.wait()
        async with self._ordering:
            return self._scheduler or await self._build(Loaded())

    async def _order(self, give: Callable[[], T]) -> T:
        """What it came to, once that is durable."""
        try:
            answer = give()
        except OrderRefusedError as error:
            raise CallRejectedError(error.code, str(error)) from error
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.asked.append(durable)
        self._wake.set()
        await durable
        return answer
