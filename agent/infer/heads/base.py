"""What every head shares: its surroundings, how outputs are told apart, and the last steps of decoding."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.engine import ModelError, TensorSpec
from agent.infer.preprocess import Geometry, Placement
from agent.infer.selection import select
from agent.infer.thresholds import Thresholds


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a head is built into.

    floors: (model classes,) float32, least confidence of each class, infinity for those not wanted
    """

    outputs: tuple[TensorSpec, ...]
    geometry: Geometry
    floors: NDArray[np.float32]
    label_offset: int
    iou: float
    limit: int

    @property
    def classes(self) -> int:
        return len(self.floors)

    @property
    def floor(self) -> float:
        """The least confidence that any class accepts."""
        return float(self.floors.min(initial=np.inf))

    def finish(
        self,
        xyxy: NDArray[np.float32],
        confidence: NDArray[np.float32],
        model_class: NDArray[np.intp],
        placement: Placement,
        frame_width: int,
        frame_height: int,
    ) -> Detections:
        """Boxes in model pixels that passed the common floor to detections in the frame."""
        wanted = confidence >= self.floors[model_class]
        return select(
            xyxy[wanted],
            confidence[wanted],
            (model_class[wanted] + self.label_offset).astype(np.int32),
            placement=placement,
            frame_width=frame_width,
            frame_height=frame_height,
            iou=self.iou,
            limit=self.limit,
        )


def surroundings(
    outputs: Sequence[TensorSpec],
    geometry: Geometry,
    labels: tuple[str, ...],
    label_offset: int,
    thresholds: Thresholds,
) -> Surroundings:
    return Surroundings(
        outputs=tuple(outputs),
        geometry=geometry,
        floors=thresholds.by_class(labels)[label_offset:],
        label_offset=label_offset,
        iou=thresholds.iou,
        limit=thresholds.max_detections,
    )


def listed(outputs: Sequence[TensorSpec]) -> str:
    """The outputs for an error message."""
    return ", ".join(f"{i}: {spec.name!r} {spec.shape} {spec.dtype}" for i, spec in enumerate(outputs))


def misfit(head: str, outputs: Sequence[TensorSpec], why: str, hint: str = "") -> ModelError:
    return ModelError(
        f"decoder {head} does not fit the model's outputs ({listed(outputs)}): {why}",
        hint=hint or "choose another [output] decoder in bundle.toml, or correct its options",
    )


def find_output(head: str, outputs: Sequence[TensorSpec], wanted: str, key: str) -> int:
    """The index of the output a manifest names by its position, its name, or a unique part of its name."""
    if wanted.isdecimal() and int(wanted) < len(outputs):
        return int(wanted)
    exact = [i for i, spec in enumerate(outputs) if spec.name == wanted]
    near = exact or [i for i, spec in enumerate(outputs) if wanted.lower() in spec.name.lower()]
    if len(near) == 1:
        return near[0]
    found = "several outputs are" if near else "no output is"
    raise misfit(head, outputs, f"{found} called {wanted!r}", f"name one of them in [output] {key}")


def corners(center_x: NDArray[np.float32], center_y: NDArray[np.float32], width: NDArray[np.float32],
            height: NDArray[np.float32]) -> NDArray[np.float32]:  # fmt: skip
    """(n, 4) float32 x0 y0 x1 y1 from centres and sizes."""
    half_width, half_height = width / 2, height / 2
    return np.stack(
        [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height], axis=1
    ).astype(np.float32, copy=False)


def sigmoid(x: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-x)), np.float32)


def softmax(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Along the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(e / e.sum(axis=-1, keepdims=True), np.float32)


def logit(probability: float) -> float:
    """The inverse of the sigmoid; infinite at the ends."""
    with np.errstate(divide="ignore"):
        return float(np.log(probability) - np.log1p(-probability)) if probability <= 1 else float("inf")
