"""The `[evidence]` table of the coordinator."""

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from runtime.config import secret
from schemas.shape import Limit

MIB = 1024 * 1024
GIB = 1024 * MIB

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

Size = Annotated[int, Limit(ge=0, lt=2**50)]


class BackendKind(StrEnum):
    """Where verified files go."""

    DISK = "disk"  # <data_dir>/evidence/<node>/<aa>/<sha256>
    S3 = "s3"  # <prefix><node>/<aa>/<sha256> in a bucket


class OnQuota(StrEnum):
    """What happens to a file that a quota has no room for."""

    REFUSE = "refuse"  # the node keeps it and tries again later
    SHED_OLDEST = "shed_oldest"  # the oldest of that node, or of all, give way


@dataclass(frozen=True, slots=True)
class EvidenceTable:
    """Sizes in bytes; a quota of 0 is none. Secrets stand in files or in the environment."""

    enabled: bool = True
    backend: BackendKind = BackendKind.DISK
    blob_bytes_max: Annotated[int, Limit(ge=1024, lt=2**40)] = 64 * MIB
    spool_bytes_max: Annotated[int, Limit(ge=1024, lt=2**50)] = 1 * GIB
    spool_age_max_s: Annotated[int, Limit(ge=60, lt=2**40)] = 7 * 86400
    quota_bytes: Size = 50 * GIB
    quota_node_bytes: Size = 5 * GIB
    on_quota: OnQuota = OnQuota.REFUSE
    free_bytes_min: Size = 512 * MIB
    s3_endpoint: str = ""
    s3_bucket: str = ""
    s3_region: str = ""
    s3_prefix: Annotated[str, Limit(len_max=200)] = ""
    s3_tls: bool = True
    s3_ca_file: Path | None = None
    s3_access_key_file: Path | None = None
    s3_access_key_env: str = ""
    s3_secret_key_file: Path | None = None
    s3_secret_key_env: str = ""

    def mistakes(self) -> list[str]:
        """What does not fit together."""
        found = []
        if self.blob_bytes_max > self.spool_bytes_max:
            found.append("evidence.blob_bytes_max: is more than spool_bytes_max, so no such file could ever come")
        if self.backend is BackendKind.S3:
            found += [f"evidence.{name}: is needed for backend s3" for name in self._absent()]
            if self.s3_bucket and not _BUCKET.fullmatch(self.s3_bucket):
                found.append("evidence.s3_bucket: is no name of a bucket: 3 to 63 of a-z 0-9 . -")
            if "/" in self.s3_endpoint:
                found.append("evidence.s3_endpoint: is HOST or HOST:PORT, without a scheme; s3_tls says which it is")
        return found

    def _absent(self) -> list[str]:
        absent = [name for name in ("s3_endpoint", "s3_bucket") if not getattr(self, name)]
        return absent + [
            f"{name}_file"
            for name in ("s3_access_key", "s3_secret_key")
            if getattr(self, f"{name}_file") is None and not getattr(self, f"{name}_env")
        ]

    def keys(self) -> tuple[str, str]:
        """Access and secret key, read from where they are kept. Raises ConfigError."""
        return (
            secret("evidence.s3_access_key", self.s3_access_key_file, self.s3_access_key_env),
            secret("evidence.s3_secret_key", self.s3_secret_key_file, self.s3_secret_key_env),
        )
