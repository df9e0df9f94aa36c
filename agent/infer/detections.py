"""What a model saw in one frame: one columnar value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Heat:
    """How unlike the taught pictures each part of a frame is (heads/anomaly.py).

    map:  (rows, columns) float32, 1 at the threshold
    xyxy: where the map lies in the frame, pixels
    """

    map: NDArray[np.float32]
    xyxy: tuple[float, float, float, float]
    score: float  # of the whole picture, 1 at the threshold
    deviation: float  # from the score of a usual good picture, in spreads


@dataclass(frozen=True, slots=True)
class Detections:
    """n detections as columns.

    xyxy:       (n, 4) float32, pixels of the full frame, x0 y0 x1 y1, origin top left, x0 <= x1, y0 <= y1
    confidence: (n,) float32, 0..1
    class_id:   (n,) int32, index into the bundle's labels
    heat:       what the boxes were made of, where the model was taught by good pictures
    """

    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    heat: Heat | None = None

    def __post_init__(self) -> None:
        n = len(self.confidence)
        if self.xyxy.shape != (n, 4) or self.confidence.shape != (n,) or self.class_id.shape != (n,):
            raise ValueError(
                f"columns disagree: xyxy {self.xyxy.shape}, confidence {self.confidence.shape}, "
                f"class_id {self.class_id.shape}"
            )

    def __len__(self) -> int:
        return len(self.confidence)

    @staticmethod
    def none() -> "Detections":
        """No detections."""
        return Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
