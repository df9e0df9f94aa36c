"""A monitor over the life of a machine: learnt, well, worn, repaired."""

from collections.abc import Iterable

import numpy as np

from platforms.manufacturing.maintenance.bearing import Fault
from platforms.manufacturing.maintenance.monitor import Assessment, Kind, Monitor, Notice, Quantity, Watched
from platforms.manufacturing.maintenance.severity import Limits
from platforms.manufacturing.maintenance.synthetic import Machine, vibration
from platforms.manufacturing.maintenance.window import Signal, Trouble

RATE = 8_192
MACHINE = Machine(resonance_hz=2500.0)


def kinds(assessments: Iterable[Assessment]) -> list[tuple[Kind, str]]:
    return [(notice.kind, notice.about) for one in assessments for notice in one.notices]


def windows(
    count: int, fault: Fault | None, snr_db: float, rng: np.random.Generator, gain: float = 1.0
) -> list[Signal]:
    return [gain * vibration(MACHINE, fault, snr_db, seconds=1.0, rate_hz=RATE, rng=rng) for _ in range(count)]


def test_damage_is_told_once_and_when_it_is_gone() -> None:
    rng = np.random.default_rng(1)
    monitor = Monitor(Watched(RATE, RATE, bearing=MACHINE.bearing, learn_windows=10))
    course = [*windows(12, None, 0, rng), *windows(6, Fault.BPFO, 3.0, rng), *windows(6, None, 0, rng)]
    told = kinds(monitor.take(one, float(n), MACHINE.shaft_hz) for n, one in enumerate(course))
    assert told.count((Kind.DAMAGE_FOUND, "bpfo")) == told.count((Kind.DAMAGE_GONE, "bpfo")) == 1
    assert not [about for kind, about in told if kind is Kind.DAMAGE_FOUND and about != "bpfo"]


def test_without_a_speed_no_damage_is_looked_for() -> None:
    rng = np.random.default_rng(1)
    monitor = Monitor(Watched(RATE, RATE, bearing=MACHINE.bearing))
    assert not monitor.take(windows(1, Fault.BPFO, 6.0, rng)[0], 0.0).findings


def test_a_level_that_rises_for_good_changes_and_is_learnt_anew_after_a_repair() -> None:
    rng = np.random.default_rng(2)
    monitor = Monitor(Watched(RATE, RATE, learn_windows=20))
    told = kinds(monitor.take(one, float(n)) for n, one in enumerate(windows(60, None, 0, rng)))
    assert not told
    louder = windows(15, None, 0, rng, gain=1.3)
    assert (Kind.LEVEL_CHANGED, "risen") in kinds(monitor.take(one, 60.0 + n) for n, one in enumerate(louder))
    monitor.relearn()
    told = kinds(monitor.take(one, 80.0 + n) for n, one in enumerate(windows(40, None, 0, rng, gain=1.3)))
    assert (Kind.LEVEL_CHANGED, "risen") not in told


def test_a_troubled_sensor_says_nothing_about_the_machine() -> None:
    rng = np.random.default_rng(3)
    monitor = Monitor(Watched(RATE, RATE, zones=Limits(100, 200, 300)))
    stuck = np.full(RATE, 7.0)
    assessments = [monitor.take(one, float(n)) for n, one in enumerate([stuck, stuck, *windows(2, None, 0, rng)])]
    assert kinds(assessments[:3]) == [(Kind.SENSOR_TROUBLE, "stuck"), (Kind.SENSOR_WELL, "")]
    assert assessments[0].trouble is Trouble.STUCK and assessments[0].zone is None


def test_zones_and_the_way_to_the_next() -> None:
    rng = np.random.default_rng(4)
    time = np.arange(RATE) / RATE
    monitor = Monitor(Watched(RATE, RATE, zones=Limits(1.4, 2.8, 4.5), learn_windows=5))
    told: list[Notice] = []
    for n in range(150):
        velocity = 0.5 + 0.02 * n  # mm/s r.m.s., at 50 Hz
        wave = velocity * 1e-3 * np.sqrt(2) * 2 * np.pi * 50 * np.sin(2 * np.pi * 50 * time)
        told += monitor.take(wave + 0.01 * rng.standard_normal(RATE), 3600.0 * n).notices
    assert [one.about for one in told if one.kind is Kind.ZONE_CHANGED] == ["B", "C"]
    ahead = [one for one in told if one.kind is Kind.FORECAST]
    assert {one.about for one in ahead} == {"1.4", "2.8", "4.5"}
    last = ahead[-1].forecast
    assert last is not None and 40 < last.expected_s / 3600 < 65  # 1.1 mm/s ahead at 0.02 an hour


def test_a_temperature_has_its_own_limit() -> None:
    rng = np.random.default_rng(5)
    monitor = Monitor(Watched(10.0, 20, Quantity.TEMPERATURE, limit=90.0, learn_windows=5))
    told = [
        notice
        for n in range(60)
        for notice in monitor.take(40 + 0.5 * n + 0.2 * rng.standard_normal(20), 60.0 * n).notices
    ]
    ahead = [one.forecast for one in told if one.kind is Kind.FORECAST]
    assert ahead and ahead[-1] is not None and 35 < ahead[-1].expected_s / 60 < 50
