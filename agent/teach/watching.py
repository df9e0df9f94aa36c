"""Tells when what a camera shows as good drifts away from what was taught as good."""

from collections.abc import Callable, Sequence
from typing import Any

from agent.anomaly.drift import DriftWatch
from agent.capture.frame import Frame
from agent.infer.detections import Detections
from agent.outbox.rows import Draft
from agent.track.tracks import Tracks

Decided = Callable[[tuple[str, ...], Frame, Detections, Tracks, Sequence[Draft]], None]


class DriftTeller:
    """Beside a pipeline; says nothing of models that were not taught. For the loop."""

    def __init__(
        self, pipeline: str, announce: Callable[[str, str, dict[str, Any]], None], then: Decided | None
    ) -> None:
        """`then` is told of each frame afterwards."""
        self._pipeline = pipeline
        self._announce = announce
        self._then = then
        self._watch = DriftWatch()

    def decided(
        self, labels: tuple[str, ...], frame: Frame, detections: Detections, tracks: Tracks, drafts: Sequence[Draft]
    ) -> None:
        """See `Pipeline`."""
        heat = detections.heat
        if heat is not None:
            shift = self._watch.add(heat.deviation, good=len(detections) == 0)
            if shift is not None:
                data = {
                    "camera_id": frame.camera_id,
                    "pipeline": self._pipeline,
                    "drift": shift.drift.value,
                    "shift": round(shift.shift, 2),
                    "pictures": shift.pictures,
                }
                self._announce("AnomalyDrift", self._pipeline, data)
        if self._then is not None:
            self._then(labels, frame, detections, tracks, drafts)
