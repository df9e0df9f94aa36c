"""Settings to places: the backend that is configured, and the folders below the data folder."""

from pathlib import Path

from coordinator.evidence.backend import Backend, Folder
from coordinator.evidence.s3 import Bucket
from coordinator.evidence.settings import BackendKind, EvidenceTable
from runtime.errors import ConfigError

SPOOL_NAME = "evidence-spool"
FOLDER_NAME = "evidence"


def open_backend(table: EvidenceTable, data_dir: Path) -> Backend:
    """Nothing is connected to yet. Raises ConfigError."""
    if table.backend is BackendKind.DISK:
        return Folder(data_dir / FOLDER_NAME)
    try:
        return Bucket(table)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"evidence.backend: s3 needs a package that is not installed: {error.name}",
            hint="pip install 'edgewright[s3]'",
        ) from error
