"""Figures of one window of a signal: level and shape. Whether it is to be believed: `platforms.samples`."""

import math
from dataclasses import dataclass

import numpy as np

from platforms.samples import Signal as Signal
from platforms.samples import Trouble as Trouble
from platforms.samples import filled as filled
from platforms.samples import trouble as trouble


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
