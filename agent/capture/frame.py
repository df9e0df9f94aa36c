"""One captured picture and its times: the value that travels down the frame path."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Rgb = NDArray[np.uint8]
"""(height, width, 3) uint8, red green blue, origin top left, C-contiguous."""


class Picture(Protocol):
    """A decoded picture, kept in the decoder's own pixel format until someone asks for RGB."""

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...

    def rgb(self, width: int | None = None, height: int | None = None) -> Rgb:
        """The picture as RGB, scaled (not cropped) to `width` x `height` in the same pass when given."""
        ...


@dataclass(frozen=True, slots=True)
class Frame:
    """A picture with its place in the stream.

    `time_s` runs on the source's own steady clock: media time for files, folders and scenes (so a replay is
    deterministic), monotonic time for live cameras. Trackers and rules age by it and by nothing else.
    `captured_mono_ns` is when the decoded picture became available here; latencies count from it.
    """

    camera_id: str
    index: int  # frames the source has produced before this one, the dropped ones included
    time_s: float
    captured_mono_ns: int
    captured_utc_ms: int
    picture: Picture
