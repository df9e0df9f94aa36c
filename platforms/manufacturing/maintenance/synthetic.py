"""A simulator: the vibration of a bearing with a known fault, for tests, benchmarks and demonstrations.

After McFadden & Smith (1984) and Randall & Antoni (2011): each knock excites a resonance that rings down; the times
between knocks vary a little because rolling elements slip; knocks of the inner ring and of a rolling element are
stronger where the load is. On top come the shaft's own harmonics and white noise.
"""

from dataclasses import dataclass

import numpy as np

from platforms.manufacturing.maintenance.bearing import Bearing, Fault, fault_frequencies
from platforms.manufacturing.maintenance.window import Signal


@dataclass(frozen=True, slots=True)
class Machine:
    """What shakes. Frequencies in Hz; `unbalance` and `gear` are amplitudes against noise of 1."""

    bearing: Bearing = Bearing(9, 7.94, 39.04)
    shaft_hz: float = 29.5
    resonance_hz: float = 3200.0
    damping: float = 0.03  # share of critical damping
    unbalance: float = 0.5
    gear_hz: float = 0.0  # 0: no gear
    gear: float = 0.5


def vibration(
    machine: Machine,
    fault: Fault | None,
    snr_db: float,
    *,
    seconds: float,
    rate_hz: float,
    rng: np.random.Generator,
    slip: float = 0.01,
    jitter: float = 0.01,
) -> Signal:
    """A window with noise of variance 1. `snr_db`: power of the knocking against the noise, over the whole window.

    slip: the fault's frequency is off by up to this share. jitter: standard deviation of the time between two knocks,
    as a share of it.
    """
    count = round(seconds * rate_hz)
    time_s = np.arange(count) / rate_hz
    signal = rng.standard_normal(count)
    for harmonic, share in ((1, 1.0), (2, 0.4), (3, 0.2)):
        phase = rng.uniform(0, 2 * np.pi)
        signal += machine.unbalance * share * np.sin(2 * np.pi * harmonic * machine.shaft_hz * time_s + phase)
    if machine.gear_hz:
        sway = 1 + 0.3 * np.sin(2 * np.pi * machine.shaft_hz * time_s + rng.uniform(0, 2 * np.pi))
        signal += machine.gear * sway * np.sin(2 * np.pi * machine.gear_hz * time_s)
    if fault is None:
        return signal
    knocks = _knocks(machine, fault, seconds, rate_hz, rng, slip, jitter)
    signal += knocks * np.sqrt(10 ** (snr_db / 10) / (knocks**2).mean())
    return signal


def _knocks(
    machine: Machine,
    fault: Fault,
    seconds: float,
    rate_hz: float,
    rng: np.random.Generator,
    slip: float,
    jitter: float,
) -> Signal:
    hz = fault_frequencies(machine.bearing, machine.shaft_hz)[fault] * (1 + rng.uniform(-slip, slip))
    steps = rng.normal(1 / hz, jitter / hz, round(seconds * hz) + 20)
    times_s = np.cumsum(np.maximum(steps, 0.2 / hz)) - 5 / hz
    cage_hz = fault_frequencies(machine.bearing, machine.shaft_hz)[Fault.FTF]
    load = np.ones(len(times_s))
    if (turns_hz := {Fault.BPFI: machine.shaft_hz, Fault.BSF: cage_hz}.get(fault)) is not None:
        load = 1 + 0.6 * np.cos(2 * np.pi * turns_hz * times_s + rng.uniform(0, 2 * np.pi))
    count = round(seconds * rate_hz)
    hits = np.zeros(count)
    at = np.round(times_s * rate_hz).astype(int)
    good = (at >= 0) & (at < count)
    np.add.at(hits, at[good], load[good])
    ring_s = np.arange(round(rate_hz * 0.01)) / rate_hz
    omega = 2 * np.pi * machine.resonance_hz
    ring = np.exp(-machine.damping * omega * ring_s) * np.sin(omega * np.sqrt(1 - machine.damping**2) * ring_s)
    return np.convolve(hits, ring)[:count]
