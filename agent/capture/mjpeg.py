"""MJPEG over HTTP, the oldest way to watch a network camera, with the standard library's HTTP client."""

import contextlib
import functools
import http.client
import socket
import ssl
import urllib.error
import urllib.request
from email.message import Message
from time import monotonic, monotonic_ns
from typing import IO, Any

import av
import av.error
from av.video.frame import VideoFrame

from agent.capture.address import redact, scrub, with_credentials, without_credentials
from agent.capture.errors import (
    CameraAuthError,
    CameraStalledError,
    CameraUnreachableError,
    CaptureInterruptedError,
    StreamNotFoundError,
    UnreadableVideoError,
)
from agent.capture.pacing import StreamClock
from agent.capture.pyav import AvPicture
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured
from runtime.errors import EdgewrightError

JPEG_BYTES_MAX = 32 << 20
_LINE_BYTES_MAX = 1 << 16
_HEADER_LINES_MAX = 64


class MjpegSource:
    """`multipart/x-mixed-replace` JPEGs; basic and digest authentication. time_s is the monotonic time of arrival."""

    live = True

    def __init__(self, config: CameraConfig) -> None:
        self.broken = 0
        self.format = ""
        url = with_credentials(config.source, config.username, config.password)
        self._url, self._username, self._password = without_credentials(url)
        self._config = config
        self._shown = redact(self._url)
        self._socket: socket.socket | None = None
        self._response: IO[bytes] | None = None
        self._boundary = b""
        self._interrupted = False
        self._clock = StreamClock()
        self._decoder = av.CodecContext.create("mjpeg", "r")
        self._decoder.thread_count = 1

    def open(self) -> None:
        try:
            response = self._opener().open(self._url, timeout=self._config.open_timeout_s)
        except urllib.error.HTTPError as error:
            error.close()
            raise self._refused(error.code) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._lost("connecting to", error) from None
        self._response = response
        kind = response.headers.get_content_type()
        boundary = response.headers.get_param("boundary")
        if kind != "multipart/x-mixed-replace" or not isinstance(boundary, str):
            self.close()
            raise UnreadableVideoError(
                f"{self._shown} sends {kind}, not an MJPEG stream", hint="use the camera's MJPEG address"
            )
        # A second net: the camera's watchdog interrupts earlier.
        if self._socket is not None:
            self._socket.settimeout(max(self._config.open_timeout_s, self._config.stall_after_s) + 1)
        # Some cameras put the leading dashes into the parameter.
        self._boundary = b"--" + boundary.strip('"').removeprefix("--").encode()

    def read(self) -> Captured | None:
        while True:
            try:
                data = self._next_jpeg()
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise self._lost("reading", error) from None
            if data is None:
                raise self._lost("reading", EOFError("the camera closed the connection"))
            frame = self._decode(data)
            if frame is not None:
                self.format = f"mjpeg {frame.width}x{frame.height}"
                return Captured(AvPicture(frame), self._clock.time_s(None, monotonic()), monotonic_ns())

    def interrupt(self) -> None:
        self._interrupted = True
        connection = self._socket
        if connection is not None:
            with contextlib.suppress(OSError):  # it was not connected, or is no longer
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _opener(self) -> urllib.request.OpenerDirector:
        context = ssl.create_default_context()
        if not self._config.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.ProxyHandler({}),  # a camera is on the local network
            _Http(self._connected),
            _Https(self._connected, context),
        ]
        if self._username:
            passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
            passwords.add_password(None, self._url, self._username, self._password)
            handlers += [
                _CloseRefusal(),
                urllib.request.HTTPDigestAuthHandler(passwords),
                urllib.request.HTTPBasicAuthHandler(passwords),
            ]
        return urllib.request.build_opener(*handlers)

    def _connected(self, connection: socket.socket) -> None:
        self._socket = connection
        if self._interrupted:
            raise OSError("interrupted")

    def _next_jpeg(self) -> bytes | None:
        """The next part's body; None at the end of the stream."""
        assert self._response is not None
        while not (line := self._line()).startswith(self._boundary):
            if not line:
                return None
        headers = Message()
        for _ in range(_HEADER_LINES_MAX):
            line = self._line().strip()
            if not line:
                break
            name, _, value = line.decode("latin-1").partition(":")
            headers[name] = value.strip()
        length = headers.get("Content-Length")
        if length is None:
            return self._until_boundary()
        size = int(length)
        if not 0 <= size <= JPEG_BYTES_MAX:
            raise ValueError(f"a part of {size} bytes")
        data = self._response.read(size)
        return data if len(data) == size else None

    def _until_boundary(self) -> bytes | None:
        lines: list[bytes] = []
        size = 0
        while not (line := self._line()).startswith(self._boundary):
            if not line:
                return None
            lines.append(line)
            size += len(line)
            if size > JPEG_BYTES_MAX:
                raise ValueError(f"a part of more than {JPEG_BYTES_MAX} bytes")
        self._pushed_back = line
        return b"".join(lines)

    _pushed_back = b""

    def _line(self) -> bytes:
        line, self._pushed_back = self._pushed_back, b""
        assert self._response is not None
        return line or self._response.readline(_LINE_BYTES_MAX)

    def _decode(self, data: bytes) -> VideoFrame | None:
        try:
            frames = self._decoder.decode(av.Packet(data))
        except av.error.FFmpegError:
            frames = []
        if not frames:
            self.broken += 1
            return None
        frame = frames[-1]
        assert isinstance(frame, VideoFrame)
        return frame

    def _refused(self, code: int) -> EdgewrightError:
        if code in (401, 403):
            return CameraAuthError(
                f"{self._shown} refused the credentials (HTTP {code})", hint="check username and password"
            )
        if code in (404, 410):
            return StreamNotFoundError(f"{self._shown} does not exist (HTTP {code})", hint="check the address's path")
        return CameraUnreachableError(f"{self._shown} answered HTTP {code}", hint="look at the camera's own log")

    def _lost(self, doing: str, error: Exception) -> EdgewrightError:
        if self._interrupted:
            return CaptureInterruptedError(f"{doing} {self._shown} was interrupted")
        cause = getattr(error, "reason", error)
        if isinstance(cause, TimeoutError):
            return CameraStalledError(f"{doing} {self._shown}: nothing came in time", hint="check camera and network")
        text = scrub(str(cause) or type(cause).__name__, self._password)
        return CameraUnreachableError(f"{doing} {self._shown} failed: {text}", hint="check camera and network")


class _CloseRefusal(urllib.request.BaseHandler):
    """Closes the answer that asks for credentials before another handler sends the request again with them."""

    handler_order = 100

    def http_error_401(self, _request: object, answer: IO[bytes], *_: object) -> None:
        answer.close()


class _Http(urllib.request.HTTPHandler):
    """Tells which socket was connected, so that another thread can shut it down."""

    def __init__(self, connected: Any) -> None:
        super().__init__()
        self._connected = connected

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(functools.partial(_HttpConnection, self._connected), req)


class _Https(urllib.request.HTTPSHandler):
    """The same over TLS."""

    def __init__(self, connected: Any, context: ssl.SSLContext) -> None:
        super().__init__(context=context)
        self._connected = connected
        self._tls = context

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        connection = functools.partial(_HttpsConnection, self._connected, context=self._tls)
        return self.do_open(connection, req)


class _HttpConnection(http.client.HTTPConnection):
    def __init__(self, connected: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tell = connected

    def connect(self) -> None:
        super().connect()
        self._tell(self.sock)


class _HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, connected: Any, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._tell = connected

    def connect(self) -> None:
        super().connect()
        self._tell(self.sock)
