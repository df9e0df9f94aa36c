"""Pictures for the tests: arrays that scale like the decoder does, and the labels that belong to the COCO ones."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame, Rgb
from agent.infer.detections import Detections
from tests.assets import ASSETS


@dataclass(frozen=True)
class ArrayPicture:
    pixels: Rgb

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    def rgb(self, width: int | None = None, height: int | None = None) -> Rgb:
        size = width or self.width, height or self.height
        if size == (self.width, self.height):
            return self.pixels
        return np.asarray(cv2.resize(self.pixels, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def read_picture(path: Path) -> ArrayPicture:
    bgr = cv2.imread(str(path))
    assert bgr is not None, path
    return ArrayPicture(np.ascontiguousarray(bgr[..., ::-1]))


def frame_of(picture: ArrayPicture, index: int = 0) -> Frame:
    return Frame("cam", index, index / 10, index * 100_000_000, 0, picture)


def coco_names() -> tuple[str, ...]:
    """The 80 class names, as YOLO numbers them."""
    lines = (ASSETS / "labels/coco/config.yaml").read_text().splitlines()
    return tuple(line.split(":", 1)[1].strip() for line in lines if line.strip().split(":")[0].isdigit())


def coco_truth(picture: ArrayPicture, stem: str) -> Detections:
    rows = np.loadtxt(ASSETS / f"labels/coco/{stem}.txt", ndmin=2)
    scale = np.array([picture.width, picture.height])
    center, half = rows[:, 1:3] * scale, rows[:, 3:5] * scale / 2
    xyxy = np.concatenate([center - half, center + half], axis=1).astype(np.float32)
    return Detections(xyxy, np.ones(len(rows), np.float32), rows[:, 0].astype(np.int32))


def overlaps(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """(len(a), len(b)) intersection over union."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=2)
    area_a, area_b = (np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b))
    return np.asarray(shared / (area_a[:, None] + area_b[None] - shared), np.float32)
