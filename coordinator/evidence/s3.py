"""An S3-compatible bucket, through the `minio` client: the only file that imports it."""

from collections.abc import Iterator
from pathlib import Path

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error

from coordinator.evidence.backend import READ_BYTES, BackendError
from coordinator.evidence.settings import EvidenceTable

TIMEOUT_S = 20.0
_GONE = frozenset({"NoSuchKey", "NoSuchObject"})


class Bucket:
    """`<prefix><node>/<aa>/<sha256>`. The bucket must exist: making one is a decision about cost and place."""

    def __init__(self, table: EvidenceTable) -> None:
        """Connects to nothing yet. Raises ConfigError when the keys cannot be read."""
        access, secret_key = table.keys()
        self._bucket, self._prefix = table.s3_bucket, table.s3_prefix
        # One attempt here: whoever calls us waits and tries again anyway, and must not hang for minutes.
        pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=TIMEOUT_S / 4, read=TIMEOUT_S),
            retries=urllib3.Retry(total=1, backoff_factor=0.2),
            cert_reqs="CERT_REQUIRED",
            ca_certs=None if table.s3_ca_file is None else str(table.s3_ca_file),
        )
        self._client = Minio(
            endpoint=table.s3_endpoint,
            access_key=access,
            secret_key=secret_key,
            secure=table.s3_tls,
            region=table.s3_region or None,
            http_client=pool,
        )

    def put(self, node: str, sha256: str, path: Path, content_type: str) -> None:
        key = self._key(node, sha256)
        try:
            self._client.fput_object(
                bucket_name=self._bucket, object_name=key, file_path=str(path), content_type=content_type
            )
            found = self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._error("store", key, error) from error
        if found.size != path.stat().st_size:
            raise BackendError(f"evidence: {self._bucket}/{key} has {found.size} bytes after it was stored")

    def has(self, node: str, sha256: str) -> bool:
        key = self._key(node, sha256)
        try:
            self._client.stat_object(bucket_name=self._bucket, object_name=key)
        except S3Error as error:
            if error.code in _GONE:
                return False
            raise self._error("look for", key, error) from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._error("look for", key, error) from error
        return True

    def get(self, node: str, sha256: str) -> Iterator[bytes]:
        key = self._key(node, sha256)
        try:
            response = self._client.get_object(bucket_name=self._bucket, object_name=key)
            try:
                yield from response.stream(READ_BYTES)
            finally:
                response.close()
                response.release_conn()
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._error("read", key, error) from error

    def delete(self, node: str, sha256: str) -> None:
        key = self._key(node, sha256)
        try:
            self._client.remove_object(bucket_name=self._bucket, object_name=key)
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._error("delete", key, error) from error

    def _key(self, node: str, sha256: str) -> str:
        return f"{self._prefix}{node}/{sha256[:2]}/{sha256}"

    def _error(self, what: str, key: str, error: Exception) -> BackendError:
        """What the service said, never how we proved who we are."""
        said = f"{error.code}: {error.message}" if isinstance(error, S3Error) else f"{type(error).__name__}"
        hint = "check the bucket and the keys" if isinstance(error, S3Error) else "is the endpoint reachable?"
        return BackendError(f"evidence: cannot {what} {self._bucket}/{key}: {said}", hint=hint)
