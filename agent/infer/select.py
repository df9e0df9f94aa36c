"""From candidate boxes to detections: sanity, overlap, limits, and the frame's coordinates."""

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.preprocess import Placement

CANDIDATES_MAX = 512
"""Most candidates that compete in one frame, the most confident ones: it bounds the quadratic overlap matrix."""


def strongest(confidence: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Indices of at most `limit` entries, most confident first; equal ones in their own order."""
    if len(confidence) > 4 * limit:
        some = np.sort(np.argpartition(-confidence, limit)[:limit])
        return some[np.argsort(-confidence[some], kind="stable")]
    return np.argsort(-confidence, kind="stable")[:limit]


def non_maximum(xyxy: NDArray[np.float32], class_id: NDArray[np.int32], iou: float, limit: int) -> NDArray[np.intp]:
    """Indices of the boxes that stay, at most `limit`, of boxes given most confident first.

    A box goes when a stronger one of its class that stays overlaps it with intersection / union > `iou`.
    """
    n = len(xyxy)
    if n == 0 or iou >= 1:
        return np.arange(min(n, limit))
    x0, y0, x1, y1 = xyxy.T
    area = (x1 - x0) * (y1 - y0)
    width = np.minimum(x1[:, None], x1) - np.maximum(x0[:, None], x0)
    height = np.minimum(y1[:, None], y1) - np.maximum(y0[:, None], y0)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    # inter / union > t  <=>  inter * (1 + t) > t * (area + area): no division, so no zero to divide by.
    clash = shared * np.float32(1 + iou) > np.float32(iou) * (area[:, None] + area)
    clash &= class_id[:, None] == class_id
    alive = np.ones(n, np.bool_)
    kept: list[int] = []
    i = 0
    while i < n and len(kept) < limit:
        if alive[i]:
            kept.append(i)
            alive &= ~clash[i]
        i += 1
    return np.array(kept, np.intp)


def select(
    xyxy: NDArray[np.float32],
    confidence: NDArray[np.float32],
    class_id: NDArray[np.int32],
    *,
    placement: Placement,
    frame_width: int,
    frame_height: int,
    iou: float,
    limit: int,
) -> Detections:
    """Detections of the frame, most confident first.

    xyxy: (n, 4) float32 in model pixels; boxes that are not finite, or empty within the frame, are dropped.
    """
    if len(confidence) == 0:
        return Detections.none()
    order = strongest(confidence, CANDIDATES_MAX)
    xyxy, confidence, class_id = placement.to_frame(xyxy[order]), confidence[order], class_id[order]
    with np.errstate(invalid="ignore"):
        finite = np.isfinite(xyxy).all(axis=1) & np.isfinite(confidence)
        edge = np.array((frame_width, frame_height) * 2, np.float32)
        xyxy = np.clip(xyxy, 0, edge)
        real = finite & (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    if not real.all():
        xyxy, confidence, class_id = xyxy[real], confidence[real], class_id[real]
    kept = non_maximum(xyxy, class_id, iou, limit)
    return Detections(xyxy[kept], np.minimum(confidence[kept], np.float32(1)), class_id[kept])
