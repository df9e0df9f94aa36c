"""A stage of a platform on the frame path of a node: what becomes of a pipeline's pictures and findings, at once.

    camera thread          event loop
    ─────────────          ──────────
    look(picture)  ─►      seen(pipeline, picture, found) ─►  place.publish   to the local broker, at once
                           heard(topic, payload)              place.say       facts: outbox, actions, evidence
                           line(at_mono_ns) ──────────────┘   place.call_later, place.in_thread

    [pipelines.stage]
    kind = "bakery.buns"          # made by what @stage("buns") marks
    also = ["second"]             # further pipelines of the camera whose findings it is told
    per_tray = 12                 # the kind's own keys

A stage says what it wants of the node by its `wires`; the node brings the pictures, the local broker, input lines,
time, threads, and a way out for what is said. A stage is made once and begun with each start of its camera. `look`
and `seen` are on the path of each frame: fractions of a millisecond. Times in seconds are of the camera's own clock.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from schemas.identity import Lane
from schemas.shape import read_what_can_be

if TYPE_CHECKING:  # a host without cameras need not load it
    import numpy as np
    from numpy.typing import NDArray

    Luma = NDArray[np.uint8]
    """(height, width) uint8, the brightness of each pixel; not to be written to."""
    Rgb = NDArray[np.uint8]
    """(height, width, 3) uint8, red green blue; not to be written to."""

T = TypeVar("T")
KIND, ALSO = "kind", "also"


class StageError(Exception):
    """Settings or files that a stage cannot be made of; each mistake as `key: what`."""

    def __init__(self, *mistakes: str) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


# ---- what a stage is given -----------------------------------------------------------------------


class Picture(Protocol):
    """One picture of the camera. `index`: pictures the camera has given before it, those left out included."""

    @property
    def index(self) -> int: ...
    @property
    def time_s(self) -> float: ...
    @property
    def captured_utc_ms(self) -> int: ...
    @property
    def captured_mono_ns(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    def luma(self) -> "Luma":
        """The brightness alone, as the decoder has it: nothing is converted."""

    def rgb(self) -> "Rgb":
        """In colour: converted at each call, which takes a while."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a model found in a picture. box: x0 y0 x1 y1, pixels of the full picture."""

    label: str
    confidence: float
    box: tuple[float, float, float, float]


class Timer(Protocol):
    """Something that is called later."""

    def cancel(self) -> None: ...


class Machine(Protocol):
    """The machine a stage is to run on. For a thread: its calls read files."""

    def luma(self, path: Path) -> "Luma":
        """A picture in a file. Raises StageError."""


@dataclass(frozen=True, slots=True)
class Fact:
    """An event that a stage says, as its platform declares it; `camera_id`, `time_s` and `pipeline` go with it.

    picture: that it is about: then that is when it was, and what evidence of it shows
    time_s:  when it was, of the camera; None: as the picture, or now
    lane:    EVENT, SAMPLE for figures that are said again and again, LIFECYCLE for what must not be missing
    """

    type: str
    subject: str
    data: Mapping[str, Any]
    picture: Picture | None = None
    time_s: float | None = None
    lane: Lane = Lane.EVENT


class Place(Protocol):
    """A stage's view of its node. For the loop."""

    @property
    def camera_id(self) -> str: ...
    @property
    def pipeline(self) -> str: ...
    @property
    def run(self) -> str:
        """Of this start of the camera, unique over all starts of the node; the pipeline's name before the first."""

    @property
    def live(self) -> bool:
        """False: a recording, whose time passes with its pictures and not by itself."""

    @property
    def newest(self) -> Picture | None:
        """The newest picture that a model has looked at since the camera began."""

    def time_s(self, at_mono_ns: int | None = None) -> float | None:
        """What the camera's clock shows now, or showed then; None: it has given no picture yet."""

    def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """On the local broker, before this returns where that is there. What it is away for waits a little."""

    def say(self, facts: Sequence[Fact]) -> None:
        """To the outbox, with evidence, and to local actions. Returns at once; before the camera's first start it is
        said to nobody."""

    def call_later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Cancelled when the camera begins anew."""

    def in_thread(self, work: Callable[[], T], then: Callable[[T], None]) -> bool:
        """Does what takes long in a thread, one after the other; `then` gets what comes of it, on the loop, unless
        the camera has begun anew. False: too much waits already, and this is left out."""


# ---- what a stage is -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InputLine:
    """An input of the node: chip `/dev/gpiochipN`, or the simulator `fake:/path/state.json`; a number or a name."""

    chip: str
    line: int | str
    active_low: bool = False


@dataclass(frozen=True, slots=True)
class Wires:
    """What the node connects. topics: of the local broker, without wildcards. publishes: on it."""

    topics: tuple[str, ...] = ()
    line: InputLine | None = None
    publishes: bool = False

    @property
    def uses_broker(self) -> bool:
        return self.publishes or bool(self.topics)

    @property
    def come_from_outside(self) -> bool:
        return bool(self.topics) or self.line is not None


class Stage:
    """To be derived from: what a stage has no use for it leaves as it is. `look` is called in the camera's thread,
    `mistakes` and `load` in any, all the others on the loop."""

    place: Place

    @property
    def wires(self) -> Wires:
        """What it wants to be connected to; the same at each time."""
        return Wires()

    def mistakes(self, machine: Machine, labels: Collection[str]) -> list[str]:
        """What is wrong on this machine, each as `key: what`. labels: of all models that look."""
        return []

    def open(self, place: Place) -> None:
        """Its place for as long as the node's process lives; before all else."""
        self.place = place

    def load(self, machine: Machine) -> None:
        """Reads its files, before each `begin`. Raises StageError."""

    def begin(self) -> None:
        """The camera starts, again: `place` has another run, indexes and times begin anew."""

    def look(self, picture: Picture) -> None:
        """While the models run on it; each picture once, in order, most of them before `seen`."""

    def seen(self, pipeline: str, picture: Picture, found: Sequence[Found]) -> None:
        """What the model of a pipeline found. Each tells its pictures in order, some of them."""

    def heard(self, topic: str, payload: bytes) -> None:
        """A message on one of its topics; not what the broker retained of before."""

    def line(self, at_mono_ns: int) -> None:
        """Its input line became active then."""

    def report(self) -> Mapping[str, Any]:
        """For `status`: plain figures and texts."""
        return {}


# ---- how one is made -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageTable:
    """`[pipelines.stage]` of a pipeline. settings: the kind's own keys. folder: what relative paths are relative to.
    pipelines: that look, first the one whose table it is."""

    settings: Mapping[str, Any]
    camera_id: str
    pipelines: tuple[str, ...]
    folder: Path = Path()

    @property
    def pipeline(self) -> str:
        return self.pipelines[0]

    def read(self, cls: type[T], check: Callable[[T], list[str]] = lambda settings: []) -> T:
        """The settings as a dataclass (`schemas/shape.py`). `check`: what does not fit together, each as `key: what`;
        in the place of what is too wrong to be read it is given defaults. Raises StageError with all mistakes."""
        settings, mistakes = read_what_can_be(cls, dict(self.settings))
        if settings is not None:
            mistakes += [text for text in check(settings) if text not in mistakes]
        if mistakes or settings is None:
            raise StageError(*mistakes)
        return settings


MakeStage = Callable[[StageTable], Stage]
"""What `@stage` marks. Raises StageError. It touches nothing: it is called to check a configuration too."""


class StageKinds:
    """What `kind` of a stage may name, by the platforms of a host. `folder`: of the host's configuration."""

    def __init__(
        self, kinds: Mapping[str, MakeStage], folder: Path = Path(), platforms: Collection[str] = ()
    ) -> None:
        self._kinds = kinds
        self._folder = folder
        self._platforms = platforms

    def make(
        self, raw: Mapping[str, Any], camera_id: str, pipeline: str, others: Collection[str] | None = None
    ) -> Stage:
        """Of a table as TOML has it. `others`: pipelines of the camera beside this one; None: nobody knows them yet.
        Raises StageError with every mistake."""
        kind, also = raw.get(KIND), raw.get(ALSO, [])
        mistakes = []
        if not isinstance(also, list | tuple) or not all(isinstance(name, str) for name in also):
            mistakes.append(f"{ALSO}: must be a list of names of pipelines")
            also = []
        elif others is not None:
            known = ", ".join(others) or "there is none"
            mistakes += [
                f"{ALSO}: no other pipeline of this camera is called {name!r} ({known})"
                for name in also
                if name not in others
            ]
        made = self._kinds.get(kind) if isinstance(kind, str) else None
        if made is None:
            raise StageError(f"{KIND}: {self._no_kind(kind)}", *mistakes)
        settings = {key: value for key, value in raw.items() if key not in (KIND, ALSO)}
        try:
            found = made(StageTable(settings, camera_id, (pipeline, *also), self._folder))
        except StageError as error:
            raise StageError(*mistakes, *error.mistakes) from error
        except Exception as error:  # somebody else's code: as much of it is told as of a mistake
            raise StageError(*mistakes, f"{KIND}: {kind} cannot be made: {error!r}") from error
        if mistakes:
            raise StageError(*mistakes)
        return found

    def _no_kind(self, kind: Any) -> str:
        known = ", ".join(self._kinds) or "there is none"
        if not isinstance(kind, str) or not kind:
            return f"is needed, as the name of a platform's stage ({known})"
        platform = kind.partition(".")[0]
        if "." in kind and platform not in self._platforms:
            return f'{kind} needs its platform: [platforms] enabled = ["{platform}"]'
        return f"no platform here has a stage {kind!r} ({known})"


def topic_mistake(topic: str) -> str:
    """Why nothing can be published or heard on a topic of a stage; empty where it can."""
    if any(sign in topic for sign in "+#\0") or topic.startswith("$"):
        return f"{topic!r} must have no + or #, and no $ at its beginning"
    return ""


def line_mistakes(line: InputLine) -> dict[str, str]:
    """What cannot be an input, by the field of `InputLine`."""
    found = {}
    if isinstance(line.line, bool) or (isinstance(line.line, int) and line.line < 0):
        found["line"] = "must be a number from 0, or a line's name"
    if not line.chip.startswith(("/", "fake:/")):
        found["chip"] = f"{line.chip!r} must be a device like /dev/gpiochip0, or fake:/path/state.json"
    return found
