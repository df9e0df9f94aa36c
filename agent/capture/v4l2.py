"""USB and other V4L2 cameras.

Everything above the device layer is tested with a fake device. The device layer itself (`PyavDevice`, forty lines)
has not met a real camera: the machines this project is built on have none.
"""

import contextlib
import os
import threading
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Protocol

import av
import av.error
from av.container import InputContainer
from av.video.frame import VideoFrame

from agent.capture.errors import CameraUnreachableError, CaptureInterruptedError, UnreadableVideoError
from agent.capture.pacing import StreamClock
from agent.capture.pyav import AvPicture, describe
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured

# The device is read without blocking, because a blocking read of a hung driver can be ended by nobody.
_POLL_S = 0.004


class Device(Protocol):
    """The layer that touches the hardware. All methods raise OSError when the device fails."""

    def open(self, path: str, options: dict[str, str]) -> str:
        """Open with FFmpeg's v4l2 options (`video_size`, `framerate`, `input_format`); codec and size in answer."""
        ...

    def read(self) -> VideoFrame | None:
        """A frame, or None when there is none yet. Raises ValueError for one that cannot be decoded."""
        ...

    def close(self) -> None: ...


class PyavDevice:
    """The real device, through FFmpeg's v4l2 input (the tests give it a file in another `format`)."""

    def __init__(self, format: str = "v4l2") -> None:  # noqa: A002 FFmpeg's word
        self._format = format
        self._container: InputContainer | None = None

    def open(self, path: str, options: dict[str, str]) -> str:
        # PyAV's errors are OSErrors by errno.
        self._container = av.open(path, format=self._format, options=options)
        _set_nonblocking(path)
        stream = self._container.streams.video[0]
        stream.thread_count = 1
        return describe(stream)

    def read(self) -> VideoFrame | None:
        assert self._container is not None
        try:
            for packet in self._container.demux(video=0):
                for frame in packet.decode():
                    assert isinstance(frame, VideoFrame)
                    return frame
        except av.error.BlockingIOError:
            return None
        except av.error.EOFError as error:
            raise OSError(f"the device ended: {error.strerror}") from None
        return None

    def close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None


def _set_nonblocking(path: str) -> None:
    """Make reads of the open device return at once. FFmpeg has an option for neither this nor its descriptor."""
    device = os.path.realpath(path)
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            if str(entry.readlink()) == device:
                os.set_blocking(int(entry.name), False)


class V4l2Source:
    """A V4L2 camera. time_s is the monotonic time of arrival."""

    live = True

    def __init__(self, config: CameraConfig, path: str, device: Device | None = None) -> None:
        self.broken = 0
        self.format = ""
        self._path = path
        self._device: Device = device or PyavDevice()
        self._clock = StreamClock()
        self._interrupted = threading.Event()
        self._options: dict[str, str] = {}
        if config.width:
            self._options["video_size"] = f"{config.width}x{config.height}"
        if config.fps:
            self._options["framerate"] = f"{config.fps:g}"
        if config.pixel_format:
            self._options["input_format"] = config.pixel_format

    def open(self) -> None:
        try:
            self.format = self._device.open(self._path, self._options)
        except FileNotFoundError:
            raise CameraUnreachableError(f"there is no {self._path}", hint="is the camera plugged in?") from None
        except PermissionError:
            raise CameraUnreachableError(
                f"{self._path} may not be opened", hint="add the service user to the group `video`"
            ) from None
        except OSError as error:
            raise CameraUnreachableError(
                f"{self._path} cannot be opened: {error.strerror or error}", hint="is another program using it?"
            ) from None
        except ValueError as error:
            asked = ", ".join(f"{key} {value}" for key, value in self._options.items()) or "its own choice"
            raise UnreadableVideoError(
                f"{self._path} gives no video ({asked}): {error}",
                hint="list its formats with `v4l2-ctl --list-formats`",
            ) from None

    def read(self) -> Captured | None:
        while not self._interrupted.is_set():
            try:
                frame = self._device.read()
            except ValueError:
                self.broken += 1
                continue
            except OSError as error:
                raise CameraUnreachableError(
                    f"{self._path} failed: {error.strerror or error}", hint="was the camera unplugged?"
                ) from None
            if frame is not None:
                return Captured(AvPicture(frame), self._clock.time_s(None, monotonic()), monotonic_ns())
            self._interrupted.wait(_POLL_S)
        raise CaptureInterruptedError(f"reading {self._path} was interrupted")

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        self._device.close()
