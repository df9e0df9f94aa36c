"""Points, lines and polygons of a camera's picture, in shares of it: x 0..1 to the right, y 0..1 downwards."""

from collections.abc import Sequence
from enum import StrEnum
from math import hypot

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Points = NDArray[np.float64]

_INSIDE = 1.0 - 1e-9
"""Anchors are drawn into the picture up to here: on 1 itself they would lie outside a zone that ends at the edge."""


class Anchor(StrEnum):
    """The point of a box that stands for the object.

    ┌───────┐
    │   ●   │ CENTRE         what is seen from above, or hangs
    └───●───┘ BOTTOM_CENTRE  where a person or vehicle touches the ground
    """

    BOTTOM_CENTRE = "bottom_centre"
    CENTRE = "centre"


def anchors_of(xyxy: NDArray[np.float32], width: int, height: int, anchor: Anchor) -> Points:
    """The anchors (n, 2) float64 of boxes (n, 4) in pixels, drawn into the picture where they lie outside."""
    points = np.empty((len(xyxy), 2))
    points[:, 0] = (xyxy[:, 0] + xyxy[:, 2]) * (0.5 / width)
    if anchor is Anchor.CENTRE:
        points[:, 1] = (xyxy[:, 1] + xyxy[:, 3]) * (0.5 / height)
    else:
        points[:, 1] = xyxy[:, 3] / height
    np.maximum(points, 0.0, out=points)
    return np.minimum(points, _INSIDE, out=points)


class Polygon:
    """An area. A point on its left or top edge is inside, one on its right or bottom edge is not."""

    def __init__(self, corners: Sequence[Point]) -> None:
        begin = np.array(corners, dtype=np.float64).reshape(-1, 2)
        end = np.roll(begin, -1, axis=0)
        rise = end[:, 1] - begin[:, 1]
        self._x, self._y = begin[:, :1], begin[:, 1:]
        self._y_end = end[:, 1:]
        # A level edge is never crossed, so its slope is of no importance.
        self._slope = ((end[:, 0] - begin[:, 0]) / np.where(rise == 0.0, 1.0, rise))[:, None]

    def contains(self, points: Points) -> NDArray[np.bool_]:
        """(n,) bool for points (n, 2): a ray to the right crosses an odd number of edges (Shimrat 1962)."""
        x, y = points[:, 0], points[:, 1]
        spans = (self._y > y) != (self._y_end > y)
        spans &= x < self._x + (y - self._y) * self._slope
        inside: NDArray[np.bool_] = np.logical_xor.reduce(spans, axis=0)
        return inside


class Line:
    """A directed line segment. Seen from `start` towards `end`, `in` is from left to right.

              end
    left       ▲       right
           ────┼───▶ in
     out ◀─────┼────
             start
    """

    def __init__(self, start: Point, end: Point) -> None:
        self.start, self.end = start, end
        length = hypot(end[0] - start[0], end[1] - start[1])
        self._x, self._y = (end[0] - start[0]) / length, (end[1] - start[1]) / length

    def distance(self, point: Point) -> float:
        """How far `point` lies to the right of the endless line, in shares of the picture; negative: to the left."""
        return self._x * (point[1] - self.start[1]) - self._y * (point[0] - self.start[0])

    def crossed_by(self, before: Point, after: Point) -> bool:
        """Whether the way from `before` to `after` meets the segment itself."""
        return segments_meet(before, after, self.start, self.end)


def segments_meet(a: Point, b: Point, c: Point, d: Point) -> bool:
    """Whether segments a-b and c-d have a point in common, their ends included."""
    abc, abd, cda, cdb = _turn(a, b, c), _turn(a, b, d), _turn(c, d, a), _turn(c, d, b)
    if abc * abd < 0.0 and cda * cdb < 0.0:
        return True
    return (
        (abc == 0.0 and _between(a, b, c))
        or (abd == 0.0 and _between(a, b, d))
        or (cda == 0.0 and _between(c, d, a))
        or (cdb == 0.0 and _between(c, d, b))
    )


def _turn(a: Point, b: Point, c: Point) -> float:
    """Above 0 where a, b, c turn clockwise in the picture, 0 on one line."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _between(a: Point, b: Point, p: Point) -> bool:
    """Whether p, known to be on the endless line through a and b, lies between them."""
    return min(a[0], b[0]) <= p[0] <= max(a[0], b[0]) and min(a[1], b[1]) <= p[1] <= max(a[1], b[1])


def polygon_mistakes(corners: Sequence[Point]) -> list[str]:
    """What makes `corners` no usable area."""
    n = len(corners)
    if n < 3:
        return [f"has {n} points; an area needs at least 3"]
    mistakes = [
        f"point {i + 1} ({x:g}, {y:g}) lies outside the picture; coordinates are shares of it, 0 to 1"
        for i, (x, y) in enumerate(corners)
        if not (0.0 <= x <= 1.0 and 0.0 <= y <= 1.0)
    ]
    if mistakes:
        return mistakes
    for i in range(n):
        if corners[i] == corners[(i + 1) % n]:
            mistakes.append(f"points {i + 1} and {(i + 1) % n + 1} are the same")
        mistakes += [
            f"the edge after point {i + 1} runs into the edge after point {j + 1}"
            for j in range(i + 1, n)
            if _edges_collide(corners, i, j)
        ]
    return mistakes


def _edges_collide(corners: Sequence[Point], i: int, j: int) -> bool:
    """Whether edges i < j have more in common than the corner that neighbours share."""
    n = len(corners)
    a, b, c, d = corners[i], corners[(i + 1) % n], corners[j], corners[(j + 1) % n]
    if a == b or c == d:
        return False
    if j == i + 1:
        return _folds_back(a, b, d)
    if i == 0 and j == n - 1:
        return _folds_back(c, a, b)
    return segments_meet(a, b, c, d)


def _folds_back(a: Point, b: Point, c: Point) -> bool:
    """Whether the way a-b-c turns round at b and returns on itself."""
    ahead = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1])
    return _turn(a, b, c) == 0.0 and ahead < 0.0
