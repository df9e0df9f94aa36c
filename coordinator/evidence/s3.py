"""An S3-compatible bucket, through the `minio` client: the only file that imports it."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from coordinator.evidence.backend import READ_BYTES, BackendError
from coordinator.evidence.settings import EvidenceTable
from runtime.errors import ConfigError

TIMEOUT_S = 20.0
_GONE = frozenset({"NoSuchKey", "NoSuchObject"})


class GoneError(BackendError):
    """There is no such file in the bucket."""


class Bucket:
    """`<prefix><node>/<aa>/<sha256>`. The bucket must exist: making one is a decision about cost and place."""

    def __init__(self, table: EvidenceTable) -> None:
        """Connects to nothing yet. Raises ConfigError when the keys cannot be read, ImportError without a client."""
        # Here and not above: importing urllib3 opens a socket, and a coordinator with a folder needs neither.
        import urllib3
        from minio import Minio
        from minio.error import MinioException, S3Error

        access, secret_key = table.keys()
        self._bucket, self._prefix = table.s3_bucket, table.s3_prefix
        self._refusal = S3Error
        self._failures = (MinioException, urllib3.exceptions.HTTPError, OSError)
        # One attempt here: whoever calls us waits and tries again anyway, and must not hang for minutes.
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=TIMEOUT_S / 4, read=TIMEOUT_S),
            retries=urllib3.Retry(total=1, backoff_factor=0.2),
            cert_reqs="CERT_REQUIRED",
            ca_certs=None if table.s3_ca_file is None else str(table.s3_ca_file),
        )
        try:
            self._client = Minio(
                endpoint=table.s3_endpoint,
                access_key=access,
                secret_key=secret_key,
                secure=table.s3_tls,
                region=table.s3_region or None,
                http_client=pool,
            )
        except ValueError as error:
            raise ConfigError(f"evidence.s3_endpoint: {error}") from error

    def put(self, node: str, sha256: str, path: Path, content_type: str) -> None:
        key = self._key(node, sha256)
        with self._failing("store", key):
            self._client.fput_object(
                bucket_name=self._bucket, object_name=key, file_path=str(path), content_type=content_type
            )
            found = self._client.stat_object(bucket_name=self._bucket, object_name=key)
            if found.size != path.stat().st_size:
                raise BackendError(f"evidence: {self._bucket}/{key} has {found.size} bytes after it was stored")

    def has(self, node: str, sha256: str) -> bool:
        key = self._key(node, sha256)
        try:
            with self._failing("look for", key):
                self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except GoneError:
            return False
        return True

    def get(self, node: str, sha256: str) -> Iterator[bytes]:
        key = self._key(node, sha256)
        with self._failing("read", key):
            response = self._client.get_object(bucket_name=self._bucket, object_name=key)
            try:
                yield from response.stream(READ_BYTES)
            finally:
                response.close()
                response.release_conn()

    def delete(self, node: str, sha256: str) -> None:
        key = self._key(node, sha256)
        with self._failing("delete", key):
            self._client.remove_object(bucket_name=self._bucket, object_name=key)

    def _key(self, node: str, sha256: str) -> str:
        return f"{self._prefix}{node}/{sha256[:2]}/{sha256}"

    @contextlib.contextmanager
    def _failing(self, what: str, key: str) -> Iterator[None]:
        """Errors inside become BackendErrors: what the service said, never how we proved who we are."""
        try:
            yield
        except self._failures as error:
            said, hint = type(error).__name__, "is the endpoint reachable?"
            kind: type[BackendError] = BackendError
            if isinstance(error, self._refusal):
                said, hint = f"{error.code}: {error.message}", "check the bucket and the keys"
                kind = GoneError if error.code in _GONE else BackendError
            raise kind(f"evidence: cannot {what} {self._bucket}/{key}: {said}", hint=hint) from error
