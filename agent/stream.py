"""A camera with its pipelines: started, stopped and started again while the others run on."""

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from agent.capture.camera import Camera, CameraState, CameraStats, CameraStatus
from agent.capture.frame import Frame
from agent.capture.pyav import jpeg
from agent.capture.settings import CameraConfig
from agent.capture.slot import Keep, Slots
from agent.capture.source import open_source
from agent.config import PipelineConfig
from agent.decide.decider import Decider
from agent.decide.settings import NO_KINDS, AlertRuleSettings
from agent.degrade.pipelines import Pace, Standing
from agent.degrade.switches import Switches
from agent.degrade.throttle import Throttle
from agent.documents.plan import Tuning
from agent.evidence.evidence import Evidence
from agent.infer.bundle import Bundle
from agent.infer.bundle_files import load_bundle
from agent.infer.engine import EngineUnavailableError, ModelError
from agent.infer.fitting import fit
from agent.infer.host import EngineChanged, EngineHost, EngineStats
from agent.infer.settings import InferSettings
from agent.infer.worker import InferenceWorker, Work
from agent.outbox.outbox import Outbox
from agent.pipeline import Pipeline
from agent.stages.place import Seat
from agent.sync.sync import Sync
from agent.teach.watching import DriftTeller
from agent.track.tracker import Tracker
from platforms.watching import MakeCondition
from runtime.errors import EdgewrightError, TemporaryError
from schemas.messages import StreamReport

log = logging.getLogger(__name__)

RETRY_ENGINE_S = 30.0  # a pipeline that no engine could run is tried again this often
Announce = Callable[[str, str, dict[str, Any]], None]
"""(event type, subject, data); may be called from any thread."""


def configured(config: PipelineConfig) -> Bundle:
    """The model that the configuration names. Raises ModelError."""
    return load_bundle(config.model)


class PipelineState(enum.Enum):
    """What is true of a pipeline."""

    STARTING = "starting"  # its model is being loaded
    RUNNING = "running"
    WAITING = "waiting"  # no engine can run it now; tried again by itself
    FAILED = "failed"  # its bundle or its settings are wrong; a person has to act
    STOPPED = "stopped"


@dataclass(slots=True)
class _Slotted:
    """One pipeline of the stream and what it is made of while it runs."""

    config: PipelineConfig
    state: PipelineState = PipelineState.STOPPED
    error: str = ""
    host: EngineHost | None = None
    pipeline: Pipeline | None = None
    task: "asyncio.Task[None] | None" = None
    throttle: Throttle = field(default_factory=Throttle)
    bundle: Bundle | None = None
    given: Tuning = Tuning()  # where nobody says otherwise
    tuning: Tuning = Tuning()
    origin: str = ""  # a part of the names of what it finds, for one that may move from camera to camera
    leaving: bool = False  # takes no more frames, to be removed
    edition: int = 0  # of the model, since the pipeline was built


@dataclass(frozen=True, slots=True)
class AtWork:
    """A pipeline's model as it runs: frames and failures are of the pipeline, whatever model it had."""

    bundle: Bundle
    engine: EngineStats
    frames: int
    failures: int


class Stream:
    """One camera. `start` and `stop` may follow each other as often as wished; both are quick to repeat."""

    def __init__(
        self,
        camera: CameraConfig,
        pipelines: list[PipelineConfig],
        *,
        infer: InferSettings,
        slots: Slots[Work],
        worker: InferenceWorker,
        outbox: Outbox,
        announce: Announce,
        boot: int,
        switches: Switches,
        sync: Sync,
        evidence: Evidence | None = None,
        load: Callable[[PipelineConfig], Bundle] = configured,
        seat: Callable[..., Seat | None] = lambda config, run, outlet, live: None,
        kinds: Mapping[str, MakeCondition] = NO_KINDS,
    ) -> None:
        """`load` gives a pipeline's model, in a thread; it raises ModelError. `kinds`: of alert rules."""
        self.camera_config = camera
        self._parts = [_Slotted(config) for config in pipelines]
        self._infer = infer
        self._slots = slots
        self._worker = worker
        self._outbox = outbox
        self._announce = announce
        self._boot = boot
        self._switches = switches
        self._sync = sync
        self._evidence = evidence
        self._load = load
        self._seat = seat  # a pipeline's at a stage of a platform
        self._kinds = kinds
        self._starts = 0
        self._loop = asyncio.get_running_loop()
        self._camera: Camera | None = None
        self._runner: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._muted: frozenset[str] = frozenset()
        self._tunings: Mapping[str, Tuning] = {}
        self._watched: Mapping[str, AlertRuleSettings] = {}
        self._recorded = False  # a file or folder: it has an end, and its time is media time
        self._latest: Frame | None = None
        self._active: tuple[Pipeline, ...] = ()
        self._changing = asyncio.Lock()

    @property
    def id(self) -> str:
        return self.camera_config.id

    @property
    def is_running(self) -> bool:
        return self._runner is not None and not self._runner.done()

    @property
    def pipelines(self) -> dict[str, Pipeline]:
        """The pipelines that run now, by name."""
        return {pipeline.name: pipeline for pipeline in self._active}

    # ---- life -----------------------------------------------------------------------------------

    async def start(self) -> bool:
        """Loads the models and starts the camera, again after its end. False when it runs already."""
        async with self._changing:
            if self.is_running:
                return False
            await self._shut()
            self._ended.clear()
            self._starts += 1
            self._recorded = not open_source(self.camera_config).live
            self._camera = Camera(self.camera_config, self._on_frame, self._on_state)
            await asyncio.gather(*(self._open(part) for part in self._parts))
            self._camera.start()
            self._runner = asyncio.create_task(self._run(), name=f"stream[{self.id}]")
            return True

    async def stop(self) -> bool:
        """Stops the camera, finishes the frames on their way, lets go of the models. False when it does not run."""
        async with self._changing:
            was_running = self.is_running
            await self._shut()
            return was_running

    async def add(self, config: PipelineConfig, given: Tuning, origin: str | None = None) -> None:
        """One pipeline more, at once where the camera runs; the others go on meanwhile. No other bears its title."""
        async with self._changing:
            self._starts += 1  # what it finds must not bear the names of what an earlier one found
            part = _Slotted(config, given=given, tuning=self._tunings.get(config.title, Tuning()).over(given))
            part.origin = f"{self.id}." if origin is None else origin
            part.throttle.disabled = not part.tuning.enabled
            self._parts.append(part)
            if self.is_running:
                await self._open(part)

    async def remove(self, title: str) -> bool:
        """Takes a pipeline out, with what it has begun; the others go on. False: there is none of that title."""
        async with self._changing:
            part = next((part for part in self._parts if part.config.title == title), None)
            if part is None:
                return False
            part.leaving = part.throttle.disabled = True
            await self._close(part)
            self._parts.remove(part)
            return True

    @property
    def has_pipelines(self) -> bool:
        return bool(self._parts)

    def part_state(self, title: str) -> tuple[PipelineState, str]:
        """What is true of a pipeline, and what is wrong with it."""
        found = next((part for part in self._parts if part.config.title == title), None)
        return (PipelineState.STOPPED, "") if found is None else (found.state, found.error)

    async def _shut(self) -> None:
        """Undoes `start`, also one that was interrupted half-way, or whose camera has ended since."""
        if self._camera is None:
            return
        await asyncio.to_thread(self._camera.stop)
        if self._runner is not None:
            # Before the parts are closed: it must not open one of them again. At the end of a file it finishes them.
            if not self._ended.is_set():
                self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        for part in self._parts:
            await self._close(part)
        self._camera = self._runner = self._latest = None

    async def _run(self) -> None:
        """Waits for the end of a file, and tries again what no engine could run."""
        while not self._ended.is_set():
            try:
                async with asyncio.timeout(RETRY_ENGINE_S):
                    await self._ended.wait()
            except TimeoutError:
                for part in tuple(self._parts):
                    if part.state is PipelineState.WAITING:
                        await self._open(part)
        for part in tuple(self._parts):
            await self._finish(part)

    async def _open(self, part: _Slotted) -> None:
        part.state = PipelineState.STARTING
        try:
            await self._build(part)
        except (EngineUnavailableError, TemporaryError) as error:
            self._failed(part, PipelineState.WAITING, str(error))
        except EdgewrightError as error:
            self._failed(part, PipelineState.FAILED, str(error))
        else:
            part.state, part.error = PipelineState.RUNNING, ""
            if part.leaving:  # it was removed meanwhile
                await self._close(part)

    async def _build(self, part: _Slotted) -> None:
        config, camera = part.config, self._camera
        assert camera is not None
        bundle = await asyncio.to_thread(self._load, config)
        host = await self._opened(config, bundle)
        try:
            part.pipeline = self._pipeline(part, bundle, host, camera)
        except BaseException:
            host.close()
            raise
        part.host, part.bundle, part.edition = host, bundle, 0
        self._worker.add(config.title, host)
        part.task = asyncio.create_task(part.pipeline.run(), name=f"pipeline[{config.title}]")
        part.task.add_done_callback(lambda task: self._pipeline_ended(part, task))
        self._active = (*self._active, part.pipeline)
        self.watch(self._watched)
        self._announce("PipelineStarted", config.title, {"camera_id": self.id, "model": bundle.name})

    async def _opened(self, config: PipelineConfig, bundle: Bundle) -> EngineHost:
        """An open host; if cancelled meanwhile, it is closed once it has opened, so that its device becomes free."""
        host = self.new_host(config.title, bundle)
        opening = asyncio.ensure_future(asyncio.to_thread(host.open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: host.close() if done.exception() is None else None)
            raise
        return host

    def _pipeline(self, part: _Slotted, bundle: Bundle, host: EngineHost, camera: Camera) -> Pipeline:
        """Raises an EdgewrightError where model, settings and decisions do not fit together."""
        config = part.config
        if unknown := [name for name in config.classes if name not in bundle.labels]:
            raise ModelError(f"classes: model {bundle.name} has no {unknown[0]!r} ({', '.join(bundle.labels[:12])})")
        part.throttle.fps_max = config.fps_max
        fitted = fit(_tuned(bundle, part.tuning, config), host.input, host.outputs)
        run = f"{config.title}-{self._boot}.{part.origin}{self._starts}"
        decider = Decider(self.id, bundle.labels, config.decide, prefix=run, kinds=self._kinds)
        evidence = self._evidence
        decider.mute(self._muted)
        lossless = self._recorded and not self.camera_config.realtime
        outlet = self._sync.outlet(self.id, config.title, local_only=config.local_only, recorded=self._recorded)
        seat = self._seat(config, run, outlet, live=not self._recorded)
        return Pipeline(
            config.title,
            slot=self._slots.add(config.title, Keep.EVERY if lossless else Keep.NEWEST),
            preprocessor=fitted.preprocessor,
            decoder=fitted.decoder,
            tracker=Tracker(config.tracker),
            decider=decider,
            outbox=self._outbox,
            labels=bundle.labels,
            stopped=camera.stopping,
            sample_interval_s=config.sample_interval_s,
            live=not self._recorded,
            throttle=part.throttle,
            switches=self._switches,
            outlet=outlet,
            decided=DriftTeller(config.title, self._announce, evidence.decided if evidence else None).decided,
            seat=seat,
        )

    async def _finish(self, part: _Slotted) -> None:
        if part.pipeline is not None and part.state is PipelineState.RUNNING:
            name = part.config.title
            await part.pipeline.finish(failed=lambda: _given_up(self._worker, name))

    async def _close(self, part: _Slotted) -> None:
        part.error = ""
        if part.pipeline is None:
            part.state = PipelineState.STOPPED
            return
        if not self._ended.is_set():
            await self._finish(part)
        name = part.config.title
        stats = part.pipeline.stats()
        totals = {"frames_total": stats.frames_total}
        if not part.config.local_only:
            totals["detections_total"] = stats.detections_total
        self._active = tuple(p for p in self._active if p.name != name)
        self.watch(self._watched)
        self._slots.remove(name)
        self._worker.remove(name)
        if part.task is not None:
            part.task.cancel()
            await asyncio.gather(part.task, return_exceptions=True)
        part.pipeline = part.host = part.task = None
        part.state = PipelineState.STOPPED
        self._announce("PipelineStopped", name, {"camera_id": self.id, **totals})

    # ---- another model while it runs ------------------------------------------------------------

    def new_host(self, pipeline: str, bundle: Bundle, *, quiet: bool = False) -> EngineHost:
        """For a model of this pipeline; still to be opened, in a thread. Raises EngineUnavailableError.

        `quiet`: it serves no frames, so nobody hears of its engines.
        """
        return EngineHost(bundle, self._infer, (lambda change: None) if quiet else self._on_engine(pipeline))

    async def change_model(self, pipeline: str, bundle: Bundle, host: EngineHost) -> None:
        """The pipeline goes on with `host`, opened, from its next frame on; none is lost, tracks and alerts go on.

        The host is the stream's from here on. A pipeline that does not run is started with what `load` gives it now,
        if its camera runs. Raises ModelError, and nothing has changed, where the model does not fit.
        """
        async with self._changing:
            part = self._part(pipeline)
            if part is None or part.pipeline is None or part.state is not PipelineState.RUNNING:
                await asyncio.to_thread(host.close)
                if part is not None and self.is_running and not self._ended.is_set():
                    await self._close(part)
                    await self._open(part)
                return
            try:
                fitted = fit(_tuned(bundle, part.tuning, part.config), host.input, host.outputs)
            except EdgewrightError:
                await asyncio.to_thread(host.close)
                raise
            edition = part.edition + 1
            self._worker.swap(pipeline, edition, host)
            part.pipeline.change_model(edition, fitted.preprocessor, fitted.decoder, bundle.labels)
            part.host, part.bundle, part.edition = host, bundle, edition

    def at_work(self, pipeline: str) -> AtWork | None:
        """How the pipeline's model does; None while none runs."""
        part = self._part(pipeline)
        if part is None or part.host is None or part.bundle is None:
            return None
        worked = self._worker.stats(pipeline)
        return AtWork(part.bundle, part.host.stats(), worked.frames, worked.failures)

    def failure(self, pipeline: str) -> str:
        """Why its model does not run, though the camera is started; empty where it does, or may yet."""
        part = self._part(pipeline)
        broken = (PipelineState.FAILED, PipelineState.WAITING)
        return part.error if part is not None and part.state in broken else ""

    @property
    def configs(self) -> list[PipelineConfig]:
        """Of its pipelines."""
        return [part.config for part in self._parts]

    def _part(self, pipeline: str) -> _Slotted | None:
        return next((part for part in self._parts if part.config.title == pipeline), None)

    # ---- told by the threads --------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        self._latest = frame
        if self._evidence is not None:
            self._evidence.frame(frame)
        for pipeline in self._active:
            pipeline.offer(frame)

    def _on_state(self, status: CameraStatus) -> None:
        data = {"camera_id": self.id, "state": status.state.value, "reason": status.reason}
        self._announce("CameraStateChanged", self.id, data)
        if status.state in (CameraState.ENDED, CameraState.FAILED):
            self._loop.call_soon_threadsafe(self._ended.set)

    def _on_engine(self, pipeline: str) -> Callable[[EngineChanged], None]:
        def changed(change: EngineChanged) -> None:
            data = {
                "camera_id": self.id,
                "pipeline": pipeline,
                "model": change.bundle,
                "from": change.rung_from,
                "to": change.rung_to,
                "up": change.up,
                "reason": change.reason,
            }
            self._announce("EngineChanged", pipeline, data)

        return changed

    def _failed(self, part: _Slotted, state: PipelineState, reason: str) -> None:
        if part.error != reason:  # said once, however often it is tried again
            log.error("pipeline %s is %s: %s", part.config.title, state.value, reason)
            data = {"camera_id": self.id, "state": state.value, "reason": reason}
            self._announce("PipelineFailed", part.config.title, data)
        part.state, part.error = state, reason

    def _pipeline_ended(self, part: _Slotted, task: "asyncio.Task[None]") -> None:
        """A pipeline runs until it is cancelled: anything else is a defect, reported and kept to this pipeline."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("pipeline %s ended by a defect", part.config.title, exc_info=task.exception())
        self._active = tuple(p for p in self._active if p is not part.pipeline)
        self._failed(part, PipelineState.FAILED, f"defect: {task.exception()!r}")

    # ---- asked by others ------------------------------------------------------------------------

    def snapshot(self, *, width_max: int, quality: int) -> tuple[Frame, bytes] | None:
        """The newest frame and its JPEG; None before the first."""
        frame = self._latest
        return None if frame is None else (frame, jpeg(frame.picture, quality, width_max))

    def camera_stats(self) -> CameraStats | None:
        return None if self._camera is None else self._camera.stats()

    def standings(self) -> dict[str, Standing]:
        """The priority of each pipeline, and whether an accelerator runs it now."""
        return {
            part.config.title: Standing(
                part.config.priority, part.host is not None and part.host.stats().rung not in ("", "cpu")
            )
            for part in self._parts
        }

    def set_paces(self, paces: Mapping[str, Pace]) -> None:
        """How many frames each pipeline takes from now on, also after a restart of the camera."""
        for part in self._parts:
            pace = paces.get(part.config.title, Pace())
            part.throttle.divisor, part.throttle.paused = pace.divisor, pace.paused

    def tune(self, tunings: Mapping[str, Tuning]) -> None:
        """What is different about each pipeline from the next frame on, also after a restart of the camera."""
        self._tunings = dict(tunings)
        for part in self._parts:
            tuning = tunings.get(part.config.title, Tuning()).over(part.given)
            part.throttle.disabled = part.leaving or not tuning.enabled
            if tuning != part.tuning and part.pipeline and part.host and part.bundle:
                fitted = fit(_tuned(part.bundle, tuning, part.config), part.host.input, part.host.outputs)
                part.pipeline.decode_with(fitted.decoder)
            part.tuning = tuning

    def mute(self, rules: frozenset[str]) -> None:
        """These alert rules raise no alert from now on, also after a restart of the camera."""
        self._muted = rules
        for pipeline in self._active:
            pipeline.mute(rules)

    def watch(self, rules: Mapping[str, AlertRuleSettings]) -> None:
        """These alert rules too, also after a restart of the camera: each in the first pipeline that can."""
        self._watched = left = dict(rules)
        for pipeline in self._active:
            here = {name: rule for name, rule in left.items() if not pipeline.watch_mistakes(rule)}
            pipeline.watch(here)
            left = {name: rule for name, rule in left.items() if name not in here}

    def watch_mistake(self, rule: AlertRuleSettings) -> str:
        """Why no pipeline that runs now can watch for it; empty where one can, or none runs yet."""
        wrong = [pipeline.watch_mistakes(rule) for pipeline in self._active]
        return "" if not wrong or not all(wrong) else "; ".join(wrong[0])

    def reports(self) -> list[StreamReport]:
        """One report a pipeline, for the heartbeat and `status`."""
        camera = self.camera_stats()
        state = camera.state.value if camera else "stopped"
        if not self._parts:
            fps = camera.fps if camera else 0.0
            return [StreamReport(self.id, state=state, fps=round(fps, 2), error=camera.last_error if camera else "")]
        return [self._report(part, camera, state) for part in self._parts]

    def _report(self, part: _Slotted, camera: CameraStats | None, state: str) -> StreamReport:
        if part.pipeline is None or part.host is None:
            return StreamReport(self.id, part.config.title, part.state.value, error=part.error)
        stats, engine = part.pipeline.stats(), part.host.stats()
        running = "paused" if part.throttle.paused or part.throttle.disabled else state
        stays = part.config.local_only  # then what was found is nobody's business
        return StreamReport(
            camera=self.id,
            pipeline=part.config.title,
            state=running if part.state is PipelineState.RUNNING else part.state.value,
            frames_total=stats.frames_total,
            detections_total=0 if stays else stats.detections_total,
            dropped_total=part.pipeline.dropped_total,
            fps=round(camera.fps, 2) if camera else 0.0,
            infer_ms_p50=round(engine.latency_ms_p50, 3),
            infer_ms_p99=round(engine.latency_ms_p99, 3),
            decide_ms_p99=round(stats.latency_ms_p99, 3),
            engine=engine.rung,
            counts={} if stays else part.pipeline.class_counts,
            error=part.error or (camera.last_error if camera else ""),
        )


def _tuned(bundle: Bundle, tuning: Tuning, config: PipelineConfig) -> Bundle:
    thresholds = tuning.thresholds(bundle.thresholds)
    return replace(bundle, thresholds=replace(thresholds, keep=config.classes) if config.classes else thresholds)


def _given_up(worker: InferenceWorker, name: str) -> int:
    stats = worker.stats(name)
    return stats.failures + stats.skipped
