"""Rendered scenes as cameras: for demonstrations, tests and training, where no camera is."""

import importlib
import threading
import typing
from collections.abc import Callable, Mapping
from time import monotonic, monotonic_ns
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from agent.capture.errors import CaptureInterruptedError
from agent.capture.frame import Rgb
from agent.capture.picture import RgbPicture
from agent.capture.source import Captured
from runtime.errors import ConfigError


class Renderer(Protocol):
    """Draws frame number `index`; the same index always gives the same picture."""

    @property
    def fps(self) -> float: ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        ...

    def render(self, index: int) -> Rgb: ...


# Name in the address: module and class, imported when asked for. The class takes the address's parameters.
SCENES: Mapping[str, tuple[str, str]] = {
    "weld": ("platforms.manufacturing.weld_scene", "WeldScene"),
    "weld_station": ("platforms.manufacturing.demo.scene", "WeldStation"),
}


class SceneSource:
    """A renderer in the place of a camera.

    Paced, it is a live camera of `fps` frames a second on an absolute schedule: a picture is drawn ahead and becomes
    available at its moment, and moments that a slow reader or renderer missed are skipped. Not paced, it draws as
    fast as it is read. time_s is index / fps either way. `frames` limits its length; 0: endless.
    """

    broken = 0

    def __init__(self, renderer: Renderer, *, pace: bool = True, frames: int = 0) -> None:
        self.live = pace
        self._renderer = renderer
        self._fps = float(renderer.fps)
        self._frames = frames
        self._index = 0
        self._began_s: float | None = None
        self._interrupted = threading.Event()

    @property
    def format(self) -> str:
        width, height = self._renderer.size
        return f"scene {width}x{height}"

    def open(self) -> None:
        """Nothing to open: the schedule begins with the first read."""

    def read(self) -> Captured | None:
        if self.live:
            self._skip_missed()
        if self._frames and self._index >= self._frames:
            return None
        index, self._index = self._index, self._index + 1
        picture = RgbPicture(self._renderer.render(index))
        if self.live:
            self._await(index)
        if self._interrupted.is_set():
            raise CaptureInterruptedError("reading a scene was interrupted")
        return Captured(picture, index / self._fps, monotonic_ns())

    def interrupt(self) -> None:
        self._interrupted.set()

    def close(self) -> None:
        """Nothing stays open."""

    def _skip_missed(self) -> None:
        if self._began_s is not None:
            passed = int((monotonic() - self._began_s) * self._fps)
            self._index = max(self._index, passed)

    def _await(self, index: int) -> None:
        now_s = monotonic()
        if self._began_s is None:
            self._began_s = now_s - index / self._fps
        self._interrupted.wait(max(0.0, self._began_s + index / self._fps - now_s))


def open_scene(address: str) -> SceneSource:
    """`scene:NAME?seed=1&fps=30&pace=0&frames=900`: `pace` and `frames` go to the source, all others to the renderer.

    Raises ConfigError for an unknown scene or parameter.
    """
    parts = urlsplit(address)
    name = parts.path or parts.netloc
    if name not in SCENES:
        raise ConfigError(f"there is no scene {name!r}", hint="known scenes: " + ", ".join(sorted(SCENES)))
    module, class_name = SCENES[name]
    make: Callable[..., Renderer] = getattr(importlib.import_module(module), class_name)
    hints = typing.get_type_hints(getattr(make, "__init__", make))
    parameters = {key: _value(address, key, value, hints.get(key)) for key, value in parse_qsl(parts.query)}
    try:
        pace = bool(int(parameters.pop("pace", 1)))
        frames = int(parameters.pop("frames", 0))
        return SceneSource(make(**parameters), pace=pace, frames=frames)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"scene {address!r}: {error}", hint="check its parameters") from None


def _value(address: str, key: str, text: str, hint: object) -> Any:
    """A number where it is one; a word only where the renderer does not ask for a number."""
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    if hint in (int, float) or key in ("pace", "frames"):
        raise ConfigError(f"scene {address!r}: {key} is no number: {text!r}")
    return text
