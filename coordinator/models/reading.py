"""Files of models in pieces, over MQTT: for nodes that cannot reach the downloads. Driver.

What all callers together get is limited, in bytes a second and in calls at a time; whoever comes beyond that is told
that it is `busy` and when to ask again, so that a fleet that all asks at once pushes out no other calls.
"""

import asyncio
import base64
import time
from dataclasses import dataclass
from math import ceil
from typing import Annotated, Any, Protocol

from coordinator.models.blobs import Blobs
from coordinator.models.pace import TokenBucket
from coordinator.models.settings import ModelsTable
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Served, plain
from runtime.sqlite import StorageError
from schemas.bundles import Digest
from schemas.shape import Limit

LENGTH_MAX = 256 * 1024
WAIT_S_MAX = 1.0  # for the bytes of those before; who would wait longer is busy
CALL_S = 20.0


class Catalogue(Protocol):
    """Which files there are."""

    async def names(self, sha256: str) -> bool:
        """True when some version needs the file."""


@dataclass(frozen=True, slots=True)
class ReadBlob:
    """The arguments of `readBlob`."""

    sha256: Digest
    offset: Annotated[int, Limit(ge=0, lt=2**40)] = 0
    length: Annotated[int, Limit(ge=1, le=LENGTH_MAX)] = LENGTH_MAX


class BlobReader:
    """One coordinator's."""

    def __init__(self, table: ModelsTable, blobs: Blobs, catalogue: Catalogue) -> None:
        self._blobs = blobs
        self._catalogue = catalogue
        self._parallel = table.blob_calls_max
        self._bucket = TokenBucket(table.blob_bytes_s_max)
        self._free_s = 0.0  # from then on bytes may go out
        self._bytes_total = 0
        self._busy_total = 0

    def function(self) -> Served:
        """Changes nothing, so it is not journalled: asked again it is read again."""
        return plain("readBlob", ReadBlob, self.read, timeout_s=CALL_S, parallel=self._parallel, journalled=False)

    def figures(self) -> dict[str, float]:
        """For the coordinator's counters."""
        return {"models_mqtt_bytes": self._bytes_total, "models_mqtt_busy": self._busy_total}

    async def read(self, asked: ReadBlob) -> dict[str, Any]:
        """A piece; less than `length` at the end of the file. Raises CallRejectedError and CallFailedError."""
        wait_s = self._free_s - time.monotonic()
        if wait_s > WAIT_S_MAX:
            self._busy_total += 1
            text = f"others are served just now; ask again in {ceil(wait_s)} s, or download over HTTP"
            raise CallRejectedError("busy", text, value={"retry_after_s": ceil(wait_s)})
        if not await self._catalogue.names(asked.sha256):
            raise CallRejectedError("unknown_file", f"no model has a file {asked.sha256}", "sha256")
        try:
            size, data = await asyncio.to_thread(self._piece, asked)
        except StorageError as error:
            raise CallFailedError("not_now", str(error)) from error
        now_s = time.monotonic()
        pause_s = self._bucket.take(len(data), now_s)
        self._free_s = now_s + pause_s
        self._bytes_total += len(data)
        if pause_s > 0:
            await asyncio.sleep(min(pause_s, WAIT_S_MAX))
        text = base64.b64encode(data).decode()
        return {"sha256": asked.sha256, "offset": asked.offset, "size": size, "bytes_b64": text}

    def _piece(self, asked: ReadBlob) -> tuple[int, bytes]:
        size = self._blobs.size(asked.sha256)
        if size is None:
            raise CallFailedError("lost", f"the file {asked.sha256} is not here; edgectl model verify")
        if asked.offset > size:
            raise CallRejectedError("bad_arguments", f"offset: the file has {size} bytes", "offset")
        try:
            with self._blobs.path(asked.sha256).open("rb") as file:
                file.seek(asked.offset)
                return size, file.read(asked.length)
        except OSError as error:
            raise CallFailedError("not_now", f"the file cannot be read: {error.strerror}") from error
