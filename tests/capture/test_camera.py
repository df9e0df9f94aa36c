"""The driver, with sources whose every move the test decides."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, monotonic_ns

import pytest

from agent.capture.camera import Camera, CameraState
from agent.capture.errors import (
    CameraAuthError,
    CameraStalledError,
    CameraUnreachableError,
    CaptureInterruptedError,
    StreamNotFoundError,
)
from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.capture.settings import CameraConfig
from agent.capture.slot import Keep, Slots
from agent.capture.source import Captured
from runtime.errors import ConfigError
from tests.capture.helpers import Heard, moving, wait_until

STARTING, RUNNING, STALLED, FROZEN, AUTH_FAILED, LOST, FAILED, ENDED, STOPPED = CameraState

HANG = object()  # read blocks until interrupted
END = object()  # the source ends


class ScriptedSource:
    """Does what the script says, one entry a read: a picture's number, HANG, END, or an error to raise."""

    broken = 0

    def __init__(self, *script: object, live: bool = True, format: str = "h264 160x120", fps: float = 100) -> None:  # noqa: A002
        self.script = list(script)
        self.live = live
        self.format = format
        self.fps = fps
        self.index = 0
        self.interrupted = threading.Event()
        self.closed = False

    def open(self) -> None:
        if self.script and isinstance(self.script[0], Exception):
            raise self.script.pop(0)  # type: ignore[misc]

    def read(self) -> Captured | None:
        said = self.script.pop(0) if self.script else HANG
        if said is HANG:
            self.interrupted.wait()
        if self.interrupted.is_set():
            raise CaptureInterruptedError("interrupted")
        if isinstance(said, Exception):
            raise said
        if not isinstance(said, int):
            return None
        time_s = monotonic() if self.live else self.index / self.fps
        self.index += 1
        return Captured(RgbPicture(moving(said)), time_s, monotonic_ns())

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.closed = True


def camera_of(
    heard: Heard,
    *sources: ScriptedSource | Exception,
    on_frame: Callable[[Frame], object] | None = None,
    **options: object,
) -> Camera:
    """A camera that gets one source after the other, then nothing but refusals."""
    waiting = list(sources)

    def make(_: CameraConfig) -> ScriptedSource:
        source = waiting.pop(0) if waiting else CameraUnreachableError("nobody there")
        if isinstance(source, Exception):
            return ScriptedSource(source)
        return source

    quick: dict[str, object] = {"retry_first_s": 0.01, "retry_max_s": 0.01, "retry_slow_s": 0.01}
    config = CameraConfig("cam", "rtsp://bob:secret@cam/x", **(quick | options))  # type: ignore[arg-type]
    return Camera(config, on_frame or heard.on_frame, heard.on_state, make_source=make)


def run_to_the_end(camera: Camera) -> None:
    camera.start()
    wait_until(lambda: camera.state in (ENDED, FAILED))
    assert camera.stop(30)


def test_frames_are_numbered_and_timed() -> None:
    heard = Heard()
    camera = camera_of(heard, ScriptedSource(*range(5), END, live=False), realtime=False)
    run_to_the_end(camera)
    assert [frame.index for frame in heard.frames] == [0, 1, 2, 3, 4]
    assert [frame.time_s for frame in heard.frames] == pytest.approx([0, 0.01, 0.02, 0.03, 0.04])
    assert {frame.camera_id for frame in heard.frames} == {"cam"}
    assert heard.states == [STARTING, RUNNING, ENDED]
    stats = camera.stats()
    assert (stats.frames_read, stats.frames_admitted, stats.width, stats.height) == (5, 5, 160, 120)


def test_frames_beyond_the_target_rate_are_left_out_and_counted() -> None:
    heard = Heard()
    camera = camera_of(heard, ScriptedSource(*range(100), END, live=False), realtime=False, fps_target=20)
    run_to_the_end(camera)
    assert [frame.index for frame in heard.frames] == list(range(0, 100, 5))
    stats = camera.stats()
    assert (stats.frames_read, stats.frames_admitted, stats.frames_skipped) == (100, 20, 80)


def test_a_recorded_frame_is_not_handed_on_before_its_time() -> None:
    heard = Heard()
    run_to_the_end(camera_of(heard, ScriptedSource(*range(10), END, live=False, fps=50)))
    first_ns = heard.frames[0].captured_mono_ns
    for frame in heard.frames:
        assert (frame.captured_mono_ns - first_ns) / 1e9 >= frame.time_s - 0.001


def test_loss_and_return_are_each_reported_once() -> None:
    heard = Heard()
    lost = CameraUnreachableError("cable cut")
    camera = camera_of(
        heard,
        ScriptedSource(1, 2, lost),
        lost,
        CameraStalledError("slow"),
        StreamNotFoundError("404"),
        ScriptedSource(3),
    )
    camera.start()
    wait_until(lambda: len(heard.frames) == 3)
    assert camera.stop(30)
    assert heard.states == [STARTING, RUNNING, LOST, RUNNING, STOPPED]
    assert heard.statuses[2].reason == "cable cut"
    assert [frame.index for frame in heard.frames] == [0, 1, 2]
    assert camera.stats().reconnects == 1


def test_a_wrong_password_is_news_even_while_the_camera_is_down() -> None:
    heard = Heard()
    camera = camera_of(heard, CameraUnreachableError("off"), CameraAuthError("401"), ScriptedSource(1))
    camera.start()
    wait_until(lambda: heard.frames)
    assert camera.stop(30)
    assert heard.states == [STARTING, LOST, AUTH_FAILED, RUNNING, STOPPED]


def test_a_wrong_password_is_tried_again_slowly() -> None:
    heard = Heard()
    camera = camera_of(heard, CameraAuthError("401"), ScriptedSource(1), retry_slow_s=600)
    camera.start()
    wait_until(lambda: camera.state is AUTH_FAILED)
    threading.Event().wait(0.2)
    assert camera.state is AUTH_FAILED
    assert camera.stop(30)  # and the long pause does not hold up the end
    assert heard.frames == []


def test_a_blocked_read_is_found_and_interrupted() -> None:
    heard = Heard()
    hanging = ScriptedSource(1, HANG)
    camera = camera_of(heard, hanging, ScriptedSource(2), stall_after_s=0.3)
    camera.start()
    wait_until(lambda: len(heard.frames) == 2)
    assert camera.stop(30)
    assert heard.states[:4] == [STARTING, RUNNING, STALLED, RUNNING]
    assert "no frame for 0.3 s" in heard.statuses[2].reason
    assert hanging.closed
    assert camera.stats().stalls == 1


def test_a_slow_consumer_is_no_stall() -> None:
    heard = Heard()
    source = ScriptedSource(1, 2)

    def slowly(frame: Frame) -> None:
        threading.Event().wait(0.8)
        heard.on_frame(frame)

    camera = camera_of(heard, source, on_frame=slowly, stall_after_s=0.2, open_timeout_s=60)
    camera.start()
    wait_until(lambda: heard.frames)
    assert not source.interrupted.is_set()
    assert camera.stop(30)


def test_a_frozen_picture_is_reported_and_the_connection_tried_again_once() -> None:
    heard = Heard()
    camera = camera_of(heard, Endless(1), Endless(1), Endless(1), frozen_after_s=1.0, stall_after_s=60)
    camera.start()
    wait_until(lambda: camera.state is FROZEN)
    frames = len(heard.frames)
    wait_until(lambda: len(heard.frames) > frames + 150)  # frames go on, a second and a half of them
    assert heard.states == [STARTING, RUNNING, FROZEN]
    assert camera.stats().reconnects == 1
    assert camera.stats().freezes == 1
    assert camera.stop(30)


class Endless(ScriptedSource):
    """A hundred pictures a second, all the same."""

    def __init__(self, picture: int) -> None:
        super().__init__()
        self.picture = picture

    def read(self) -> Captured | None:
        self.interrupted.wait(0.01)
        self.script = [self.picture]
        return super().read()


def test_movement_ends_the_frozen_state() -> None:
    heard = Heard()
    camera = camera_of(heard, Endless(1), Endless(2), frozen_after_s=1.0, stall_after_s=60)
    camera.start()
    wait_until(lambda: heard.states[:4] == [STARTING, RUNNING, FROZEN, RUNNING])
    assert camera.stop(30)


def test_a_new_codec_after_a_reconnect_is_noticed(caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    lost = CameraUnreachableError("rebooting")
    camera = camera_of(heard, ScriptedSource(1, lost), ScriptedSource(2, format="hevc 1920x1080"))
    camera.start()
    wait_until(lambda: len(heard.frames) == 2)
    assert camera.stop(30)
    assert camera.stats().format_changes == 1
    assert "from h264 160x120 to hevc 1920x1080" in caplog.text


def test_a_defect_of_the_consumer_ends_this_camera_only(caplog: pytest.LogCaptureFixture) -> None:
    def defective(_: Frame) -> None:
        raise ZeroDivisionError

    broken, fine = Heard(), Heard()
    one = camera_of(broken, ScriptedSource(1), on_frame=defective)
    two = camera_of(fine, ScriptedSource(1, 2))
    one.start()
    two.start()
    wait_until(lambda: one.state is FAILED and len(fine.frames) == 2)
    assert two.state is RUNNING
    assert one.stop(30)
    assert two.stop(30)
    assert broken.states == [STARTING, RUNNING, FAILED]
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("content", [None, b"these are words, not pictures\n" * 100])
def test_an_unreadable_file_fails_without_retry(tmp_path: Path, content: bytes | None) -> None:
    clip = tmp_path / "clip.mp4"
    if content is not None:
        clip.write_bytes(content)
    heard = Heard()
    camera = Camera(CameraConfig("cam", str(clip)), heard.on_frame, heard.on_state)
    run_to_the_end(camera)
    assert heard.states == [STARTING, FAILED]
    assert str(clip) in heard.statuses[-1].reason


def test_an_impossible_source_fails_without_retry() -> None:
    heard = Heard()
    camera = Camera(CameraConfig("cam", "scene:nowhere"), heard.on_frame, heard.on_state)
    run_to_the_end(camera)
    assert heard.states == [STARTING, FAILED]
    assert "known scenes" in heard.statuses[-1].reason


def test_stop_ends_a_blocked_read_and_leaves_no_thread() -> None:
    heard = Heard()
    source = ScriptedSource(1, HANG)
    camera = camera_of(heard, source, stall_after_s=600)
    camera.start()
    wait_until(lambda: heard.frames)
    assert camera.stop(30)
    assert source.closed
    assert heard.states == [STARTING, RUNNING, STOPPED]
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith(("camera-", "capture-"))])


def test_a_camera_that_never_started_can_be_stopped() -> None:
    assert camera_of(Heard()).stop()


def test_every_frame_of_a_file_passes_a_slot_in_order(short_clip: Path) -> None:
    slots: Slots[Frame] = Slots()
    slot = slots.add("cam", Keep.EVERY)
    heard = Heard()
    camera = Camera(
        CameraConfig("cam", str(short_clip), realtime=False),
        lambda frame: slot.put(frame, camera.stopping),
        heard.on_state,
    )
    camera.start()
    got: list[int] = []
    while len(got) < 50:
        taken = slots.take(timeout_s=30)
        assert taken is not None
        got.append(taken[1].index)
    assert got == list(range(50))
    assert slot.replaced == 0
    wait_until(lambda: heard.states[-1] is ENDED)
    assert camera.stop(30)


def test_stop_while_a_put_waits_for_room(short_clip: Path) -> None:
    slots: Slots[Frame] = Slots()
    slot = slots.add("cam", Keep.EVERY)
    heard = Heard()
    camera = Camera(
        CameraConfig("cam", str(short_clip), realtime=False, loop=True),
        lambda frame: slot.put(frame, camera.stopping),
        heard.on_state,
    )
    camera.start()
    wait_until(lambda: slot.waiting)
    slots.remove("cam")
    assert camera.stop(30)
    assert heard.states[-1] is STOPPED


def test_no_password_in_states_stats_or_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    heard = Heard()
    camera = camera_of(heard, ScriptedSource(1, HANG), stall_after_s=0.2)
    camera.start()
    wait_until(lambda: STALLED in heard.states)
    assert camera.stop(30)
    said = caplog.text + repr(heard.statuses) + repr(camera.stats())
    assert "rtsp://***@cam/x" in said
    assert "secret" not in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"fps_target": -1}, "fps_target"),
        ({"fps_target": float("nan")}, "fps_target"),
        ({"width": 10**9, "height": 1}, "width"),
        ({"width": 640}, "both or neither"),
        ({"stall_after_s": 0}, "stall_after_s"),
        ({"retry_first_s": 50, "retry_max_s": 5}, "retry_max_s"),
        ({"decode_threads": 0}, "decode_threads"),
        ({"transport": "pigeon"}, "transport"),
        ({"password": "a\nb"}, "control characters"),
    ],
)
def test_impossible_settings_are_refused(options: dict[str, object], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        camera_of(Heard(), **options)  # type: ignore[arg-type]


def test_all_mistakes_of_a_configuration_are_reported_together() -> None:
    assert len(CameraConfig("", "", fps=-1, decode_threads=99).problems()) == 4


def test_a_shown_configuration_has_no_credentials() -> None:
    shown = repr(CameraConfig("cam", "rtsp://bob:secret-1@cam/x", password="secret-2"))
    assert "rtsp://***@cam/x" in shown
    assert "secret" not in shown
