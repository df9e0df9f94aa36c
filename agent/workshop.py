"""Makes the pipelines of all cameras: their engines, and everything a frame meets on its way."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.capture.slot import Keep, Slots
from agent.config import PipelineConfig
from agent.decide.decider import Decider
from agent.degrade.switches import Switches
from agent.evidence.evidence import Evidence
from agent.infer.bundle import Bundle
from agent.infer.engine import ModelError
from agent.infer.host import EngineChanged, EngineHost
from agent.infer.settings import InferSettings
from agent.infer.worker import InferenceWorker, Work
from agent.outbox.outbox import Outbox
from agent.pipeline import Pipeline
from agent.slotted import Slotted
from agent.stages.place import Seat
from agent.sync.sync import Sync
from agent.teach.watching import DriftTeller
from agent.track.tracker import Tracker
from platforms.watching import MakeCondition

Announce = Callable[[str, str, dict[str, Any]], None]
"""(event type, subject, data); may be called from any thread."""


@dataclass(frozen=True, slots=True)
class Frames:
    """What a pipeline is given."""

    camera_id: str
    recorded: bool  # of a file or folder: it has an end, and its time is media time
    lossless: bool  # none is left out, however slow the model
    stopped: Callable[[], bool]  # no more are wanted


@dataclass(frozen=True, slots=True)
class Workshop:
    """One node's: what the pipelines of all its cameras have in common."""

    infer: InferSettings
    slots: Slots[Work]
    worker: InferenceWorker
    outbox: Outbox
    announce: Announce
    boot: int
    switches: Switches
    sync: Sync
    evidence: Evidence | None
    load: Callable[[PipelineConfig], Bundle]  # a pipeline's model, in a thread; raises ModelError
    seat: Callable[..., Seat | None]  # a pipeline's at a stage of a platform
    kinds: Mapping[str, MakeCondition]  # of alert rules

    def new_host(self, camera_id: str, pipeline: str, bundle: Bundle, *, quiet: bool = False) -> EngineHost:
        """For a model of a pipeline; still to be opened, in a thread. Raises EngineUnavailableError.

        `quiet`: it serves no frames, so nobody hears of its engines.
        """

        def changed(change: EngineChanged) -> None:
            data = {
                "camera_id": camera_id,
                "pipeline": pipeline,
                "model": change.bundle,
                "from": change.rung_from,
                "to": change.rung_to,
                "up": change.up,
                "reason": change.reason,
            }
            self.announce("EngineChanged", pipeline, data)

        return EngineHost(bundle, self.infer, (lambda change: None) if quiet else changed)

    async def open_host(self, camera_id: str, pipeline: str, bundle: Bundle) -> EngineHost:
        """An open host; if cancelled meanwhile, it is closed once it has opened, so that its device becomes free."""
        host = self.new_host(camera_id, pipeline, bundle)
        opening = asyncio.ensure_future(asyncio.to_thread(host.open))
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(lambda done: host.close() if done.exception() is None else None)
            raise
        return host

    def pipeline(self, part: Slotted, bundle: Bundle, host: EngineHost, frames: Frames, run: str) -> Pipeline:
        """`run`: what the names of all it finds begin with.

        Raises an EdgewrightError where model, settings and decisions do not fit together.
        """
        config, camera_id = part.config, frames.camera_id
        if unknown := [name for name in config.classes if name not in bundle.labels]:
            known = ", ".join(bundle.labels[:12])
            raise ModelError(f"classes: model {bundle.name} has no {unknown[0]!r} ({known})")
        part.throttle.fps_max = config.fps_max
        fitted = part.fitted(bundle, host)
        decider = Decider(camera_id, bundle.labels, config.decide, prefix=run, kinds=self.kinds)
        outlet = self.sync.outlet(camera_id, config.title, local_only=config.local_only, recorded=frames.recorded)
        seat = self.seat(config, run, outlet, live=not frames.recorded)
        decided = self.evidence.decided if self.evidence else None
        return Pipeline(
            config.title,
            slot=self.slots.add(config.title, Keep.EVERY if frames.lossless else Keep.NEWEST),
            preprocessor=fitted.preprocessor,
            decoder=fitted.decoder,
            tracker=Tracker(config.tracker),
            decider=decider,
            outbox=self.outbox,
            labels=bundle.labels,
            stopped=frames.stopped,
            sample_interval_s=config.sample_interval_s,
            live=not frames.recorded,
            throttle=part.throttle,
            switches=self.switches,
            outlet=outlet,
            decided=DriftTeller(config.title, self.announce, decided).decided,
            seat=seat,
        )
