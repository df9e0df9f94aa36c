"""Models in an S3-compatible bucket too: the folder is then what is kept here of it.

A file is in the bucket before it counts as stored, and comes from there, verified, where the folder has lost it: a
new machine, or another coordinator of the same bucket. Keys are `<s3_prefix>_models/<aa>/<sha256>`, and no node can
have that name.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from coordinator.evidence.backend import Backend, BackendError
from coordinator.evidence.places import open_backend
from coordinator.evidence.settings import BackendKind, EvidenceTable
from coordinator.models.blobs import FOLDER_NAME, Blobs
from coordinator.models.release import ModelRefusedError
from coordinator.models.settings import ModelsTable
from runtime.sqlite import StorageError

OWNER = "_models"
CONTENT_TYPE = "application/octet-stream"


def open_blobs(table: ModelsTable, bucket: EvidenceTable, data_dir: Path) -> Blobs:
    """As configured; nothing is connected to yet. Raises ConfigError."""
    folder = data_dir / FOLDER_NAME
    if table.backend is BackendKind.DISK:
        return Blobs(folder)
    return Mirror(folder, open_backend(replace(bucket, backend=BackendKind.S3), data_dir))


class Mirror(Blobs):
    """A folder and a bucket."""

    def __init__(self, folder: Path, bucket: Backend) -> None:
        super().__init__(folder)
        self._bucket = bucket

    def size(self, sha256: str) -> int | None:
        """Its bytes, None where it is in neither. One that is in the bucket alone is fetched first."""
        size = self._held(sha256)
        if size is None and self._fetch(sha256):
            size = self._held(sha256)
        return size

    def read(self, sha256: str, bytes_max: int) -> bytes:
        self.size(sha256)
        return super().read(sha256, bytes_max)

    def put(self, sha256: str, source: BinaryIO, size: int) -> bool:
        new = super().put(sha256, source, size)
        self.settle(sha256)
        return new

    def settle(self, sha256: str) -> None:
        with self._failing():
            if not self._bucket.has(OWNER, sha256):
                self._bucket.put(OWNER, sha256, self.path(sha256), CONTENT_TYPE)

    def _forget(self, sha256: str) -> None:
        with self._failing():
            self._bucket.delete(OWNER, sha256)

    def _fetch(self, sha256: str) -> bool:
        """Into the folder. What the bucket has under the name and is another file counts as nothing."""
        with self._failing(), self._incoming(sha256) as temporary:
            if not self._bucket.has(OWNER, sha256):
                return False
            with temporary.open("xb") as file:
                for part in self._bucket.get(OWNER, sha256):
                    file.write(part)
            with temporary.open("rb") as source, contextlib.suppress(ModelRefusedError):
                super().put(sha256, source, temporary.stat().st_size)
                return True
        return False

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except BackendError as error:
            raise StorageError(f"models: {error.what.removeprefix('evidence: ')}", hint=error.hint) from error
