"""How much a machine may shake: zones of broad-band vibration velocity, after ISO 20816.

Zone A: as new. B: may run for ever. C: not for long; plan the repair. D: harmful. The limits depend on the machine;
the table holds those of ISO 20816-3 (2022) for industrial machines on their bearings' housings, r.m.s. velocity in
mm/s from 10 Hz to 1 kHz, and a plant may have its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from platforms.manufacturing.maintenance.window import Signal


class Zone(StrEnum):
    A = "A"
    B = "B"
    C = "C"
    D = "D"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where B, C and D begin, in mm/s."""

    b: float
    c: float
    d: float

    def mistakes(self) -> list[str]:
        if 0 < self.b < self.c < self.d < math.inf:
            return []
        return [f"zones: {self.b:g}, {self.c:g}, {self.d:g} must grow from above 0"]

    def zone(self, velocity_mm_s: float) -> Zone:
        for limit, zone in ((self.d, Zone.D), (self.c, Zone.C), (self.b, Zone.B)):
            if velocity_mm_s >= limit:
                return zone
        return Zone.A


CLASSES: Mapping[str, Limits] = {
    "large_rigid": Limits(2.3, 4.5, 7.1),  # group 1: above 300 kW or a shaft height of 315 mm and more; rigid support
    "large_flexible": Limits(3.5, 7.1, 11.0),
    "medium_rigid": Limits(1.4, 2.8, 4.5),  # group 2: 15 to 300 kW, or a shaft height of 160 to 315 mm
    "medium_flexible": Limits(2.3, 4.5, 7.1),
}


def velocity_rms(signal: Signal, rate_hz: float, *, low_hz: float = 10.0, high_hz: float = 1000.0) -> float:
    """r.m.s. velocity in mm/s of a window of acceleration in m/s², within a band.

    v(f) = a(f) / (2 pi f); by Parseval the squares of a Hann window's bins add up to the mean square.
    """
    window = np.hanning(len(signal))
    spectrum = np.fft.rfft((signal - signal.mean()) * window)
    hz = np.arange(len(spectrum)) * rate_hz / len(signal)
    inside = (hz >= low_hz) & (hz <= min(high_hz, rate_hz / 2))
    metres = np.abs(spectrum[inside]) / (2 * np.pi * hz[inside])
    mean_square = 2 * float((metres**2).sum()) / (len(signal) * float((window**2).sum()))
    return 1000 * math.sqrt(mean_square)
