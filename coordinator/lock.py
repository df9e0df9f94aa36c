"""One coordinator for a data folder: a lock that ends with the process, however it ends."""

import fcntl
import os
from pathlib import Path

from runtime.errors import PermanentError


class FolderLockedError(PermanentError):
    """Another process works on the folder."""


class FolderLock:
    """Held from its making until `release`."""

    def __init__(self, folder: Path) -> None:
        """Makes the folder where it is missing. Raises FolderLockedError or PermanentError."""
        path = folder / "coordinator.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise PermanentError(
                f"data folder {folder}: cannot be used: {error.strerror}",
                hint="check coordinator.data_dir and who owns it",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise FolderLockedError(
                f"data folder {folder} is in use by process {owner}",
                hint="stop that coordinator, or give this one a data_dir of its own",
            ) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._fd)
