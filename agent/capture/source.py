"""What every source of frames promises, and which one reads an address."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from agent.capture.address import redact
from agent.capture.frame import Picture
from agent.capture.settings import CameraConfig
from runtime.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Captured:
    """A picture just read.

    time_s: the source's own steady clock, see `Frame`; captured_mono_ns: when the decoded picture became available.
    """

    picture: Picture
    time_s: float
    captured_mono_ns: int


class FrameSource(Protocol):
    """Somewhere frames come from. Opened, read and closed by one thread; `interrupt` comes from any other.

    `open` and `read` raise the errors of `errors.py`, with no credentials in them. After an error the source can only
    be closed; a new one is made to try again.
    """

    @property
    def live(self) -> bool:
        """It runs on its own clock and goes on whether read or not; else it waits, and replay can be paced."""
        ...

    @property
    def format(self) -> str:
        """Codec and size once open, such as `h264 640x352`; empty while unknown."""
        ...

    @property
    def broken(self) -> int:
        """Packets or pictures so far that could not be decoded and were passed over."""
        ...

    def open(self) -> None: ...

    def read(self) -> Captured | None:
        """The next frame; blocks until there is one. None: the source has ended."""
        ...

    def interrupt(self) -> None:
        """End a blocked `open` or `read` at once with CaptureInterruptedError, and all that follow."""
        ...

    def close(self) -> None:
        """Give everything back. May be called at any time by the reading thread, and again."""
        ...


def open_source(config: CameraConfig) -> FrameSource:
    """The source that reads `config.source`; it is not opened yet. Raises ConfigError for an unknown kind of address.

    Each kind is imported when it is first used: a gateway with an RTSP camera never loads the others.
    """
    address = config.source
    scheme = urlsplit(address).scheme.lower()
    if scheme in ("rtsp", "rtsps"):
        from agent.capture.ffmpeg import FfmpegSource

        return FfmpegSource(config)
    if scheme in ("http", "https"):
        from agent.capture.mjpeg import MjpegSource

        return MjpegSource(config)
    if scheme == "scene":
        from agent.capture.scene import open_scene

        return open_scene(address)
    if scheme == "v4l2" or address.startswith("/dev/video"):
        from agent.capture.v4l2 import V4l2Source

        return V4l2Source(config, address.removeprefix("v4l2:"))
    if scheme == "images":
        return _folder(config, Path(address.removeprefix("images:")))
    if scheme == "file":
        address = address.removeprefix("file://").removeprefix("file:")
    elif "://" in address:
        raise ConfigError(
            f"camera {config.id!r}: cannot read {redact(address)!r}",
            hint="use a file, a folder, rtsp://, http://, /dev/videoN or scene:NAME",
        )
    path = Path(address)
    if path.is_dir():
        return _folder(config, path)
    from agent.capture.pyav import VideoFile

    return VideoFile(path, loop=config.loop, decode_threads=config.decode_threads)


def _folder(config: CameraConfig, path: Path) -> FrameSource:
    from agent.capture.images import DEFAULT_FPS, ImageFolder

    return ImageFolder(path, fps=config.fps or DEFAULT_FPS, loop=config.loop)
