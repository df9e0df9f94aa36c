"""Clips, waiting and a recording of what a camera reports, for the capture tests."""

import threading
import time
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path

import av
import numpy as np

from agent.capture.camera import CameraState, CameraStatus
from agent.capture.frame import Frame, Rgb


def wait_until(true: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for something another thread or process does; generous, because the machine may be busy."""
    deadline_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.01)


def moving(index: int, width: int = 160, height: int = 120) -> Rgb:
    """A picture that differs from its neighbours everywhere: a wandering gradient."""
    across = np.arange(width)[None, :] * 3 + index * 9
    down = np.arange(height)[:, None] * 2 + index * 5
    return np.stack([(across + down * 0) % 256, (across + down) % 256, (across * 0 + down) % 256], -1).astype(
        np.uint8
    )


def plain(red: int, green: int, blue: int, width: int = 160, height: int = 120) -> Rgb:
    """One colour."""
    return np.full((height, width, 3), (red, green, blue), np.uint8)


def write_clip(path: Path, pictures: Iterable[Rgb], fps: int = 20) -> Path:
    """A small H.264 video with a key frame every ten pictures and no reordering."""
    waiting = iter(pictures)
    first = next(waiting)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast"})
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 10
        stream.max_b_frames = 0
        for picture in chain([first], waiting):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        container.mux(stream.encode(None))
    return path


class Heard:
    """The two callbacks of a camera, recorded."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.statuses: list[CameraStatus] = []
        self._lock = threading.Lock()

    def on_frame(self, frame: Frame) -> None:
        with self._lock:
            self.frames.append(frame)

    def on_state(self, status: CameraStatus) -> None:
        with self._lock:
            self.statuses.append(status)

    @property
    def states(self) -> list[CameraState]:
        return [status.state for status in self.statuses]
