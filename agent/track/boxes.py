"""Boxes as columns: one row per coordinate, one column per box, so that every operation runs along memory.

corners: (4, n) float64, rows x0 y0 x1 y1          centres: (4, n) float64, rows cx cy w h

(x0,y0) ┌───────w───────┐
        │    (cx,cy)    h
        └───────────────┘ (x1,y1)                   pixels, origin top left
"""

import numpy as np
from numpy.typing import NDArray

Columns = NDArray[np.float64]


def centres_of(corners: Columns) -> Columns:
    """Corners (4, n) to centres (4, n)."""
    low, high = corners[:2], corners[2:]
    return np.concatenate(((low + high) * 0.5, high - low))


def corners_of(centres: Columns, reach: float = 0.0) -> Columns:
    """Centres (4, n) to corners (4, n), each side moved outwards by `reach` times the box's size."""
    half = centres[2:] * (0.5 + reach)
    return np.concatenate((centres[:2] - half, centres[:2] + half))


def iou(a: Columns, b: Columns) -> Columns:
    """Intersection over union of each corner box of `a` (4, n) with each of `b` (4, m): (n, m), 0..1.

    A box without area overlaps nothing, not even itself.
    """
    overlap = np.minimum(a[2:, :, None], b[2:, None, :])
    overlap -= np.maximum(a[:2, :, None], b[:2, None, :])
    np.maximum(overlap, 0.0, out=overlap)
    shared = overlap[0] * overlap[1]
    area_a, area_b = _area(a), _area(b)
    # The smallest normal number instead of a zero union: the quotient is then 0 / tiny = 0, not NaN.
    union = np.maximum(area_a[:, None] + area_b - shared, np.finfo(np.float64).tiny)
    result: Columns = shared / union
    return result


def nearness(a: Columns, b: Columns) -> Columns:
    """How near the centres of each box of `a` (4, n) and of `b` (4, m), both as centres, lie: (n, m), 0..1.

    1 where they coincide, 0 from a way (across plus down) of one height of `a` on.
    """
    way = np.abs(a[:2, :, None] - b[:2, None, :])
    near: Columns = 1.0 - (way[0] + way[1]) / np.maximum(a[3], 1.0)[:, None]
    np.maximum(near, 0.0, out=near)
    return near


def _area(corners: Columns) -> Columns:
    size = corners[2:] - corners[:2]
    result: Columns = size[0] * size[1]
    return result
