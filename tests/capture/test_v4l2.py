"""No machine of this project has a V4L2 camera: a fake takes the place of the device layer here."""

import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from agent.capture.camera import Camera, CameraState
from agent.capture.errors import CameraUnreachableError, CaptureInterruptedError, UnreadableVideoError
from agent.capture.settings import CameraConfig
from agent.capture.source import open_source
from agent.capture.v4l2 import PyavDevice, V4l2Source
from runtime.errors import EdgewrightError
from tests.capture.helpers import Heard, moving, wait_until


class FakeDevice:
    """Gives what `script` says, one entry a read: a picture, None for "nothing yet", or an error to raise."""

    def __init__(self, script: Iterator[object], error: Exception | None = None) -> None:
        self.script = script
        self.error = error
        self.opened: tuple[str, dict[str, str]] | None = None
        self.closed = False

    def open(self, path: str, options: dict[str, str]) -> str:
        self.opened = (path, options)
        if self.error is not None:
            raise self.error
        return "mjpeg 160x120"

    def read(self) -> av.VideoFrame | None:
        said = next(self.script)
        if isinstance(said, Exception):
            raise said
        return av.VideoFrame.from_ndarray(moving(said), "rgb24") if isinstance(said, int) else None

    def close(self) -> None:
        self.closed = True


def source_of(*script: object, **options: object) -> tuple[V4l2Source, FakeDevice]:
    device = FakeDevice(iter(script))
    config = CameraConfig("cam", "/dev/video0", **options)  # type: ignore[arg-type]
    return V4l2Source(config, "/dev/video0", device), device


def test_frames_come_with_growing_times() -> None:
    source, device = source_of(1, None, None, 2, 3)
    source.open()
    frames = [source.read() for _ in range(3)]
    times_s = [frame.time_s for frame in frames if frame is not None]
    assert len(times_s) == 3
    assert times_s == sorted(set(times_s))
    assert source.format == "mjpeg 160x120"
    source.close()
    assert device.closed


def test_the_device_is_asked_for_what_the_configuration_says() -> None:
    source, device = source_of(width=1280, height=720, fps=30, pixel_format="mjpeg")
    source.open()
    assert device.opened == (
        "/dev/video0",
        {"video_size": "1280x720", "framerate": "30", "input_format": "mjpeg"},
    )


def test_a_damaged_picture_is_passed_over_and_counted() -> None:
    source, _ = source_of(1, ValueError("corrupt"), 2)
    source.open()
    assert source.read() is not None
    assert source.read() is not None
    assert source.broken == 1


def test_an_unplugged_camera_is_unreachable() -> None:
    source, _ = source_of(1, OSError(19, "No such device"))
    source.open()
    source.read()
    with pytest.raises(CameraUnreachableError, match="/dev/video0 failed: No such device"):
        source.read()


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (FileNotFoundError(2, "No such file"), CameraUnreachableError, "there is no /dev/video0"),
        (PermissionError(13, "Permission denied"), CameraUnreachableError, "group `video`"),
        (OSError(16, "Device or resource busy"), CameraUnreachableError, "busy"),
        (ValueError("no such format"), UnreadableVideoError, "v4l2-ctl"),
    ],
)
def test_what_goes_wrong_at_opening_is_told_apart(
    error: Exception, expected: type[EdgewrightError], message: str
) -> None:
    source = V4l2Source(CameraConfig("cam", "/dev/video0"), "/dev/video0", FakeDevice(iter(()), error))
    with pytest.raises(expected, match=message):
        source.open()


def test_waiting_for_a_hung_camera_can_be_interrupted() -> None:
    device = FakeDevice(iter(lambda: None, 0))
    source = V4l2Source(CameraConfig("cam", "/dev/video0"), "/dev/video0", device)
    source.open()
    threading.Timer(0.05, source.interrupt).start()
    with pytest.raises(CaptureInterruptedError):
        source.read()


def test_the_camera_comes_back_when_it_is_plugged_in_again() -> None:
    devices = [
        FakeDevice(iter([1, 2, OSError(19, "No such device")])),
        FakeDevice(iter(()), FileNotFoundError(2, "No such file")),
        FakeDevice(n if n < 3 else None for n in range(10**6)),
    ]
    heard = Heard()
    camera = Camera(
        CameraConfig("cam", "/dev/video0", retry_first_s=0.01, retry_max_s=0.02),
        heard.on_frame,
        heard.on_state,
        make_source=lambda config: V4l2Source(config, "/dev/video0", devices.pop(0)),
    )
    camera.start()
    wait_until(lambda: len(heard.frames) == 5)
    assert camera.stop(30)
    assert heard.states == [
        CameraState.STARTING,
        CameraState.RUNNING,
        CameraState.LOST,
        CameraState.RUNNING,
        CameraState.STOPPED,
    ]


@pytest.mark.parametrize("address", ["/dev/video77", "v4l2:/dev/video77"])
def test_the_real_device_layer_says_what_is_missing(address: str) -> None:
    source = open_source(CameraConfig("cam", address))
    with pytest.raises((CameraUnreachableError, UnreadableVideoError), match="/dev/video77"):
        source.open()
    source.close()


def test_the_real_device_layer_hands_on_frames_until_the_device_ends(short_clip: Path) -> None:
    source = V4l2Source(CameraConfig("cam", "/dev/video0"), str(short_clip), PyavDevice(format="mp4"))
    source.open()
    assert source.format == "h264 160x120"
    frames = 0
    with pytest.raises(CameraUnreachableError, match="ended"):
        while source.read() is not None:
            frames += 1
    assert frames == 50
    source.close()
