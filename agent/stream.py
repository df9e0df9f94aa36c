"""A camera with its pipelines: started, stopped and started again while the others run on."""

import asyncio
import logging
from collections.abc import Mapping

from agent.capture.camera import Camera, CameraState, CameraStats, CameraStatus
from agent.capture.frame import Frame
from agent.capture.pyav import jpeg
from agent.capture.settings import CameraConfig
from agent.capture.source import open_source
from agent.config import PipelineConfig
from agent.decide.settings import AlertRuleSettings
from agent.degrade.pipelines import Pace, Standing
from agent.documents.plan import Tuning
from agent.infer.bundle import Bundle
from agent.infer.engine import EngineUnavailableError
from agent.infer.host import EngineHost
from agent.infer.worker import InferenceWorker
from agent.pipeline import Pipeline
from agent.slotted import AtWork, PipelineState, Slotted
from agent.workshop import Frames, Workshop
from runtime.errors import EdgewrightError, TemporaryError
from schemas.messages import StreamReport

log = logging.getLogger(__name__)

RETRY_ENGINE_S = 30.0  # a pipeline that no engine could run is tried again this often


class Stream:
    """One camera. `start` and `stop` may follow each other as often as wished; both are quick to repeat."""

    def __init__(self, camera: CameraConfig, pipelines: list[PipelineConfig], workshop: Workshop) -> None:
        self.camera_config = camera
        self._parts = [Slotted(config) for config in pipelines]
        self._workshop = workshop
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
            part = Slotted(config, given=given, origin=f"{self.id}." if origin is None else origin)
            part.tune(self._tunings.get(config.title, Tuning()))
            self._parts.append(part)
            if self.is_running:
                await self._open(part)

    async def remove(self, title: str) -> bool:
        """Takes a pipeline out, with what it has begun; the others go on. False: there is none of that title."""
        async with self._changing:
            part = self._part(title)
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
        found = self._part(title)
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

    async def _open(self, part: Slotted) -> None:
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

    async def _build(self, part: Slotted) -> None:
        camera, workshop, title = self._camera, self._workshop, part.title
        assert camera is not None
        bundle = await asyncio.to_thread(workshop.load, part.config)
        host = await workshop.open_host(self.id, title, bundle)
        lossless = self._recorded and not self.camera_config.realtime
        frames = Frames(self.id, self._recorded, lossless, camera.stopping)
        run = f"{title}-{workshop.boot}.{part.origin}{self._starts}"
        try:
            part.pipeline = workshop.pipeline(part, bundle, host, frames, run)
            part.pipeline.mute(self._muted)
        except BaseException:
            host.close()
            raise
        part.host, part.bundle, part.edition = host, bundle, 0
        workshop.worker.add(title, host)
        part.task = asyncio.create_task(part.pipeline.run(), name=f"pipeline[{title}]")
        part.task.add_done_callback(lambda task: self._pipeline_ended(part, task))
        self._active = (*self._active, part.pipeline)
        self.watch(self._watched)
        workshop.announce("PipelineStarted", title, {"camera_id": self.id, "model": bundle.name})

    async def _finish(self, part: Slotted) -> None:
        if part.pipeline is not None and part.state is PipelineState.RUNNING:
            name = part.title
            await part.pipeline.finish(failed=lambda: _given_up(self._workshop.worker, name))

    async def _close(self, part: Slotted) -> None:
        part.error = ""
        if part.pipeline is None:
            part.state = PipelineState.STOPPED
            return
        if not self._ended.is_set():
            await self._finish(part)
        name = part.title
        stats = part.pipeline.stats()
        totals = {"frames_total": stats.frames_total}
        if not part.config.local_only:
            totals["detections_total"] = stats.detections_total
        self._active = tuple(p for p in self._active if p.name != name)
        self.watch(self._watched)
        self._workshop.slots.remove(name)
        self._workshop.worker.remove(name)
        if part.task is not None:
            part.task.cancel()
            await asyncio.gather(part.task, return_exceptions=True)
        part.pipeline = part.host = part.task = None
        part.state = PipelineState.STOPPED
        self._workshop.announce("PipelineStopped", name, {"camera_id": self.id, **totals})

    # ---- another model while it runs ------------------------------------------------------------

    def new_host(self, pipeline: str, bundle: Bundle, *, quiet: bool = False) -> EngineHost:
        """For a model of this pipeline; still to be opened, in a thread. Raises EngineUnavailableError.

        `quiet`: it serves no frames, so nobody hears of its engines.
        """
        return self._workshop.new_host(self.id, pipeline, bundle, quiet=quiet)

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
                fitted = part.fitted(bundle, host)
            except EdgewrightError:
                await asyncio.to_thread(host.close)
                raise
            edition = part.edition + 1
            self._workshop.worker.swap(pipeline, edition, host)
            part.pipeline.change_model(edition, fitted.preprocessor, fitted.decoder, bundle.labels)
            part.host, part.bundle, part.edition = host, bundle, edition

    def at_work(self, pipeline: str) -> AtWork | None:
        """How the pipeline's model does; None while none runs."""
        part = self._part(pipeline)
        return None if part is None else part.at_work(self._workshop.worker)

    def failure(self, pipeline: str) -> str:
        """Why its model does not run, though the camera is started; empty where it does, or may yet."""
        part = self._part(pipeline)
        broken = (PipelineState.FAILED, PipelineState.WAITING)
        return part.error if part is not None and part.state in broken else ""

    @property
    def configs(self) -> list[PipelineConfig]:
        """Of its pipelines."""
        return [part.config for part in self._parts]

    def _part(self, pipeline: str) -> Slotted | None:
        return next((part for part in self._parts if part.title == pipeline), None)

    # ---- told by the threads --------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        self._latest = frame
        if self._workshop.evidence is not None:
            self._workshop.evidence.frame(frame)
        for pipeline in self._active:
            pipeline.offer(frame)

    def _on_state(self, status: CameraStatus) -> None:
        data = {"camera_id": self.id, "state": status.state.value, "reason": status.reason}
        self._workshop.announce("CameraStateChanged", self.id, data)
        if status.state in (CameraState.ENDED, CameraState.FAILED):
            self._loop.call_soon_threadsafe(self._ended.set)

    def _failed(self, part: Slotted, state: PipelineState, reason: str) -> None:
        if part.error != reason:  # said once, however often it is tried again
            log.error("pipeline %s is %s: %s", part.title, state.value, reason)
            data = {"camera_id": self.id, "state": state.value, "reason": reason}
            self._workshop.announce("PipelineFailed", part.title, data)
        part.state, part.error = state, reason

    def _pipeline_ended(self, part: Slotted, task: "asyncio.Task[None]") -> None:
        """A pipeline runs until it is cancelled: anything else is a defect, reported and kept to this pipeline."""
        if task.cancelled() or task.exception() is None:
            return
        log.error("pipeline %s ended by a defect", part.title, exc_info=task.exception())
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
        return {part.title: part.standing for part in self._parts}

    def set_paces(self, paces: Mapping[str, Pace]) -> None:
        """How many frames each pipeline takes from now on, also after a restart of the camera."""
        for part in self._parts:
            part.set_pace(paces.get(part.title, Pace()))

    def tune(self, tunings: Mapping[str, Tuning]) -> None:
        """What is different about each pipeline from the next frame on, also after a restart of the camera."""
        self._tunings = dict(tunings)
        for part in self._parts:
            part.tune(tunings.get(part.title, Tuning()))

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
        if self._parts:
            return [part.report(self.id, camera) for part in self._parts]
        if camera is None:
            return [StreamReport(self.id, state="stopped")]
        return [StreamReport(self.id, state=camera.state.value, fps=round(camera.fps, 2), error=camera.last_error)]


def _given_up(worker: InferenceWorker, name: str) -> int:
    stats = worker.stats(name)
    return stats.failures + stats.skipped
