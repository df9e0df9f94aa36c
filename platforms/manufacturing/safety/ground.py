"""How far apart things are, from a picture: by points of the floor in metres, or by people's height. Pure.

Four points or more of the floor, each in the picture and in metres, give the homography between both planes (Hartley
& Zisserman, Multiple View Geometry, 2nd ed., algorithm 4.2: normalised direct linear transform). Without them a
person's box is a ruler: 1.7 m high, where that person stands.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Point = tuple[float, float]
Box = Sequence[float]
"""x0 y0 x1 y1 in pixels, y down."""

FLAT = 1e-6  # of a unit's spread: points nearer to one line than this show no plane


class GroundError(ValueError):
    """Points that make no plane."""


class Ground:
    """The floor as a camera sees it."""

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        """`points`: (x, y, X, Y), shares of the picture and metres on the floor. Raises GroundError."""
        if len(points) < 4 or any(len(point) != 4 for point in points):
            raise GroundError("4 points or more are wanted, each [x, y, X, Y]: shares of the picture, and metres")
        given: NDArray[np.float64] = np.array(points, np.float64)
        if not np.isfinite(given).all():
            raise GroundError("every number must be finite")
        seen, known = given[:, :2], given[:, 2:]
        for what, plane in (("picture", seen), ("floor", known)):
            if np.linalg.svd(plane - plane.mean(axis=0), compute_uv=False)[-1] < FLAT:
                raise GroundError(f"the points lie on one line of the {what}")
        from_seen, from_known = _normal(seen), _normal(known)
        rows = []
        for (x, y), (u, v) in zip(_moved(seen, from_seen), _moved(known, from_known), strict=True):
            rows.append([-x, -y, -1, 0, 0, 0, u * x, u * y, u])
            rows.append([0, 0, 0, -x, -y, -1, v * x, v * y, v])
        matrix = np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3)
        self._matrix = np.linalg.inv(from_known) @ matrix @ from_seen

    def at(self, x: float, y: float) -> Point:
        """Metres on the floor of a point of the picture, in shares; infinite on the horizon."""
        u, v, w = (self._matrix @ (x, y, 1.0)).tolist()
        return (u / w, v / w) if abs(w) > 1e-12 else (math.inf, math.inf)


def _normal(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Moves their middle to the origin and their mean distance from it to the root of 2."""
    middle = points.mean(axis=0)
    scale = math.sqrt(2) / float(np.linalg.norm(points - middle, axis=1).mean())
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])


def _moved(points: NDArray[np.float64], matrix: NDArray[np.float64]) -> list[list[float]]:
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    found: list[list[float]] = moved[:, :2].tolist()
    return found


class Ruler:
    """Distances between boxes of one camera, in metres."""

    def __init__(self, ground: Ground | None, person_height_m: float) -> None:
        self._ground, self._height_m = ground, person_height_m

    def apart_m(self, person: Box, other: Box, width: int, height: int) -> float:
        """From where a person stands to the nearest edge of what else stands on the floor; without a calibration
        between the boxes, by the person's height."""
        if self._ground is None:
            gap_x = max(other[0] - person[2], person[0] - other[2], 0.0)
            gap_y = max(other[1] - person[3], person[1] - other[3], 0.0)
            return math.hypot(gap_x, gap_y) * self._height_m / max(person[3] - person[1], 1.0)
        foot = self._ground.at((person[0] + person[2]) / 2 / width, person[3] / height)
        left = self._ground.at(other[0] / width, other[3] / height)
        right = self._ground.at(other[2] / width, other[3] / height)
        return _to_segment(foot, left, right)

    def place(self, box: Box, width: int, height: int) -> Point:
        """Where a box stands, in metres; without a calibration in heights of the box, for short ways only."""
        x, y = (box[0] + box[2]) / 2, box[3]
        if self._ground is not None:
            return self._ground.at(x / width, y / height)
        scale = self._height_m / max(box[3] - box[1], 1.0)
        return x * scale, y * scale


def _to_segment(point: Point, start: Point, end: Point) -> float:
    along = (end[0] - start[0], end[1] - start[1])
    length = along[0] ** 2 + along[1] ** 2
    if not math.isfinite(length):
        return math.inf
    share = ((point[0] - start[0]) * along[0] + (point[1] - start[1]) * along[1]) / length if length else 0.0
    share = min(1.0, max(0.0, share))
    return math.hypot(point[0] - start[0] - share * along[0], point[1] - start[1] - share * along[1])
