"""Pictures that are already RGB: rendered scenes and tests."""

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Picture, Rgb


class RgbPicture:
    """A picture over an RGB array. Scaling goes through swscale, as for decoded video.

    rgb: (height, width, 3) uint8, C-contiguous; not to be written to afterwards.
    """

    __slots__ = ("_rgb",)

    def __init__(self, rgb: Rgb) -> None:
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8:
            raise ValueError(f"an RGB picture is (height, width, 3) uint8, not {rgb.shape} {rgb.dtype}")
        self._rgb = rgb

    @property
    def width(self) -> int:
        return int(self._rgb.shape[1])

    @property
    def height(self) -> int:
        return int(self._rgb.shape[0])

    def rgb(self, width: int | None = None, height: int | None = None) -> Rgb:
        """The array itself when no other size is asked for."""
        wanted = (width or self.width, height or self.height)
        if wanted == (self.width, self.height):
            return self._rgb
        from agent.capture.pyav import scale_rgb  # only the technology file knows PyAV

        return scale_rgb(self._rgb, *wanted)

    def luma(self) -> NDArray[np.uint8]:
        """See `luma`; green stands in for luma."""
        return self._rgb[:, :, 1]

    def luma_points(self, across: int, down: int) -> NDArray[np.uint8]:
        """See `luma_points`; green stands in for luma."""
        return pick_points(self._rgb[:, :, 1], across, down)


def pick_points(plane: NDArray[np.uint8], across: int, down: int) -> NDArray[np.uint8]:
    """(down * across,) uint8: single pixels of (height, width) uint8 on an even grid, not averages: noise stays."""
    height, width = plane.shape
    rows = (np.arange(down) * height) // down + height // (2 * down)
    columns = (np.arange(across) * width) // across + width // (2 * across)
    return plane[np.ix_(np.minimum(rows, height - 1), np.minimum(columns, width - 1))].reshape(-1)


def fingerprint(picture: Picture, across: int = 32, down: int = 18) -> NDArray[np.uint8]:
    """(down * across,) uint8, the luma of a grid of points: what `health.StreamWatch` compares."""
    points = getattr(picture, "luma_points", None)
    if points is not None:
        picked: NDArray[np.uint8] = points(across, down)
        return picked
    return pick_points(picture.rgb()[:, :, 1], across, down)


def luma(picture: Picture) -> NDArray[np.uint8]:
    """(height, width) uint8, the brightness of each pixel; not to be written to."""
    plane = getattr(picture, "luma", None)
    if plane is not None:
        found: NDArray[np.uint8] = plane()
        return found
    return picture.rgb()[:, :, 1]
