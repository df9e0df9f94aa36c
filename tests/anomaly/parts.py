"""Rendered parts: a plate with a bright bar at about one place, grain that is always another, a defect or none."""

from pathlib import Path

import numpy as np

from agent.capture.frame import Rgb
from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg

HEIGHT, WIDTH = 192, 320
SPOT = (200, 60, 240, 100)  # x0 y0 x1 y1 of the defect


def part(number: int, defect: bool = False, light: float = 1.0) -> Rgb:
    rng = np.random.default_rng(number)
    plate = np.full((HEIGHT, WIDTH), 110.0)
    at = 90 + int(rng.integers(-3, 4))
    plate[at : at + 24] = 170
    plate[:, 40:44] = 60
    plate *= light
    plate += rng.normal(0, 6, plate.shape)
    if defect:
        x0, y0, x1, y1 = SPOT
        plate[y0:y1, x0:x1] = rng.normal(40, 30, (y1 - y0, x1 - x0))
    return np.repeat(np.clip(plate, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def write(path: Path, rgb: Rgb) -> Path:
    path.write_bytes(jpeg(RgbPicture(np.ascontiguousarray(rgb)), 95))
    return path


def folder_of(folder: Path, numbers: range, bad: frozenset[int] = frozenset()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write(folder / f"part{number:03}.jpg", part(number, defect=number in bad))
    return folder
