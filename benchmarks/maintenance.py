"""Predictive maintenance on synthetic bearings with known faults: what is found, what is cried for nothing, how fast.

usage: python -m benchmarks.maintenance [--cases N] [--healthy N] [--json]

Machines are drawn at random: bearing, speed, resonance, unbalance, a gear of any frequency; rates of 20,480 samples a
second and windows of one second. A case has one fault at a signal-to-noise ratio from -6 to +6 dB (power of the
knocking against white noise over the whole window).

`found_rate`: share of the cases whose fault's frequency is found in their one window (chance does that less than once
in a million windows). `named_rate`: share in which it is also the surest of the four. `found_rate_by_snr`: further
down. `false_alarms_per_1000`: windows of healthy machines, per 1,000, in which any frequency is found. `windows_s`:
windows a second of CPU time that a whole `Monitor` takes.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from platforms.manufacturing.maintenance.bearing import Bearing, Fault, fault_frequencies
from platforms.manufacturing.maintenance.envelope import FOUND_LOG10_P, Envelopes, Finding
from platforms.manufacturing.maintenance.monitor import Monitor, Watched
from platforms.manufacturing.maintenance.severity import CLASSES
from platforms.manufacturing.maintenance.synthetic import Machine, vibration
from platforms.manufacturing.maintenance.window import Signal

RATE_HZ, SECONDS = 20_480.0, 1.0
SNR_DB = (-6.0, -3.0, 0.0, 3.0, 6.0)
BEYOND_DB = (-12.0, -9.0)


def drawn(rng: np.random.Generator) -> Machine:
    """Any machine."""
    bearing = Bearing(int(rng.integers(7, 17)), 8.0, float(rng.uniform(30, 60)), float(rng.choice([0.0, 15.0])))
    return Machine(
        bearing,
        shaft_hz=float(rng.uniform(10, 60)),
        resonance_hz=float(rng.uniform(2500, 8000)),
        damping=float(rng.uniform(0.02, 0.06)),
        unbalance=float(rng.uniform(0, 3)),
        gear_hz=float(rng.uniform(300, 3000)),
        gear=float(rng.uniform(0, 2)),
    )


def findings(machine: Machine, signal: Signal) -> dict[Fault, Finding]:
    frequencies = fault_frequencies(machine.bearing, machine.shaft_hz)
    found = Envelopes(signal, RATE_HZ).find_all({fault.value: hz for fault, hz in frequencies.items()})
    return {Fault(name): one for name, one in found.items()}


def found(cases: int, snr_db: float, rng: np.random.Generator) -> dict[str, tuple[float, float]]:
    """(share found, share named) by fault, over so many cases of each."""
    rates = {}
    for fault in Fault:
        hits = names = 0
        for _ in range(cases):
            machine = drawn(rng)
            signal = vibration(machine, fault, snr_db, seconds=SECONDS, rate_hz=RATE_HZ, rng=rng)
            said = findings(machine, signal)
            hit = said[fault].log10_p < FOUND_LOG10_P
            hits += hit
            names += hit and min(said, key=lambda one: said[one].log10_p) is fault
        rates[fault.value] = (hits / cases, names / cases)
    return rates


def false_alarms(windows: int, rng: np.random.Generator) -> int:
    """Windows of healthy machines in which something is found."""
    count = 0
    for _ in range(windows):
        machine = drawn(rng)
        signal = vibration(machine, None, 0.0, seconds=SECONDS, rate_hz=RATE_HZ, rng=rng)
        count += any(one.log10_p < FOUND_LOG10_P for one in findings(machine, signal).values())
    return count


def windows_per_cpu_s(rng: np.random.Generator, windows: int = 100) -> float:
    machine = drawn(rng)
    watched = Watched(RATE_HZ, round(RATE_HZ * SECONDS), bearing=machine.bearing, zones=CLASSES["medium_rigid"])
    monitor = Monitor(watched)
    signals = [vibration(machine, Fault.BPFO, 0.0, seconds=SECONDS, rate_hz=RATE_HZ, rng=rng) for _ in range(10)]
    began_s = time.process_time()
    for number in range(windows):
        monitor.take(signals[number % len(signals)], float(number), machine.shaft_hz)
    return windows / (time.process_time() - began_s)


def measure(cases: int, healthy: int, seed: int = 7) -> dict[str, Any]:
    """The figures; `cases` of each fault at each ratio."""
    rng = np.random.default_rng(seed)
    by_snr = {snr: found(cases, snr, rng) for snr in (*BEYOND_DB, *SNR_DB)}
    hits = [rate for snr in SNR_DB for rate, _ in by_snr[snr].values()]
    names = [rate for snr in SNR_DB for _, rate in by_snr[snr].values()]
    return {
        "found_rate": round(float(np.mean(hits)), 4),
        "named_rate": round(float(np.mean(names)), 4),
        "found_rate_by_snr": {
            f"{snr:g} dB": {fault: round(rate, 3) for fault, (rate, _) in rates.items()}
            for snr, rates in by_snr.items()
        },
        "false_alarms_per_1000": round(1000 * false_alarms(healthy, rng) / healthy, 3),
        "windows_s": round(windows_per_cpu_s(rng), 1),
        "cases": cases * len(Fault) * len(SNR_DB),
        "healthy_windows": healthy,
        "targets": {"found_rate": ">= 0.95", "false_alarms_per_1000": "<= 1"},
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.maintenance", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--cases", type=int, default=40, help="of each fault at each ratio")
    parser.add_argument("--healthy", type=int, default=3000, help="windows of healthy machines")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    print(json.dumps(measure(arguments.cases, arguments.healthy), indent=None if arguments.json else 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
