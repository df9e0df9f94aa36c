"""Pixels to millimetres on the plane that parts lie on.

A plane seen by a camera without distortion is a homography of the picture (Hartley and Zisserman, Multiple View
Geometry, 2nd ed., 4.1): four points of it are enough, more are fitted by least squares (the normalised DLT).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Matrix = NDArray[np.float64]
POINTS_MAX = 10_000
FLAT_MIN = 1e-9  # a smaller share of the plane is no area: the points lie on a line


class CalibrationError(Exception):
    """These points make no calibration."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """matrix: (3, 3), homogeneous pixels to millimetres. size: width and height, pixels, of the picture it is for;
    0: any, taken as it is. residual_mm_*: of the points that it was made from."""

    matrix: Matrix
    size: tuple[int, int] = (0, 0)
    residual_mm_rms: float = 0.0
    residual_mm_max: float = 0.0
    points: int = 0

    def millimetres(self, points: ArrayLike, width: int = 0, height: int = 0) -> NDArray[np.float64]:
        """(n, 2) pixels of a picture of that size as (n, 2) millimetres."""
        xy = np.asarray(points, np.float64).reshape(-1, 2)
        if self.size[0] and width:
            xy = xy * (self.size[0] / width, self.size[1] / height)
        return _through(self.matrix, xy)

    def size_of(self, box: Sequence[float], width: int = 0, height: int = 0) -> tuple[float, float, float]:
        """Length, width (mm; the longer and the shorter side) and area (mm²) of a box x0 y0 x1 y1 in pixels."""
        x0, y0, x1, y1 = box
        corners = self.millimetres([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], width, height)
        sides = np.hypot(*(np.roll(corners, -1, axis=0) - corners).T)
        across, down = float(sides[0] + sides[2]) / 2, float(sides[1] + sides[3]) / 2
        x, y = corners.T
        area = abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
        return max(across, down), min(across, down), area

    def to_json(self) -> str:
        return json.dumps(
            {
                "matrix": self.matrix.tolist(),
                "width": self.size[0],
                "height": self.size[1],
                "residual_mm_rms": self.residual_mm_rms,
                "residual_mm_max": self.residual_mm_max,
                "points": self.points,
            },
            indent=1,
        )


def scaled(mm_per_px: float) -> Calibration:
    """A camera that looks straight down."""
    return Calibration(np.diag([mm_per_px, mm_per_px, 1.0]))


def read_calibration(text: str) -> Calibration:
    """What `to_json` wrote. Raises CalibrationError."""
    try:
        raw: Any = json.loads(text)
        if not isinstance(raw, Mapping):
            raise CalibrationError("a calibration is a JSON object with a matrix")
        matrix = np.asarray(raw["matrix"], np.float64)
        size = int(raw.get("width", 0)), int(raw.get("height", 0))
        figures = float(raw.get("residual_mm_rms", 0)), float(raw.get("residual_mm_max", 0))
        points = int(raw.get("points", 0))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise CalibrationError(f"a calibration has a matrix of three rows of three numbers: {error!r}") from None
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-15:
        raise CalibrationError("the matrix must be three rows of three finite numbers that can be inverted")
    if min(size) < 0 or (0 in size and any(size)):
        raise CalibrationError("width and height must both be given, or neither")
    return Calibration(matrix, size, *figures, points)


def fit(pixels: ArrayLike, millimetres: ArrayLike, size: tuple[int, int] = (0, 0)) -> Calibration:
    """From known points, (n, 2) each. Two points make a scale with its turn, three or more at four corners a
    homography. Raises CalibrationError."""
    here, there = (np.asarray(points, np.float64).reshape(-1, 2) for points in (pixels, millimetres))
    if len(here) != len(there) or not 2 <= len(here) <= POINTS_MAX or len(here) == 3:
        raise CalibrationError(
            f"{len(here)} points in pixels and {len(there)} in mm: two make a scale, four or more (up to "
            f"{POINTS_MAX}) a homography"
        )
    if not (np.isfinite(here).all() and np.isfinite(there).all()):
        raise CalibrationError("a point has a coordinate that is no number")
    matrix = _similarity(here, there) if len(here) == 2 else _homography(here, there)
    away = np.hypot(*(_through(matrix, here) - there).T)
    return Calibration(
        matrix, size, round(float(np.sqrt(np.mean(away**2))), 4), round(float(away.max()), 4), len(here)
    )


def _similarity(here: Matrix, there: Matrix) -> Matrix:
    """Turn, scale and shift, as a multiplication of complex numbers."""
    p, q = here @ [1, 1j], there @ [1, 1j]
    if abs(p[1] - p[0]) < 1e-9 or abs(q[1] - q[0]) < 1e-9:
        raise CalibrationError("the two points are one")
    turn = (q[1] - q[0]) / (p[1] - p[0])
    shift = q[0] - turn * p[0]
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag], [0, 0, 1]])


def _homography(here: Matrix, there: Matrix) -> Matrix:
    to_here, near_here = _normalised(here)
    to_there, near_there = _normalised(there)
    rows = []
    for (x, y), (u, v) in zip(near_here, near_there, strict=True):
        rows.append([-x, -y, -1, 0, 0, 0, u * x, u * y, u])
        rows.append([0, 0, 0, -x, -y, -1, v * x, v * y, v])
    _, values, rows_v = np.linalg.svd(np.asarray(rows))
    if values[7] < FLAT_MIN * values[0]:
        raise CalibrationError("the points lie on a line, or two of them are one: take four corners of an area")
    matrix = np.linalg.inv(to_there) @ rows_v[-1].reshape(3, 3) @ to_here
    if abs(matrix[2, 2]) < 1e-12:
        raise CalibrationError("the points make no plane that the camera can see")
    return np.asarray(matrix / matrix[2, 2])


def _normalised(points: Matrix) -> tuple[Matrix, Matrix]:
    """Moved to the origin and scaled to a mean distance of √2, and the matrix that does it."""
    centre = points.mean(axis=0)
    spread = float(np.hypot(*(points - centre).T).mean())
    if spread < 1e-12:
        raise CalibrationError("all points are one")
    scale = np.sqrt(2) / spread
    matrix = np.array([[scale, 0, -scale * centre[0]], [0, scale, -scale * centre[1]], [0, 0, 1.0]])
    return matrix, _through(matrix, points)


def _through(matrix: Matrix, points: Matrix) -> Matrix:
    seen = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(seen[:, :2] / seen[:, 2:])
