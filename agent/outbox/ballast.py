"""A file that only takes room: given up when the disk is full, so that what must still be written gets through."""

import contextlib
import errno
import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

FILE_NAME = "outbox.reserve"
START_BYTES = 2 * 1024 * 1024  # what an agent's files may grow by while they are opened; seen: 0.8 MB


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

    def give_way(self, wanted: int = START_BYTES) -> bool:
        """Lets go where the disk has not that much left; True where it did.

        For the time before files are opened: each needs some, and an agent that cannot start decides no frame. `take`
        has it back when there is room.
        """
        if not self.held:
            return False
        probe = self._path.with_suffix(".probe")
        try:
            with probe.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, wanted)
            return False
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                return False  # whatever it is, room is not what is missing
            self.release()
            return True
        finally:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)

    def release(self) -> None:
        """Gives the room back to the disk."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
