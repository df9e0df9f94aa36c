"""From candidate boxes to detections: sanity, overlap, limits, and the frame's coordinates."""

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.preprocess import Placement

CANDIDATES_MAX = 512
"""Most candidates that compete in one frame, the most confident ones: it bounds the time."""
_BLOCK = 64


def strongest(confidence: NDArray[np.float32], limit: int) -> NDArray[np.intp]:
    """Indices of at most `limit` entries, most confident first; equal ones in their own order."""
    if len(confidence) > 4 * limit:
        some = np.sort(np.argpartition(-confidence, limit)[:limit])
        return some[np.argsort(-confidence[some], kind="stable")]
    return np.argsort(-confidence, kind="stable")[:limit]


def non_maximum(xyxy: NDArray[np.float32], class_id: NDArray[np.int32], iou: float, limit: int) -> NDArray[np.intp]:
    """Indices of the boxes that stay, at most `limit`, of boxes given most confident first.

    A box goes when a stronger one of its class that stays overlaps it with intersection / union > `iou`.
    Works in blocks: most boxes of a crowd fall to the few kept before them, so the full matrix is never needed.
    """
    n = len(xyxy)
    if iou >= 1:
        return np.arange(min(n, limit))
    x0, y0, x1, y1 = xyxy.T
    columns = np.stack([x0, y0, x1, y1, (x1 - x0) * (y1 - y0), class_id.astype(np.float32)])
    kept: list[int] = []
    for start in range(0, n, _BLOCK):
        block = np.arange(start, min(start + _BLOCK, n))
        if kept:
            block = block[~_clash(columns[:, block], columns[:, kept], iou).any(axis=1)]
        clash = _clash(columns[:, block], columns[:, block], iou)
        alive = np.ones(len(block), np.bool_)
        for i, index in enumerate(block.tolist()):
            if alive[i]:
                kept.append(index)
                alive &= ~clash[i]
        if len(kept) >= limit:
            break
    return np.array(kept[:limit], np.intp)


def _clash(a: NDArray[np.float32], b: NDArray[np.float32], iou: float) -> NDArray[np.bool_]:
    """(n, m) bool: box i of a and box j of b are of one class and overlap by more than `iou`.

    a: (6, n) float32, rows x0 y0 x1 y1 area class; b: (6, m) the same
    """
    ax0, ay0, ax1, ay1, a_area, a_class = a[:, :, None]
    bx0, by0, bx1, by1, b_area, b_class = b
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    shared = np.maximum(width, 0) * np.maximum(height, 0)
    # shared / union > t  <=>  shared * (1 + t) > t * (area + area): no division, so no zero to divide by.
    clash = shared * np.float32(1 + iou) > np.float32(iou) * (a_area + b_area)
    return np.asarray(clash & (a_class == b_class))


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
