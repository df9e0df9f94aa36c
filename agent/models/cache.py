"""Models on this node's disk: files by content, unfinished ones beside them, releases as bundles that can be run.

    <dir>/blobs/<aa>/<sha256>     files, each once, whatever many releases have it
    <dir>/parts/<sha256>          what has come of a file; goes on from its length
    <dir>/releases/<digest>.json  a release's document; it comes last, so one that is there is whole
    <dir>/releases/<digest>.sig   its signature, where there is one
    <dir>/bundles/<digest>/       the release's files by their names, as links to the blobs

All of it can be thrown away at any time: it is fetched again. All methods block: call them from a thread.
"""

import contextlib
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from agent.evidence.files import sync_folder
from agent.models.garbage import HeldRelease
from runtime.sqlite import DiskFullError, StorageError
from schemas.release import Release, ReleaseError, decode_release, digest_of

FOLDER_NAME = "models"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_FULL = {28, 122}  # ENOSPC, EDQUOT
READ_BYTES = 1024 * 1024
SYNC_EVERY_BYTES = 8 * 1024 * 1024  # of a part: as much may be lost with the power


class Cache:
    """One node's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._releases = folder / "releases"
        self._bundles = folder / "bundles"

    # ---- files ----------------------------------------------------------------------------------

    def path(self, sha256: str) -> Path:
        """Where a file lies, or would."""
        return self.folder / "blobs" / sha256[:2] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether the file is there in its full length."""
        try:
            return self.path(sha256).stat().st_size == size
        except OSError:
            return False

    def is_sound(self, sha256: str) -> bool:
        """Reads the whole file: whether it is what its name says."""
        try:
            with self.path(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    def part(self, sha256: str) -> "Part":
        """What has come of a file so far. Raises StorageError."""
        with self._writing():
            return Part(self.folder / "parts" / sha256, self.path(sha256), sha256)

    def part_bytes(self, sha256: str) -> int:
        try:
            return (self.folder / "parts" / sha256).stat().st_size
        except OSError:
            return 0

    def free_bytes(self) -> int:
        """What the disk has left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.folder).free

    # ---- releases -------------------------------------------------------------------------------

    def document(self, digest: str) -> bytes | None:
        """A release's document, if it is here and what its name says."""
        try:
            found = (self._releases / f"{digest}.json").read_bytes()
        except OSError:
            return None
        return found if digest_of(found) == digest else None

    def signature(self, digest: str) -> str:
        try:
            return (self._releases / f"{digest}.sig").read_text("ascii")
        except (OSError, ValueError):
            return ""

    def keep_release(self, digest: str, document: bytes, signature: str, files: Mapping[str, str]) -> Path:
        """Makes a release of `files` (name: SHA-256), which are here, a folder that can be run.

        Raises StorageError.
        """
        bundle, temporary = self._bundles / digest, self._bundles / f".{digest}.tmp"
        with self._writing():
            for folder in (temporary, bundle):
                shutil.rmtree(folder, ignore_errors=True)
            for name, sha256 in files.items():
                link = temporary / name
                link.parent.mkdir(parents=True, exist_ok=True)
                _link(self.path(sha256), link)
            for folder in {temporary, *((temporary / name).parent for name in files)}:
                sync_folder(folder)
            temporary.rename(bundle)
            sync_folder(self._bundles)
            if signature:
                _write(self._releases / f"{digest}.sig", signature.encode("ascii"))
            _write(self._releases / f"{digest}.json", document)
        return bundle

    def bundle(self, digest: str) -> Path | None:
        """The folder of a release that is whole, as far as can be told without reading it."""
        held = self.held(digest)
        return None if held is None else self._bundles / digest

    def held(self, digest: str) -> HeldRelease | None:
        """A release that is here, every file of it in its full length."""
        document = self.document(digest)
        if document is None:
            return None
        try:
            release = decode_release(document, strict=False)
            used_s = (self._releases / f"{digest}.json").stat().st_mtime
        except (ReleaseError, OSError):
            return None
        sizes = self._sizes(digest, release)
        return None if sizes is None else HeldRelease(digest, release.reference, sizes, used_s)

    def _sizes(self, digest: str, release: Release) -> dict[str, int] | None:
        """Of the files of its bundle; None where one lacks, or is not as long as it should be."""
        sizes = {}
        for file in release.files:
            try:
                size = (self._bundles / digest / file.path).stat().st_size
            except OSError:
                continue  # of a variant for other hardware
            if size != file.bytes:
                return None
            sizes[file.sha256] = size
        return sizes or None

    def releases(self) -> list[HeldRelease]:
        """All that are here."""
        found = sorted(path.stem for path in self._releases.glob("*.json") if _DIGEST.fullmatch(path.stem))
        return [held for digest in found if (held := self.held(digest)) is not None]

    def touch(self, digest: str) -> None:
        """It is used now."""
        with contextlib.suppress(OSError):
            os.utime(self._releases / f"{digest}.json", (time.time(), time.time()))

    def drop(self, digest: str) -> None:
        """Forgets a release; the document goes first, so what is cut off in between is no release any more."""
        with contextlib.suppress(OSError):
            (self._releases / f"{digest}.json").unlink(missing_ok=True)
            (self._releases / f"{digest}.sig").unlink(missing_ok=True)
        shutil.rmtree(self._bundles / digest, ignore_errors=True)

    def damaged(self, digest: str) -> list[str]:
        """Names of the files of a release that are not what they should be. Reads all of them."""
        document = self.document(digest)
        if document is None:
            return [f"{digest}.json"]
        wrong = []
        for file in decode_release(document, strict=False).files:
            path = self._bundles / digest / file.path
            if path.exists() and not (self._is(path, file.sha256)):
                wrong.append(file.path)
        return wrong

    def discard_damaged(self, digest: str) -> None:
        """Forgets a release and each of its files that is not what its name says: they come again."""
        document = self.document(digest)
        self.drop(digest)
        if document is not None:
            for file in decode_release(document, strict=False).files:
                if self.path(file.sha256).exists() and not self.is_sound(file.sha256):
                    self.path(file.sha256).unlink(missing_ok=True)

    def sweep(self, fetching: Iterable[str] = ()) -> int:
        """Removes files that no release here has, and parts of files other than `fetching`; says how many bytes."""
        named = {sha256 for held in self.releases() for sha256 in held.sizes} | set(fetching)
        removed = 0
        for path in [*self.folder.glob("blobs/*/*"), *self.folder.glob("parts/*")]:
            if path.name not in named:
                with contextlib.suppress(OSError):
                    size = path.stat().st_size
                    path.unlink()
                    removed += size
        whole = {held.digest for held in self.releases()}
        for folder in self._bundles.glob("*"):
            if folder.name not in whole:
                shutil.rmtree(folder, ignore_errors=True)
        return removed

    @staticmethod
    def _is(path: Path, sha256: str) -> bool:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except OSError:
            return False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            for name in ("blobs", "parts", "releases", "bundles"):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise _storage_error(self.folder, error) from error


class Part:
    """A file on its way. What is there when it is opened counts; whether it is right shows `finish`."""

    def __init__(self, path: Path, target: Path, sha256: str) -> None:
        self._path, self._target, self._sha256 = path, target, sha256
        self._hash = hashlib.sha256()
        self._file = path.open("a+b")
        self._file.seek(0)
        while block := self._file.read(READ_BYTES):
            self._hash.update(block)
        self.bytes = self._file.tell()
        self._unsynced = 0

    def append(self, data: bytes) -> None:
        """Raises StorageError."""
        try:
            self._file.write(data)
            self._unsynced += len(data)
            if self._unsynced >= SYNC_EVERY_BYTES:
                self._sync()
        except OSError as error:
            raise _storage_error(self._path, error) from error
        self._hash.update(data)
        self.bytes += len(data)

    def finish(self) -> bool:
        """True: it is what its name says, and lies among the files, durable. False: it was thrown away.

        Raises StorageError.
        """
        if self._hash.hexdigest() != self._sha256:
            self.discard()
            return False
        try:
            self._sync()
            self._file.close()
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._path.replace(self._target)
            sync_folder(self._target.parent)
        except OSError as error:
            raise _storage_error(self._target, error) from error
        return True

    def discard(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """What has come stays. Safe to repeat."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._unsynced = 0


def _link(source: Path, link: Path) -> None:
    try:
        os.link(source, link)
    except OSError as error:
        if error.errno in _FULL or not source.exists():
            raise
        shutil.copyfile(source, link)  # a file system without links


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def _storage_error(path: Path, error: OSError) -> StorageError:
    kind = DiskFullError if error.errno in _FULL else StorageError
    return kind(f"models: cannot write {path}: {error.strerror}", hint="free space there")
