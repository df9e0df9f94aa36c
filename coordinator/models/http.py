"""Models by HTTP/1.1: `GET` and `HEAD` of `/blobs/<sha256>` and `/models/<name>/<version>`. The one file with h11.

h11 speaks the protocol, and everything that can take time is ours, with a deadline: a head that comes slowly, a
reader that does not read, an idle connection. A path is matched as a whole against the two forms; what is served is
found by its digest or its row, never by a path that somebody sent.
"""

import asyncio
import contextlib
import hashlib
import logging
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import h11

from coordinator.models.blobs import Blobs
from coordinator.models.pace import TokenBucket
from coordinator.models.ranges import Answer, Part, is_known, part_of
from coordinator.models.settings import ModelsTable
from coordinator.models.versions import VersionError, parse_version
from runtime.errors import EdgewrightError, TemporaryError

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 16 * 1024
HEAD_S = 10.0  # for a request's head, from its connection or the answer before
GOODBYE_S = 2.0
BLOCK_BYTES = 64 * 1024
REFUSED_FACTOR = 2  # times connections_max: as many again are told that there are too many
CLIENTS_KNOWN_MAX = 20_000  # the oldest without a connection are forgotten
SERVER = b"edgewright"
_ORIGIN = re.compile(r"https?://[^/]*(?=/)")
_BLOB = re.compile(r"/blobs/([0-9a-f]{64})")
_MODEL = re.compile(r"/models/([A-Za-z0-9][A-Za-z0-9._-]{0,63})/([0-9A-Za-z.-]{1,64})(/signature)?")


class Catalogue(Protocol):
    """What there is to be downloaded."""

    async def document(self, name: str, version: str) -> tuple[str, str] | None:
        """(digest, document) of a version."""

    async def signature(self, name: str, version: str) -> str | None:
        """That of a version; empty or None: it has none."""

    async def names(self, sha256: str) -> bool:
        """True when some version needs the file: nothing else is given out."""


@dataclass(slots=True)
class _Client:
    """What one address has open, and how fast it is."""

    bucket: TokenBucket
    connections: int = 0


@dataclass(frozen=True, slots=True)
class _File:
    """What is to be sent."""

    tag: str
    size: int
    content_type: bytes
    path: Path | None = None
    data: bytes = b""
    caching: bytes = b"public, max-age=31536000, immutable"


@dataclass(slots=True)
class _Reply:
    """The head of an answer, and the part of a file that follows it."""

    status: int
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    file: _File | None = None
    part: Part = Part(0, 0)


class ModelsHttp:
    """One server. `run` listens until it is cancelled."""

    def __init__(self, table: ModelsTable, blobs: Blobs, catalogue: Catalogue) -> None:
        self._table = table
        self.stall_s = table.stall_s
        self._blobs = blobs
        self._catalogue = catalogue
        self._all = TokenBucket(table.bytes_s_max)
        self._clients: dict[str, _Client] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._counts: Counter[str] = Counter()
        self.port = 0  # once it listens

    def figures(self) -> dict[str, float]:
        """For the coordinator's counters."""
        names = ("requests", "bytes", "refused", "cut_off")
        counts = {f"models_http_{name}": float(self._counts[name]) for name in names}
        return {**counts, "models_http_connections": float(len(self._tasks))}

    async def run(self) -> None:
        """Raises TemporaryError where it cannot listen."""
        host, port = self._table.http_host, self._table.http_port
        try:
            server = await asyncio.start_server(self._accept, host, port, limit=HEAD_BYTES_MAX)
        except OSError as error:
            raise TemporaryError(
                f"models: cannot listen on {host}:{port}: {error.strerror}",
                hint="check models.http_host and http_port",
            ) from error
        self.port = server.sockets[0].getsockname()[1]
        log.info("models: HTTP on %s:%d", host, self.port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        client = self._client(address)
        full = len(self._tasks) >= self._table.connections_max
        full = full or client.connections >= self._table.connections_client_max
        self._counts["refused"] += full
        if len(self._tasks) >= REFUSED_FACTOR * self._table.connections_max:
            writer.transport.abort()  # too many to tell each why
            return
        self._tasks.add(task)
        client.connections += 1
        try:
            connection = _Connection(self, reader, writer, client)
            await (connection.refuse() if full else connection.serve())
            writer.close()
            async with asyncio.timeout(self.stall_s):
                await writer.wait_closed()  # what is written goes out
        except (OSError, TimeoutError, h11.ProtocolError):
            self._counts["cut_off"] += 1
        except asyncio.CancelledError:
            pass  # the server stops: the connection ends with it, and asyncio's own callback wants no exception
        finally:
            self._tasks.discard(task)
            client.connections -= 1
            writer.transport.abort()  # does nothing to one that is closed

    def _client(self, address: str) -> _Client:
        """One stays known after its connections, so that coming back does not begin its rate anew."""
        if len(self._clients) >= CLIENTS_KNOWN_MAX:
            idle = [name for name, one in self._clients.items() if not one.connections]
            for name in idle[: CLIENTS_KNOWN_MAX // 2]:
                del self._clients[name]
        return self._clients.setdefault(address, _Client(TokenBucket(self._table.bytes_s_client_max)))

    async def wait(self, client: _Client, count: int) -> None:
        """Until the bytes that just went out are within the rates."""
        now_s = time.monotonic()
        self._counts["bytes"] += count
        pause_s = max(self._all.take(count, now_s), client.bucket.take(count, now_s))
        if pause_s > 0:
            await asyncio.sleep(pause_s)

    # ---- what is asked for ----------------------------------------------------------------------

    async def reply(self, request: h11.Request) -> _Reply:
        """The answer to a request; the file's bytes are still to be read."""
        self._counts["requests"] += 1
        if request.method not in (b"GET", b"HEAD"):
            return _text(405, b"only GET and HEAD are answered here", [(b"allow", b"GET, HEAD")])
        headers = {name: value.decode("latin-1") for name, value in request.headers}
        try:
            file = await self._find(request.target.decode("latin-1"))
        except EdgewrightError as error:
            log.warning("models: a request could not be answered: %s", error)
            return _text(503, b"try again", [(b"retry-after", b"5")])
        if file is None:
            return _text(404, b"there is no such file or model")
        common = [
            (b"etag", f'"{file.tag}"'.encode()),
            (b"accept-ranges", b"bytes"),
            (b"cache-control", file.caching),
        ]
        if is_known(file.tag, headers.get(b"if-none-match")):
            return _Reply(304, common)
        range_ = headers.get(b"range") if request.method == b"GET" else None
        match part_of(file.size, file.tag, range_, headers.get(b"if-range")):
            case Answer.UNSATISFIABLE:
                return _text(416, b"no such range", [*common, (b"content-range", f"bytes */{file.size}".encode())])
            case Part(first, end) as part:
                common.append((b"content-range", f"bytes {first}-{end - 1}/{file.size}".encode()))
                status = 206
            case _:
                part, status = Part(0, file.size), 200
        common += [
            (b"content-type", file.content_type),
            (b"content-length", str(part.end - part.first).encode()),
        ]
        return _Reply(status, common, file=file, part=part)

    async def _find(self, target: str) -> _File | None:
        path = _ORIGIN.sub("", target, count=1) if target.startswith("http") else target
        if match := _BLOB.fullmatch(path):
            if not await self._catalogue.names(match[1]):
                return None
            size = await asyncio.to_thread(self._blobs.size, match[1])
            if not size:
                return None
            return _File(match[1], size, b"application/octet-stream", self._blobs.path(match[1]))
        if match := _MODEL.fullmatch(path):
            try:
                version = str(parse_version(match[2]))
            except VersionError:
                return None
            if match[3]:
                data = (await self._catalogue.signature(match[1], version) or "").encode()
                tag = hashlib.sha256(data).hexdigest()
                return _File(tag, len(data), b"text/plain", data=data, caching=b"no-cache") if data else None
            if found := await self._catalogue.document(match[1], version):
                data = found[1].encode()
                return _File(found[0], len(data), b"application/json", data=data)
        return None


class _Connection:
    """One connection: a request, its answer, and so on while both sides keep it."""

    def __init__(
        self, server: ModelsHttp, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: _Client
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._client = client
        self._stall_s = server.stall_s
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        writer.transport.set_write_buffer_limits(high=BLOCK_BYTES)

    async def refuse(self) -> None:
        """There are too many connections."""
        await self._send(None, _busy())
        await self._linger()

    async def serve(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEAD_S):
                    request = await self._event()
                if not isinstance(request, h11.Request):
                    return
                async with asyncio.timeout(HEAD_S):
                    body = await self._event()
            except h11.RemoteProtocolError as error:
                await self._wrong(error)
                return
            except TimeoutError:  # nobody asks for anything, or too slowly
                return
            if not isinstance(body, h11.EndOfMessage):  # nothing that is answered here has a body
                await self._send(request, _text(413, b"no body is wanted", [(b"connection", b"close")]))
                await self._linger()
                return
            await self._send(request, await self._server.reply(request))
            if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
                return
            self._h11.start_next_cycle()

    async def _event(self) -> object:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(HEAD_BYTES_MAX))
        return event

    async def _wrong(self, error: h11.RemoteProtocolError) -> None:
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            reply = _text(error.error_status_hint, b"this is no request", [(b"connection", b"close")])
            await self._send(None, reply)
            await self._linger()

    async def _send(self, request: h11.Request | None, reply: _Reply) -> None:
        headers = [(b"server", SERVER), *reply.headers]
        head = self._h11.send(h11.Response(status_code=reply.status, headers=headers))
        bodiless = request is not None and request.method == b"HEAD"
        if bodiless or reply.status == 304:
            await self._write(head)
        elif reply.file is None:
            await self._write(head, self._h11.send(h11.Data(data=reply.body)))
        else:
            await self._write(head)
            await self._send_part(reply.file, reply.part)
        await self._write(self._h11.send(h11.EndOfMessage()))

    async def _send_part(self, file: _File, part: Part) -> None:
        if file.path is None:
            await self._write(self._h11.send(h11.Data(data=file.data[part.first : part.end])))
            return
        with await asyncio.to_thread(file.path.open, "rb") as opened:
            at = part.first
            while at < part.end:
                block = await asyncio.to_thread(_block, opened, at, min(BLOCK_BYTES, part.end - at))
                if not block:
                    raise OSError(f"models: {file.path} ends at {at} of {file.size}")
                at += len(block)
                await self._write(self._h11.send(h11.Data(data=block)))
                await self._server.wait(self._client, len(block))

    async def _write(self, *parts: bytes | None) -> None:
        """Waits while more than a block is not yet taken; whoever takes no block for `stall_s` is cut off."""
        self._writer.writelines([part for part in parts if part])
        async with asyncio.timeout(self._stall_s):
            await self._writer.drain()

    async def _linger(self) -> None:
        """Says that nothing more comes, and lets the other side read why before the connection is reset."""
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(GOODBYE_S):
                while await self._reader.read(HEAD_BYTES_MAX):
                    pass


def _block(file: BinaryIO, at: int, count: int) -> bytes:
    file.seek(at)
    return file.read(count)


def _busy() -> _Reply:
    return _text(503, b"too many connections", [(b"retry-after", b"10"), (b"connection", b"close")])


def _text(status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> _Reply:
    head = [(b"content-type", b"text/plain"), (b"content-length", str(len(body) + 1).encode())]
    return _Reply(status, [*head, *(headers or [])], body + b"\n")
