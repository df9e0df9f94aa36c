"""Where people and faces were in the last seconds, and how they are made unrecognisable. Pure.

Boxes are shares of the picture: (n, 4) float32, x0 y0 x1 y1 in 0..1, origin top left.
"""

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Rgb

Boxes = NDArray[np.float32]

NEAR_S = 0.5  # boxes found within this time of a frame count for it: a detector misses somebody now and then
PAD_SHARE = 0.15  # of a box's size, on each side
HEAD_SHARE = 0.34  # of a person's height, from the top
TILES = 6  # across the longer side of what is hidden: a face of 6 by 4 tiles is nobody's
TILE_PIXELS_MIN = 12


class BoxHistory:
    """The boxes of one camera over `span_s`, from whichever models find people there."""

    def __init__(self, span_s: float) -> None:
        self._span_s = span_s
        self._seen: deque[tuple[float, Boxes]] = deque(maxlen=4096)

    def seen(self, time_s: float, boxes: Boxes) -> None:
        """What was found in the frame of that moment; no boxes is an answer too."""
        if self._seen and time_s < self._seen[-1][0] - self._span_s:
            self._seen.clear()  # the recording has begun again
        self._seen.append((time_s, boxes))
        while self._seen[0][0] < time_s - self._span_s:
            self._seen.popleft()

    def copy(self) -> "BoxHistory":
        """As it is now: what is made of a clip must not change while it is made."""
        found = BoxHistory(self._span_s)
        found._seen.extend(self._seen)
        return found

    @property
    def newest_s(self) -> float | None:
        return self._seen[-1][0] if self._seen else None

    def at(self, time_s: float) -> Boxes | None:
        """All boxes of that moment and its neighbours; None where nobody looked."""
        near = [boxes for seen_s, boxes in self._seen if abs(seen_s - time_s) <= NEAR_S]
        return np.concatenate(near) if near else None


def shares(xyxy: NDArray[np.float32], width: int, height: int) -> Boxes:
    """Boxes in pixels of the full frame as shares of it."""
    found: Boxes = np.clip(xyxy / np.array((width, height, width, height), np.float32), 0.0, 1.0).astype(np.float32)
    return found


def heads(people: Boxes) -> Boxes:
    """The upper part of each person, where the face is."""
    found = people.copy()
    found[:, 3] = people[:, 1] + (people[:, 3] - people[:, 1]) * HEAD_SHARE
    return found


def padded(boxes: Boxes) -> Boxes:
    """Grown by PAD_SHARE on each side: a box cuts off hair and hands, and the next frame has them elsewhere."""
    pad = (boxes[:, 2:] - boxes[:, :2]) * PAD_SHARE
    grown: Boxes = np.concatenate((boxes[:, :2] - pad, boxes[:, 2:] + pad), axis=1)
    return np.clip(grown, 0.0, 1.0, out=grown)


def pixelated(rgb: Rgb, boxes: Boxes) -> Rgb:
    """A copy of (height, width, 3) uint8 with everything in the boxes replaced by a few large tiles of mean colours.

    Boxes that overlap share one grid of tiles: many grids beside each other would show more than each alone.
    """
    found = rgb.copy()
    height, width = rgb.shape[:2]
    corners = boxes.astype(np.float64) * (width, height, width, height)
    pixels = np.concatenate((np.floor(corners[:, :2]), np.ceil(corners[:, 2:])), axis=1).astype(np.int64)
    pixels = pixels[(pixels[:, 2] > pixels[:, 0]) & (pixels[:, 3] > pixels[:, 1])]
    for group in groups(pixels):
        left, top = group[:, :2].min(axis=0)
        right, bottom = group[:, 2:].max(axis=0)
        hidden = np.zeros((bottom - top, right - left), np.bool_)
        for x0, y0, x1, y1 in (group - (left, top, left, top)).tolist():
            hidden[y0:y1, x0:x1] = True
        side = max(TILE_PIXELS_MIN, math.ceil((group[:, 2:] - group[:, :2]).max() / TILES))
        found[top:bottom, left:right][hidden] = _tiles(rgb[top:bottom, left:right], side)[hidden]
    return found


def groups(pixels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Boxes, x0 y0 x1 y1, sorted into those that overlap, if only by way of others."""
    low = np.maximum(pixels[:, None, :2], pixels[None, :, :2])
    high = np.minimum(pixels[:, None, 2:], pixels[None, :, 2:])
    touch = (high > low).all(axis=2)
    label = np.arange(len(pixels))
    while len(pixels):
        least = np.where(touch, label[None, :], len(pixels)).min(axis=1)
        if np.array_equal(least, label):
            break
        label = least
    return [pixels[label == one] for one in np.unique(label)]


def _tiles(area: Rgb, side: int) -> NDArray[np.uint8]:
    height, width = area.shape[:2]
    rows, columns = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(area.astype(np.uint32), rows, axis=0), columns, axis=1)
    tall = np.diff(np.append(rows, height))
    wide = np.diff(np.append(columns, width))
    means = (sums // (tall[:, None] * wide[None, :])[..., None]).astype(np.uint8)
    return np.repeat(np.repeat(means, tall, axis=0), wide, axis=1)
