"""How good are detections of weld defects? Centre-point decoding and average precision.

Idea. Decoding follows Zhou et al. 2019, "Objects as Points": a cell that is the largest of its 3x3 neighbourhood is
an object. Average precision is COCO's: 101 recall levels, matches taken greedily by confidence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.weld_parts import FloatArray
from platforms.manufacturing.weld_samples import Sample

VISIBLE_MIN = 0.5
"""A defect shown less than this is neither demanded nor held against the model."""

IOUS = tuple(round(0.50 + 0.05 * k, 2) for k in range(10))


@dataclass(frozen=True, slots=True)
class Found:
    """What the model found in one picture: boxes (n, 4) float32 fractions, confidence (n,) float32,
    class_id (n,) int32; most confident first."""

    boxes: FloatArray
    confidence: FloatArray
    class_id: NDArray[np.int32]


def decode_centerpoint(
    heatmap: FloatArray, offset: FloatArray, size: FloatArray, confidence_min: float, detections_max: int
) -> Found:
    """heatmap: (H, W, classes) 0..1; offset: (H, W, 2) x, y within the cell, cells; size: (H, W, 2) width, height
    as fractions of the picture."""
    height, width, _ = heatmap.shape
    earlier = 1e-6 * np.arange(height * width, dtype=np.float32).reshape(height, width, 1)
    ranked = heatmap - earlier  # of equal neighbours, as quantised maps have them, the first wins
    padded = np.pad(ranked, ((1, 1), (1, 1), (0, 0)), constant_values=-1)
    rows = np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:])
    highest = np.maximum(np.maximum(rows[:, :-2], rows[:, 1:-1]), rows[:, 2:])
    peak = (ranked >= highest) & (heatmap >= confidence_min)
    y, x, class_id = np.nonzero(peak)
    confidence = heatmap[y, x, class_id]
    order = np.argsort(-confidence, kind="stable")[:detections_max]
    y, x, class_id, confidence = y[order], x[order], class_id[order], confidence[order]
    centre = np.stack([(x + offset[y, x, 0]) / width, (y + offset[y, x, 1]) / height], axis=1)
    half = size[y, x] / 2
    boxes = np.clip(np.concatenate([centre - half, centre + half], axis=1), 0, 1).astype(np.float32)
    return Found(boxes, confidence.astype(np.float32), class_id.astype(np.int32))


def iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Intersection over union of boxes (n, 4) and (m, 4): (n, m)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1)
    return np.asarray(shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class Score:
    """ap: (classes, len(IOUS)); recall: (classes,) at IoU 0.5 and the shown threshold; truths: (classes,)."""

    ap: NDArray[np.float64]
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    truths: NDArray[np.int64]

    @property
    def map50(self) -> float:
        return float(self.ap[:, 0].mean())

    @property
    def map50_95(self) -> float:
        return float(self.ap.mean())


def score(samples: list[Sample], found: list[Found], classes: int, confidence_shown: float) -> Score:
    """`found` needs all detections down to a low confidence; recall and precision count those shown."""
    ap = np.zeros((classes, len(IOUS)))
    recall, precision = np.zeros(classes), np.zeros(classes)
    truths = np.zeros(classes, np.int64)
    for label in range(classes):
        truths[label] = sum(
            int(((s.class_id == label) & (s.visible >= VISIBLE_MIN)).sum()) for s in samples
        )  # fmt: skip
        for k, threshold in enumerate(IOUS):
            confidence, hit = _judged(samples, found, label, threshold)
            ap[label, k] = _average_precision(confidence, hit, int(truths[label]))
            if k == 0:
                shown = hit[confidence >= confidence_shown]
                recall[label] = shown.sum() / max(int(truths[label]), 1)
                precision[label] = shown.mean() if len(shown) else 1.0
    return Score(ap, recall, precision, truths)


def _judged(
    samples: list[Sample], found: list[Found], label: int, threshold: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Confidence and hit or miss of each detection of a class; those on defects barely in view are left out."""
    confidences: list[float] = []
    hits: list[bool] = []
    for sample, one in zip(samples, found, strict=True):
        mine, theirs = one.class_id == label, sample.class_id == label
        demanded = sample.visible[theirs] >= VISIBLE_MIN
        overlap = iou(one.boxes[mine], sample.boxes[theirs])
        free = np.ones(int(theirs.sum()), bool)
        for row, confidence in zip(overlap, one.confidence[mine], strict=True):
            usable = np.where(free, row, 0.0)
            best = int(np.argmax(usable)) if len(usable) else -1
            hit = best >= 0 and usable[best] >= threshold
            if hit:
                free[best] = False
                if not demanded[best]:
                    continue
            elif len(row) and (row[~demanded] > 0.1).any():
                continue
            confidences.append(float(confidence))
            hits.append(bool(hit))
    return np.array(confidences, np.float32), np.array(hits, bool)


def _average_precision(confidence: NDArray[np.float32], hit: NDArray[np.bool_], truths: int) -> float:
    if truths == 0 or len(hit) == 0:
        return 0.0
    order = np.argsort(-confidence, kind="stable")
    right = np.cumsum(hit[order])
    recall = right / truths
    precision = np.maximum.accumulate((right / np.arange(1, len(right) + 1))[::-1])[::-1]
    at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
    return float(np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0).mean())
