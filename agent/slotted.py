"""One pipeline of a camera: what is true of it, and what it is made of while it runs."""

import asyncio
import enum
from dataclasses import dataclass, field, replace

from agent.capture.camera import CameraStats
from agent.config import PipelineConfig
from agent.degrade.pipelines import Pace, Standing
from agent.degrade.throttle import Throttle
from agent.documents.plan import Tuning
from agent.infer.bundle import Bundle
from agent.infer.fitting import Fitted, fit
from agent.infer.host import EngineHost, EngineStats
from agent.infer.worker import InferenceWorker
from agent.pipeline import Pipeline
from schemas.messages import StreamReport


class PipelineState(enum.Enum):
    """What is true of a pipeline."""

    STARTING = "starting"  # its model is being loaded
    RUNNING = "running"
    WAITING = "waiting"  # no engine can run it now; tried again by itself
    FAILED = "failed"  # its bundle or its settings are wrong; a person has to act
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class AtWork:
    """A pipeline's model as it runs: frames and failures are of the pipeline, whatever model it had."""

    bundle: Bundle
    engine: EngineStats
    frames: int
    failures: int


@dataclass(slots=True)
class Slotted:
    """As its camera has it. `pipeline`, `host` and `task` are there while it runs."""

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

    @property
    def title(self) -> str:
        return self.config.title

    # ---- told -----------------------------------------------------------------------------------

    def tune(self, said: Tuning) -> None:
        """What is different about it from the next frame on, also after a restart of the camera."""
        tuning = said.over(self.given)
        self.throttle.disabled = self.leaving or not tuning.enabled
        if tuning != self.tuning and self.pipeline and self.host and self.bundle:
            self.pipeline.decode_with(_fitted(self.bundle, tuning, self.config, self.host).decoder)
        self.tuning = tuning

    def set_pace(self, pace: Pace) -> None:
        """How many frames it takes from now on."""
        self.throttle.divisor, self.throttle.paused = pace.divisor, pace.paused

    # ---- asked ----------------------------------------------------------------------------------

    def fitted(self, bundle: Bundle, host: EngineHost) -> Fitted:
        """What feeds this model in an opened host and what reads it, as it is tuned. Raises ModelError."""
        return _fitted(bundle, self.tuning, self.config, host)

    def at_work(self, worker: InferenceWorker) -> AtWork | None:
        """How its model does; None while none runs."""
        if self.host is None or self.bundle is None:
            return None
        worked = worker.stats(self.title)
        return AtWork(self.bundle, self.host.stats(), worked.frames, worked.failures)

    @property
    def standing(self) -> Standing:
        """Its priority, and whether an accelerator runs it now."""
        return Standing(self.config.priority, self.host is not None and self.host.stats().rung not in ("", "cpu"))

    def report(self, camera_id: str, camera: CameraStats | None) -> StreamReport:
        """For the heartbeat and `status`. `camera`: None while it is stopped."""
        if self.pipeline is None or self.host is None:
            return StreamReport(camera_id, self.title, self.state.value, error=self.error)
        stats, engine = self.pipeline.stats(), self.host.stats()
        is_paused = self.throttle.paused or self.throttle.disabled
        running = "paused" if is_paused else camera.state.value if camera else "stopped"
        stays = self.config.local_only  # then what was found is nobody's business
        return StreamReport(
            camera=camera_id,
            pipeline=self.title,
            state=running if self.state is PipelineState.RUNNING else self.state.value,
            frames_total=stats.frames_total,
            detections_total=0 if stays else stats.detections_total,
            dropped_total=self.pipeline.dropped_total,
            fps=round(camera.fps, 2) if camera else 0.0,
            infer_ms_p50=round(engine.latency_ms_p50, 3),
            infer_ms_p99=round(engine.latency_ms_p99, 3),
            decide_ms_p99=round(stats.latency_ms_p99, 3),
            engine=engine.rung,
            counts={} if stays else self.pipeline.class_counts,
            error=self.error or (camera.last_error if camera else ""),
        )


def _fitted(bundle: Bundle, tuning: Tuning, config: PipelineConfig, host: EngineHost) -> Fitted:
    thresholds = tuning.thresholds(bundle.thresholds)
    if config.classes:
        thresholds = replace(thresholds, keep=config.classes)
    return fit(replace(bundle, thresholds=thresholds), host.input, host.outputs)
