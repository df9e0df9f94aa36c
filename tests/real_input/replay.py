"""A clip through the frame path without threads or broker: what the agent decides, frame by frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from agent.capture.pyav import VideoFile
from agent.decide.decider import Decider
from agent.decide.facts import Fact
from agent.decide.settings import NO_KINDS, DecideSettings
from agent.infer.bundle_files import load_bundle
from agent.infer.detections import Detections
from agent.infer.fitting import fit
from agent.infer.host import EngineHost
from agent.infer.settings import InferSettings
from agent.track.settings import TrackerSettings
from agent.track.tracker import Tracker
from agent.track.tracks import Tracks
from platforms.watching import MakeCondition


@dataclass(slots=True)
class Replay:
    """What was seen and decided; detections and tracks by frame."""

    labels: tuple[str, ...]
    detections: list[Detections] = field(default_factory=list)
    tracks: list[Tracks] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def of_class(self, frame: int, *names: str) -> int:
        """Detections of these classes in a frame."""
        wanted = [self.labels.index(name) for name in names]
        return int(np.isin(self.detections[frame].class_id, wanted).sum())


def replay(
    clip: Path,
    bundle_folder: Path,
    settings: DecideSettings | None = None,
    *,
    every: int = 1,
    tracker: TrackerSettings | None = None,
    kinds: Mapping[str, MakeCondition] = NO_KINDS,
) -> Replay:
    """Every `every`-th frame of the clip through model, tracker and decisions."""
    bundle = load_bundle(bundle_folder)
    host = EngineHost(bundle, InferSettings(threads=2), lambda change: None)
    host.open()
    fitted = fit(bundle, host.input, host.outputs)
    follow = Tracker(tracker or TrackerSettings())
    decider = Decider("cam", bundle.labels, settings or DecideSettings(), kinds=kinds)
    result = Replay(bundle.labels)
    video = VideoFile(clip)
    video.open()
    index = 0
    try:
        while (captured := video.read()) is not None:
            index += 1
            if (index - 1) % every:
                continue
            picture = captured.picture
            tensor, placement = fitted.preprocessor.prepare(picture)
            found = fitted.decoder.decode(host.infer(tensor), placement, picture.width, picture.height)
            tracks = follow.update(found, captured.time_s)
            result.detections.append(found)
            result.tracks.append(tracks)
            result.facts += decider.update(tracks, captured.time_s, picture.width, picture.height)
    finally:
        video.close()
        host.close()
    return result
