"""RTSP against a real server: GStreamer's, in a child process."""

import contextlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from agent.capture.camera import Camera, CameraState
from agent.capture.errors import (
    CameraAuthError,
    CameraUnreachableError,
    CaptureInterruptedError,
    CaptureToolError,
    StreamNotFoundError,
)
from agent.capture.settings import CameraConfig
from agent.capture.source import FrameSource, open_source
from runtime.errors import EdgewrightError
from tests.capture.helpers import Heard, wait_until

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).with_name("rtsp_server.py")
ROOT = Path(__file__).resolve().parents[2]
USER, PASSWORD, WRONG = "bob", "s3cr3t!w@rd", "Wr0ng-Passw@rd"


def _missing() -> str:
    if shutil.which("ffmpeg") is None:
        return "ffmpeg is not installed"
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", probe], check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "GStreamer's RTSP server is not installed for /usr/bin/python3"
    return ""


_why = _missing()
pytestmark = pytest.mark.skipif(bool(_why), reason=_why)


class Server:
    """The RTSP server as a child process; it can be killed and started again on the same port."""

    def __init__(self, *options: str) -> None:
        self.options = options
        self.port = "0"
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER), "--port", self.port, *self.options],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = self.process.stdout.readline().split()[1]

    def url(self, path: str = "/cam", credentials: str = "") -> str:
        return f"rtsp://{credentials}127.0.0.1:{self.port}{path}"

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    server = Server(*options)
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture(scope="module")
def server(moving_clip: Path, freezing_clip: Path) -> Iterator[Server]:
    mounts = [f"/cam={moving_clip}", f"/freezing={freezing_clip}", f"/stalling={moving_clip}@1.5"]
    mounts.append(f"/user=admin&password=hid-den={moving_clip}")
    with serving(*(word for mount in mounts for word in ("--mount", mount))) as running:
        yield running


def camera_on(url: str, heard: Heard, **options: object) -> Camera:
    quick: dict[str, object] = {"retry_first_s": 0.1, "retry_max_s": 0.3, "retry_slow_s": 0.3, "stall_after_s": 10}
    config = CameraConfig("cam", url, **(quick | options))  # type: ignore[arg-type]
    return Camera(config, heard.on_frame, heard.on_state)


def children_of(pid: int) -> set[int]:
    return {
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    }


def running(pid: int) -> bool:
    """Alive, and not just waiting to be reaped by somebody's init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_frames_arrive_evenly_timed_and_nothing_stays_behind(server: Server) -> None:
    before = (open_fds(), children_of(os.getpid()))
    heard = Heard()
    camera = camera_on(server.url(), heard)
    camera.start()
    wait_until(lambda: len(heard.frames) >= 30)
    stats = camera.stats()
    assert camera.stop(30)
    assert heard.states == [CameraState.STARTING, CameraState.RUNNING, CameraState.STOPPED]
    assert (stats.format, stats.width, stats.height) == ("h264 160x120", 160, 120)
    assert heard.frames[-1].picture.rgb(80, 60).shape == (60, 80, 3)
    gaps_s = [after.time_s - before.time_s for before, after in pairwise(heard.frames)]
    assert sorted(gaps_s)[len(gaps_s) // 2] == pytest.approx(0.05, abs=0.01)
    assert min(gaps_s) > 0
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("capture-")])
    assert (open_fds(), children_of(os.getpid())) == before


def test_size_can_be_asked_of_the_child(server: Server) -> None:
    source = open_source(CameraConfig("cam", server.url(), width=64, height=48))
    source.open()
    captured = source.read()
    source.close()
    assert captured is not None
    assert (captured.picture.width, captured.picture.height) == (64, 48)


def test_a_server_that_dies_and_returns_is_lost_once_and_found_again(moving_clip: Path) -> None:
    with serving("--mount", f"/cam={moving_clip}") as server:
        heard = Heard()
        camera = camera_on(server.url(), heard)
        camera.start()
        wait_until(lambda: len(heard.frames) >= 5)
        server.kill()
        wait_until(lambda: camera.state is CameraState.LOST)
        threading.Event().wait(1.0)  # several attempts fail meanwhile
        frames = len(heard.frames)
        server.start()
        wait_until(lambda: len(heard.frames) >= frames + 5)
        assert camera.stop(30)
    assert heard.states == [
        CameraState.STARTING,
        CameraState.RUNNING,
        CameraState.LOST,
        CameraState.RUNNING,
        CameraState.STOPPED,
    ]
    times_s = [frame.time_s for frame in heard.frames]
    assert times_s == sorted(set(times_s))
    assert [frame.index for frame in heard.frames] == list(range(len(heard.frames)))
    assert camera.stats().reconnects == 1


def test_a_server_that_stops_sending_is_stalled_and_opened_again(server: Server) -> None:
    heard = Heard()
    camera = camera_on(server.url("/stalling"), heard, stall_after_s=1.0)
    camera.start()
    wait_until(lambda: heard.states.count(CameraState.RUNNING) == 2)
    assert camera.stop(30)
    assert heard.states[:4] == [
        CameraState.STARTING,
        CameraState.RUNNING,
        CameraState.STALLED,
        CameraState.RUNNING,
    ]


def test_a_picture_that_stands_still_is_frozen_and_a_new_connection_heals_it(server: Server) -> None:
    heard = Heard()
    camera = camera_on(server.url("/freezing"), heard, frozen_after_s=1.5)
    camera.start()
    wait_until(lambda: heard.states.count(CameraState.RUNNING) == 2)
    assert camera.stop(30)
    assert heard.states[:4] == [
        CameraState.STARTING,
        CameraState.RUNNING,
        CameraState.FROZEN,
        CameraState.RUNNING,
    ]


def opening_error(config: CameraConfig) -> EdgewrightError:
    source = open_source(config)
    with pytest.raises(EdgewrightError) as caught:
        source.open()
    source.close()
    source.close()
    return caught.value


def test_an_unknown_path_is_not_found(server: Server) -> None:
    error = opening_error(CameraConfig("cam", server.url("/nowhere")))
    assert type(error) is StreamNotFoundError
    assert "/nowhere" in str(error)


def test_nobody_listening_is_unreachable() -> None:
    assert type(opening_error(CameraConfig("cam", "rtsp://127.0.0.1:9/cam"))) is CameraUnreachableError


def test_a_missing_ffmpeg_is_named(server: Server) -> None:
    error = opening_error(CameraConfig("cam", server.url(), ffmpeg="ffmpeg-of-another-world"))
    assert type(error) is CaptureToolError
    assert "ffmpeg-of-another-world" in str(error)


def test_an_unknown_hardware_decoder_is_named(server: Server) -> None:
    assert type(opening_error(CameraConfig("cam", server.url(), hwaccel="abacus"))) is CaptureToolError


def test_a_blocked_read_can_be_interrupted(server: Server) -> None:
    source = open_source(CameraConfig("cam", server.url("/stalling"), stall_after_s=60))
    source.open()
    threading.Timer(3.0, source.interrupt).start()
    with pytest.raises(CaptureInterruptedError):
        read_for_ever(source)
    source.close()


def read_for_ever(source: FrameSource) -> None:
    while True:
        source.read()


@pytest.fixture(scope="module", params=["basic", "digest"])
def locked(request: pytest.FixtureRequest, moving_clip: Path) -> Iterator[Server]:
    how = ["--digest"] if request.param == "digest" else []
    with serving("--mount", f"/cam={moving_clip}", "--user", USER, "--password", PASSWORD, *how) as running:
        yield running


def test_the_right_password_opens_the_stream_and_is_seen_nowhere(
    locked: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    camera = camera_on(locked.url(), heard, username=USER, password=PASSWORD)
    camera.start()
    wait_until(lambda: len(heard.frames) >= 3)
    shown = shown_by_children(camera)
    assert camera.stop(30)
    assert "ffmpeg" in shown
    said = shown + caplog.text + repr(heard.statuses) + repr(camera.stats()) + repr(camera.config)
    for secret in (PASSWORD, "s3cr3t%21w%40rd", "s3cr3t!w%40rd"):
        assert secret not in said


def shown_by_children(camera: Camera) -> str:
    """Arguments and environment of the processes that the camera's thread has started, as everybody can see them."""
    thread = next(thread for thread in threading.enumerate() if thread.name == f"camera-{camera.config.id}")
    pids = Path(f"/proc/self/task/{thread.native_id}/children").read_text().split()
    return "".join(Path(f"/proc/{pid}/{what}").read_text() for pid in pids for what in ("cmdline", "environ"))


def test_a_password_among_the_parameters_is_seen_nowhere(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    camera = camera_on(server.url("/user=admin&password=hid-den"), heard)
    camera.start()
    wait_until(lambda: len(heard.frames) >= 3)
    said = shown_by_children(camera)
    assert camera.stop(30)
    said += caplog.text + repr(heard.statuses) + repr(camera.stats()) + repr(camera.config)
    assert "password=***" in said
    assert "hid-den" not in said


def test_credentials_within_the_address_work_as_well(locked: Server) -> None:
    source = open_source(CameraConfig("cam", locked.url(credentials=f"{USER}:s3cr3t%21w%40rd@")))
    source.open()
    assert source.read() is not None
    source.close()


@pytest.mark.parametrize("password", [WRONG, ""])
def test_a_wrong_password_is_reported_without_showing_it(
    locked: Server, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    camera = camera_on(locked.url(), heard, username=USER if password else "", password=password)
    camera.start()
    wait_until(lambda: camera.state is CameraState.AUTH_FAILED)
    assert camera.stop(30)
    assert heard.states == [CameraState.STARTING, CameraState.AUTH_FAILED, CameraState.STOPPED]
    said = caplog.text + repr(heard.statuses) + repr(camera.stats())
    assert WRONG not in said
    assert "Wr0ng" not in said
    error = opening_error(CameraConfig("cam", locked.url(), username=USER if password else "", password=password))
    assert type(error) is CameraAuthError


def test_the_child_dies_with_a_killed_parent(server: Server) -> None:
    script = (
        "import sys; from agent.capture.settings import CameraConfig; from agent.capture.source import open_source\n"
        "source = open_source(CameraConfig('cam', sys.argv[1])); source.open(); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    # The stalling mount: a child that has nothing to write does not notice the broken pipe.
    parent = subprocess.Popen(
        [sys.executable, "-c", script, server.url("/stalling")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"open\n"
        children = children_of(parent.pid)
        assert len(children) == 1
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: not any(running(pid) for pid in children))
