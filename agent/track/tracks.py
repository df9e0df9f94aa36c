"""The objects a tracker follows after one frame: one columnar value."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tracks:
    """The confirmed tracks after one frame, as columns, and the ids that ended with it.

    track_id:     (n,) int64, never reused by the same tracker
    xyxy:         (n, 4) float32, pixels, x0 y0 x1 y1, origin top left
    confidence:   (n,) float32, 0..1, of the detection last matched
    class_id:     (n,) int32, the class voted by the track's detections so far
    first_seen_s: (n,) float64, capture time of the first detection
    last_seen_s:  (n,) float64, capture time of the last matched detection
    matched:      (n,) bool, matched to a detection in this very frame (else predicted)
    gone:         (k,) int64, ids of confirmed tracks that ended with this frame
    """

    track_id: NDArray[np.int64]
    xyxy: NDArray[np.float32]
    confidence: NDArray[np.float32]
    class_id: NDArray[np.int32]
    first_seen_s: NDArray[np.float64]
    last_seen_s: NDArray[np.float64]
    matched: NDArray[np.bool_]
    gone: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.track_id)
