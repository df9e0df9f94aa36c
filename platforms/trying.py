"""A stage without a node, for the tests of a platform: pictures and messages in, what it says and publishes out.

    host = FakeHost(BAKERY)
    line = host.stage("buns", {"per_tray": 12, "topic": "oven/tray"})
    line.shows(tray_with(12))
    assert line.published == [Published("oven/tray", b'{"buns": 12}')]
    assert host.emitted[-1].event == "TrayCounted"

Time is the test's: a picture comes `every_s` after the one before, and `passes` lets time go by. What a node does in
a thread is done at the end of the call here.
"""

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from platforms.stages import Fact, Found, Stage, StageError, Timer

if TYPE_CHECKING:
    from platforms.stages import Luma, Rgb

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """`platforms.stages.Picture` over an array; in colour it is grey."""

    index: int
    time_s: float
    captured_utc_ms: int
    captured_mono_ns: int
    plane: "Luma" = field(repr=False, compare=False)

    @property
    def width(self) -> int:
        return int(self.plane.shape[1])

    @property
    def height(self) -> int:
        return int(self.plane.shape[0])

    def luma(self) -> "Luma":
        """See `Picture`."""
        return self.plane

    def rgb(self) -> "Rgb":
        """See `Picture`."""
        return self.plane[:, :, None].repeat(3, axis=2)


@dataclass(frozen=True, slots=True)
class Published:
    """A message on the local broker."""

    topic: str
    payload: bytes
    retain: bool = False


@dataclass(slots=True)
class FakeTimer:
    """`platforms.stages.Timer`."""

    call: Callable[[], None]
    is_off: bool = False

    def cancel(self) -> None:
        self.is_off = True


@dataclass(frozen=True, slots=True)
class FakeMachine:
    """`platforms.stages.Machine`: the pictures in `files` are there, and no others."""

    files: Mapping[Path, "Luma"] = field(default_factory=dict)

    def luma(self, path: Path) -> "Luma":
        """See `Machine`."""
        if path not in self.files:
            raise StageError(f"{path} cannot be read: no such file")
        return self.files[path]


class StageTrial:
    """`platforms.stages.Place` of one stage, and the test's hand on it."""

    def __init__(
        self,
        stage: Stage,
        *,
        camera_id: str,
        pipeline: str,
        machine: FakeMachine,
        told: Callable[[Fact, Mapping[str, Any]], None],
        now_utc_ms: int,
        live: bool = True,
    ) -> None:
        """`told`: is given each fact with its whole data, and refuses one that is not as declared. The camera begins.
        Raises StageError where the stage cannot load its files."""
        self.stage = stage
        self.camera_id = camera_id
        self.pipeline = pipeline
        self.run = pipeline
        self.live = live
        self.newest: ShownPicture | None = None
        self.now_s = 0.0
        self.facts: list[Fact] = []
        self.published: list[Published] = []
        self._machine = machine
        self._told = told
        self._began_utc_ms = now_utc_ms
        self._starts = 0
        self._index = -1
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._numbers = itertools.count()
        self._work: list[Callable[[], None]] = []
        stage.open(self)
        self.starts()

    # ---- the test's -----------------------------------------------------------------------------

    def starts(self) -> None:
        """The camera starts, again."""
        self._starts += 1
        self._timers.clear()
        self._work.clear()
        self.newest, self._index, self.run = None, -1, f"{self.pipeline}-1.{self._starts}"
        self.stage.load(self._machine)
        self.stage.begin()
        self._settle()

    def shows(
        self, plane: "Luma", found: Sequence[Found] = (), *, every_s: float = 0.1, pipelines: Sequence[str] = ()
    ) -> ShownPicture:
        """A picture, (height, width) uint8, and what the model of each pipeline finds in it."""
        self.passes(every_s)
        self._index += 1
        utc_ms = self._began_utc_ms + round(self.now_s * 1000)
        picture = ShownPicture(self._index, self.now_s, utc_ms, round(self.now_s * 1e9), plane)
        self.stage.look(picture)
        for pipeline in pipelines or (self.pipeline,):
            self.newest = picture
            self.stage.seen(pipeline, picture, found)
        self._settle()
        return picture

    def hears(self, topic: str, payload: bytes | str = b"") -> None:
        """A message on the local broker; nobody hears it on a topic that the stage does not listen to."""
        if topic in self.stage.wires.topics:
            self.stage.heard(topic, payload.encode() if isinstance(payload, str) else payload)
        self._settle()

    def line_rises(self) -> None:
        """The stage's input line becomes active."""
        assert self.stage.wires.line is not None, "the stage asks for no input line"
        self.stage.line(round(self.now_s * 1e9))
        self._settle()

    def passes(self, seconds: float) -> None:
        """Time goes by, and what is to be called meanwhile is."""
        until_s = self.now_s + seconds
        while self._timers and self._timers[0][0] <= until_s:
            due_s, _, timer = heapq.heappop(self._timers)
            self.now_s = max(self.now_s, due_s)
            if not timer.is_off:
                timer.call()
                self._settle()
        self.now_s = until_s

    def mistakes(self, labels: Sequence[str] = ()) -> list[str]:
        """What `edge-agent check` would say on this machine, for models with these labels."""
        return self.stage.mistakes(self._machine, labels)

    def _settle(self) -> None:
        while self._work:
            self._work.pop(0)()

    # ---- the stage's ----------------------------------------------------------------------------

    def time_s(self, at_mono_ns: int | None = None) -> float | None:
        """See `Place`."""
        if self.newest is None:
            return None
        if not self.live:
            return self.newest.time_s
        return self.now_s if at_mono_ns is None else at_mono_ns / 1e9

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """See `Place`; it must have said that it publishes."""
        assert self.stage.wires.publishes, "its wires do not say that it publishes"
        self.published.append(Published(topic, payload, retain))

    def say(self, facts: Sequence[Fact]) -> None:
        """See `Place`."""
        for fact in facts:
            about = fact.picture or self.newest
            time_s = fact.time_s if fact.time_s is not None else about.time_s if about is not None else 0.0
            head = {"camera_id": self.camera_id, "time_s": round(time_s, 3), "pipeline": self.pipeline}
            self._told(fact, {**head, **fact.data})
            self.facts.append(fact)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """See `Place`."""
        timer = FakeTimer(call)
        heapq.heappush(self._timers, (self.now_s + delay_s, next(self._numbers), timer))
        return timer

    def in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> bool:
        """See `Place`."""
        self._work.append(lambda: then(work()))
        return True
