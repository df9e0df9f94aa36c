"""The statistic, its scores, regions and drift on numbers made here."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agent.anomaly.drift import PICTURES_MIN, Drift, DriftWatch
from agent.anomaly.gaussian import RIDGE, TAUGHT_ANEW_MAX, distances, fit, held_out
from agent.anomaly.regions import REGIONS_MAX, regions
from agent.anomaly.scores import (
    Scale,
    confidence,
    deviation,
    outliers,
    picture_scores,
    scale_of,
    smoothed,
)


def drawn(pictures: int, places: int = 6, channels: int = 4, seed: int = 0) -> NDArray[np.float32]:
    """Features whose covariance is another at each place."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=(places, channels, channels))
    drawn = np.einsum("npc,pcd->npd", rng.normal(size=(pictures, places, channels)), mix)
    return np.asarray(drawn, np.float32)


def test_the_distance_is_that_of_mahalanobis() -> None:
    good, new = drawn(50), drawn(3, seed=1)
    found = distances(new, fit(good, shrinkage=0.1))
    own = np.stack([np.cov(good[:, place].T) for place in range(6)])
    common = own.mean(axis=0)
    for place in range(6):
        covariance = 0.9 * own[place] + 0.1 * common + RIDGE * np.trace(common) / 4 * np.eye(4)
        apart = new[:, place] - good[:, place].mean(axis=0)
        wanted = np.sqrt(np.einsum("nc,cd,nd->n", apart, np.linalg.inv(covariance), apart))
        np.testing.assert_allclose(found[:, place], wanted, rtol=1e-3)


def test_a_picture_that_was_held_out_is_farther_than_one_that_taught() -> None:
    good = drawn(30)
    assert held_out(good).mean() > distances(good, fit(good)).mean()


def test_held_out_distances_are_as_large_as_those_of_new_pictures() -> None:
    good, new = drawn(200), drawn(200, seed=5)
    assert held_out(good).mean() == pytest.approx(distances(new, fit(good)).mean(), rel=0.05)


@pytest.mark.parametrize("pictures", [6, TAUGHT_ANEW_MAX, TAUGHT_ANEW_MAX + 1, 150])
def test_leaving_one_out_is_as_teaching_without_it(pictures: int) -> None:
    good = drawn(pictures, places=40, channels=12)
    # All places of a picture are lighter or darker together, as under a lamp that flickers.
    good += np.random.default_rng(7).normal(size=(pictures, 1, 1)).astype(np.float32) * 3
    found = held_out(good)
    for n in range(5):
        wanted = distances(good[n : n + 1], fit(np.delete(good, n, axis=0)))[0]
        np.testing.assert_allclose(found[n], wanted, rtol=0.05)
        assert found[n].mean() == pytest.approx(wanted.mean(), rel=0.02)


@pytest.mark.parametrize("pictures", [6, 20, 80])
def test_held_out_pictures_are_as_far_as_new_ones_however_few(pictures: int) -> None:
    def under_a_lamp(number: int, seed: int) -> NDArray[np.float32]:
        lamp = np.random.default_rng(seed + 50).normal(size=(number, 1, 1)).astype(np.float32)
        return drawn(number, places=60, channels=24, seed=seed) + 3 * lamp

    good, new = under_a_lamp(pictures, 1), under_a_lamp(200, 2)
    ratio = held_out(good).mean() / distances(new, fit(good)).mean()
    assert 0.85 < ratio < 1.35


def test_channels_that_never_vary_and_few_pictures_give_finite_distances() -> None:
    good = drawn(3, channels=8)
    good[:, :, 5] = 1.0
    assert np.isfinite(held_out(good)).all()
    with pytest.raises(ValueError, match="at least 2 pictures"):
        fit(good[:1])
    with pytest.raises(ValueError, match="at least 3 pictures"):
        held_out(good[:2])


def test_smoothing_keeps_a_plain_map_and_the_mean_of_the_worst_is_the_score() -> None:
    assert smoothed(np.full((1, 5, 7), 3.0, np.float32)) == pytest.approx(3.0, abs=1e-5)
    maps = np.zeros((2, 10, 10), np.float32)
    maps[0, 3, 3:8] = 2.0
    maps[1, 0, 0] = np.nan
    scores = picture_scores(maps)
    assert scores[0] == 2.0
    assert math.isnan(scores[1])


@pytest.mark.parametrize(
    ("scores", "rate", "threshold"),
    [
        ([*range(1, 100)], 0.01, 99.0),  # the 99th of 99
        ([*range(1, 200)], 0.05, 190.0),
        ([*range(1, 200)], 0.5, 100.0),
    ],
)
def test_the_threshold_is_the_conformal_quantile(scores: list[float], rate: float, threshold: float) -> None:
    assert scale_of(np.array(scores, np.float32), rate).threshold == pytest.approx(threshold)


def test_few_pictures_get_a_threshold_above_all_of_them() -> None:
    scores = np.exp(np.random.default_rng(1).normal(0, 0.2, 20)).astype(np.float32)
    scale = scale_of(scores, 0.001)
    assert scale.threshold > scores.max()
    assert math.log(scale.threshold) == pytest.approx(scale.log_mean + 3.09 * scale.log_spread, abs=0.01)


def test_the_stated_rate_of_false_alarms_holds() -> None:
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(200):
        scale = scale_of(np.exp(rng.normal(0, 0.2, 120)).astype(np.float32), 0.05)
        rates.append((np.exp(rng.normal(0, 0.2, 1000)) > scale.threshold).mean())
    assert 0.035 < float(np.mean(rates)) < 0.055


@pytest.mark.parametrize("scores", [[1.0], [1.0, math.nan], [1.0, 0.0]])
def test_scores_that_cannot_be_are_refused(scores: list[float]) -> None:
    with pytest.raises(ValueError, match="at least 2 scores"):
        scale_of(np.array(scores, np.float32), 0.01)


def test_outliers_are_far_above_never_below() -> None:
    scores = np.exp(np.random.default_rng(2).normal(0, 0.1, 50)).astype(np.float32)
    scores[7], scores[20], scores[30] = 3.0, 5.0, 0.2
    assert outliers(scores).tolist() == [20, 7]
    assert outliers(np.ones(10, np.float32)).tolist() == []


def test_confidence_is_a_half_at_the_threshold_and_grows() -> None:
    scale = Scale(threshold=10.0, log_mean=1.5, log_spread=0.2)
    assert confidence(10.0, scale) == pytest.approx(0.5)
    assert confidence(10.0 * math.exp(0.4), scale) == pytest.approx(0.881, abs=0.001)
    assert confidence(math.nan, scale) == confidence(0.0, scale) == confidence(math.inf, scale) == 0.0
    assert deviation(math.exp(1.7), scale) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("cells", "boxes"),
    [
        ([], []),
        ([(0, 0)], [(0, 0, 1, 1)]),
        ([(0, 0), (1, 1), (2, 2)], [(0, 0, 3, 3)]),  # corners touch
        ([(0, 0), (0, 2)], [(0, 0, 1, 1), (2, 0, 3, 1)]),
    ],
    ids=["none", "one", "diagonal", "two"],
)
def test_regions_are_cells_that_touch(cells: list[tuple[int, int]], boxes: list[tuple[int, int, int, int]]) -> None:
    heat = np.zeros((4, 5), np.float32)
    for cell in cells:
        heat[cell] = 2.0
    assert [(r.x0, r.y0, r.x1, r.y1) for r in regions(heat, 1.0)] == boxes


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.2, 0.9))
def test_every_hot_cell_lies_in_a_region_and_the_hottest_comes_first(seed: int, limit: float) -> None:
    heat = np.random.default_rng(seed).random((9, 12)).astype(np.float32)
    found = regions(heat, limit)
    hot = np.argwhere(heat >= limit)
    assert len(found) <= REGIONS_MAX
    if len(found) < REGIONS_MAX:
        assert sum(r.cells for r in found) == len(hot)
        assert all(any(r.x0 <= x < r.x1 and r.y0 <= y < r.y1 for r in found) for y, x in hot)
    if len(hot):
        assert found[0].peak == heat.max()


def test_drift_is_said_once_when_it_comes_and_once_when_it_goes() -> None:
    watch, rng, said = DriftWatch(), np.random.default_rng(4), []
    for n in range(600):
        moved = 1.5 if 200 <= n < 400 else 0.0
        if shift := watch.add(float(rng.normal(moved, 1)), good=True):
            said.append((n, shift.drift))
    assert [drift for _, drift in said] == [Drift.WORSE, Drift.NONE]
    assert 200 < said[0][0] < 240
    assert 400 < said[1][0] < 450


def test_what_is_anomalous_and_the_first_pictures_are_no_drift() -> None:
    watch = DriftWatch()
    assert all(watch.add(9.0, good=False) is None for _ in range(100))
    assert all(watch.add(3.0, good=True) is None for _ in range(PICTURES_MIN - 1))
    shift = watch.add(3.0, good=True)
    assert shift is not None
    assert (shift.drift, shift.pictures) == (Drift.WORSE, PICTURES_MIN)


def test_pictures_as_taught_raise_no_drift() -> None:
    watch, rng = DriftWatch(), np.random.default_rng(6)
    assert all(watch.add(float(rng.normal()), good=True) is None for _ in range(10_000))


def test_pictures_that_stand_still_are_closer_than_taught() -> None:
    watch = DriftWatch()
    said = [shift.drift for _ in range(60) if (shift := watch.add(-1.4, good=True))]
    assert said == [Drift.CLOSER]
