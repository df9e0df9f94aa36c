"""A folder of still pictures as a video."""

from pathlib import Path
from time import monotonic_ns

import av.error

from agent.capture.errors import CaptureInterruptedError, StreamNotFoundError, UnreadableVideoError
from agent.capture.pyav import AvPicture, describe, open_video
from agent.capture.source import Captured

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
DEFAULT_FPS = 10.0


def read_picture(path: Path) -> AvPicture:
    """One picture. Raises StreamNotFoundError or UnreadableVideoError."""
    container, stream = open_video(path)
    with container:
        try:
            return AvPicture(next(container.decode(stream)))
        except (av.error.FFmpegError, StopIteration) as error:
            raise UnreadableVideoError(f"{path} cannot be decoded: {error}", hint="copy it again") from error


class ImageFolder:
    """The images of one folder in the order of their names, `fps` of them a second of media time.

    An image that cannot be decoded is passed over and counted; it keeps its place in time. Sizes may vary.
    """

    live = False

    def __init__(self, path: Path, *, fps: float = DEFAULT_FPS, loop: bool = False) -> None:
        self.broken = 0
        self.format = ""
        self._path = path
        self._fps = fps
        self._loop = loop
        self._files: list[Path] = []
        self._index = 0
        self._good = 0
        self._interrupted = False

    def open(self) -> None:
        try:
            self._files = sorted(file for file in self._path.iterdir() if file.suffix.lower() in SUFFIXES)
        except OSError as error:
            raise StreamNotFoundError(
                f"cannot list the folder {self._path}: {error.strerror}", hint="check the path in the camera's source"
            ) from None
        if not self._files:
            raise StreamNotFoundError(
                f"there is no image in {self._path}", hint="names must end in " + ", ".join(sorted(SUFFIXES))
            )

    def read(self) -> Captured | None:
        while self._loop or self._index < len(self._files):
            if self._interrupted:
                raise CaptureInterruptedError(f"reading {self._path} was interrupted")
            if self._index >= len(self._files) and self._good == 0:
                break
            index, self._index = self._index, self._index + 1
            picture = self._decode(self._files[index % len(self._files)])
            if picture is not None:
                self._good += 1
                return Captured(picture, index / self._fps, monotonic_ns())
        if self._good == 0:
            raise UnreadableVideoError(
                f"none of the {len(self._files)} images in {self._path} could be decoded", hint="copy them again"
            )
        return None

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        """Nothing stays open between pictures."""

    def _decode(self, file: Path) -> AvPicture | None:
        try:
            container, stream = open_video(file)
            with container:
                self.format = describe(stream)
                return AvPicture(next(container.decode(stream)))
        except (av.error.FFmpegError, StopIteration, StreamNotFoundError, UnreadableVideoError):
            self.broken += 1
            return None
