"""A window of a sensor as platforms get it, and whether its samples are to be believed. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
"""(n,) samples at even distances of time, in the sensor's unit; NaN where one is missing."""

STUCK_SHARE = 0.5  # of a window in which the value does not move at all
CLIPPED_SHARE = 0.02  # of a window at its least or its greatest value
GAP_SHARE = 0.1  # of a window without a value


class Trouble(StrEnum):
    """Why a window says nothing about what is measured."""

    NONE = ""
    TOO_SHORT = "too_short"
    DROPPED_OUT = "dropped_out"  # too many values are missing (NaN)
    NOT_FINITE = "not_finite"  # infinite values
    STUCK = "stuck"  # the sensor repeats one value
    CLIPPED = "clipped"  # the sensor's range was too small
    OUT_OF_RANGE = "out_of_range"  # values that cannot be, by the sensor's settings


@dataclass(frozen=True, slots=True)
class SampleWindow:
    """One window of all channels of a sensor.

    channels:     (n,) samples of each by name, after scaling; NaN where one is missing or cannot be
    troubles:     what is wrong with a channel, for those with which something is
    ended_s:      of the last sample, seconds of a clock that never goes back while the process lives
    ended_utc_ms: the same by the wall clock, which may jump
    """

    sensor: str
    number: int
    unit: str
    rate_hz: float
    channels: Mapping[str, Signal]
    ended_s: float
    ended_utc_ms: int
    troubles: Mapping[str, Trouble] = field(default_factory=dict)


def trouble(signal: Signal, length: int, *, may_rest: bool = False) -> Trouble:
    """What is wrong with a window that should have `length` values; missing ones are NaN. `may_rest`: a value that
    does not move, or often is at the end of its range, is nothing odd, as with a temperature."""
    if len(signal) < length:
        return Trouble.TOO_SHORT
    missing = int(np.isnan(signal).sum())
    if missing > GAP_SHARE * len(signal):
        return Trouble.DROPPED_OUT
    if np.isinf(signal).any():
        return Trouble.NOT_FINITE
    if may_rest:
        return Trouble.NONE
    known = signal[~np.isnan(signal)] if missing else signal
    if float((np.diff(known) == 0).mean()) >= STUCK_SHARE:
        return Trouble.STUCK
    low, high = known.min(), known.max()
    if max(int((known == low).sum()), int((known == high).sum())) > max(8, CLIPPED_SHARE * len(known)):
        return Trouble.CLIPPED
    return Trouble.NONE


def filled(signal: Signal) -> Signal:
    """Without its missing values: they are drawn straight between their neighbours. At least one is there."""
    missing = np.isnan(signal)
    if not missing.any():
        return signal
    at = np.arange(len(signal))
    return np.interp(at, at[~missing], signal[~missing])
