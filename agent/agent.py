"""The composition root of the gateway's process: every part is made and wired here, in the order a frame travels."""

import asyncio
import gc
import logging
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.actions.actions import Actions
from agent.actions.local_broker import LocalBroker
from agent.alerting.functions import alert_functions
from agent.alerting.opening import normal_arguments, open_alerting
from agent.capture.malloc import keep_freed_memory
from agent.capture.slot import Slots
from agent.config import AgentConfig, PipelineConfig, what_is_here
from agent.degrade.governor import Governor
from agent.degrade.pipelines import Pace, Standing
from agent.degrade.policy import Cause
from agent.degrade.switches import Switches
from agent.documents.documents import Documents
from agent.documents.here import here
from agent.documents.in_force import InForce
from agent.documents.journal import FILE_NAME as DOCUMENTS
from agent.documents.journal import Journal
from agent.evidence import opening as evidence_opening
from agent.evidence.functions import evidence_functions
from agent.evidence.uploader import Uploader
from agent.health import host
from agent.hosting.cameras import NodeCameras
from agent.hosting.host import kept_result, node_host
from agent.hosting.pipelines import NodePipelines, stop_function
from agent.infer.bundle import Bundle
from agent.infer.worker import InferenceWorker, Result, Work
from agent.link.asking import Asking
from agent.link.gate import RateGate
from agent.link.link import Link
from agent.link.sender import Sender
from agent.lock import only_one
from agent.models.models import Models
from agent.models.signatures import read_trust
from agent.node_functions import STATE, node_functions, report_function
from agent.outbox.ballast import FILE_NAME as BALLAST
from agent.outbox.ballast import Ballast
from agent.outbox.checked import Checked
from agent.outbox.opening import open_outbox
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from agent.outbox.tables import LaneAccount
from agent.platform_state.platform_state import PlatformState
from agent.platform_state.store import ValuesFile
from agent.platform_state.tables import FILE_NAME as PLATFORM_STATE
from agent.results.recorder import Recorder
from agent.sensors.sensors import Sensors
from agent.stages.stages import Stages
from agent.state import StateFile
from agent.stream import Stream
from agent.sync.command import sync_function
from agent.sync.sync import Sync
from agent.workloads.opening import STOP_S, hardware_of, model_finder, open_workloads, workload_logs
from agent.workloads.store import FILE_NAME as WORKLOADS
from agent.workloads.store import WorkloadsFile
from platforms import services as interfaces
from platforms.assembly import Assembly, assemble
from platforms.settings import PlatformsTable, read_platforms
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.hosted import table_of
from runtime.errors import EdgewrightError
from runtime.scheduling import prefer_short_slices
from runtime.sdnotify import Notifier
from runtime.supervision import LoopWatch, RestartPolicy, Supervisor, feed_watchdog, run_until_signalled
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.messages import Birth, Heartbeat
from schemas.sync import SyncPolicy
from schemas.topics import Kind, TopicSpace
from schemas.workloads import plain

log = logging.getLogger(__name__)

# Python hands the interpreter lock on every 5 ms by default: too late for a loop that promises 2 ms.
SWITCH_INTERVAL_S = 0.0005
LIFECYCLE_MAX = 1000  # notes on their way to the outbox; more at once is a defect somewhere and is counted
FIGURES_EVERY_S = 5.0
LAST_NOTES_S = 2.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The outbox's account and the machine's figures, as last measured."""

    accounts: list[LaneAccount] = field(default_factory=list)
    memory_mb: float = 0.0
    temperature_c: float | None = None
    disk_free_mb: float = 0.0


class Agent:
    """One gateway. `run` until a signal, then stop in path order: cameras, pipelines, outbox, link."""

    def __init__(self, config: AgentConfig, assembly: Assembly | None = None) -> None:
        """Opens the files and wires the parts; nothing runs yet. Raises ConfigError or a storage error.

        Without an `assembly` the node has the base platform alone.
        """
        node = config.node
        self.config = config
        self._assembly = assembly or assemble(PlatformsTable())
        self._platform_problems: list[str] = []
        addresses = config.broker.addresses()
        cameras = [camera.resolved() for camera in config.cameras]
        self._lock = only_one(node.data_dir)
        if Ballast(node.data_dir / BALLAST, config.outbox.ballast_bytes).give_way():  # files want room to be opened
            log.warning("%s is full: the room kept in reserve is given up, to be able to start", node.data_dir)
        self._space = TopicSpace(config.broker.topic_root)
        self._state = StateFile(node.data_dir / "state.db")
        self.boot = self._state.boot
        self._instance = secrets.token_hex(8)  # of this start: two that live at once are two agents
        self._started_mono_s = time.monotonic()
        self._file, salvaged = open_outbox(
            node.data_dir / "outbox.db", node=node.id, boot=self.boot, settings=config.outbox
        )
        self._figures = Figures()
        self._loop_watch = LoopWatch()
        self._cpu = host.CpuMeter()
        self._cpu_percent = 0.0  # since the last heartbeat
        self._beats = 0
        self._notes: asyncio.Queue[Draft] = asyncio.Queue(LIFECYCLE_MAX)
        self._loop = asyncio.get_running_loop()
        self.notes_dropped_total = 0

        # camera ─► slots ─► worker ─► pipeline ─► outlet (results, policy) ─► outbox ─► sender (gate) ─► link
        self._slots: Slots[Work] = Slots()
        self._worker = InferenceWorker(self._take, self._deliver)
        self.outbox = Outbox(self._file)
        self.platform_state = PlatformState(
            ValuesFile(node.data_dir / PLATFORM_STATE, node.id),
            self._assembly.collections,
            config.state,
            self.outbox,
            node=node.id,
        )
        self._checked = self.outbox.checked = Checked(self._assembly.catalogue)
        self.switches = Switches()
        self._recorder = Recorder(node.data_dir / "results.db", config.results, self.switches, self.announce)
        self.sync = Sync(
            config.sync,
            rate=RateGate(config.link),
            outbox=self.outbox,
            recorder=self._recorder,
            state=self._state,
            switches=self.switches,
            act=self._act,
            announce=self.announce,
        )
        self._evidence = evidence_opening.open_evidence(
            config.evidence,
            node.data_dir,
            [camera.id for camera in cameras],
            private=frozenset(pipeline.camera for pipeline in config.pipelines if pipeline.local_only),
            outbox=self.outbox,
            switches=self.switches,
            announce=self.announce,
        )
        self._stages = Stages(
            self._assembly.stages,
            config.pipelines,
            node=node.id,
            broker=config.local_broker.address(),
            outbox=self.outbox,
            evidence=self._evidence,
        )
        self.streams = {
            camera.id: Stream(
                camera,
                [pipeline for pipeline in config.pipelines if pipeline.camera == camera.id],
                infer=config.inference,
                slots=self._slots,
                worker=self._worker,
                outbox=self.outbox,
                announce=self.announce,
                boot=self.boot,
                switches=self.switches,
                sync=self.sync,
                evidence=self._evidence,
                load=self._load_model,
                seat=self._stages.seat,
                kinds=self._assembly.rule_kinds,
            )
            for camera in cameras
        }
        self._pipelines = NodePipelines(
            self.streams,
            config.pipelines,
            self._state,
            model_finder(config, lambda reference: self.models.folder_of(reference)),
            lambda: self.documents,
            lambda: self.workloads.reports(),
            lambda name: self.workloads.is_at_work(name),
        )
        services: dict[type[Any], Any] = {
            interfaces.Cameras: NodeCameras(self.streams),
            interfaces.Pipelines: self._pipelines,
            interfaces.Stages: self._stages,
        }
        self._host = node_host(
            node.id,
            results_path=self._recorder.path,
            outbox=self.outbox,
            state=self.platform_state,
            settings=read_platforms(config.platforms, Path())[0].settings,
            services=services,
            keep=self._recorder.keep,
            here=what_is_here(config),
        )
        self._listening = self._assembly.listening(self._host)
        self._sensors = Sensors(
            config.sensors,
            node=node.id,
            local=config.local_broker.address(),
            fleet=addresses[0],
            announce=self.announce,
            measured=self._listening.measured,
        )
        services[interfaces.Sensors] = self._sensors
        self._workloads_file = WorkloadsFile(node.data_dir / WORKLOADS, set_aside=True)
        self.workloads = open_workloads(
            config,
            self._workloads_file,
            self.streams,
            self.announce,
            host.resources(node.data_dir),
            lambda *call: self._dispatcher.call_here(*call),
            lambda: self._dispatcher.names,
            lambda reference: self.models.folder_of(reference),
            self._assembly.stages,
        )
        self._actions = Actions(
            config.actions,
            node=node.id,
            boot=self.boot,
            topic_root=config.broker.topic_root,
            broker=LocalBroker(config.local_broker.address(), f"{node.id}-actions"),
            announce=self.announce,
        )
        self.alerting = open_alerting(
            config,
            self._assembly,
            boot=self.boot,
            outbox=self.outbox,
            state=self.platform_state,
            streams=self.streams,
            actions=self._actions,
            recorder=self._recorder,
        )
        functions = [
            workload_logs(self.workloads),
            stop_function(self._pipelines),
            *alert_functions(
                self.alerting, node.id, self.streams, self._actions.names, normal_arguments(self._assembly)
            ),
            *node_functions(self.streams, self.status),
            report_function(self._again),
            sync_function(self.sync),
        ]
        if self._evidence is not None:
            functions += evidence_functions(self._evidence)
        table = table_of(functions, self._assembly.hosting(self._host), self._assembly)
        self._sender = Sender(
            self._file,
            node=node.id,
            boot=self.boot,
            space=self._space,
            resend_after_s=node.resend_after_s,
            settings=config.link,
            gate=self.sync.gate,
        )
        self._sender.compress(self.sync.policy.compress)
        self.sync.on_policy = self._follow
        self._dispatcher = Dispatcher(table, self._state.journal, responder=node.id, space=self._space)
        self._link = Link(
            addresses,
            self._sender,
            self._dispatcher,
            node=node.id,
            boot=self.boot,
            space=self._space,
            birth=self._birth,
            heartbeat=self._heartbeat,
            heartbeat_s=node.heartbeat_s,
            rules=config.link.broker_rules,
            announce=self.announce,
            instance=self._instance,
        )
        self.outbox.on_committed = self._committed
        self._uploader: Uploader | None = None
        if self._evidence is not None:
            self._uploader = self._link.arrivals.files = Uploader(
                config.evidence,
                self._evidence.store,
                self._link,
                self.sync.gate,
                node=node.id,
                space=self._space,
                resend_after_s=node.resend_after_s,
                announce=self.announce,
            )
            self._evidence.on_stored, self._evidence.on_asked = self._uploader.wake, self._uploader.asked
        self.sync.gate.on_change = self._gate_changed
        asking = self._link.arrivals.calls = Asking(self._link, node.id, self._space)
        self.models = Models(
            config.models,
            node.data_dir,
            read_trust(config.models.trusted_keys),
            birth=lambda: Birth(hardware=host.hardware(), resources=host.resources(node.data_dir)),
            streams=lambda: self.streams,
            asking=asking,
            link_is_metered=lambda: self.sync.gate.reason(time.monotonic()) == "metered",
            announce=self.announce,
        )
        self._in_force = InForce(self.streams, self._link, node.labels, self.models.follow)
        self._journal = Journal(node.data_dir / DOCUMENTS, node.id, set_aside=True)
        self.documents = Documents(
            self._journal, here(config), boot=self.boot, apply=self._in_force.apply, mute=self._mute
        )
        self.documents.publish = self._link.publish_reported
        self.documents.on_sync_policy = self.sync.follow
        self.documents.on_workloads = self.workloads.follow
        self.documents.standings.append(self.workloads.fields)
        self.workloads.changed, self.workloads.on_allocated = self.documents.restate, self._link.announce
        self.documents.standings.append(self.models.standing)
        self.models.on_change = self.documents.restate
        self._link.arrivals.on_desired, self._link.reported = self.documents.receive, self.documents.payload
        self.outbox.on_append = self._appending
        self._machine = host.MachineMeter()
        self._governor = Governor(
            config.degradation,
            read=self._shortages,
            standings=self._standings,
            apply=self._set_paces,
            switches=self.switches,
            announce=self.announce,
        )
        if salvaged is not None:
            self.announce("OutboxSalvaged", "outbox", asdict(salvaged))

    # ---- life -----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT. Raises TaskGaveUpError when a part cannot be kept alive."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        keep_freed_memory()
        notifier = Notifier.from_environment()
        supervisor = Supervisor()
        self._worker.start()
        try:
            self.models.begin()
            self.documents.begin()
            supervisor.supervise("systemd", lambda: _until_stopped(notifier), stage=-1)
            workloads = self.workloads
            supervisor.supervise("workloads", workloads.run, stage=-1, stop=workloads.stop, stop_timeout_s=STOP_S)
            for_ever = RestartPolicy(restarts_max=None)
            supervisor.supervise("models", self.models.run, for_ever, stage=0, stop_timeout_s=20.0)
            supervisor.supervise("models-fetch", self.models.fetcher.run, for_ever, stage=0)
            supervisor.supervise("streams", self._run_streams, stage=0, stop_timeout_s=20.0)
            self._sensors.supervise(supervisor, stage=0)
            supervisor.supervise("notes", self._keep_notes, stage=1)
            self.alerting.supervise(supervisor, stage=1)
            state = self.platform_state
            supervisor.supervise("platform-state", state.run, for_ever, stage=1, stop=state.stop)
            supervisor.supervise("platforms", self._start_platforms, stage=1)
            for name, task in self._listening.tasks():
                supervisor.supervise(f"platform[{name}]", task, for_ever, stage=1)
            self._actions.supervise(supervisor, stage=2)
            self._stages.supervise(supervisor, stage=1)
            self.alerting.begin_actions()
            supervisor.supervise("degradation", self._governor.run, stage=2)
            if self._evidence is not None and self._uploader is not None:
                evidence_opening.supervise(supervisor, self._evidence, self._uploader, stage=2)
            supervisor.supervise("figures", self._keep_figures, stage=2)
            supervisor.supervise("documents", self.documents.run, stage=2)
            supervisor.supervise("results", self._recorder.run, for_ever, stage=2)
            supervisor.supervise("sync", self.sync.run, stage=2)
            supervisor.supervise("cloud-sync", self.sync.cloud.run, stage=2)
            supervisor.supervise("outbox-limits", self.outbox.keep_limits, stage=2)
            supervisor.supervise("link", self._link.run, stage=3, stop=self._stop_link, stop_timeout_s=10.0)
            supervisor.supervise("loop-watch", self._loop_watch.run, stage=4)
            supervisor.supervise("watchdog", lambda: feed_watchdog(notifier, lambda: self._worker.is_alive), stage=4)
            # What was made so far stays: the collector need not look through it again, 3 ms each time.
            gc.collect()
            gc.freeze()
            notifier.ready(f"node {self.config.node.id}, boot {self.boot}")
            log.info("node %s runs, boot %d, %d cameras", self.config.node.id, self.boot, len(self.streams))
            await run_until_signalled(supervisor)
        finally:
            self._actions.close()
            await asyncio.to_thread(self._close)
            notifier.close()

    async def _start_platforms(self) -> None:
        """What platforms do at the start of their host; one that fails holds back nobody."""
        problems = await self._assembly.start(self._host)
        self._platform_problems = [str(one) for one in problems]
        for problem in problems:
            log.error("%s", problem, exc_info=problem.__cause__)  # somebody else's code: where it went wrong
        self._listening.started()
        await asyncio.Event().wait()

    async def _run_streams(self) -> None:
        """Starts every enabled camera; a camera that cannot start does not hold back the others."""
        enabled = {table.id for table in self.config.cameras if table.enabled}
        try:
            await asyncio.gather(*(self._start(stream) for stream in self.streams.values() if stream.id in enabled))
            prefer_short_slices()  # for the loop alone: threads started before keep their long ones
            await asyncio.Event().wait()
        finally:
            await asyncio.gather(*(stream.stop() for stream in self.streams.values()))

    async def _start(self, stream: Stream) -> None:
        try:
            await stream.start()
        except EdgewrightError as error:
            log.error("camera %s does not start: %s", stream.id, error)
            self.announce(
                "CameraStateChanged", stream.id, {"camera_id": stream.id, "state": "failed", "reason": str(error)}
            )

    def _stop_link(self) -> None:
        self._stopping = asyncio.create_task(self._stop_talking(), name="link.stop")

    async def _stop_talking(self) -> None:
        try:
            # A disk that refuses would hold us for ever; what is not stored by then is lost with the process anyway.
            async with asyncio.timeout(LAST_NOTES_S):
                while not self._notes.empty():
                    await self._keep_note(self._notes.get_nowait())
        except TimeoutError:
            log.error("%d life-cycle notes not kept: the outbox does not take them", self._notes.qsize() + 1)
        await self._dispatcher.stop()
        await self._link.stop()

    def _close(self) -> None:
        self._slots.close()
        self._worker.stop(5.0)
        self._stages.close()
        self._recorder.close()
        if self._evidence is not None:
            self._evidence.close()
        self.platform_state.close()
        self.alerting.close()
        self._file.close()
        self._state.close()
        self._journal.close()
        self._workloads_file.close()
        self.models.stopped()
        self._lock.close()

    # ---- between the parts ----------------------------------------------------------------------

    def _take(self, timeout_s: float) -> Work | None:
        taken = self._slots.take(timeout_s)
        return None if taken is None else taken[1]

    def _deliver(self, result: Result) -> None:
        stream = self.streams.get(result.frame.camera_id)
        pipeline = stream.pipelines.get(result.name) if stream else None
        if pipeline is not None:
            pipeline.deliver(result)

    def _load_model(self, pipeline: PipelineConfig) -> Bundle:
        """What a pipeline starts with; in a thread."""
        self._stages.load(pipeline)
        return self.models.load(pipeline)

    def announce(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Something happened to the node itself: an event of the life-cycle lane. From any thread."""
        draft = Draft(Lane.LIFECYCLE, kind, subject, time.time_ns() // 1_000_000, data)
        self._loop.call_soon_threadsafe(self._note, draft)

    def _note(self, draft: Draft) -> None:
        try:
            self._notes.put_nowait(draft)
        except asyncio.QueueFull:
            self.notes_dropped_total += 1
            log.error("life-cycle note dropped, %d wait already: %s %s", LIFECYCLE_MAX, draft.type, draft.subject)

    async def _keep_notes(self) -> None:
        while True:
            await self._keep_note(await self._notes.get())

    async def _keep_note(self, note: Draft) -> None:
        try:
            await self.outbox.append([note])
        except LocalWireError as error:
            self.notes_dropped_total += 1
            log.error("life-cycle note %s of %s not kept: %s", note.type, note.subject, error)

    async def _keep_figures(self) -> None:
        while True:
            self._figures = await asyncio.to_thread(self._measure)
            await asyncio.sleep(FIGURES_EVERY_S)

    def _measure(self) -> "Figures":
        """What takes a while to read, so never on the loop."""
        return Figures(
            self._file.account(),
            host.memory_mb(host.children()),
            host.temperature_c(),
            host.disk_free_mb(self.config.node.data_dir),
        )

    def _follow(self, policy: SyncPolicy) -> None:
        self._sender.compress(policy.compress)

    def _gate_changed(self) -> None:
        """Whoever was told to wait asks again."""
        self._sender.wake()
        if self._uploader is not None:
            self._uploader.wake()

    def _act(self, drafts: Sequence[Draft]) -> None:
        """Facts that do not leave the node: local actions see them all the same."""
        self._actions.trigger(self.alerting.heard(drafts))

    def _appending(self, drafts: Sequence[Draft]) -> None:
        self._actions.trigger(self.alerting.heard(drafts))
        if self._evidence is not None:
            self._evidence.expect(drafts)
        for draft in drafts:
            if self._listening.wants(draft.type):
                self._listening.heard(kept_result(self.config.node.id, draft))

    def _committed(self, rows: list[Row]) -> None:
        self._sender.committed(rows)  # first: nothing of the rest is urgent
        if self._evidence is not None:
            self._evidence.committed(rows)

    def _mute(self, rules: frozenset[str]) -> None:
        self._in_force.mute(rules)
        self.alerting.mute(rules)

    # ---- doing less -----------------------------------------------------------------------------

    def _shortages(self) -> dict[Cause, float | None]:
        """Reads files, so never on the loop."""
        lateness = self._loop_watch.lateness()
        return {
            Cause.CPU: self._machine.percent(),
            Cause.LOOP: lateness.p99_ms if lateness.samples else None,
            Cause.HEAT: host.temperature_c(),
            Cause.MEMORY: host.memory_free_mb(),
            Cause.DISK: host.disk_free_mb(self.config.node.data_dir),
            Cause.BACKLOG: float(sum(account.pending for account in self._figures.accounts)),
        }

    def _standings(self) -> dict[str, Standing]:
        return {name: standing for stream in self.streams.values() for name, standing in stream.standings().items()}

    def _set_paces(self, paces: Mapping[str, Pace]) -> None:
        for stream in self.streams.values():
            stream.set_paces(paces)

    # ---- what the node says of itself -----------------------------------------------------------

    def _birth(self) -> Birth:
        node = self.config.node
        return Birth(
            name=node.name or node.id,
            node_type=node.node_type,
            site=node.site,
            labels=dict(self._in_force.labels),
            location=dict(node.location),
            hardware=hardware_of(self.config),
            resources=host.resources(node.data_dir),
            versions=host.versions(),
            platforms=self._assembly.names,
            functions=self._dispatcher.names,
            cameras=sorted(self.streams),
            stream=self._file.stream,
            allocated=self._allocated(),
        )

    def _allocated(self) -> dict[str, float]:
        """The threads of inference, where there is a pipeline, and what workloads reserve."""
        taken = {"cores": float(self.config.inference.threads)} if self.config.pipelines else {}
        reserved = self.workloads.allocated()
        return {name: taken.get(name, 0.0) + reserved.get(name, 0.0) for name in sorted({*taken, *reserved})}

    def _again(self, document: str) -> None:
        if document == STATE:
            self.platform_state.say_again()
            return
        (self._link.announce if document == Kind.BIRTH.value else self._link.publish_reported)()

    def _heartbeat(self) -> Heartbeat:
        self._beats += 1
        self._cpu_percent = self._cpu.percent(time.monotonic(), host.children())
        return self._report()

    def _report(self) -> Heartbeat:
        figures = self._figures
        now_s = time.monotonic()
        return Heartbeat(
            boot=self.boot,
            session=self._link.session,
            seq=self._beats,
            uptime_s=round(now_s - self._started_mono_s, 1),
            time_utc_ms=time.time_ns() // 1_000_000,
            cpu_percent=self._cpu_percent,
            memory_mb=figures.memory_mb,
            temperature_c=figures.temperature_c,
            disk_free_mb=figures.disk_free_mb,
            loop_stall_ms_p99=round(self._loop_watch.lateness().p99_ms, 3),
            outbox_pending={account.lane: account.pending for account in figures.accounts if account.pending},
            streams=[report for stream in self.streams.values() for report in stream.reports()],
            birth_hash=self._link.birth_hash,
            desired_hash=self.documents.desired_hash,
            reported_hash=self.documents.reported.hash,
            sync=self._synced(figures),
            workloads=self.workloads.states(),
        )

    def _synced(self, figures: Figures) -> dict[str, dict[str, int]]:
        return self.sync.lanes(figures.accounts, self._sender.resent_by_lane)

    async def status(self) -> dict[str, Any]:
        """What `cmd/status` answers."""
        self._figures = await asyncio.to_thread(self._measure)
        beat = self._report()
        return {
            "node": self.config.node.id,
            "boot": self.boot,
            "session": self._link.session,
            "uptime_s": beat.uptime_s,
            "cpu_percent": beat.cpu_percent,
            "memory_mb": beat.memory_mb,
            "temperature_c": beat.temperature_c,
            "disk_free_mb": beat.disk_free_mb,
            "loop_stall_ms_p99": beat.loop_stall_ms_p99,
            "outbox": [asdict(account) for account in self._figures.accounts],
            "invalid_total": self._checked.invalid_total,
            "unchecked_total": self._checked.unchecked_total,
            "link": self._sender.state(),
            "sync": {**self.sync.report(), "lanes": self._synced(self._figures)},
            "results": self._recorder.report(),
            "broker": self._link.state(),
            "identity_conflict": self._link.twin.report(time.monotonic()),
            "commands_refused_total": self._dispatcher.refused_total,
            "actions": self._actions.report(),
            "stages": self._stages.report(),
            "alerts": self.alerting.report(),
            "degradation": self._governor.report(),
            "evidence": await self._evidence_figures(),
            "desired": self.documents.state(),
            "models": self.models.report(),
            "platform_state": self.platform_state.report(),
            "workloads": {name: plain(one) for name, one in self.workloads.reports().items()},
            "streams": [asdict(report) for report in beat.streams],
            "sensors": self._sensors.report(),
            "functions": self._dispatcher.names,
            "platforms": {
                "names": self._assembly.names,
                "problems": self._platform_problems,
                "listeners": self._listening.report(),
            },
        }

    async def _evidence_figures(self) -> dict[str, Any] | None:
        if self._evidence is None or self._uploader is None:
            return None
        return await evidence_opening.report(self._evidence, self._uploader)


async def _until_stopped(notifier: Notifier) -> None:
    """The first to be stopped: tells the service manager that the others follow."""
    try:
        await asyncio.Event().wait()
    finally:
        notifier.stopping()
