"""Models that were taught what good parts look like (`edge-agent teach`): a map of how unlike them each place is.

    one output  (1, rows, columns) float32, squared distances from what was taught

The distances' map is smoothed; the picture's score is the mean of its worst places. Where the confidence of that
score reaches the threshold, each region of cells above it is a detection, labelled with the bundle's only label.
Confidence 0.5 is the taught threshold: `[thresholds] confidence` makes it stricter or laxer, also while it runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.anomaly.regions import regions
from agent.anomaly.scores import Scale, confidence, deviation, picture_scores, smoothed
from agent.infer.detections import Detections, Heat
from agent.infer.engine import Tensor
from agent.infer.heads.base import Surroundings, logit, misfit
from agent.infer.preprocess import Placement
from agent.infer.quantised import dequantise
from agent.infer.reader import Reader
from agent.infer.selection import select

NAME = "anomaly"
_LEAST = 1e-9


@dataclass(frozen=True, slots=True)
class Options:
    """What the scores mean, from the pictures that taught; see `Scale`."""

    scale: Scale


def read_options(reader: Reader) -> Options:
    return Options(
        Scale(
            threshold=reader.number("threshold", None, _LEAST, 1e9),
            log_mean=reader.number("log_mean", None, -50, 50),
            log_spread=reader.number("log_spread", None, _LEAST, 50),
        )
    )


class Anomaly:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._scale, self._around = options.scale, around
        if len(around.outputs) != 1 or len(around.outputs[0].shape) != 3 or around.outputs[0].shape[0] != 1:
            raise misfit(
                NAME, around.outputs, "one map (1, rows, columns) is wanted", "make it with edge-agent teach"
            )
        if around.classes != 1:
            raise misfit(NAME, around.outputs, f"one label is wanted, not {around.classes}")

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        around, scale = self._around, self._scale
        distances = np.sqrt(np.maximum(dequantise(outputs[0], around.outputs[0]), 0))
        maps = smoothed(distances)
        score = float(picture_scores(maps)[0])
        if not math.isfinite(score):
            return Detections.none()
        heat = Heat(
            maps[0] / np.float32(scale.threshold),
            self._extent(placement),
            score / scale.threshold,
            deviation(score, scale),
        )
        sure = confidence(score, scale)
        if sure < around.floor:
            return replace(Detections.none(), heat=heat)
        found = regions(heat.map, min(self._limit(), float(heat.map.max())))
        # The worst region is as sure as the picture, the others by how much less unlike they are.
        peak = found[0].peak
        sureness = [confidence(score * region.peak / peak, scale) for region in found]
        _, rows, columns = outputs[0].shape
        cell = np.array((around.geometry.width / columns, around.geometry.height / rows) * 2, np.float32)
        xyxy = np.array([(r.x0, r.y0, r.x1, r.y1) for r in found], np.float32) * cell
        kept = np.array(sureness, np.float32) >= around.floors[0]
        kept[0] = True
        detections = select(
            xyxy[kept],
            np.array(sureness, np.float32)[kept],
            np.full(int(kept.sum()), around.label_offset, np.int32),
            placement=placement,
            frame_width=frame_width,
            frame_height=frame_height,
            iou=1.0,  # regions share no cell, though their boxes may overlap
            limit=around.limit,
        )
        return replace(detections, heat=heat)

    def _limit(self) -> float:
        """The least value of a cell that belongs to a region, as a multiple of the threshold."""
        return math.exp(self._scale.log_spread * min(max(logit(self._around.floor), -20.0), 20.0))

    def _extent(self, placement: Placement) -> tuple[float, float, float, float]:
        geometry = self._around.geometry
        corners = placement.to_frame(np.array([[0, 0, geometry.width, geometry.height]], np.float32))[0]
        x0, y0, x1, y1 = corners.tolist()
        return x0, y0, x1, y1
