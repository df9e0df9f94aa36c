import pytest

from agent.capture.diagnosis import diagnose, input_format, is_damage
from agent.capture.errors import (
    CameraAuthError,
    CameraStalledError,
    CameraUnreachableError,
    CaptureToolError,
    StreamNotFoundError,
    UnreadableVideoError,
)
from runtime.errors import EdgewrightError


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("method DESCRIBE failed: 401 Unauthorized", CameraAuthError),
        ("method DESCRIBE failed: 403 Forbidden", CameraAuthError),
        ("rtsp://cam/x: Server returned 401 Unauthorized (authorization failed)", CameraAuthError),
        ("method DESCRIBE failed: 404 Not Found", StreamNotFoundError),
        ("Connection to tcp://cam:554?timeout=0 failed: Connection refused", CameraUnreachableError),
        ("Connection to tcp://cam:554?timeout=0 failed: No route to host", CameraUnreachableError),
        ("Failed to resolve hostname cam: Name or service not known", CameraUnreachableError),
        ("rtsp://cam/x: Connection timed out", CameraStalledError),
        ("Unrecognized option 'fps_mode'.", CaptureToolError),
        ("Device setup failed for decoder on input stream #0:0 : Bad address", CaptureToolError),
        ("Stream map '0:v:0' matches no streams.", UnreadableVideoError),
        ("something nobody has seen before", CameraUnreachableError),
        ("  Stream #0:0: Video: rawvideo, yuv420p, 404 kb/s, 25 fps", CameraUnreachableError),
        ("Device creation failed: -22.", CameraUnreachableError),  # hwaccel auto tries one after the other
    ],
)
def test_messages_are_told_apart(said: str, error: type[EdgewrightError]) -> None:
    found = diagnose(["Input #0, rtsp", said, "Conversion failed!"], "rtsp://cam/x")
    assert type(found) is error
    assert "rtsp://cam/x" in found.what
    assert found.hint


def test_the_root_cause_wins_over_what_follows_from_it() -> None:
    found = diagnose(["failed: 401 Unauthorized", "Stream map '0:v:0' matches no streams."], "rtsp://cam/x")
    assert isinstance(found, CameraAuthError)


def test_silence_is_diagnosed_as_well() -> None:
    assert isinstance(diagnose([], "rtsp://cam/x"), CameraUnreachableError)


@pytest.mark.parametrize(
    ("line", "described"),
    [
        (
            "  Stream #0:0: Video: h264 (Constrained Baseline), yuv420p(progressive), 320x240 [SAR 1:1], 25 fps",
            "h264 320x240",
        ),
        ("  Stream #0:1(und): Video: hevc (Main) (hvc1 / 0x31637668), yuv420p, 2560x1440, 20 fps", "hevc 2560x1440"),
        ("  Stream #0:1: Audio: aac, 48000 Hz, stereo", None),
        ("frame=   26 fps=0.0", None),
    ],
)
def test_input_format(line: str, described: str | None) -> None:
    assert input_format(line) == described


@pytest.mark.parametrize(
    ("line", "damage"),
    [
        ("[h264 @ 0x55] concealing 40 DC, 40 AC, 40 MV errors in P frame", True),
        ("rtsp://cam/x: corrupt decoded frame in stream 0", True),
        ("[hevc @ 0x55] Could not find ref with POC 12", True),
        ("  Stream #0:0: Video: h264, yuv420p, 320x240", False),
    ],
)
def test_damaged_pictures_are_noticed(line: str, damage: bool) -> None:
    assert is_damage(line) is damage
