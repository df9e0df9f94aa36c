import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.infer.bundle import Bundle
from agent.infer.bundle_maker import make_bundle
from agent.infer.host import EngineHost
from agent.infer.preprocess import Placement
from agent.infer.settings import InferSettings
from agent.infer.worker import InferenceWorker, Result, Work
from tests.infer.pictures import ArrayPicture, frame_of
from tests.infer.tiny_models import write_echo

GOOD = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
BAD = GOOD[:, :2]


class Line:
    """A queue on each side of a worker."""

    def __init__(self) -> None:
        self.todo: queue.Queue[Work] = queue.Queue()
        self.done: queue.Queue[Result] = queue.Queue()
        self.reports: list[tuple[str, Exception | None]] = []
        self.worker = InferenceWorker(self.take, self.done.put, lambda name, why: self.reports.append((name, why)))
        self._index = 0

    def take(self, timeout_s: float) -> Work | None:
        try:
            return self.todo.get(timeout=timeout_s)
        except queue.Empty:
            return None

    def put(self, name: str, tensor: np.ndarray = GOOD) -> None:
        picture = ArrayPicture(np.zeros((4, 4, 3), np.uint8))
        self.todo.put(Work(name, frame_of(picture, self._index), tensor, Placement(1, 1)))
        self._index += 1

    def get(self) -> Result:
        return self.done.get(timeout=30)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    labels = [f"thing {i}" for i in range(48)]
    return make_bundle(write_echo(tmp_path / "echo.tflite"), tmp_path / "bundle", labels=labels).bundle


@pytest.fixture
def line() -> Iterator[Line]:
    made = Line()
    yield made
    assert made.worker.stop(30)


def open_host(bundle: Bundle, **settings: float) -> EngineHost:
    host = EngineHost(bundle, InferSettings(**settings), lambda change: None)  # type: ignore[arg-type]
    host.open()
    return host


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_one_thread_serves_several_pipelines_in_order(line: Line, bundle: Bundle) -> None:
    for name in ("north", "south"):
        line.worker.add(name, open_host(bundle))
    line.worker.start()
    assert line.worker.is_alive
    assert [t.name for t in threading.enumerate()].count("infer") == 1
    for name in ("north", "south", "south", "north"):
        line.put(name)
    results = [line.get() for _ in range(4)]
    assert [(r.name, r.frame.index) for r in results] == [("north", 0), ("south", 1), ("south", 2), ("north", 3)]
    assert results[0].outputs[0].ravel().tolist() == list(range(48))
    assert results[0].invoke_ms > 0
    until(lambda: line.worker.stats("south").frames == 2)


def test_a_failing_frame_is_counted_and_reported_once_and_the_return_too(line: Line, bundle: Bundle) -> None:
    line.worker.add("cam", open_host(bundle))
    line.worker.start()
    for tensor in (GOOD, BAD, BAD, GOOD, GOOD):
        line.put("cam", tensor)
    assert [line.get().frame.index for _ in range(3)] == [0, 3, 4]
    until(lambda: line.worker.stats("cam").frames == 3)
    assert line.worker.stats("cam").failures == 2
    assert [(name, type(why).__name__) for name, why in line.reports] == [("cam", "ModelError"), ("cam", "NoneType")]


def test_a_removed_pipeline_is_closed_and_its_frames_are_dropped(line: Line, bundle: Bundle) -> None:
    host = open_host(bundle)
    line.worker.add("gone", host)
    line.worker.add("here", open_host(bundle))
    with pytest.raises(ValueError, match="served already"):
        line.worker.add("here", host)
    line.worker.start()
    line.worker.remove("gone")
    line.put("gone")
    line.put("here")
    assert line.get().name == "here"
    until(lambda: not host.is_open)
    line.worker.add("gone", open_host(bundle))
    line.put("gone")
    assert line.get().name == "gone"


def test_a_limited_rate_skips_frames(line: Line, bundle: Bundle) -> None:
    # The delegate is absent, so the CPU stands in, at one frame in a thousand seconds.
    host = open_host(bundle, fallback_fps=0.001, delegate_library="/no/such/delegate.so")  # type: ignore[arg-type]
    assert host.rung is not None
    assert host.rung.rate_fps == 0.001
    line.worker.add("slow", host)
    line.worker.add("fast", open_host(bundle))
    line.worker.start()
    for name in ("slow", "slow", "slow", "slow", "fast"):
        line.put(name)
    while line.get().name != "fast":
        pass
    stats = line.worker.stats("slow")
    assert stats.frames + stats.skipped == 4
    assert stats.skipped >= 2


def test_stopping_closes_the_hosts_even_if_never_started(line: Line, bundle: Bundle) -> None:
    host = open_host(bundle)
    line.worker.add("cam", host)
    assert line.worker.stop(30)
    assert not line.worker.is_alive
    assert not host.is_open
