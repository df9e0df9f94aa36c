"""Files that are arriving: `<folder>/<node>/<sha256>.part` with what is known of it beside it, as `.json`.

The bytes are on disk before the record says that they are there. A record that is lost or old says less than there
is: then something is sent once more, and the hash decides in the end. All methods block.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.sqlite import DiskFullError, StorageError
from schemas.blobs import Offer, Spans, is_digest, missing, with_span
from schemas.shape import ShapeError, fields_of, read

log = logging.getLogger(__name__)

READ_BYTES = 1024 * 1024
_FULL = {28, 122}  # ENOSPC, EDQUOT


@dataclass(slots=True)
class Partial:
    """One file on its way in."""

    node: str
    sha256: str
    offer: Offer
    spans: Spans = field(default_factory=list)
    touched_utc_ms: int = 0

    @property
    def is_whole(self) -> bool:
        """All bytes are there; nothing is said of their hash."""
        return not missing(self.spans, self.offer.size)


@dataclass(frozen=True, slots=True)
class _Record:
    """What stands in the file beside a part."""

    offer: Offer
    spans: list[tuple[int, int]]
    touched_utc_ms: int = 0


class Spool:
    """The parts below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, node: str, sha256: str) -> Path:
        return self.folder / node / f"{sha256}.part"

    def load(self) -> Iterator[Partial]:
        """What an earlier process left; what cannot be understood is removed and will be sent again."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for record in self.folder.glob("*/*.json"):
            node, sha256 = record.parent.name, record.stem
            try:
                known = read(_Record, json.loads(record.read_text(encoding="utf-8")), strict=False)
                if not is_digest(sha256) or self.path(node, sha256).stat().st_size != known.offer.size:
                    raise ValueError("the part has another size than its record says")
            except (OSError, ValueError, ShapeError) as error:
                log.warning("evidence: a part of %s in the spool is not used: %s", node, error)
                self.remove(node, sha256)
                continue
            spans: Spans = []
            for first, last in known.spans:
                if 0 <= first < last <= known.offer.size:
                    spans = with_span(spans, first, last)
            yield Partial(node, sha256, known.offer, spans, known.touched_utc_ms)
        for part in self.folder.glob("*/*.part"):
            if not part.with_suffix(".json").exists():
                part.unlink(missing_ok=True)

    def begin(self, partial: Partial) -> None:
        """An empty part of the whole size; takes no room on the disk yet."""
        with self._errors(partial):
            path = self.path(partial.node, partial.sha256)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                file.truncate(partial.offer.size)
            self._record(partial)

    def write(self, partial: Partial, at: int, data: bytes) -> None:
        """Bytes into the part; durable with the next `sync`."""
        with self._errors(partial), self.path(partial.node, partial.sha256).open("r+b") as file:
            file.seek(at)
            file.write(data)

    def sync(self, partial: Partial, spans: Spans) -> None:
        """What was written is on disk, then the record says so."""
        with self._errors(partial):
            fd = os.open(self.path(partial.node, partial.sha256), os.O_RDWR)
            try:
                os.fdatasync(fd)
            finally:
                os.close(fd)
            partial.spans = spans
            self._record(partial)

    def is_sound(self, partial: Partial) -> bool:
        """Reads all of it: True when it is what its name says."""
        digest = hashlib.sha256()
        with self._errors(partial), self.path(partial.node, partial.sha256).open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
        return digest.hexdigest() == partial.sha256

    def remove(self, node: str, sha256: str) -> None:
        """Harmless when it is not there."""
        path = self.path(node, sha256)
        for one in (path.with_suffix(".json"), path):
            with contextlib.suppress(OSError):
                one.unlink(missing_ok=True)

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.folder).free

    def _record(self, partial: Partial) -> None:
        path = self.path(partial.node, partial.sha256).with_suffix(".json")
        temporary = path.with_suffix(".tmp")
        record = _Record(partial.offer, partial.spans, partial.touched_utc_ms)
        temporary.write_text(json.dumps(fields_of(record)), encoding="utf-8")
        temporary.replace(path)

    @contextlib.contextmanager
    def _errors(self, partial: Partial) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = DiskFullError if error.errno in _FULL else StorageError
            where = self.path(partial.node, partial.sha256)
            raise kind(f"evidence: the spool cannot use {where}: {error.strerror}", hint="check the disk") from error
