"""Downloads over HTTP: real curl and bare sockets against a real server on a real folder."""

import asyncio
import hashlib
import io
import json
import random
import shutil
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.models.blobs import Blobs
from coordinator.models.folder import FolderRelease, store_files
from coordinator.models.http import ModelsHttp
from coordinator.models.settings import ModelsTable
from runtime.errors import TemporaryError
from tests.models.making import found, model_bytes

CURL = shutil.which("curl")
SIZE = 3_000_000
DATA = model_bytes(SIZE)
SHA256 = hashlib.sha256(DATA).hexdigest()
WAIT_S = 30.0
FREE = ModelsTable()

needs_curl = pytest.mark.skipif(CURL is None, reason="curl is not here")


class Served:
    """A server and what it has."""

    def __init__(self, folder: Path, table: ModelsTable) -> None:
        self.blobs = Blobs(folder / "models")
        self.made: FolderRelease = found(folder / "bundle", data=DATA)
        store_files(self.made, self.blobs)
        self.http = ModelsHttp(table, self.blobs, self)
        self.signature_text = ""

    async def names(self, sha256: str) -> bool:
        return sha256 in (self.made.digest, *(file.sha256 for file in self.made.release.files))

    async def signature(self, name: str, version: str) -> str | None:
        return self.signature_text if (name, version) == ("finder", "1.0.0") else None

    async def document(self, name: str, version: str) -> tuple[str, str] | None:
        known = (name, version) == ("finder", "1.0.0")
        return (self.made.digest, self.made.document.decode()) if known else None

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.http.port}{path}"

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.http.port)

    async def raw(self, request: bytes) -> bytes:
        """All that comes back, until the server ends it."""
        reader, writer = await self.connect()
        try:
            writer.write(request)
            async with asyncio.timeout(WAIT_S):
                return await reader.read()
        finally:
            writer.close()


@asynccontextmanager
async def serving(folder: Path, table: ModelsTable = FREE) -> AsyncIterator[Served]:
    served = Served(folder, table)
    task = asyncio.create_task(served.http.run())
    try:
        while not served.http.port:
            await asyncio.sleep(0.01)
        yield served
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def curl(*arguments: str) -> tuple[int, bytes]:
    assert CURL is not None
    process = await asyncio.create_subprocess_exec(
        CURL, "-sS", "--max-time", "60", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    print(err.decode())
    return process.returncode or 0, out


def run(folder: Path, body: Callable[[Served], Awaitable[None]], table: ModelsTable = FREE) -> None:
    async def inside() -> None:
        async with serving(folder, table) as served:
            await body(served)

    asyncio.run(inside())


def request(target: str, method: str = "GET", **headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: x", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def parts(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


def test_the_signature_of_a_release_stands_beside_it_and_is_asked_for_anew(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        path = "/models/finder/1/signature"
        assert parts(await served.raw(request(path)))[0] == 404
        served.signature_text = "release AAAA"
        status, headers, text = parts(await served.raw(request(path)))
        assert (status, headers["cache-control"], text) == (200, "no-cache", b"release AAAA")
        known = request(path, If_None_Match=headers["etag"])
        assert parts(await served.raw(known))[0] == 304
        served.signature_text = "release BBBB"
        assert parts(await served.raw(known))[2] == b"release BBBB"
        assert parts(await served.raw(request("/models/finder/9.0.0/signature")))[0] == 404

    run(tmp_path, body)


@needs_curl
def test_curl_gets_a_file_a_part_and_a_model(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        blob = served.url(f"/blobs/{SHA256}")
        assert await curl(blob) == (0, DATA)
        assert await curl("-r", "100-299", blob) == (0, DATA[100:300])
        assert await curl("-r", "-7", blob) == (0, DATA[-7:])
        status, head = await curl("-I", blob)
        assert (status, f"content-length: {SIZE}" in head.decode().lower()) == (0, True)
        status, document = await curl(served.url("/models/finder/1"))
        assert document == served.made.document
        assert json.loads(document)["variants"][0]["sha256"] == SHA256
        # A connection is used again.
        assert await curl(blob, blob) == (0, DATA + DATA)
        assert (await curl("-f", served.url("/blobs/" + "0" * 64)))[0] == 22

    run(tmp_path, body)


@needs_curl
def test_a_download_that_is_cut_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "got"

    async def body(served: Served) -> None:
        assert CURL is not None
        blob = served.url(f"/blobs/{SHA256}")
        process = await asyncio.create_subprocess_exec(CURL, "-sS", "-o", str(file), blob)
        while not (file.exists() and file.stat().st_size > 100_000):
            await asyncio.sleep(0.02)
        process.kill()
        await process.wait()
        cut = file.stat().st_size
        assert 0 < cut < SIZE
        status, _ = await curl("-C", "-", "-H", f'If-Range: "{SHA256}"', "-o", str(file), blob)
        assert status == 0
        assert file.read_bytes() == DATA
        assert served.http.figures()["models_http_bytes"] < SIZE + 2_000_000

    run(tmp_path, body, ModelsTable(bytes_s_client_max=500_000))


def test_ranges_answer_as_the_rfc_says(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        target = f"/blobs/{SHA256}"

        async def ask(method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
            return parts(await served.raw(request(target, method, **headers)))

        status, headers, got = await ask(Range="bytes=10-19")
        assert (status, headers["content-range"], got) == (206, f"bytes 10-19/{SIZE}", DATA[10:20])
        assert (headers["etag"], headers["accept-ranges"], headers["content-length"]) == (
            f'"{SHA256}"',
            "bytes",
            "10",
        )
        status, headers, got = await ask(Range=f"bytes={SIZE}-")
        assert (status, headers["content-range"]) == (416, f"bytes */{SIZE}")
        assert (await ask(Range="bytes=0-4", If_Range='"another"'))[0::2] == (200, DATA)
        assert (await ask(Range="bytes=0-4", If_Range=f'"{SHA256}"'))[0::2] == (206, DATA[:5])
        assert (await ask(Range="bytes=0-4, 9-10"))[0::2] == (200, DATA)
        assert (await ask(If_None_Match=f'"{SHA256}"'))[0::2] == (304, b"")
        status, headers, got = await ask("HEAD", Range="bytes=0-4")
        assert (status, headers["content-length"], got) == (200, str(SIZE), b"")
        status, headers, got = await ask("POST")
        assert (status, headers["allow"]) == (405, "GET, HEAD")

    run(tmp_path, body)


@pytest.mark.parametrize(
    "target",
    [
        "/", "/blobs/", "/blobs", "/blobs/../coordinator.db", f"/blobs/../blobs/{SHA256}", f"/blobs/{SHA256}/",
        f"//blobs/{SHA256}", f"/blobs/{SHA256.upper()}", f"/blobs/{SHA256}?x", f"/blobs/{SHA256[:63]}",
        f"/blobs/%2e%2e/{SHA256}", "/blobs/lock", "/models", "/models/finder", "/models/finder/../1.0.0",
        "/models/finder/9.9.9", "/models/finder/x", "/models/../finder/1.0.0", "/models/finder/1.0.0/",
        "/models/%66inder/1.0.0", "*", "/etc/passwd", "/../../etc/passwd", "http://x/../etc/passwd",
        "/blobs/" + "a" * 5000,
    ],
)  # fmt: skip
def test_no_other_path_leads_anywhere(tmp_path: Path, target: str) -> None:
    (tmp_path / "coordinator.db").write_text("secret")

    async def body(served: Served) -> None:
        status, _, got = parts(await served.raw(request(target)))
        assert status == 404
        assert b"secret" not in got

    run(tmp_path, body)


def test_a_file_that_no_model_needs_is_not_given_out(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        stray = hashlib.sha256(b"stray").hexdigest()
        served.blobs.put(stray, io.BytesIO(b"stray"), 5)
        assert parts(await served.raw(request(f"/blobs/{stray}")))[0] == 404
        assert parts(await served.raw(request(f"/blobs/{served.made.digest}")))[2] == served.made.document

    run(tmp_path, body)


def test_the_absolute_form_is_understood(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        assert parts(await served.raw(request(f"http://host:1/blobs/{SHA256}", Range="bytes=0-3")))[0] == 206

    run(tmp_path, body)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60) + b"\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 40_000, 431),
        (b"GET /blobs/\x00 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n3\r\nabc\r\n", 413),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
    ],
)
def test_what_is_no_request_is_answered_and_ended(tmp_path: Path, sent: bytes, status: int) -> None:
    async def body(served: Served) -> None:
        assert parts(await served.raw(sent))[0] == status
        assert parts(await served.raw(request(f"/blobs/{SHA256}")))[2] == DATA  # and others are served

    run(tmp_path, body)


def test_no_bytes_bring_it_down(tmp_path: Path) -> None:
    """Requests with bytes changed, left out and put in: each is answered or ended, and the next one is served."""
    dice = random.Random(7)
    whole = request(f"/blobs/{SHA256}", Range="bytes=0-9", If_Range=f'"{SHA256}"', If_None_Match="*")

    async def body(served: Served) -> None:
        for _ in range(200):
            sent = bytearray(whole)
            for _ in range(dice.randint(1, 8)):
                at = dice.randrange(len(sent))
                sent[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 4))
            reader, writer = await served.connect()
            try:
                writer.write(sent)
                writer.write_eof()
                async with asyncio.timeout(WAIT_S):
                    await reader.read()
            except ConnectionError:
                pass  # ended while it sent
            finally:
                writer.close()
        assert parts(await served.raw(request(f"/blobs/{SHA256}")))[2] == DATA

    run(tmp_path, body)


async def until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not met():
            await asyncio.sleep(0.02)


def test_too_many_connections_of_one_are_refused_and_others_go_on(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        open_ = [await served.connect() for _ in range(2)]
        await until(lambda: served.http.figures()["models_http_connections"] == 2)
        status, headers, _ = parts(await served.raw(request("/")))
        assert (status, headers["retry-after"]) == (503, "10")
        for _, writer in open_:
            writer.close()
        await until(lambda: served.http.figures()["models_http_connections"] == 0)
        assert parts(await served.raw(request("/")))[0] == 404
        assert served.http.figures()["models_http_refused"] == 1

    run(tmp_path, body, ModelsTable(connections_client_max=2))
    run(tmp_path / "all", body, ModelsTable(connections_max=2))


def test_a_reader_that_does_not_read_is_cut_off(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        lazy = socket.create_connection(("127.0.0.1", served.http.port))
        lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        try:
            lazy.sendall(b"".join(request(f"/blobs/{SHA256}").replace(b"close", b"keep-alive") for _ in range(20)))
            await until(lambda: served.http.figures()["models_http_cut_off"] == 1)
            await until(lambda: served.http.figures()["models_http_connections"] == 0)
        finally:
            lazy.close()

    run(tmp_path, body, ModelsTable(stall_s=1.0))


def test_a_slow_reader_gets_all_of_it(tmp_path: Path) -> None:
    def read(port: int) -> bytes:
        got = bytearray()
        with socket.socket() as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            slow.settimeout(WAIT_S)
            slow.connect(("127.0.0.1", port))
            slow.sendall(request(f"/blobs/{SHA256}"))
            time.sleep(0.5)  # the server's last bytes wait in its own buffer meanwhile
            while block := slow.recv(16_384):
                got += block
        return bytes(got)

    async def body(served: Served) -> None:
        assert parts(await asyncio.to_thread(read, served.http.port))[2] == DATA

    run(tmp_path, body)


def test_who_says_nothing_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.models.http.HEAD_S", 0.2)

    async def body(served: Served) -> None:
        assert await served.raw(b"") == b""
        assert await served.raw(b"GET /blobs/") == b""

    run(tmp_path, body)


def test_a_client_has_its_rate_however_many_connections_it_opens(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await asyncio.gather(*(served.raw(request(f"/blobs/{SHA256}")) for _ in range(2)))
        assert await served.raw(request(f"/blobs/{SHA256}")) != b""
        # 9 MB at 3 MB/s with one second's worth at once: two seconds at the very least, less the last block's wait.
        assert loop.time() - began_s > 1.9

    run(tmp_path, body, ModelsTable(bytes_s_client_max=3_000_000))


def test_a_file_that_is_gone_or_short_ends_the_connection(tmp_path: Path) -> None:
    async def body(served: Served) -> None:
        served.blobs.path(SHA256).write_bytes(DATA[:1000])
        status, _, got = parts(await served.raw(request(f"/blobs/{SHA256}")))
        assert (status, got) == (200, DATA[:1000])  # a node sees by the hash
        served.blobs.path(SHA256).unlink()
        assert parts(await served.raw(request(f"/blobs/{SHA256}")))[0] == 404

    run(tmp_path, body)


def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        table = replace(ModelsTable(), http_port=other.getsockname()[1])
        served = Served(tmp_path, table)
        with pytest.raises(TemporaryError, match="cannot listen"):
            asyncio.run(served.http.run())
