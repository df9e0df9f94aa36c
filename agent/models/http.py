"""Models by HTTP: `GET` with ranges, in a thread that ends when it is told to. The one file with `http.client`."""

import asyncio
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from agent.models.sources import CutError, MissingError, Sink, WrongError

BLOCK_BYTES = 64 * 1024
SMALL_BYTES_MAX = 1024  # a signature
TEXT_BYTES_MAX = 512 * 1024  # a document
SLOW_AFTER_S = 60.0
SLOW_BYTES_S = 256.0  # less than this in the long run is a source that plays dead
RETRY_AFTER_MAX_S = 600.0


class HttpSource:
    """One base URL. `pause` is told of bytes that came and says for how long to wait: the rate."""

    def __init__(
        self,
        base: str,
        *,
        stall_s: float,
        ca_file: Path | None = None,
        pause: Callable[[int], float] = lambda count: 0.0,
    ) -> None:
        self._base = base.rstrip("/")
        self._stall_s = stall_s
        self._ca_file = ca_file
        self._pause = pause

    @property
    def name(self) -> str:
        return self._base

    async def document(self, name: str, version: str, digest: str, sink: Sink) -> None:
        await self._get(f"/models/{name}/{version}", 0, None, TEXT_BYTES_MAX, sink)

    async def signature(self, name: str, version: str) -> str:
        parts: list[bytes] = []
        await self._get(f"/models/{name}/{version}/signature", 0, None, SMALL_BYTES_MAX, parts.append)
        try:
            return b"".join(parts).decode("ascii").strip()
        except UnicodeDecodeError as error:
            raise WrongError("what it has as a signature is none") from error

    async def blob(self, sha256: str, size: int, offset: int, sink: Sink) -> None:
        await self._get(f"/blobs/{sha256}", offset, size, size, sink)

    async def _get(self, path: str, offset: int, size: int | None, bytes_max: int, sink: Sink) -> None:
        transfer = _Transfer(self._base, path, self._stall_s, self._ca_file, self._pause)
        work = asyncio.ensure_future(asyncio.to_thread(transfer.run, offset, size, bytes_max, sink))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            transfer.stop()
            await asyncio.gather(work, return_exceptions=True)  # nothing is written after we have gone
            raise


class _Transfer:
    """One request. `run` blocks; `stop`, from another thread, makes it end at once."""

    def __init__(
        self, base: str, path: str, stall_s: float, ca_file: Path | None, pause: Callable[[int], float]
    ) -> None:
        self._url = urlsplit(base)
        self._path = f"{self._url.path}{path}"
        self._stall_s = stall_s
        self._ca_file = ca_file
        self._pause = pause
        self._stopped = threading.Event()
        self._connection: http.client.HTTPConnection | None = None

    def stop(self) -> None:
        self._stopped.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def run(self, offset: int, size: int | None, bytes_max: int, sink: Sink) -> None:
        """`size`: of the whole, where it is known; then the range from `offset` on is asked for."""
        connection = self._connection = self._open()
        try:
            headers = {"Accept-Encoding": "identity", "User-Agent": "edgewright-agent"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            connection.request("GET", self._path, headers=headers)
            with connection.getresponse() as response:
                skip = self._check(response, offset, size, bytes_max)
                want = response.length if size is None else size - offset + skip
                self._read(response, skip, want, bytes_max, sink)
        except (OSError, http.client.HTTPException) as error:
            raise CutError(str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _open(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            try:
                context = ssl.create_default_context(cafile=self._ca_file)
            except OSError as error:
                raise CutError(f"the authorities in {self._ca_file} cannot be read: {error}") from error
            return http.client.HTTPSConnection(host, port, timeout=self._stall_s, context=context)
        return http.client.HTTPConnection(host, port, timeout=self._stall_s)

    def _check(self, response: http.client.HTTPResponse, offset: int, size: int | None, bytes_max: int) -> int:
        """How many bytes at the beginning of the answer we have already."""
        status = response.status
        if status in (404, 410):
            raise MissingError(f"it does not have it ({status})")
        if status == 416:
            raise WrongError("what it has is shorter than what it should be")
        if status not in (200, 206) or (status == 206 and not offset):
            raise CutError(f"it answers {status} {response.reason}", at_least_s=_retry_after_s(response))
        length = response.length
        first = offset if status == 206 else 0
        if status == 206 and not (response.getheader("Content-Range") or "").startswith(f"bytes {offset}-"):
            raise CutError(f"it answers the range {response.getheader('Content-Range')}, not one from {offset}")
        if length is not None and ((size is not None and first + length != size) or length > bytes_max):
            wanted = f"{size} bytes" if size is not None else f"at most {bytes_max} bytes"
            raise WrongError(f"what it has is {first + length} bytes long, wanted are {wanted}")
        return offset - first

    def _read(
        self, response: http.client.HTTPResponse, skip: int, want: int | None, bytes_max: int, sink: Sink
    ) -> None:
        got, begun_s = 0, time.monotonic()
        while want is None or got < want:
            block = response.read1(BLOCK_BYTES)
            if self._stopped.is_set():
                raise CutError("stopped")
            if not block:
                break
            got += len(block)
            if got > bytes_max + skip or (want is not None and got > want):
                raise WrongError("what it has is longer than it should be")
            fresh = block[max(0, skip - (got - len(block))) :] if got > skip else b""
            if fresh:
                sink(fresh)
            passed_s = time.monotonic() - begun_s
            if passed_s > SLOW_AFTER_S and got < SLOW_BYTES_S * passed_s:
                raise CutError(f"{got} bytes in {passed_s:.0f} s")
            if (pause_s := self._pause(len(block))) > 0:
                begun_s += pause_s
                self._stopped.wait(pause_s)
        if want is not None and got < want:
            raise CutError(f"it broke off after {got} of {want} bytes")


def _retry_after_s(response: http.client.HTTPResponse) -> float:
    text = response.getheader("Retry-After") or ""
    return min(float(text), RETRY_AFTER_MAX_S) if text.isdecimal() else 0.0
