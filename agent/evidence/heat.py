"""A heat map drawn over its picture: how unlike the taught pictures each place is. Pure."""

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Rgb
from agent.infer.detections import Heat

HEAT = "heat"
"""The view of such a picture."""
_FROM = 0.5  # of the threshold: below it nothing is drawn
_FULL = 2.0  # from here on the colour stays
_OPAQUE = 0.65
_EDGE = np.array((255, 255, 255), np.float32)


def heated(rgb: Rgb, heat: Heat, frame_width: int, frame_height: int) -> Rgb:
    """The picture, of any size, with yellow to red where the map is high; the line is where it passes the threshold.

    rgb: (height, width, 3) uint8, the whole frame; the map lies in `heat.xyxy` of a frame of that width and height.
    """
    height, width = rgb.shape[:2]
    x0, y0, x1, y1 = heat.xyxy
    left, right = sorted((_within(x0 / frame_width * width, width), _within(x1 / frame_width * width, width)))
    top, bottom = sorted((_within(y0 / frame_height * height, height), _within(y1 / frame_height * height, height)))
    if right <= left or bottom <= top:
        return rgb
    value = enlarged(np.nan_to_num(heat.map), bottom - top, right - left)
    share = np.clip((value - _FROM) / (_FULL - _FROM), 0, 1)
    colour = np.stack([np.full_like(share, 255), 255 * (1 - share), np.zeros_like(share)], axis=-1)
    opacity = (_OPAQUE * np.sqrt(share))[..., None]
    over = rgb.copy()
    part = over[top:bottom, left:right].astype(np.float32) * (1 - opacity) + colour * opacity
    beyond = value >= 1
    line = beyond & ~_inner(beyond)
    part[line] = _EDGE
    over[top:bottom, left:right] = part.astype(np.uint8)
    return over


def enlarged(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """(rows, columns) to (height, width), linear between the middles of the cells."""
    rows, columns = values.shape
    y = np.clip((np.arange(height) + 0.5) / height * rows - 0.5, 0, rows - 1)
    x = np.clip((np.arange(width) + 0.5) / width * columns - 0.5, 0, columns - 1)
    y0, x0 = y.astype(np.intp), x.astype(np.intp)
    y1, x1 = np.minimum(y0 + 1, rows - 1), np.minimum(x0 + 1, columns - 1)
    down, across = (y - y0)[:, None], x - x0
    lines = values[y0] * (1 - down) + values[y1] * down
    return np.asarray(lines[:, x0] * (1 - across) + lines[:, x1] * across, np.float32)


def _inner(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Cells whose four neighbours are set too."""
    padded = np.pad(mask, 1, mode="edge")
    return padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def _within(value: float, limit: int) -> int:
    return max(0, min(limit, round(value)))
