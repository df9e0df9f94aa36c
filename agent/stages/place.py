"""A stage's place at a node: pictures and findings to it, what it says from it.

camera thread        event loop
─────────────        ──────────
Seat.look(frame) ─►  Seat.seen(frame, findings) ─► stage ─► publish: at once; say: to the outbox after
                     local broker, input line, timer, thread ─┘
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

from agent.capture.frame import Frame, Rgb
from agent.capture.picture import luma
from agent.infer.detections import Detections
from agent.outbox.rows import Draft
from agent.sync.outlet import Outlet
from platforms.stages import Fact, Found, Stage, Timer
from runtime.mqtt import Message

log = logging.getLogger(__name__)

T = TypeVar("T")
WORK_MAX = 32  # of a stage, waiting for the thread; one more is left out and counted
FACTS_MAX = 200  # said at a time; further ones are left out and counted


class SeenPicture:
    """`platforms.stages.Picture` over a frame."""

    __slots__ = ("frame",)

    def __init__(self, frame: Frame) -> None:
        self.frame = frame

    @property
    def index(self) -> int:
        return self.frame.index

    @property
    def time_s(self) -> float:
        return self.frame.time_s

    @property
    def captured_utc_ms(self) -> int:
        return self.frame.captured_utc_ms

    @property
    def captured_mono_ns(self) -> int:
        return self.frame.captured_mono_ns

    @property
    def width(self) -> int:
        return self.frame.picture.width

    @property
    def height(self) -> int:
        return self.frame.picture.height

    def luma(self) -> Any:
        """(height, width) uint8."""
        return luma(self.frame.picture)

    def rgb(self) -> Rgb:
        return self.frame.picture.rgb()


@dataclass(frozen=True, slots=True)
class Said:
    """Facts on their way to the outbox. frames: that they are about."""

    outlet: Outlet
    pipeline: str
    drafts: Sequence[Draft]
    frames: Sequence[Frame]


class NodePlace:
    """`platforms.stages.Place` of one stage. On the loop, but for `work` of `in_thread`."""

    def __init__(
        self,
        camera_id: str,
        pipeline: str,
        *,
        say: Callable[[Said], None],
        publish: Callable[[Message], None],
        threads: Executor,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.camera_id = camera_id
        self.pipeline = pipeline
        self.run = pipeline
        self.live = True
        self.newest: SeenPicture | None = None
        self.looked_at = -1  # index of the picture that the stage has looked at last; the camera's thread's
        self.failures_total = 0  # calls of the stage that raised
        self.left_out_total = 0  # facts and work beyond the limits
        self._say = say
        self._publish = publish
        self._threads = threads
        self._loop = loop
        self._outlet: Outlet | None = None
        self._timers: set[asyncio.TimerHandle] = set()
        self._starts = 0
        self._works = 0

    def begin(self, run: str, outlet: Outlet, *, live: bool) -> None:
        """The camera starts."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self.run, self._outlet, self.live, self.newest = run, outlet, live, None
        self.looked_at = -1
        self._starts += 1

    def guarded(self, call: Callable[..., None], *given: Any) -> None:
        """A call of the stage that no pipeline waits for: what it raises is logged, and all else goes on."""
        try:
            call(*given)
        except Exception:
            # Somebody else's code: a message or a timer that it cannot deal with must not end our connection or loop.
            self.failures_total += 1
            log.exception("the stage of pipeline %s failed", self.pipeline)

    # ---- for the stage --------------------------------------------------------------------------

    def time_s(self, at_mono_ns: int | None = None) -> float | None:
        newest = self.newest
        if newest is None:
            return None
        if not self.live:
            return newest.time_s
        now_ns = time.monotonic_ns() if at_mono_ns is None else at_mono_ns
        return newest.time_s + (now_ns - newest.captured_mono_ns) / 1e9

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self._publish(Message(topic, payload, retain=retain))

    def say(self, facts: Sequence[Fact]) -> None:
        if self._outlet is None or not facts:
            return
        self.left_out_total += max(0, len(facts) - FACTS_MAX)
        taken = facts[:FACTS_MAX]
        drafts = [self._draft(fact) for fact in taken]
        frames = [fact.picture.frame for fact in taken if isinstance(fact.picture, SeenPicture)]
        self._say(Said(self._outlet, self.pipeline, drafts, frames))

    def _draft(self, fact: Fact) -> Draft:
        """A fact as it is stored."""
        about = fact.picture or self.newest
        time_s = fact.time_s if fact.time_s is not None else about.time_s if about is not None else 0.0
        data = {"camera_id": self.camera_id, "time_s": round(time_s, 3), "pipeline": self.pipeline, **fact.data}
        return Draft(fact.lane, fact.type, fact.subject, self._utc_ms(fact, time_s), data)

    def _utc_ms(self, fact: Fact, time_s: float) -> int:
        """Of the picture; of what is about none, by the newest one's clock."""
        if fact.picture is not None:
            return fact.picture.captured_utc_ms
        if self.newest is None:
            return time.time_ns() // 1_000_000
        return self.newest.captured_utc_ms + round((time_s - self.newest.time_s) * 1000)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        def due() -> None:
            self._timers.discard(timer)
            self.guarded(call)

        self._timers = {one for one in self._timers if not one.cancelled()}
        timer = self._loop.call_later(delay_s, due)
        self._timers.add(timer)
        return timer

    def in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> bool:
        if self._works >= WORK_MAX:
            self.left_out_total += 1
            return False
        begun = self._starts

        def done(future: "asyncio.Future[T]") -> None:
            self._works -= 1
            if not future.cancelled() and (begun == self._starts or future.exception() is not None):
                self.guarded(lambda: then(future.result()))

        self._works += 1
        self._loop.run_in_executor(self._threads, work).add_done_callback(done)
        return True


class Seat:
    """A pipeline's seat at stages: what its frame path calls. What that raises ends the pipeline, as a defect."""

    __slots__ = ("_at", "_defect", "_pipeline")

    def __init__(self, pipeline: str, at: Sequence[tuple[Stage, NodePlace]]) -> None:
        self._pipeline = pipeline
        self._at = tuple(at)
        self._defect: Exception | None = None

    def look(self, frame: Frame) -> None:
        """In the camera's thread, once the model has its input; the first of the camera's pipelines is enough."""
        for stage, place in self._at:
            if frame.index == place.looked_at:
                continue
            place.looked_at = frame.index
            try:
                stage.look(SeenPicture(frame))
            except Exception as defect:  # noqa: BLE001 - told by `seen`
                # Somebody else's code: the camera, and its other pipelines, go on.
                self._defect = defect

    def seen(self, frame: Frame, labels: Sequence[str], detections: Detections) -> None:
        """On the loop."""
        if self._defect is not None:
            raise self._defect
        picture = SeenPicture(frame)
        found = [
            Found(labels[class_id] if class_id < len(labels) else f"class_{class_id}", confidence, tuple(box))
            for class_id, confidence, box in zip(
                detections.class_id.tolist(), detections.confidence.tolist(), detections.xyxy.tolist(), strict=True
            )
        ]
        for stage, place in self._at:
            if place.newest is None or frame.index > place.newest.index:
                place.newest = picture
            stage.seen(self._pipeline, picture, found)
