"""The thread that owns inference: takes prepared frames, runs the engines, hands the raw outputs on."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from agent.capture.frame import Frame
from agent.infer.engine import Tensor
from agent.infer.host import EngineHost
from agent.infer.preprocess import Placement

_log = logging.getLogger(__name__)
_TAKE_S = 0.25
"""Longest wait for a frame before the thread looks at its stop flag again."""


@dataclass(frozen=True, slots=True)
class Work:
    """A prepared frame of one pipeline."""

    name: str
    frame: Frame
    tensor: Tensor
    placement: Placement
    edition: int = 0  # of the pipeline's model: it was prepared for that one


@dataclass(frozen=True, slots=True)
class Result:
    """What the model answered, still raw."""

    name: str
    frame: Frame
    outputs: list[Tensor]
    placement: Placement
    invoke_ms: float
    edition: int = 0


@dataclass(frozen=True, slots=True)
class WorkerStats:
    frames: int = 0  # delivered
    failures: int = 0  # frames lost to an error
    skipped: int = 0  # frames left out because the engine's rate is limited


@dataclass(slots=True)
class _Pipeline:
    hosts: dict[int, EngineHost]  # by edition, the oldest first: two for the moment in which one follows the other
    stats: WorkerStats = WorkerStats()
    failing: bool = False
    next_mono_s: float = 0.0


class InferenceWorker:
    """Several pipelines on one thread, frame by frame in the order `take` gives them.

    take(timeout_s)    the next frame, or None when none came in time
    deliver(result)    must not block: it runs in the owner thread
    report(name, why)  a pipeline began to fail (why is the error), or works again (None)
    """

    def __init__(
        self,
        take: Callable[[float], Work | None],
        deliver: Callable[[Result], None],
        report: Callable[[str, Exception | None], None] = lambda name, why: None,
    ) -> None:
        self._take, self._deliver, self._report = take, deliver, report
        self._pipelines: dict[str, _Pipeline] = {}
        self._retired: list[EngineHost] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="infer", daemon=True)

    def add(self, name: str, host: EngineHost) -> None:
        """Serves `name` with an opened host, which from now on belongs to the worker."""
        with self._lock:
            if name in self._pipelines:
                raise ValueError(f"pipeline {name!r} is served already")
            self._pipelines[name] = _Pipeline({0: host})

    def swap(self, name: str, edition: int, host: EngineHost) -> None:
        """Serves frames of `edition`, a number greater than those before, with another opened host.

        With the first of them the host before is closed: between two frames, and none is lost. Raises ValueError when
        `name` is not served; the host is the caller's then.
        """
        with self._lock:
            if name not in self._pipelines:
                raise ValueError(f"pipeline {name!r} is not served")
            self._pipelines[name].hosts[edition] = host

    def remove(self, name: str) -> None:
        """Ends serving `name`; its host is closed by the owner thread. Frames of it that still come are dropped."""
        with self._lock:
            pipeline = self._pipelines.pop(name, None)
            if pipeline is not None:
                self._retired += pipeline.hosts.values()

    def stats(self, name: str) -> WorkerStats:
        with self._lock:
            pipeline = self._pipelines.get(name)
        return pipeline.stats if pipeline else WorkerStats()

    def start(self) -> None:
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """False before `start`, after `stop`, and when `take` itself raised: a defect that a supervisor must see."""
        return self._thread.is_alive()

    def stop(self, timeout_s: float) -> bool:
        """Ends after the frame in hand and closes the hosts. False when that took longer than `timeout_s`."""
        self._stopping.set()
        if self._thread.ident is None:
            self._close_hosts()
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                work = self._take(_TAKE_S)
                if self._retired:
                    self._close_retired()
                if work is not None:
                    pipeline = self._pipelines.get(work.name)
                    if pipeline is not None:
                        self._serve(pipeline, work)
        finally:
            self._close_hosts()

    def _serve(self, pipeline: _Pipeline, work: Work) -> None:
        stats, host = pipeline.stats, self._host(pipeline, work.edition)
        rate_fps = host.rung.rate_fps if host.rung else 0.0
        if rate_fps > 0:
            now = time.monotonic()
            if now < pipeline.next_mono_s:
                pipeline.stats = WorkerStats(stats.frames, stats.failures, stats.skipped + 1)
                return
            # One frame of credit, so that a camera whose rate does not divide evenly still reaches the limit.
            pipeline.next_mono_s = max(pipeline.next_mono_s, now - 1 / rate_fps) + 1 / rate_fps
        try:
            outputs = host.infer(work.tensor)
            done = Result(work.name, work.frame, outputs, work.placement, host.last_invoke_ms, work.edition)
            self._deliver(done)
        except Exception as error:  # noqa: BLE001 - the supervision boundary: one frame must not end the others
            pipeline.stats = WorkerStats(stats.frames, stats.failures + 1, stats.skipped)
            if not pipeline.failing:
                pipeline.failing = True
                _log.warning("pipeline %s: frame %d failed: %s", work.name, work.frame.index, error, exc_info=True)
                self._report(work.name, error)
            return
        pipeline.stats = WorkerStats(stats.frames + 1, stats.failures, stats.skipped)
        if pipeline.failing:
            pipeline.failing = False
            _log.info("pipeline %s works again", work.name)
            self._report(work.name, None)

    def _host(self, pipeline: _Pipeline, edition: int) -> EngineHost:
        """That of the edition. Frames come in order: after the first of a later one none of an earlier one comes."""
        if len(pipeline.hosts) > 1:
            with self._lock:
                for older in [one for one in pipeline.hosts if one < edition]:
                    self._retired.append(pipeline.hosts.pop(older))
        return pipeline.hosts[edition]

    def _close_retired(self) -> None:
        with self._lock:
            retired, self._retired = self._retired, []
        for host in retired:
            host.close()

    def _close_hosts(self) -> None:
        with self._lock:
            hosts = [host for p in self._pipelines.values() for host in p.hosts.values()] + self._retired
            self._pipelines, self._retired = {}, []
        for host in hosts:
            host.close()
