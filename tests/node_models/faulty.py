"""An HTTP server that serves releases badly, as told, request by request."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from coordinator.models.folder import FolderRelease


@dataclass
class Faulty:
    """What there is, and what goes wrong with the next requests for files, first come first served.

    cut:N        N bytes of the answer, then a reset     whole        ignores the range
    wrong        other bytes                             short        says that it is shorter
    busy         503 with Retry-After: 0                 missing      404
    stall        nothing after the head                  elsewhere    another range than the one asked for
    """

    files: dict[str, bytes] = field(default_factory=dict)  # by path
    faults: list[str] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)  # (path, Range)
    port: int = 0

    def add(self, made: FolderRelease, signature: str = "") -> None:
        name, version = made.release.name, made.release.version
        self.files[f"/models/{name}/{version}"] = made.document
        if signature:
            self.files[f"/models/{name}/{version}/signature"] = signature.encode()
        for file in made.release.files:
            self.files[f"/blobs/{file.sha256}"] = (made.folder / file.path).read_bytes()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def open(self) -> Iterator["Faulty"]:
        shop = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                shop.answer(self)

            def log_message(self, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join(10)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        range_ = request.headers.get("Range", "")
        self.asked.append((request.path, range_))
        data = self.files.get(request.path)
        fault = self.faults.pop(0) if request.path.startswith("/blobs/") and self.faults else ""
        if data is None or fault == "missing":
            request.send_error(404)
            return
        if fault == "busy":
            request.send_response(503)
            request.send_header("Retry-After", "0")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        first = int(match[1]) if (match := re.fullmatch(r"bytes=(\d+)-", range_)) else 0
        if fault == "whole":
            first = 0
        if fault == "wrong":
            data = bytes(byte ^ 0xFF for byte in data)
        body = data[first:]
        request.send_response(206 if first else 200)
        said = len(body) - 1 if fault == "short" else len(body)
        request.send_header("Content-Length", str(said))
        if first:
            at = first - 1 if fault == "elsewhere" else first
            request.send_header("Content-Range", f"bytes {at}-{len(data) - 1}/{len(data)}")
        request.end_headers()
        if fault.startswith("cut:"):
            request.wfile.write(body[: int(fault[4:])])
            request.wfile.flush()
            request.close_connection = True
            return
        if fault == "stall":
            request.connection.settimeout(30)
            try:
                request.connection.recv(1)  # until the other side has had enough
            except (TimeoutError, OSError):
                pass
            request.close_connection = True
            return
        try:
            request.wfile.write(body)
        except OSError:
            request.close_connection = True
