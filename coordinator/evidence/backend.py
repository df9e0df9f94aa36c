"""Where verified evidence lies: the seam, and a folder behind it."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from runtime.errors import TemporaryError

READ_BYTES = 1024 * 1024


class BackendError(TemporaryError):
    """The place where evidence lies cannot be used just now."""


class Backend(Protocol):
    """Files by node and SHA-256. All methods block and raise BackendError; each may be repeated."""

    def put(self, node: str, sha256: str, path: Path, content_type: str) -> None:
        """Durable when this returns. The file at `path` may be moved or left."""

    def has(self, node: str, sha256: str) -> bool: ...

    def get(self, node: str, sha256: str) -> Iterator[bytes]:
        """The bytes, in parts."""

    def delete(self, node: str, sha256: str) -> None:
        """Harmless when it is not there."""


class Folder:
    """`<folder>/<node>/<aa>/<sha256>`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, node: str, sha256: str) -> Path:
        return self.folder / node / sha256[:2] / sha256

    def put(self, node: str, sha256: str, path: Path, content_type: str) -> None:
        """Moves the file, which is on disk already; on another file system it is copied."""
        target = self.path(node, sha256)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.replace(target)
            except OSError:
                self._copy(path, target)
            _sync(target.parent)
        except OSError as error:
            raise BackendError(f"evidence: cannot store {target}: {error.strerror}", hint="check the disk") from error

    def _copy(self, path: Path, target: Path) -> None:
        temporary = target.with_name(f".{target.name}.tmp")
        with path.open("rb") as source, temporary.open("wb") as file:
            shutil.copyfileobj(source, file, READ_BYTES)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)

    def has(self, node: str, sha256: str) -> bool:
        return self.path(node, sha256).is_file()

    def get(self, node: str, sha256: str) -> Iterator[bytes]:
        try:
            with self.path(node, sha256).open("rb") as file:
                while block := file.read(READ_BYTES):
                    yield block
        except OSError as error:
            raise BackendError(f"evidence: cannot read {self.path(node, sha256)}: {error.strerror}") from error

    def delete(self, node: str, sha256: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            try:
                self.path(node, sha256).unlink()
            except PermissionError as error:
                raise BackendError(f"evidence: cannot delete {self.path(node, sha256)}: {error.strerror}") from error


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
