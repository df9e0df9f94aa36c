"""How well a model does on frames with known answers, and whether that is good enough to take another's place. Pure.

Detectors: a detection is right when it overlaps an object of its class, by the class's name, with intersection /
union >= `iou`; each object counts once, the most confident detection first. The accuracy is the F1 score over all
frames, 2 right / (detections + objects); nothing found where there is nothing is right. Classifiers: the share of
frames whose most confident class is the label (top-1). The agreement of two models is the accuracy of one by the
answers of the other.

Latencies are taken on this device, beside what runs on it, both models in turn, and so under the same load.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a new model has to keep. `latency_ms_max` 0: none of its own."""

    accuracy_min: float = 0.5
    accuracy_drop_max: float = 0.02  # below the model that runs, on the same frames
    latency_factor_max: float = 1.5  # p95 of the new one, over that of the one that runs
    latency_slack_ms: float = 10.0  # added to that: short latencies are noise
    latency_ms_max: float = 0.0
    iou: float = 0.5


@dataclass(frozen=True, slots=True)
class Answer:
    """What is in a frame, or what a model says is.

    xyxy:   (n, 4) float32, pixels of the frame, x0 y0 x1 y1; of a classifier the whole frame
    labels: n names, of a model the most confident first
    """

    xyxy: NDArray[np.float32]
    labels: tuple[str, ...]

    @staticmethod
    def of(found: Detections, labels: Sequence[str]) -> "Answer":
        """A model's."""
        names = tuple(labels[i] if i < len(labels) else f"class_{i}" for i in found.class_id.tolist())
        return Answer(found.xyxy, names)


@dataclass(frozen=True, slots=True)
class Figures:
    """One model on these frames. `accuracy` None: there are no frames with known answers."""

    frames: int
    accuracy: float | None
    latency_ms_p50: float
    latency_ms_p95: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the gate. `refusal` is empty where the new model may go on."""

    new: Figures
    old: Figures | None = None
    agreement: float | None = None
    refusal: str = ""


def accuracy(answers: Sequence[Answer], truths: Sequence[Answer], *, classifier: bool, iou: float = 0.5) -> float:
    """0..1; 1 where there is nothing to be found and nothing was."""
    if classifier:
        right = sum(a.labels[:1] == t.labels[:1] for a, t in zip(answers, truths, strict=True))
        return right / len(truths) if truths else 1.0
    right = sum(_matches(a, t, iou) for a, t in zip(answers, truths, strict=True))
    said = sum(len(one.labels) for one in (*answers, *truths))
    return 2 * right / said if said else 1.0


def _matches(answer: Answer, truth: Answer, iou: float) -> int:
    """How many of the answer's boxes are an object of the truth each."""
    if not answer.labels or not truth.labels:
        return 0
    overlaps = _iou(answer.xyxy, truth.xyxy)
    free = np.ones(len(truth.labels), np.bool_)
    right = 0
    for i, label in enumerate(answer.labels):
        fits = free & (overlaps[i] >= iou) & np.array([label == one for one in truth.labels])
        if fits.any():
            free[int(np.argmax(np.where(fits, overlaps[i], -1.0)))] = False
            right += 1
    return right


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, m) float32: intersection / union of box i of a and box j of b; boxes of no size overlap nothing."""
    x0, y0 = (np.maximum(a[:, None, k], b[None, :, k]) for k in (0, 1))
    x1, y1 = (np.minimum(a[:, None, k], b[None, :, k]) for k in (2, 3))
    shared = np.maximum(x1 - x0, 0) * np.maximum(y1 - y0, 0)
    area_a, area_b = ((one[:, 2] - one[:, 0]) * (one[:, 3] - one[:, 1]) for one in (a, b))
    union = area_a[:, None] + area_b[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0), np.float32)


def judge(new: Figures, old: Figures | None, thresholds: Thresholds, agreement: float | None = None) -> Verdict:
    """Whether a model with the figures `new` may take the place of one with `old`; None: of one that does not run."""
    reasons = []
    if new.accuracy is not None:
        if new.accuracy < thresholds.accuracy_min:
            reasons.append(
                f"accuracy {new.accuracy:.3f} on {new.frames} frames, at least {thresholds.accuracy_min:g}"
            )
        if old is not None and old.accuracy is not None:
            least = old.accuracy - thresholds.accuracy_drop_max
            if new.accuracy < least:
                reasons.append(
                    f"accuracy {new.accuracy:.3f} on {new.frames} frames, the model before has {old.accuracy:.3f} "
                    f"(at most {thresholds.accuracy_drop_max:g} less is allowed)"
                )
    if old is not None:
        most = old.latency_ms_p95 * thresholds.latency_factor_max + thresholds.latency_slack_ms
        if new.latency_ms_p95 > most:
            reasons.append(
                f"latency p95 {new.latency_ms_p95:.1f} ms, the model before has {old.latency_ms_p95:.1f} ms "
                f"(at most {most:.1f} ms is allowed)"
            )
    if 0 < thresholds.latency_ms_max < new.latency_ms_p95:
        reasons.append(f"latency p95 {new.latency_ms_p95:.1f} ms, at most {thresholds.latency_ms_max:g} ms")
    return Verdict(new, old, agreement, "; ".join(reasons))
