import sys
import threading
import time
import types

import pytest

from agent.capture import scene
from agent.capture.errors import CaptureInterruptedError
from agent.capture.frame import Rgb
from agent.capture.scene import SceneSource
from agent.capture.settings import CameraConfig
from agent.capture.source import Captured, open_source
from runtime.errors import ConfigError
from tests.capture.helpers import plain


class Brightening:
    """A renderer whose brightness is the frame's number."""

    def __init__(self, seed: int = 0, fps: float = 50, width: int = 32) -> None:
        if width < 1:
            raise ValueError(f"width {width} is less than 1")
        self.seed = seed
        self.fps = fps
        self.size = (width, 16)

    def render(self, index: int) -> Rgb:
        return plain(index % 256, self.seed, 0, *self.size)


def numbers(frames: list[Captured]) -> list[int]:
    return [int(frame.picture.rgb()[0, 0, 0]) for frame in frames]


def read(source: SceneSource, count: int) -> list[Captured]:
    frames = [source.read() for _ in range(count)]
    return [frame for frame in frames if frame is not None]


def test_an_unpaced_scene_gives_every_frame() -> None:
    source = SceneSource(Brightening(), pace=False)
    source.open()
    frames = read(source, 20)
    assert not source.live
    assert source.format == "scene 32x16"
    assert numbers(frames) == list(range(20))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 50 for n in range(20)])


def test_a_paced_scene_never_runs_ahead_of_its_schedule() -> None:
    source = SceneSource(Brightening(fps=100))
    began_s = time.monotonic()
    frames = read(source, 20)
    assert source.live
    for frame in frames:
        assert frame.captured_mono_ns / 1e9 - began_s >= frame.time_s - 1e-6


def test_a_slow_reader_misses_frames_as_with_a_camera() -> None:
    source = SceneSource(Brightening(fps=100))
    source.read()
    time.sleep(0.2)
    frame = source.read()
    assert frame is not None
    assert numbers([frame])[0] >= 19
    assert frame.time_s == pytest.approx(numbers([frame])[0] / 100)


def test_a_scene_can_have_an_end() -> None:
    assert len(read(SceneSource(Brightening(), pace=False, frames=3), 5)) == 3


def test_waiting_for_a_frame_can_be_interrupted() -> None:
    source = SceneSource(Brightening(fps=0.01))
    source.read()
    threading.Timer(0.05, source.interrupt).start()
    with pytest.raises(CaptureInterruptedError):
        source.read()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("scene_of_the_test")
    module.Brightening = Brightening  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "scene_of_the_test", module)
    monkeypatch.setattr(scene, "SCENES", {"bright": ("scene_of_the_test", "Brightening")})


@pytest.mark.usefixtures("registered")
def test_a_scene_is_opened_by_its_address() -> None:
    source = open_source(CameraConfig("cam", "scene:bright?seed=7&fps=25&pace=0&frames=2"))
    frames = [source.read(), source.read()]
    assert [frame.time_s for frame in frames if frame] == [0, 0.04]
    assert frames[0] is not None
    assert frames[0].picture.rgb()[0, 0, 1] == 7
    assert source.read() is None


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("scene:nowhere", "known scenes: bright"),
        ("scene:bright?colour=3", "colour"),
        ("scene:bright?seed=blue", "no number"),
        ("scene:bright?width=-1", "less than 1"),
    ],
)
def test_mistakes_in_the_address_are_named(address: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        open_source(CameraConfig("cam", address))
