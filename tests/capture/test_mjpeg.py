import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import sleep

import pytest

from agent.capture.camera import Camera, CameraState
from agent.capture.errors import (
    CameraAuthError,
    CameraStalledError,
    CameraUnreachableError,
    CaptureInterruptedError,
    StreamNotFoundError,
    UnreadableVideoError,
)
from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg
from agent.capture.settings import CameraConfig
from agent.capture.source import FrameSource, open_source
from runtime.errors import EdgewrightError
from tests.capture.helpers import Heard, plain, wait_until

USER, PASSWORD = "bob", "pa ss:w@rd"
NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


class Handler(BaseHTTPRequestHandler):
    """An MJPEG camera; its path says how it behaves."""

    protocol_version = "HTTP/1.0"

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        path = self.path.strip("/")
        if path == "basic" and not self._basic():
            return self._challenge('Basic realm="cam"')
        if path == "digest" and not self._digest():
            return self._challenge(f'Digest realm="cam", nonce="{NONCE}", qop="auth", algorithm=MD5')
        if path in ("404", "403", "503"):
            return self.send_error(int(path))
        self.send_response(200)
        if path == "page":
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<p>not a stream</p>")
            return None
        boundary = "--frame" if path == "dashes" else "frame"
        self.send_header("Content-Type", f'multipart/x-mixed-replace; boundary="{boundary}"')
        self.end_headers()
        try:
            self._stream(path)
        except OSError:
            pass
        return None

    def _stream(self, path: str) -> None:
        for n in range(3 if path in ("short", "stall") else 10_000):
            data = jpeg(RgbPicture(plain(20 * (n % 10), 0, 0)))
            if path == "broken" and n == 1:
                data = b"no picture"
            size = b"" if path == "unsized" else b"Content-Length: %d\r\n" % len(data)
            if path == "huge":
                size = b"Content-Length: 99999999999\r\n"
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n" + size + b"\r\n" + data + b"\r\n")
            sleep(0.01)
        if path == "stall":
            self.server.over.wait()  # type: ignore[attr-defined]

    def _challenge(self, how: str) -> None:
        self.send_response(401)
        self.send_header("WWW-Authenticate", how)
        self.end_headers()

    def _basic(self) -> bool:
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _digest(self) -> bool:
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', self.headers.get("Authorization", "")))
        if "response" not in given:
            return False
        who = hashlib.md5(f"{USER}:cam:{PASSWORD}".encode()).hexdigest()
        what = hashlib.md5(f"GET:{self.path}".encode()).hexdigest()
        middle = f"{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}"
        return bool(given["response"] == hashlib.md5(f"{who}:{middle}:{what}".encode()).hexdigest())


@pytest.fixture
def camera_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.over = threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, name="mjpeg-server")
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    thread.join()
    server.server_close()


def source_of(url: str, username: str = "", password: str = "", open_timeout_s: float = 20) -> FrameSource:
    return open_source(CameraConfig("cam", url, username=username, password=password, open_timeout_s=open_timeout_s))


def reds(source: FrameSource, count: int) -> list[float]:
    frames = [source.read() for _ in range(count)]
    times_s = [frame.time_s for frame in frames if frame is not None]
    assert times_s == sorted(set(times_s))
    return [float(frame.picture.rgb()[:, :, 0].mean()) for frame in frames if frame is not None]


@pytest.mark.parametrize("path", ["sized", "unsized", "dashes"])
def test_every_picture_of_the_stream_is_read(camera_url: str, path: str) -> None:
    source = source_of(f"{camera_url}/{path}")
    source.open()
    assert reds(source, 5) == pytest.approx([0, 20, 40, 60, 80], abs=4)
    assert source.live
    assert source.format == "mjpeg 160x120"
    source.close()
    source.close()


def test_a_damaged_picture_is_passed_over_and_counted(camera_url: str) -> None:
    source = source_of(f"{camera_url}/broken")
    source.open()
    assert reds(source, 3) == pytest.approx([0, 40, 60], abs=4)
    assert source.broken == 1
    source.close()


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_the_right_password_opens_the_stream(camera_url: str, scheme: str) -> None:
    source = source_of(f"{camera_url}/{scheme}", USER, PASSWORD)
    source.open()
    assert len(reds(source, 2)) == 2
    source.close()


@pytest.mark.parametrize("scheme", ["basic", "digest"])
@pytest.mark.parametrize("password", ["", "wrong-one"])
def test_a_wrong_password_is_an_auth_error_that_does_not_tell_it(camera_url: str, scheme: str, password: str) -> None:
    source = source_of(f"{camera_url}/{scheme}", USER if password else "", password)
    with pytest.raises(CameraAuthError) as caught:
        source.open()
    assert "wrong-one" not in str(caught.value)
    source.close()


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("404", StreamNotFoundError),
        ("403", CameraAuthError),
        ("503", CameraUnreachableError),
        ("page", UnreadableVideoError),
    ],
)
def test_other_answers_are_told_apart(camera_url: str, path: str, error: type[EdgewrightError]) -> None:
    source = source_of(f"{camera_url}/{path}")
    with pytest.raises(error):
        source.open()
    source.close()


@pytest.mark.parametrize(("path", "good"), [("short", 3), ("huge", 0)])
def test_a_stream_that_ends_or_claims_too_much_is_lost(camera_url: str, path: str, good: int) -> None:
    source = source_of(f"{camera_url}/{path}")
    source.open()
    reds(source, good)
    with pytest.raises(CameraUnreachableError):
        source.read()
    source.close()


def test_nobody_listening_is_unreachable() -> None:
    source = source_of("http://127.0.0.1:9/stream")
    with pytest.raises(CameraUnreachableError, match="refused"):
        source.open()


def test_a_silent_camera_is_stalled(camera_url: str) -> None:
    source = open_source(CameraConfig("cam", f"{camera_url}/stall", open_timeout_s=0.1, stall_after_s=0.1))
    source.open()
    reds(source, 3)
    with pytest.raises(CameraStalledError):
        source.read()
    source.close()


def test_a_blocked_read_can_be_interrupted(camera_url: str) -> None:
    source = source_of(f"{camera_url}/stall", open_timeout_s=100)
    source.open()
    reds(source, 3)
    threading.Timer(0.1, source.interrupt).start()
    with pytest.raises(CaptureInterruptedError):
        source.read()
    source.close()


def test_a_camera_that_stalls_is_opened_again(camera_url: str) -> None:
    heard = Heard()
    config = CameraConfig("cam", f"{camera_url}/stall", stall_after_s=0.3, retry_first_s=0.01, retry_max_s=0.02)
    camera = Camera(config, heard.on_frame, heard.on_state)
    camera.start()
    wait_until(lambda: len(heard.frames) >= 6)
    assert camera.stop(30)
    assert heard.states[:4] == [
        CameraState.STARTING,
        CameraState.RUNNING,
        CameraState.STALLED,
        CameraState.RUNNING,
    ]
    assert camera.stats().stalls >= 1
