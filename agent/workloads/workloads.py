"""Runs what the desired document wants beside the configuration: the driver of the machines.

Each workload has a task of its own that asks its machine what to do and tells its runner. What changes is written to
`workloads.db`, told as an event and reported, all in one place.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.documents.plan import spec_path
from agent.documents.standing import Standing as Fields
from agent.workloads.command_line import mark_of
from agent.workloads.containers import ContainerRunner
from agent.workloads.fit import Room, allocated, too_much
from agent.workloads.machine import Do, Ended, Machine, Now, Pace, Phase, Standing, Told
from agent.workloads.record import Announce, Record
from agent.workloads.runner import Runner
from agent.workloads.settings import OnStop, WorkloadSettings
from agent.workloads.store import WorkloadsFile
from runtime.errors import EdgewrightError, TemporaryError
from schemas.workloads import WorkloadReport, WorkloadSpec, WorkloadState, WorkloadType, plain

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # for orders of `edge-agent workloads`, and for what could not be written
STARTS_MAX = 2  # begin at a time: a node that comes up does not load everything at once
SWEEP_RETRY_S = 60.0
STOP_RETRY_S = 5.0  # an engine that does not stop a container is asked again
LAST_GRACE_S = 10.0  # of everything, when the agent itself stops


@dataclass(slots=True)
class _One:
    """A workload with what keeps it."""

    name: str
    machine: Machine
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    keeper: "asyncio.Task[None] | None" = None
    work: "asyncio.Task[None] | None" = None
    last: WorkloadSpec | None = None  # begun last: what may have left something behind


class Workloads:
    """One node's. `changed` is called when what `fields` says is another."""

    def __init__(
        self,
        settings: WorkloadSettings,
        store: WorkloadsFile,
        runners: Mapping[WorkloadType, Runner],
        containers: ContainerRunner,
        *,
        room: Room,
        announce: Announce,
    ) -> None:
        self._settings = settings
        self._record = Record(store, announce)
        self._runners = runners
        self._containers = containers
        self._room = room
        self._pace = Pace(
            settings.restart_first_s, settings.restart_max_s, settings.stable_s, settings.crash_loop_max
        )
        self._wanted: dict[str, WorkloadSpec] = {}
        self.named: frozenset[str] = frozenset()
        self._refused: dict[str, Standing] = {}
        self._ones: dict[str, _One] = {}
        self._standings = {
            name: self._remembered(one) for name, one in self._record.kept.items()
        }  # of what is not begun
        self._starts = asyncio.Semaphore(STARTS_MAX)
        self._wake = asyncio.Event()
        self._stopping = False
        self._defect: BaseException | None = None
        self.changed: Callable[[], None] = lambda: None
        self.on_allocated: Callable[[], None] = lambda: None

    # ---- told -------------------------------------------------------------------------------------

    def follow(self, specs: Mapping[str, WorkloadSpec], named: frozenset[str] = frozenset()) -> dict[str, str]:
        """From now on these and no others; returns why some of them are not run, by name. `named`: those that are
        named pipelines, before which a configured one gives way."""
        self.named = named
        refused = {name: why for name, spec in specs.items() if (why := self._runner(spec).refusal(name, spec))}
        rest = {name: spec for name, spec in specs.items() if name not in refused}
        refused |= too_much(rest, self._room, {*self._wanted, *self._standings})
        before = allocated(self._wanted)
        self._wanted = {name: spec for name, spec in rest.items() if name not in refused}
        self._refuse({name: (specs[name], why) for name, why in refused.items()})
        self._wake.set()
        if allocated(self._wanted) != before:
            self.on_allocated()
        return refused

    def noted(self, name: str, state: WorkloadState, reason: str) -> None:
        """By a runner: a workload waits for something, or is well again."""
        if (one := self._ones.get(name)) is not None:
            one.machine.noted(state, reason, _now())
            self._wake.set()

    def wants(self, name: str) -> bool:
        """Whether something of this name is to run."""
        return name in self._wanted

    def is_at_work(self, name: str) -> bool:
        """Whether something of this name runs, or has not ended yet."""
        return name in self._ones

    def stop(self) -> None:
        """`run` ends when everything has stopped, or is left as the configuration says."""
        self._stopping = True
        self._wake.set()

    # ---- asked ------------------------------------------------------------------------------------

    def reports(self) -> dict[str, WorkloadReport]:
        """What the node says of each, by name."""
        known = self._standings | {name: one.machine.standing for name, one in self._ones.items()}
        found = {
            name: known[name].report if name in known else WorkloadReport(WorkloadState.STARTING, spec.generation)
            for name, spec in self._wanted.items()
        }
        return dict(sorted((found | {name: one.report for name, one in self._refused.items()}).items()))

    def fields(self) -> Fields:
        """For the reported document. A spec is pending until it runs, and refused once it was given up."""
        holds, pending, refused = dict[str, Any](), dict[str, str](), dict[str, str]()
        for name, report in self.reports().items():
            holds[f"workloads.{name}.state"] = plain(report)
            path, one = spec_path(name, named=name in self.named), self._ones.get(name)
            if name in self._refused:
                continue  # the plan says so already
            if one is None or one.machine.standing.mark != mark_of(self._wanted[name]):
                pending[path] = "not begun yet"
            elif report.state is WorkloadState.FAILED and one.machine.standing.given_up:
                refused[path] = report.reason
            elif report.state in (WorkloadState.STARTING, WorkloadState.FAILED):
                pending[path] = report.reason or report.state.value
        return Fields(holds, pending, refused)

    def states(self) -> dict[str, str]:
        """For the heartbeat."""
        return {name: report.state.value for name, report in self.reports().items()}

    def allocated(self) -> dict[str, float]:
        """What they reserve together, by the names of a birth."""
        return allocated(self._wanted)

    async def logs(self, name: str, lines: int) -> list[str] | None:
        """The newest lines that a workload said, or else what happened to it; None for one that is not known here."""
        one, spec = self._ones.get(name), self._wanted.get(name)
        if spec is None and one is None and name not in self._refused:
            return None
        spec = spec or (one.last if one else None)
        said = await self._runner(spec).logs(name, lines) if spec else None
        return said if said is not None else await self._record.notes(name, lines)

    # ---- the loop ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop`. Raises what a defect in a keeper raised."""
        sweeping = asyncio.create_task(self._sweep(), name="workloads.sweep")
        try:
            while not self._stopping:
                self._reconcile()
                await self._flush()
                try:
                    async with asyncio.timeout(LOOK_EVERY_S):
                        await self._wake.wait()
                except TimeoutError:
                    pass
                self._wake.clear()
                if self._defect is not None:
                    raise self._defect
                await self._follow_orders()
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await self._shut()
            self._defect = None

    def _reconcile(self) -> None:
        now = _now()
        for name, spec in self._wanted.items():
            mark = mark_of(spec)
            one = self._ones.get(name)
            if one is None:
                machine = Machine(self._pace, spec, mark, self._standings.pop(name, None), now)
                one = self._ones[name] = _One(name, machine)
                one.keeper = asyncio.create_task(self._keep(one), name=f"workload[{name}]")
                one.keeper.add_done_callback(self._keeper_ended)
            else:
                one.machine.want(spec, mark, now)
                one.wake.set()
        self._standings.clear()
        for name, one in self._ones.items():
            if name not in self._wanted:
                one.machine.want(None, "", now)
                one.wake.set()

    async def _flush(self) -> None:
        """What has changed is told, kept and reported."""
        for name, one in self._ones.items():
            self._record.tell(name, one.machine)
        now = {name: one.machine.standing for name, one in self._ones.items()} | self._refused
        if news := self._record.news(now, self._wanted):
            self.changed()
            await self._record.keep(news)

    async def _follow_orders(self) -> None:
        for name, order in await self._record.orders():
            if (one := self._ones.get(name)) is None:
                log.warning("workloads: %s of %s: there is no such workload here", order, name)
                continue
            log.info("workload %s: %s, by an operator at the node", name, order)
            one.machine.order(order, _now())
            one.wake.set()

    async def _sweep(self) -> None:
        """Containers of ours that nobody wants are removed, once after the start."""
        while True:
            try:
                gone = await self._containers.sweep(self._container_names)
            except EdgewrightError as error:
                log.warning("workloads: containers left over cannot be looked for: %s", error)
            else:
                if gone:
                    log.warning("workloads: removed %s, which nobody wants", ", ".join(gone))
                return
            await asyncio.sleep(SWEEP_RETRY_S)

    def _container_names(self) -> set[str]:
        wanted = {name for name, spec in self._wanted.items() if spec.type is WorkloadType.CONTAINER}
        return wanted | {name for name, one in self._ones.items() if one.machine.active is not None}

    # ---- one workload -----------------------------------------------------------------------------

    async def _keep(self, one: _One) -> None:
        """Until it is forgotten."""
        machine = one.machine
        while True:
            self._wake.set()
            step = machine.next(time.monotonic())
            match step.do:
                case Do.START:
                    spec = machine.starting(_now())
                    if one.last is not None and one.last.type is not spec.type:
                        await self._clear(one, one.last)
                    one.last = spec
                    one.work = asyncio.create_task(self._work(one, spec), name=f"workload[{one.name}].work")
                case Do.STOP:
                    active = machine.active
                    machine.stopping(_now())
                    await self._cancel(one)
                    if active is not None:
                        await self._clear(one, active)
                    machine.stopped(_now())
                case Do.FORGET:
                    if one.last is not None:
                        await self._clear(one, one.last)  # an ended container is kept for its logs until then
                    if machine.wanted is None:
                        return
                case Do.WAIT:
                    await _until(one.wake, step.until_s)

    async def _work(self, one: _One, spec: WorkloadSpec) -> None:
        """Begins it and waits for its end; the machine is told."""
        machine, runner = one.machine, self._runner(spec)
        try:
            async with self._starts:
                begun = await runner.start(one.name, spec, resume=machine.resumes)
            machine.running(begun.note, _now(), found=begun.found)
            self._wake.set()
            end = await runner.ended(one.name, spec)
        except EdgewrightError as error:
            if isinstance(error, TemporaryError) and machine.phase is Phase.STARTING:
                log.warning("workload %s cannot be begun: %s", one.name, error)
                machine.vain(str(error), _now())
                one.wake.set()
                return
            end = Ended(False, str(error))
        except Exception as error:
            # Supervision boundary: a defect in one workload must not take the others with it.
            log.exception("workload %s met a defect", one.name)
            end = Ended(False, f"defect: {error!r}")
        log.log(logging.INFO if end.ok else logging.WARNING, "workload %s: %s", one.name, end.reason)
        machine.ended(end, _now())
        one.wake.set()

    async def _cancel(self, one: _One) -> None:
        if one.work is not None:
            one.work.cancel()
            await asyncio.gather(one.work, return_exceptions=True)
            one.work = None

    async def _clear(self, one: _One, spec: WorkloadSpec) -> None:
        """Nothing of it is left when this returns, however long the engine is away."""
        while True:
            try:
                await self._runner(spec).stop(one.name, spec)
            except EdgewrightError as error:
                log.error("workload %s cannot be stopped, tried again in %g s: %s", one.name, STOP_RETRY_S, error)
                await asyncio.sleep(STOP_RETRY_S)
            else:
                return

    def _keeper_ended(self, keeper: "asyncio.Task[None]") -> None:
        for name, one in list(self._ones.items()):
            if one.keeper is keeper and not keeper.cancelled() and keeper.exception() is None:
                self._record.tell(name, one.machine)
                del self._ones[name]
        if not keeper.cancelled() and keeper.exception() is not None:
            self._defect = keeper.exception()
        self._wake.set()

    # ---- the end ----------------------------------------------------------------------------------

    async def _shut(self) -> None:
        ones, self._ones = self._ones, {}
        keepers = [one.keeper for one in ones.values() if one.keeper is not None]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        await asyncio.gather(*(self._shut_one(one) for one in ones.values()))
        for name, one in ones.items():
            self._record.tell(name, one.machine)
        known = self._standings | {name: one.machine.standing for name, one in ones.items()}
        self._standings = {name: one for name, one in known.items() if name in self._wanted}
        await self._record.keep(self._record.news(self._standings | self._refused, self._wanted))

    async def _shut_one(self, one: _One) -> None:
        await self._cancel(one)
        spec = one.machine.active
        if spec is None:
            return
        runner = self._runner(spec)
        if runner.resumes and self._settings.on_stop is OnStop.LEAVE:
            return
        try:
            await runner.stop(one.name, spec, LAST_GRACE_S)
        except EdgewrightError as error:
            log.error("workload %s may still run: %s", one.name, error)
        except Exception:  # supervision boundary: the others are to be stopped all the same
            log.exception("workload %s may still run", one.name)
        else:
            one.machine.shut("the agent was stopped", _now())

    # ---- inside -----------------------------------------------------------------------------------

    def _runner(self, spec: WorkloadSpec) -> Runner:
        return self._runners[spec.type]

    def _remembered(self, standing: Standing) -> Standing:
        """Whatever cannot outlive the agent does not run now."""
        ran = standing.state is WorkloadState.RUNNING
        lost = ran and not self._runners[standing.type].resumes
        return replace(standing, state=WorkloadState.STARTING, reason="the agent ended") if lost else standing

    def _refuse(self, refused: Mapping[str, tuple[WorkloadSpec, str]]) -> None:
        before, self._refused = self._refused, {}
        for name, (spec, why) in refused.items():
            known = before.get(name)
            if known is not None and (known.generation, known.reason) == (spec.generation, why[:500]):
                self._refused[name] = known
                continue
            one = Standing(
                spec.type, WorkloadState.FAILED, spec.generation, reason=why[:500], since_utc_ms=_now().utc_ms
            )
            self._refused[name] = one
            self._record.event(name, Told("WorkloadFailed", one))


def _now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1_000_000)


async def _until(wake: asyncio.Event, until_s: float) -> None:
    """Until it is woken, or the monotonic clock says so."""
    left_s = until_s - time.monotonic()
    try:
        async with asyncio.timeout(None if left_s > 1e9 else max(0.0, left_s)):
            await wake.wait()
    except TimeoutError:
        return
    wake.clear()
