"""Which detections count: confidence per class, classes to keep, overlap, and the most that are returned."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from agent.infer.reader import Reader


@dataclass(frozen=True, slots=True)
class Thresholds:
    confidence: float = 0.5  # least confidence of a detection, 0..1
    iou: float = 0.5  # of two boxes of one class overlapping more than this the weaker one goes; 1 keeps all
    max_detections: int = 100  # per frame, the most confident ones
    per_class: Mapping[str, float] = field(default_factory=dict)  # label -> confidence in place of the general one
    keep: tuple[str, ...] = ()  # labels to report; empty: all

    def by_class(self, labels: tuple[str, ...]) -> NDArray[np.float32]:
        """(len(labels),) float32: least confidence of each class, infinity for those not kept."""
        return np.array(
            [
                self.per_class.get(label, self.confidence) if not self.keep or label in self.keep else np.inf
                for label in labels
            ],
            np.float32,
        )


def read_thresholds(reader: Reader, labels: tuple[str, ...]) -> Thresholds:
    defaults = Thresholds()
    known = set(labels)
    keep = reader.texts("keep", ())
    if unknown := [label for label in keep if label not in known]:
        reader.wrong("keep", f"not among the labels: {', '.join(unknown)}")
    table = reader.table("per_class")
    per_class = {label: table.number(label, defaults.confidence, 0, 1) for label in table.items()}
    for label in per_class.keys() - known:
        table.wrong(label, "not among the labels")
    thresholds = Thresholds(
        confidence=reader.number("confidence", defaults.confidence, 0, 1),
        iou=reader.number("iou", defaults.iou, 0, 1),
        max_detections=reader.integer("max_detections", defaults.max_detections, 1, 1000),
        per_class=per_class,
        keep=keep,
    )
    reader.finish()
    return thresholds
