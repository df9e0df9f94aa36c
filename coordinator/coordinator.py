"""The composition root: the wiring of the broker-side process, in the order a message travels."""

import asyncio
import contextlib
import logging
import secrets
import sys
import time
from pathlib import Path
from typing import Any

from coordinator.config import CoordinatorConfig
from coordinator.counters import Counters
from coordinator.documents.documents import Documents
from coordinator.evidence.places import SPOOL_NAME, open_backend
from coordinator.evidence.receiver import Receiver
from coordinator.evidence.spool import Spool
from coordinator.fleet.functions import RETAINED, FleetFunctions
from coordinator.fleet.liveness import Watch
from coordinator.fleet.probe import Probe
from coordinator.fleet.registry import Fleet
from coordinator.hosting.host import coordinator_host
from coordinator.hosting.listening import FleetListening
from coordinator.ingest.decode import News
from coordinator.ingest.inbox import Inbox
from coordinator.ingest.ingest import Ingest
from coordinator.lease.duty import Duty
from coordinator.link.links import BrokerName, Links
from coordinator.link.subscriber import Part
from coordinator.lock import FolderLock
from coordinator.models.mirror import open_blobs
from coordinator.models.registry import Registry, open_http
from coordinator.retention import Retention
from coordinator.rollout.deploy_model import Deploying
from coordinator.rollout.rollouts import Rollouts
from coordinator.schedule.schedules import Schedules
from coordinator.state.judge import Judge
from coordinator.state.view import CoordinatorState
from coordinator.store.place import open_store
from coordinator.store.sql import SqlStore
from coordinator.store.store import Committed
from platforms.assembly import Assembly, assemble
from platforms.settings import PlatformsTable, read_platforms
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.hosted import table_of
from runtime.calls.served import Nothing, Served, plain
from runtime.errors import EdgewrightError, TemporaryError
from runtime.garbage import look_less_often
from runtime.mqtt import Message
from runtime.sdnotify import Notifier
from runtime.supervision import RestartPolicy, Supervisor, feed_watchdog, run_until_signalled
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

COUNTERS_EVERY_S = 2.0
LOOK_EVERY_S = 0.5  # for fleet events that another coordinator stored
DRAIN_S = 10.0  # how long a stopping coordinator finishes what it has already received
GOODBYE_S = 4.0
CALLS_MAX = 64  # under way at a time; one more is rejected
SWITCH_INTERVAL_S = 0.0005  # the store has to wait for the interpreter after each statement: 5 ms, if left alone


class Coordinator:
    """Everything of one process, or of one of several while it leads.

    `run` returns when it was told to stop and has finished what it held.
    """

    def __init__(
        self, config: CoordinatorConfig, store: SqlStore, assembly: Assembly | None = None, part: Part = Part.WHOLE
    ) -> None:
        """Without an `assembly` it has the base platform alone. `part`: FLEET where others take rows too."""
        table, space = config.coordinator, TopicSpace(config.topic_root)
        brokers = [BrokerName(one.name, one.address(place)) for place, one in config.named_brokers()]
        names = [one.name for one in brokers]
        self._store, self._space, self._part = store, space, part
        self._notifier = Notifier.from_environment()
        self._started_s = time.monotonic()

        self._counters = Counters()
        self._inbox = Inbox(self._counters, len(brokers))
        now_ms = time.monotonic_ns() // 1_000_000
        self._fleet = Fleet(store.nodes(), table.liveness, now_ms, config.fleet.rules, store.memory(), names)
        self._assembly = assembly or assemble(PlatformsTable())
        self._platform_problems: list[str] = []
        self.platform_state = CoordinatorState(store, self._assembly.collections)
        catalogue = self._assembly.catalogue
        self._ingest = Ingest(store, self._fleet, self._inbox, self._counters, space, table.batch_limits, catalogue)
        self._ingest.judge = Judge(self._assembly.collections)
        probes = [Probe(config.fleet.probe) for _ in brokers]
        self._watch = Watch(self._fleet, probes, store.boot, self._ingest.nudge)
        self._fleet_functions = FleetFunctions(self._ingest.ask)
        self._documents = Documents(store, space, self._counters, brokers=len(brokers))
        blobs = open_blobs(config.models, config.evidence, table.files)
        self._models = Registry(store, blobs, config.models)
        self._models_http = open_http(config.models, blobs, self._models)
        self._rollouts = Rollouts(store, self._fleet, self._documents.changed, find=self._models.find)
        self._rollouts.backlog = lambda: self._documents.due
        self._deploying = Deploying(self._rollouts, self._fleet)
        self._schedules = Schedules(store, self._fleet, self._rollouts, self._documents.changed)
        self._host = coordinator_host(
            store,
            state=self.platform_state,
            settings=read_platforms(config.platforms, Path())[0].settings,
            announce=lambda: self._announce(),
        )
        self._listening = FleetListening(store, self._assembly.listening(self._host))
        self._calls = Dispatcher(
            table_of(self._functions(), self._assembly.hosting(self._host), self._assembly),
            store.calls,
            responder=COORDINATOR,
            space=space,
            parallel_max=CALLS_MAX,
            links=len(brokers),
        )
        self._links = Links(
            brokers, self._inbox, self._calls, self._counters, store,
            client_id=table.client_id, space=space, part=part,
        )  # fmt: skip

        self._retention_duty = Duty(store, "retention", f"{table.client_id} {secrets.token_hex(4)}")
        self._retention = Retention(store, self._retention_duty, config.store.keep)
        self._receiver: Receiver | None = None
        if config.evidence.enabled:
            spool, backend = Spool(table.files / SPOOL_NAME), open_backend(config.evidence, table.files)
            self._receiver = Receiver(config.evidence, spool, backend, store, space)
            self._links.take_files(self._receiver.put)

        self._links.on_link = self._link_changed
        self._told_of = asyncio.Event()  # fleet events that are not announced yet
        self._ingest.on_fleet_events = self._announce
        self._ingest.on_problem = self._problem_changed
        self._ingest.on_news = self._heard
        self._ingest.on_stale, self._ingest.on_gone = self._clear, self._gone
        self._ingest.names_report = self._documents.names_report
        self._watch.publish = self._links.probe
        self._links.on_probe = self._watch.came_back
        self._rollouts.on_events = self._schedules.on_events = self._announce
        self._documents.publish = self._links.publish_at
        self._documents.where = self._fleet.where
        self._documents.is_registered = self._fleet.nodes.__contains__
        self._documents.is_connected = self._links.connected
        self._documents.has_room = self._links.has_room

    async def run(self) -> None:
        """As a process of its own: until a signal."""
        supervisor = self.start()
        # That the loop runs is what is asked: a disk that hangs is waited out, not restarted against.
        supervisor.supervise("watchdog", lambda: feed_watchdog(self._notifier, lambda: True), stage=3)
        self._notifier.ready(self._summary())
        try:
            await run_until_signalled(supervisor)
        finally:
            self._notifier.stopping()
            await self.end()

    async def end(self) -> None:
        """After the tasks have ended."""
        await self._store_counters()
        self._notifier.close()

    def start(self) -> Supervisor:
        """All its tasks. They stop in the order of the stages: intake and ingest, then the link, then the store."""
        supervisor = Supervisor()
        for_ever = RestartPolicy(restarts_max=None)
        supervisor.supervise("ingest", self._ingest.run, stage=0, stop=self._inbox.close, stop_timeout_s=DRAIN_S)
        if self._receiver is not None:
            supervisor.supervise("evidence", self._receiver.run, for_ever, stage=0)
            supervisor.supervise("evidence-move", self._receiver.move, for_ever, stage=1)
        if self._models_http is not None:
            supervisor.supervise("models-http", self._models_http.run, for_ever, stage=1)
        supervisor.supervise("liveness", self._watch.run, for_ever, stage=1)
        supervisor.supervise("calls", self._until_stopped, stage=1, stop_timeout_s=GOODBYE_S)
        supervisor.supervise("platforms", self._start_platforms, stage=1)
        for name, task in self._listening.tasks():
            supervisor.supervise(f"platform[{name}]", task, for_ever, stage=1, stop_timeout_s=GOODBYE_S)
        supervisor.supervise("documents", self._documents.run, stage=1)
        supervisor.supervise("rollouts", self._rollouts.run, for_ever, stage=1)
        supervisor.supervise("retention-duty", self._retention_duty.run, for_ever, stage=1)
        supervisor.supervise("retention", self._retention.run, for_ever, stage=1)
        supervisor.supervise("schedules", self._schedules.run, for_ever, stage=1)
        supervisor.supervise("counters", self._save_counters, for_ever, stage=1)
        for name, link, stop in self._links.tasks():
            supervisor.supervise(name, link, for_ever, stage=2, stop=stop, stop_timeout_s=GOODBYE_S)
        if self._part is Part.FLEET:
            supervisor.supervise("announcements", self._announce_of_others, for_ever, stage=1)
        look_less_often()
        return supervisor

    # ---- what others may ask --------------------------------------------------------------------

    def _functions(self) -> list[Served]:
        return [
            plain("status", Nothing, self._status),
            self._documents.function(),
            *self._fleet_functions.served(),
            *self._models.functions(),
            *self._rollouts.functions(),
            self._deploying.function(),
            *self._schedules.functions(),
        ]

    async def _start_platforms(self) -> None:
        """What platforms do at the start of their host; one that fails holds back nobody."""
        problems = await self._assembly.start(self._host)
        self._platform_problems = [str(one) for one in problems]
        for problem in problems:
            log.error("%s", problem, exc_info=problem.__cause__)  # somebody else's code: where it went wrong
        self._listening.started()
        await asyncio.Event().wait()

    async def _until_stopped(self) -> None:
        """Calls run beside all this, over connections that come and go."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._calls.stop()

    # ---- what others are told -------------------------------------------------------------------

    async def _status(self, call: Nothing) -> dict[str, Any]:
        return {
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "counters": self._snapshot(),
            "nodes": self._fleet.counts(),
            "brokers": self._links.status(),
            "frozen": {scope or "fleet": one.reason for scope, one in self._fleet.guard.freezes.items()},
            "problem": self._ingest.problem,
            "functions": self._calls.names,
            "platforms": {
                "names": self._assembly.names,
                "problems": self._platform_problems,
                "listeners": self._listening.report(),
            },
            "evidence_problem": self._receiver.problem if self._receiver else "",
        }

    def _snapshot(self) -> dict[str, float]:
        return {
            **self._counters.snapshot(),
            **self._ingest.figures(),
            **(self._receiver.report() if self._receiver else {}),
            **self._retention.figures(),
            **(self._models_http.figures() if self._models_http else {}),
            **self._models.reader.figures(),
            **self._schedules.figures(),
            **self._listening.figures(),
            "calls_refused": self._calls.refused_total,
            "queue_depth": len(self._inbox),
            **self._links.figures(),
            "boot": self._store.boot,
            "saved_utc_ms": time.time_ns() // 1_000_000,
            "uptime_s": round(time.monotonic() - self._started_s, 1),
        }

    def _link_changed(self, broker: int, connected: bool) -> None:
        self._watch.link(broker, up=connected)
        self._rollouts.broker(heard=self._links.is_connected)  # of all: who is at another one is not silent
        self._schedules.broker(heard=self._links.is_connected)
        if connected:
            self._documents.connected(broker)
            self._clear([(Kind.DESIRED, name) for name in self._fleet.tombstones])  # the others are seen, and cleared
        self._notifier.status(self._summary())

    def _gone(self, nodes: list[str]) -> None:
        """They were taken out of the fleet: nothing of them stays at the broker."""
        for node in nodes:
            self._documents.forget(node)
        self._clear([(kind, node) for node in nodes for kind in RETAINED])

    def _clear(self, topics: list[tuple[Kind, str]]) -> None:
        for kind, node in topics:
            self._links.publish(Message(self._space.text(Topic(kind, node)), b"", retain=True))

    def _heard(self, news: list[tuple[News, bytes]], committed: Committed) -> None:
        self._documents.heard(news, committed)
        self._rollouts.heard(news, committed)
        self._schedules.heard(news, committed)

    def _problem_changed(self) -> None:
        self._notifier.status(self._summary())
        self._links.publish_status(self._ingest.problem)

    def _summary(self) -> str:
        if self._ingest.problem:
            return f"cannot store: {self._ingest.problem}"
        if self._links.is_connected:
            return "connected to the broker"
        here = f"{self._links.count} of {len(self._links.names)} brokers; " if self._links.count else ""
        return f"{here}waiting for the broker: {self._links.problem or 'connecting'}"

    def _announce(self) -> None:
        """Fleet events were stored."""
        self._links.announce()
        self._told_of.set()

    async def _announce_of_others(self) -> None:
        """Where others store rows too: their fleet events, and ours in one order with them."""
        while True:
            try:
                if await self._store.see_unannounced():
                    self._links.announce()
            except TemporaryError as error:
                log.debug("fleet events of others cannot be read: %s", error)
            self._told_of.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._told_of.wait()

    # ---- small tasks ----------------------------------------------------------------------------

    async def _save_counters(self) -> None:
        while True:
            await self._store_counters()
            await asyncio.sleep(COUNTERS_EVERY_S)

    async def _store_counters(self) -> None:
        try:
            await self._store.save_counters(self._snapshot(), self._links.announced_seq)
        except EdgewrightError as error:
            log.debug("counters not saved: %s", error)  # a disk that refuses is reported by ingest


async def run(config: CoordinatorConfig, assembly: Assembly | None = None) -> None:
    """One coordinator from its lock to its end."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    table = config.coordinator
    lock = FolderLock(table.data_dir)
    try:
        if table.replicas:
            from coordinator.replica.replica import Replica

            await Replica(config, assembly or assemble(PlatformsTable())).run()
            return
        store = open_store(config.place, config.store_limits)
        try:
            await Coordinator(config, store, assembly).run()
        finally:
            store.close()
    finally:
        lock.release()
