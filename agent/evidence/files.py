"""Content-addressed files, `<folder>/<aa>/<sha256>`: temporary file, fsync, rename, fsync of the folder."""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from runtime.sqlite import DiskFullError, StorageError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = {28, 122}  # ENOSPC, EDQUOT
READ_BYTES = 1024 * 1024


class Files:
    """The files below one folder. Nothing here knows what they are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where a file lies, or would."""
        return self.folder / sha256[:2] / sha256

    def write(self, data: bytes) -> str:
        """Durable when this returns; says its SHA-256. Raises DiskFullError or StorageError, and leaves nothing."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = self.path(sha256)
        temporary = path.parent / f".{sha256}.tmp"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            kind = DiskFullError if error.errno in _FULL else StorageError
            raise kind(f"evidence: cannot write {path.parent}: {error.strerror}", hint="free space there") from error
        return sha256

    def read(self, sha256: str, offset: int, length: int) -> bytes:
        """That part of a file. Raises OSError."""
        with self.path(sha256).open("rb") as file:
            file.seek(offset)
            return file.read(length)

    def is_sound(self, sha256: str) -> bool:
        """Reads the whole file: True when it is what its name says."""
        digest = hashlib.sha256()
        try:
            with self.path(sha256).open("rb") as file:
                while block := file.read(READ_BYTES):
                    digest.update(block)
        except OSError:
            return False
        return digest.hexdigest() == sha256

    def remove(self, sha256: str) -> None:
        """Harmless when it is gone already."""
        with contextlib.suppress(OSError):
            self.path(sha256).unlink(missing_ok=True)

    def clear_temporary(self) -> int:
        """Removes what an interrupted write left behind; says how many."""
        left = list(self.folder.glob("*/.*.tmp"))
        for path in left:
            with contextlib.suppress(OSError):
                path.unlink()
        return len(left)

    def sizes(self) -> Iterator[tuple[str, int]]:
        """(name, bytes) of every file."""
        for path in self.folder.glob("*/*"):
            if _DIGEST.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    yield path.name, path.stat().st_size

    def free_bytes(self) -> int:
        """What the disk has left for us."""
        return shutil.disk_usage(self.folder.parent).free


def sync_folder(folder: Path) -> None:
    """A rename in it survives a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def content_type_of(begin: bytes) -> str:
    """What a file is by its first bytes."""
    if begin.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    return "video/mp4" if begin[4:8] == b"ftyp" else "application/octet-stream"
