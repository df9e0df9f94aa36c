"""A file that only takes room: given up when the disk is full, so that what must still be written gets through."""

import contextlib
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class Ballast:
    """`take` and `release` may follow each other as often as wished. Nothing here is fatal: it is a spare."""

    def __init__(self, path: Path, size: int) -> None:
        """`size` in bytes; 0 for none."""
        self._path = path
        self._size = size

    @property
    def held(self) -> bool:
        """True while the room is kept."""
        try:
            return self._size > 0 and self._path.stat().st_size >= self._size
        except OSError:
            return False

    def take(self) -> None:
        """Keeps the room, if the disk has four times as much: on a full one it would only be in the way."""
        if self._size == 0 or self.held:
            return
        try:
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < 4 * self._size:
                return
            with self._path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, self._size)
        except OSError as error:
            log.debug("outbox: no room kept in reserve: %s", error)
            self.release()

    def release(self) -> None:
        """Gives the room back to the disk."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
