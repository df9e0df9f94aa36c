"""Predictive maintenance by tables: figures, frequencies, changes, trends, zones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platforms.change import Cusum, Ewma
from platforms.manufacturing.maintenance.baseline import Baseline, Recent, usual_of
from platforms.manufacturing.maintenance.bearing import Bearing, Fault, fault_frequencies
from platforms.manufacturing.maintenance.envelope import Envelopes
from platforms.manufacturing.maintenance.severity import CLASSES, Limits, Zone, velocity_rms
from platforms.manufacturing.maintenance.synthetic import Machine, vibration
from platforms.manufacturing.maintenance.trend import time_to, trend
from platforms.manufacturing.maintenance.window import Signal, Trouble, figures, filled, trouble

RATE = 20_480
TIME = np.arange(RATE) / RATE
SINE: Signal = 3.0 + 2.0 * np.sin(2 * np.pi * 50 * TIME)


def test_figures_of_a_sine_and_of_noise() -> None:
    sine = figures(SINE)
    assert (sine.mean, sine.rms, sine.peak) == pytest.approx((3.0, math.sqrt(2), 2.0), rel=1e-3)
    assert (sine.crest, sine.kurtosis) == pytest.approx((math.sqrt(2), 1.5), rel=1e-3)
    noise = figures(np.random.default_rng(1).standard_normal(100_000))
    assert noise.kurtosis == pytest.approx(3.0, abs=0.1)
    assert figures(np.full(10, 4.0)).rms == 0


NAN = float("nan")


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (SINE, Trouble.NONE),
        (SINE[:-1], Trouble.TOO_SHORT),
        (np.full(RATE, 4.0), Trouble.STUCK),
        (np.where(TIME < 0.6, 1.0, SINE), Trouble.STUCK),
        (np.where(TIME < 0.2, NAN, SINE), Trouble.DROPPED_OUT),
        (np.where(TIME < 0.05, NAN, SINE), Trouble.NONE),
        (np.where(TIME < 0.01, np.inf, SINE), Trouble.NOT_FINITE),
        (np.clip(np.random.default_rng(1).standard_normal(RATE), -1.5, 1.5), Trouble.CLIPPED),
        (np.random.default_rng(1).standard_normal(RATE), Trouble.NONE),
    ],
)
def test_a_sensor_that_is_not_to_be_believed(signal: Signal, expected: Trouble) -> None:
    assert trouble(signal, RATE) is expected


def test_missing_values_are_drawn_straight() -> None:
    assert filled(np.array([1.0, NAN, NAN, 4.0, 5.0])).tolist() == [1, 2, 3, 4, 5]


def test_frequencies_of_a_known_bearing() -> None:
    """6205-2RS: the multiples of the shaft's speed that Case Western Reserve University publishes with its data."""
    found = fault_frequencies(Bearing(9, 7.94, 39.04), 1.0)
    published = {Fault.BPFO: 3.5848, Fault.BPFI: 5.4152, Fault.BSF: 4.7135, Fault.FTF: 0.39828}
    assert found == pytest.approx(published, abs=2e-3)


@pytest.mark.parametrize(
    ("bearing", "words"),
    [
        (Bearing(2, 8, 40), "3 to 200"),
        (Bearing(9, 50, 40), "below the pitch"),
        (Bearing(9, 8, 40, 90), "contact_deg"),
    ],
)
def test_a_bearing_that_cannot_be(bearing: Bearing, words: str) -> None:
    assert words in bearing.mistakes()[0] and not Bearing(9, 8, 40).mistakes()


@pytest.mark.parametrize("fault", list(Fault))
def test_each_fault_is_found_under_its_own_name(fault: Fault) -> None:
    machine, rng = Machine(gear_hz=700.0, gear=1.5), np.random.default_rng(3)
    signal = vibration(machine, fault, -3.0, seconds=2.0, rate_hz=RATE, rng=rng)
    frequencies = fault_frequencies(machine.bearing, machine.shaft_hz)
    found = Envelopes(signal, RATE).find_all({one.value: hz for one, hz in frequencies.items()})
    assert found[fault.value].log10_p < -6
    assert found[fault.value].hz == pytest.approx(frequencies[fault], rel=0.03)
    assert min(found, key=lambda name: found[name].log10_p) == fault.value


def test_two_faults_of_one_frequency_are_both_found() -> None:
    """A bearing whose outer ring and rolling elements knock alike: nobody can say which of them it is."""
    machine = Machine(Bearing(9, 8.0, 38.0), shaft_hz=15.0)
    frequencies = fault_frequencies(machine.bearing, machine.shaft_hz)
    alike = {"bpfo": frequencies[Fault.BSF], "bsf": frequencies[Fault.BSF], "bpfi": frequencies[Fault.BPFI]}
    signal = vibration(machine, Fault.BSF, 3.0, seconds=1.0, rate_hz=RATE, rng=np.random.default_rng(3))
    found = Envelopes(signal, RATE).find_all(alike)
    assert found["bpfo"].log10_p < -6 and found["bsf"].log10_p < -6 and found["bpfi"].log10_p > -6


def test_noise_unbalance_and_a_gear_are_no_fault() -> None:
    machine, rng = Machine(gear_hz=900.0, gear=2.0, unbalance=3.0), np.random.default_rng(5)
    for _ in range(40):
        signal = vibration(machine, None, 0.0, seconds=1.0, rate_hz=RATE, rng=rng)
        envelopes = Envelopes(signal, RATE)
        for hz in fault_frequencies(machine.bearing, machine.shaft_hz).values():
            assert envelopes.find(hz).log10_p > -6


@given(st.floats(1e-6, 1e6), st.floats(-100, 100))
def test_gain_and_offset_of_a_sensor_change_nothing(gain: float, offset: float) -> None:
    signal = vibration(Machine(), Fault.BPFO, 0.0, seconds=0.5, rate_hz=RATE, rng=np.random.default_rng(2))
    plain = Envelopes(signal, RATE).find(105.0)
    other = Envelopes(gain * signal + gain * offset, RATE).find(105.0)
    assert other.log10_p == pytest.approx(plain.log10_p, rel=1e-3, abs=1e-3)


def test_a_frequency_that_no_band_reaches() -> None:
    signal = np.random.default_rng(1).standard_normal(2000)
    assert Envelopes(signal, 2000).find(1500.0).log10_p == 0
    assert Envelopes(signal, 2000).find(0.1).log10_p == 0


def test_odd_values_do_not_move_what_is_usual() -> None:
    clean = usual_of([10.0 + 0.1 * n for n in range(50)])
    odd = usual_of([10.0 + 0.1 * n for n in range(46)] + [1e6, -1e6, 1e9, 5e5])
    assert abs(clean.centre - odd.centre) < 0.5 and odd.spread < 2 * clean.spread
    assert usual_of([5.0, 5.0, 5.0]).spread == pytest.approx(0.1)  # not nothing


def test_a_baseline_is_learnt_once() -> None:
    baseline = Baseline(windows=3)
    for value in (1.0, 2.0, 3.0, 100.0):
        baseline.learn(value)
    assert baseline.usual is not None and baseline.usual.centre == 2
    baseline.forget()
    assert not baseline.is_ready


def test_recent_is_a_median() -> None:
    recent = Recent(3)
    assert [recent.add(value) for value in (1, 100, 2, 3, 4)] == [1, 50.5, 2, 3, 3]


@pytest.mark.parametrize("chart", [Cusum(), Ewma()])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_shift_is_found_and_the_way_back_too(chart: Cusum | Ewma, sign: int) -> None:
    chart.reset()
    rng = np.random.default_rng(4)
    quiet = [chart.add(float(score)) for score in rng.standard_normal(500)]
    assert not any(quiet)
    shifted = [chart.add(float(score)) for score in rng.normal(2.0 * sign, 1, 60)]
    assert shifted[-1] == sign and shifted.index(sign) < 20
    back = [chart.add(float(score)) for score in rng.standard_normal(200)]
    assert back[-1] == 0


def test_one_wild_window_is_no_change() -> None:
    cusum = Cusum(limit=8.0)
    assert cusum.add(1000.0) == 0 and cusum.add(0.0) == 0


def test_a_trend_and_when_it_reaches_a_limit() -> None:
    rng = np.random.default_rng(0)
    times = [60.0 * n for n in range(100)]
    values = [1 + 0.001 * at + float(rng.normal(0, 0.3)) for at in times]
    values[7] = 50.0
    found = trend(times, values)
    assert found is not None and found.rises and found.low < 0.001 < found.high
    ahead = time_to(found, 10.0)
    assert ahead is not None and ahead.earliest_s < ahead.expected_s < ahead.latest_s
    assert ahead.expected_s == pytest.approx(3060, rel=0.1)
    assert time_to(found, 3.0) is not None and time_to(found, 3.0).expected_s == 0  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [[1.0] * 20, [0.1 * (-1) ** n for n in range(20)], [1.0, 2.0, 3.0]])
def test_what_goes_nowhere_reaches_nothing(values: list[float]) -> None:
    found = trend([float(n) for n in range(len(values))], values)
    assert found is None or time_to(found, 100.0) is None


def test_times_that_do_not_ascend_give_no_trend() -> None:
    assert trend([0, 1, 2, 3, 3, 4, 5, 6, 7], [0.0] * 9) is None


def test_a_fall_reaches_a_lower_limit() -> None:
    found = trend([float(n) for n in range(30)], [30.0 - n for n in range(30)])
    assert found is not None and time_to(found, -4.0).expected_s == pytest.approx(5.0)  # type: ignore[union-attr]
    assert time_to(found, 100.0).expected_s == 0  # type: ignore[union-attr]  # it is below that already


def test_velocity_of_a_known_acceleration() -> None:
    acceleration = 10 * np.sin(2 * np.pi * 50 * TIME) + 1e3 * np.sin(2 * np.pi * 4000 * TIME)
    assert velocity_rms(acceleration, RATE) == pytest.approx(10 / (2 * np.pi * 50) / math.sqrt(2) * 1000, rel=1e-2)


def test_zones() -> None:
    limits = CLASSES["medium_rigid"]
    assert [limits.zone(value) for value in (0.1, 1.4, 2.8, 4.5)] == [Zone.A, Zone.B, Zone.C, Zone.D]
    assert not limits.mistakes() and "must grow" in Limits(1, 1, 2).mistakes()[0]
