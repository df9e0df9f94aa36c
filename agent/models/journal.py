"""`models.json` in the data folder: what each pipeline runs, ran before and tries. Written as a whole, durable."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.evidence.files import sync_folder
from agent.models.records import Record
from runtime.sqlite import StorageError
from schemas.shape import ShapeError, fields_of, read

log = logging.getLogger(__name__)

FILE_NAME = "models.json"


@dataclass(frozen=True, slots=True)
class _Table:
    pipelines: dict[str, Record] = field(default_factory=dict)
    v: int = 1


class RecordsFile:
    """One node's. All methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Record]:
        """A file that cannot be read counts for nothing: each pipeline starts with its configured model."""
        try:
            return dict(read(_Table, json.loads(self._path.read_bytes()), strict=False).pipelines)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, ShapeError) as error:
            log.error("models: %s cannot be read and counts for nothing: %s", self._path, error)
            return {}

    def write(self, records: Mapping[str, Record]) -> None:
        """Durable when this returns. Raises StorageError."""
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump(fields_of(_Table(dict(records))), file, ensure_ascii=False)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            raise StorageError(
                f"models: cannot write {self._path}: {error.strerror}", hint="free space there"
            ) from error
