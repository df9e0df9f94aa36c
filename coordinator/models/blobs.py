"""Files by content, in a folder: `<folder>/<aa>/<sha256>`. What is there under its name is whole and durable.

A file comes as a temporary one, is hashed on its way, synced, renamed, and its folder is synced. Whoever adds a
release holds the folder's lock, shared, until the row that names the files is committed; the sweep of files that no
row names takes it alone, so that it never meets a release that is half added.
"""

import contextlib
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from coordinator.models.release import ModelRefusedError
from runtime.errors import TemporaryError
from runtime.sqlite import DiskFullError, StorageError
from schemas.blobs import is_digest

FOLDER_NAME = "models"
READ_BYTES = 1024 * 1024
FREE_BYTES_MIN = 256 * 1024 * 1024  # of the disk stay free: the coordinator's database lies there too
_FULL = {28, 122}  # ENOSPC, EDQUOT


class BlobsBusyError(TemporaryError):
    """Somebody else adds or sweeps just now."""


class Blobs:
    """All methods block. Errors of the disk are StorageError."""

    def __init__(self, folder: Path) -> None:
        """Makes nothing yet."""
        self.folder = folder

    def path(self, sha256: str) -> Path:
        """Where it lies, or would. The caller has checked that it is a digest."""
        return self.folder / sha256[:2] / sha256

    def size(self, sha256: str) -> int | None:
        """Its bytes, None where it is not here."""
        return self._held(sha256)

    def _held(self, sha256: str) -> int | None:
        """In the folder."""
        with self._errors("look for", sha256):
            try:
                return self.path(sha256).stat().st_size
            except FileNotFoundError:
                return None

    def read(self, sha256: str, bytes_max: int) -> bytes:
        """A small one, verified. Raises ModelRefusedError where it is not here, too large or damaged."""
        with self._errors("read", sha256):
            try:
                with self.path(sha256).open("rb") as file:
                    data = file.read(bytes_max + 1)
            except FileNotFoundError:
                raise ModelRefusedError(f"models: there is no file {sha256}", hint="add the model again") from None
        if len(data) > bytes_max:
            raise ModelRefusedError(f"models: the file {sha256} is larger than {bytes_max} bytes")
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ModelRefusedError(f"models: the file {sha256} is damaged", hint="add the model again")
        return data

    def put(self, sha256: str, source: BinaryIO, size: int) -> bool:
        """Takes a file; True when it was not here. Raises ModelRefusedError unless it is what it is said to be."""
        if self._held(sha256) == size and self.is_sound(sha256):
            return False
        target = self.path(sha256)
        with self._errors("store", sha256):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
            if shutil.disk_usage(self.folder).free < size + FREE_BYTES_MIN:
                raise DiskFullError(
                    f"models: no room for {size} bytes in {self.folder}",
                    hint="edgectl model verify --sweep, or a larger disk",
                )
            with self._incoming(sha256) as temporary:
                with temporary.open("xb") as file:
                    found, taken = _copied(source, file, size)
                    file.flush()
                    os.fsync(file.fileno())
                if (found, taken) != (sha256, size):
                    raise ModelRefusedError(
                        f"models: a file changed while it was read: {taken} bytes with the hash {found[:12]},"
                        f" not {size} with {sha256[:12]}",
                        hint="add it again when nobody writes to the folder",
                    )
                temporary.replace(target)
            _sync(target.parent)
            _sync(self.folder)
        return True

    def is_sound(self, sha256: str) -> bool:
        """Reads all of it."""
        with self._errors("read", sha256):
            try:
                with self.path(sha256).open("rb") as file:
                    return hashlib.file_digest(file, "sha256").hexdigest() == sha256
            except FileNotFoundError:
                return False

    def settle(self, sha256: str) -> None:
        """Sees to it that a file that is here is wherever it has to be."""

    @contextlib.contextmanager
    def _incoming(self, sha256: str) -> Iterator[Path]:
        """A name for a file that is not whole yet; what is left under it goes."""
        folder = self.path(sha256).parent
        temporary = folder / f".{sha256}.{secrets.token_hex(4)}.tmp"
        with self._errors("store", sha256):
            folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            try:
                yield temporary
            finally:
                temporary.unlink(missing_ok=True)

    @contextlib.contextmanager
    def adding(self) -> Iterator[None]:
        """While files are here that no row names yet. Raises BlobsBusyError during a sweep."""
        with self._locked(fcntl.LOCK_SH):
            yield

    def sweep(self, named: frozenset[str]) -> tuple[int, int]:
        """Removes what is not among these digests, temporary files included. Returns files and bytes.

        The caller holds `sweeping` and has read `named` since.
        """
        files = size = 0
        for path in self._files():
            if path.name not in named:
                with contextlib.suppress(FileNotFoundError):
                    size += path.stat().st_size
                    path.unlink()
                    files += 1
                if is_digest(path.name):
                    self._forget(path.name)
        return files, size

    def _forget(self, sha256: str) -> None:
        """Wherever else it is."""

    @contextlib.contextmanager
    def sweeping(self) -> Iterator[None]:
        """Alone. Raises BlobsBusyError while somebody adds."""
        with self._locked(fcntl.LOCK_EX):
            yield

    def unnamed(self, named: frozenset[str]) -> list[Path]:
        """What a sweep would remove."""
        return [path for path in self._files() if path.name not in named]

    def _files(self) -> Iterator[Path]:
        if self.folder.is_dir():
            yield from sorted(path for path in self.folder.glob("[0-9a-f][0-9a-f]/*") if path.is_file())

    @contextlib.contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with self._errors("lock", "the folder"):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            fd = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            try:
                fcntl.flock(fd, how | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BlobsBusyError(
                    f"models: {self.folder} is being swept or added to by somebody else", hint="try again in a moment"
                ) from None
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def _errors(self, what: str, sha256: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = DiskFullError if error.errno in _FULL else StorageError
            raise kind(
                f"models: cannot {what} {sha256} in {self.folder}: {error.strerror}",
                hint="check the disk and who owns it",
            ) from error


def _copied(source: BinaryIO, target: BinaryIO, bytes_max: int) -> tuple[str, int]:
    """(hash, bytes) of what was copied: at most one byte more than there should be."""
    digest, taken = hashlib.sha256(), 0
    while block := source.read(min(READ_BYTES, bytes_max + 1 - taken)):
        digest.update(block)
        target.write(block)
        taken += len(block)
    return digest.hexdigest(), taken


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
