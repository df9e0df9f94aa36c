"""Blocks of samples to windows, with what is missing between them. Pure; time is an argument.

    samples come in time        appended
    a gap within a window       filled with NaN, as many as are missing
    a longer gap                the window begins anew; what it had is given up and counted
    the source's clock jumps    counted; its times hold again from there, and no sample is lost for it

When a block comes is known by the node's steady clock, or by the source's own times where it gives some: those do not
suffer from a slow network, and are believed as long as they go forward.
"""

from dataclasses import dataclass

import numpy as np

from agent.sensors.parse import Block

JUMP_S = 60.0  # a source's time that moves so much more than ours has been set


@dataclass(slots=True)
class Tally:
    """Since the start."""

    samples: int = 0
    windows: int = 0
    missing: int = 0  # filled with NaN
    given_up: int = 0  # samples of windows that began anew
    gaps: int = 0
    clock_jumps: int = 0


@dataclass(frozen=True, slots=True)
class Made:
    """A full window: (window, channels), and when its last sample was, by the steady clock."""

    samples: Block
    ended_s: float
    outside: tuple[int, ...]


class Assembler:
    """Of one sensor."""

    def __init__(self, channels: int, rate_hz: float, window: int, gap_s: float) -> None:
        """`window`: samples."""
        self._rate_hz, self._window, self._gap_s = rate_hz, window, gap_s
        self._filling = np.empty((window, channels))
        self._outside = [0] * channels
        self._count = 0
        self._last: tuple[float, float | None] | None = None  # (steady, source) of the last sample
        self.tally = Tally()

    def add(
        self, block: Block, now_s: float, source_s: float | None = None, outside: list[int] | None = None
    ) -> list[Made]:
        """`now_s`: when it came, its last sample the newest; `source_s`: the source's time of that sample. Returns
        the windows that it fills."""
        self._bridge(len(block), now_s, source_s)
        self._last = (now_s, source_s)
        self.tally.samples += len(block)
        for channel, count in enumerate(outside or ()):
            self._outside[channel] += count
        made = []
        at = 0
        while at < len(block):
            taken = min(self._window - self._count, len(block) - at)
            self._filling[self._count : self._count + taken] = block[at : at + taken]
            self._count += taken
            at += taken
            if self._count == self._window:
                made.append(self._made(now_s - (len(block) - at) / self._rate_hz))
        return made

    def break_off(self) -> None:
        """The connection was lost: what comes next does not follow on what is here."""
        self._begin_anew()
        self._last = None

    def _made(self, ended_s: float) -> Made:
        self.tally.windows += 1
        made = Made(self._filling.copy(), ended_s, tuple(self._outside))
        self._count, self._outside = 0, [0] * len(self._outside)
        return made

    def _bridge(self, length: int, now_s: float, source_s: float | None) -> None:
        if self._last is None:
            return
        late_s = self._passed_s(now_s, source_s) - length / self._rate_hz
        if late_s <= self._gap_s:
            return
        self.tally.gaps += 1
        missing = round(late_s * self._rate_hz)
        if not self._count or missing >= self._window - self._count:
            self._begin_anew()
            return
        self._filling[self._count : self._count + missing] = np.nan
        self._count += missing
        self.tally.missing += missing

    def _passed_s(self, now_s: float, source_s: float | None) -> float:
        """From the last sample that came to the last one of this block."""
        assert self._last is not None
        steady_s = now_s - self._last[0]
        if source_s is None or self._last[1] is None:
            return steady_s
        passed_s = source_s - self._last[1]
        if passed_s < 0 or passed_s > steady_s + JUMP_S:
            self.tally.clock_jumps += 1
            return steady_s
        return passed_s

    def _begin_anew(self) -> None:
        self.tally.given_up += self._count
        self._count, self._outside = 0, [0] * len(self._outside)
