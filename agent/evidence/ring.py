"""The last seconds of a camera as small JPEG pictures, and a clip being collected from them. Pure.

Time is the camera's own steady clock. When it goes back (a recording that begins again) what was kept is another
story and is let go.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class RingFrame:
    """One small picture."""

    time_s: float
    utc_ms: int
    jpeg: bytes = field(repr=False)


class Ring:
    """At most `bytes_max` and `span_s` of the newest pictures; the oldest make room."""

    def __init__(self, *, bytes_max: int, span_s: float) -> None:
        self._bytes_max = bytes_max
        self._span_s = span_s
        self._frames: deque[RingFrame] = deque()
        self.bytes = 0
        self.pushed_out_total = 0  # by the cap of bytes, before their time

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def newest_s(self) -> float | None:
        return self._frames[-1].time_s if self._frames else None

    def put(self, frame: RingFrame) -> None:
        """Takes the newest picture."""
        if self._frames and frame.time_s <= self._frames[-1].time_s:
            self._frames.clear()
            self.bytes = 0
        self._frames.append(frame)
        self.bytes += len(frame.jpeg)
        while self._frames and self._frames[0].time_s < frame.time_s - self._span_s:
            self.bytes -= len(self._frames.popleft().jpeg)
        while self.bytes > self._bytes_max and self._frames:
            self.bytes -= len(self._frames.popleft().jpeg)
            self.pushed_out_total += 1

    def between(self, from_s: float, to_s: float) -> list[RingFrame]:
        """The pictures of that time, oldest first."""
        return [frame for frame in self._frames if from_s <= frame.time_s <= to_s]

    def nearest(self, time_s: float) -> RingFrame | None:
        """The picture closest to that moment."""
        return min(self._frames, key=lambda frame: abs(frame.time_s - time_s), default=None)


class Collection:
    """The pictures of `from_s … to_s`: those that are there already, then each new one, up to `bytes_max`."""

    def __init__(self, begun: Iterable[RingFrame], *, from_s: float, to_s: float, bytes_max: int) -> None:
        self.from_s, self.to_s = from_s, to_s
        self.frames: list[RingFrame] = []
        self.left_out = 0
        self._bytes_left = bytes_max
        self._over = False
        for frame in begun:
            self.add(frame)

    def add(self, frame: RingFrame) -> None:
        """A further picture of the camera; one of another time ends it."""
        if self._over:
            return
        if frame.time_s > self.to_s or (self.frames and frame.time_s < self.frames[-1].time_s):
            self._over = True
        elif frame.time_s >= self.from_s:
            self._bytes_left -= len(frame.jpeg)
            if self._bytes_left < 0:
                self.left_out += 1
            else:
                self.frames.append(frame)

    @property
    def complete(self) -> bool:
        return self._over


class Rate:
    """Lets pass as many frames a second as asked for, by the camera's clock."""

    def __init__(self, fps: float) -> None:
        self._step_s = 1.0 / fps
        self._next_s: float | None = None

    def passes(self, time_s: float) -> bool:
        due = self._next_s is None or time_s >= self._next_s or time_s < self._next_s - 2 * self._step_s
        if due:
            # From where it was due, not from where it came: 25 frames a second thinned to 5 stay 5.
            late = self._next_s is None or not self._next_s <= time_s < self._next_s + self._step_s
            self._next_s = time_s + self._step_s if late or self._next_s is None else self._next_s + self._step_s
        return due
