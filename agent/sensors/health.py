"""How a sensor is, and what is wrong with a window of it. Pure.

A trouble of the sensor is told as such, once when it begins and once when it is over, and its windows carry it: so
that nobody takes a torn cable for a machine that stands still.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from platforms.samples import GAP_SHARE, Signal, Trouble


class SensorState(StrEnum):
    """What is true of a sensor."""

    STARTING = "starting"  # nothing has come yet, and nothing has failed
    LIVE = "live"
    TROUBLED = "troubled"  # values come, and those of some channel are not to be believed
    SILENT = "silent"  # connected, and no values come
    UNREACHABLE = "unreachable"  # it cannot be connected to, or the connection was lost; tried again
    FAILED = "failed"  # its settings cannot work: a person has to act
    ENDED = "ended"  # a file came to its end


@dataclass(frozen=True, slots=True)
class Change:
    """To be told."""

    state: SensorState
    reason: str = ""


class Health:
    """Of one sensor: told of what happens, says what is news."""

    def __init__(self, channels: Sequence[str], stuck_samples: int | None) -> None:
        self.state, self.reason = SensorState.STARTING, ""
        self._channels = tuple(channels)
        self._stuck = stuck_samples
        self._runs = [(np.nan, 0)] * len(self._channels)  # the newest value and how often it came in a row

    def becomes(self, state: SensorState, reason: str = "") -> Change | None:
        """None where that is no news."""
        if (state, reason) == (self.state, self.reason) or (state is self.state is SensorState.UNREACHABLE):
            self.reason = reason
            return None
        self.state, self.reason = state, reason
        return Change(state, reason)

    def values(self) -> Change | None:
        """Values have come."""
        return None if self.state is SensorState.TROUBLED else self.becomes(SensorState.LIVE)

    def window(self, troubles: Sequence[Trouble]) -> Change | None:
        """A window is full."""
        wrong = [f"{name}: {one}" for name, one in zip(self._channels, troubles, strict=True) if one]
        if wrong:
            return self.becomes(SensorState.TROUBLED, ", ".join(wrong))
        return self.becomes(SensorState.LIVE)

    def troubles(self, samples: Signal, outside: Sequence[int]) -> list[Trouble]:
        """What is wrong with each channel of a full window (window, channels)."""
        return [self._trouble(n, samples[:, n], outside[n]) for n in range(len(self._channels))]

    def _trouble(self, channel: int, signal: Signal, outside: int) -> Trouble:
        limit = GAP_SHARE * len(signal)
        stuck = self._is_stuck(channel, signal)
        if outside > limit:
            return Trouble.OUT_OF_RANGE
        if int(np.isnan(signal).sum()) > limit:
            return Trouble.DROPPED_OUT
        if np.isinf(signal).any():
            return Trouble.NOT_FINITE
        return Trouble.STUCK if stuck else Trouble.NONE

    def _is_stuck(self, channel: int, signal: Signal) -> bool:
        """Whether one value came so often in a row, also over the windows before."""
        known = signal[~np.isnan(signal)]
        if self._stuck is None or not len(known):
            return False
        value, run = self._runs[channel]
        ends = np.flatnonzero(np.concatenate([known[1:] != known[:-1], [True]]))  # the last of each run
        lengths = np.diff(np.concatenate([[-1], ends]))
        if known[0] == value:
            lengths[0] += run
        self._runs[channel] = (float(known[-1]), int(lengths[-1]))
        return bool(lengths.max() >= self._stuck)
