"""One process per data folder: two agents on one outbox would mix their sequence numbers."""

import fcntl
from pathlib import Path
from typing import IO

from runtime.errors import ConfigError


def only_one(folder: Path) -> IO[str]:
    """Holds the folder until the returned file is closed. Raises ConfigError when somebody else does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w", encoding="ascii")
    except OSError as error:
        raise ConfigError(f"node.data_dir: {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        lock.close()
        raise ConfigError(
            f"node.data_dir: {folder} is in use by another agent", hint="give each agent a folder of its own"
        ) from error
    return lock
