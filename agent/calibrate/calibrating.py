"""`edge-agent calibrate`: pixels to millimetres, from known points or a chessboard in a picture of the camera."""

import argparse
import json
import os
from pathlib import Path

import numpy as np

from agent.calibrate.chessboard import chessboard_corners
from agent.capture.images import read_picture
from agent.capture.picture import luma
from platforms.calibration import Calibration, CalibrationError, fit
from runtime.errors import ConfigError

Points = list[tuple[float, float]]


def calibrate(arguments: argparse.Namespace) -> int:
    """Raises ConfigError."""
    plane = None if arguments.image is None else luma(read_picture(arguments.image))
    size = (0, 0) if plane is None else (plane.shape[1], plane.shape[0])
    if arguments.chessboard:
        if plane is None or arguments.square_mm is None or arguments.point:
            raise ConfigError("a chessboard needs --image and --square-mm, and goes without --point")
        columns, rows = _pair(arguments.chessboard, "x", "--chessboard", int)
        if not (2 < columns <= 100 and 2 < rows <= 100) or not arguments.square_mm > 0:
            raise ConfigError("--chessboard: 3 to 100 inner corners a side, and squares of more than 0 mm")
        here = chessboard_corners(plane, int(columns), int(rows))
        there = np.stack(np.meshgrid(np.arange(columns), np.arange(rows)), axis=-1).reshape(-1, 2)
        calibration = _fitted(here.tolist(), (there * arguments.square_mm).tolist(), size)
    else:
        pixels, millimetres = _points(arguments.point)
        calibration = _fitted(pixels, millimetres, size)
    worst_mm = calibration.residual_mm_max
    if arguments.residual_max is not None and worst_mm > arguments.residual_max:
        raise ConfigError(
            f"the worst point is off by {worst_mm} mm, more than {arguments.residual_max:g}",
            hint="measure the points again; a lens that bends lines needs a smaller region",
        )
    _write(arguments.out, calibration)
    print(_said(calibration, arguments.out, as_json=arguments.json))  # noqa: T201
    return 0


def _fitted(pixels: Points, millimetres: Points, size: tuple[int, int]) -> Calibration:
    try:
        return fit(pixels, millimetres, size)
    except CalibrationError as error:
        raise ConfigError(str(error), hint="give --point at least twice, or --chessboard") from error


def _points(texts: list[str]) -> tuple[Points, Points]:
    pixels: Points = []
    millimetres: Points = []
    for text in texts:
        here, sign, there = text.partition("=")
        if not sign:
            raise ConfigError(f"--point: {text!r} must be x,y=X,Y: pixels, then millimetres")
        pixels.append(_pair(here, ",", "--point", float))
        millimetres.append(_pair(there, ",", "--point", float))
    return pixels, millimetres


def _pair(text: str, between: str, option: str, kind: type[float] | type[int]) -> tuple[float, float]:
    first, sign, second = text.partition(between)
    try:
        if not sign:
            raise ValueError
        return kind(first), kind(second)
    except ValueError:
        raise ConfigError(f"{option}: {text!r} must be two numbers with {between!r} between them") from None


def _write(path: Path, calibration: Calibration) -> None:
    """Whole or not at all. Raises ConfigError."""
    beside = path.with_name(f".{path.name}.new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(calibration.to_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from error


def _said(calibration: Calibration, path: Path, *, as_json: bool) -> str:
    middle = [size / 2 for size in calibration.size] if calibration.size[0] else [0.0, 0.0]
    pixel = (middle[0] - 0.5, middle[1] - 0.5, middle[0] + 0.5, middle[1] + 0.5)
    mm_per_px = calibration.size_of(pixel, *calibration.size)
    figures = {
        "points": calibration.points,
        "residual_mm_rms": calibration.residual_mm_rms,
        "residual_mm_max": calibration.residual_mm_max,
        "mm_per_px": [round(mm_per_px[0], 5), round(mm_per_px[1], 5)],
        "file": str(path),
    }
    if as_json:
        return json.dumps(figures)
    note = ""
    if calibration.points in (2, 4):
        note = "\n  with no point to spare the residual says nothing: give more points to see how good it is"
    return (
        f"{path}: {calibration.points} points, residual {calibration.residual_mm_rms} mm rms, "
        f"{calibration.residual_mm_max} mm at most; in the middle a pixel is {mm_per_px[0]:.4f} mm{note}"
    )
