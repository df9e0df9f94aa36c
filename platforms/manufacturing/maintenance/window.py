"""Figures of one window of a signal: level, shape, and whether the sensor is to be believed."""

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Signal = NDArray[np.float64]
"""(n,) samples at even distances of time, in the sensor's unit."""

STUCK_SHARE = 0.5  # of a window in which the value does not move at all
CLIPPED_SHARE = 0.02  # of a window at its least or its greatest value
GAP_SHARE = 0.1  # of a window without a value


class Trouble(StrEnum):
    """Why a window says nothing about the machine."""

    NONE = ""
    TOO_SHORT = "too_short"
    DROPPED_OUT = "dropped_out"  # too many values are missing (NaN)
    NOT_FINITE = "not_finite"  # infinite values
    STUCK = "stuck"  # the sensor repeats one value
    CLIPPED = "clipped"  # the sensor's range was too small


@dataclass(frozen=True, slots=True)
class Figures:
    """All but the mean are of the signal without its mean.

    rms: root of the mean square. peak: greatest absolute value. crest: peak / rms (a sine has 1.414).
    kurtosis: fourth moment over the squared second (noise has 3, impulses more).
    """

    mean: float
    rms: float
    peak: float
    crest: float
    kurtosis: float


def figures(signal: Signal) -> Figures:
    """Of a window of at least two finite values; one that does not move has crest and kurtosis 0."""
    mean = float(signal.mean())
    centred = signal - mean
    square = centred * centred
    power = float(square.mean())
    if power <= np.finfo(np.float64).tiny:
        return Figures(mean, 0.0, 0.0, 0.0, 0.0)
    rms, peak = math.sqrt(power), float(np.abs(centred).max())
    return Figures(mean, rms, peak, peak / rms, float((square * square).mean()) / power**2)


def trouble(signal: Signal, length: int) -> Trouble:
    """What is wrong with a window that should have `length` values; missing ones are NaN."""
    if len(signal) < length:
        return Trouble.TOO_SHORT
    missing = int(np.isnan(signal).sum())
    if missing > GAP_SHARE * len(signal):
        return Trouble.DROPPED_OUT
    if np.isinf(signal).any():
        return Trouble.NOT_FINITE
    known = signal[~np.isnan(signal)] if missing else signal
    if float((np.diff(known) == 0).mean()) >= STUCK_SHARE:
        return Trouble.STUCK
    low, high = known.min(), known.max()
    if max(int((known == low).sum()), int((known == high).sum())) > max(8, CLIPPED_SHARE * len(known)):
        return Trouble.CLIPPED
    return Trouble.NONE


def filled(signal: Signal) -> Signal:
    """Without its missing values: they are drawn straight between their neighbours."""
    missing = np.isnan(signal)
    if not missing.any():
        return signal
    at = np.arange(len(signal))
    return np.interp(at, at[~missing], signal[~missing])
