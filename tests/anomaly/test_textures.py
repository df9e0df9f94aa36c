"""Our own backbone computes what its filters say, and the heat map is drawn where it is hot."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.anomaly.filters import RADIUS, gabor
from agent.evidence.heat import enlarged, heated
from agent.infer.detections import Heat
from agent.infer.litert import LiteRtEngine
from agent.teach.textures import CELL, SIDE, textures


def features(picture: NDArray[np.float32], folder: Path) -> NDArray[np.float32]:
    textures().save(folder / "textures.tflite")
    engine = LiteRtEngine.open(folder / "textures.tflite", warmup_runs=0)
    (found,) = engine.infer(picture[None])
    engine.close()
    return np.asarray(found[0], np.float32)


def test_filters_are_deaf_to_plain_pictures_and_hear_their_own_direction() -> None:
    even, odd = gabor(8)
    assert np.abs(even.sum(axis=(1, 2))).max() < 1e-5
    assert np.abs(odd.sum(axis=(1, 2))).max() < 1e-5
    assert np.allclose((even**2 + odd**2).sum(axis=(1, 2)), 1)
    heard = np.abs(np.einsum("ayx,byx->ab", even, even))
    assert (heard.argmax(axis=1) == np.arange(8)).all()


def test_the_network_computes_energies_of_the_filters(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    grey = rng.random((SIDE, SIDE)).astype(np.float32)
    found = features(np.repeat(grey[..., None], 3, axis=2), tmp_path)
    cells = grey.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL)
    np.testing.assert_allclose(found[..., 0], cells.mean(axis=(1, 3)), atol=1e-5)
    np.testing.assert_allclose(found[..., 1], cells.max(axis=(1, 3)), atol=1e-5)
    np.testing.assert_allclose(found[..., 2], -cells.min(axis=(1, 3)), atol=1e-5)
    np.testing.assert_allclose(found[..., 3:5], 0, atol=1e-5)  # grey has no colour
    even, odd = gabor(8)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(grey, RADIUS), (2 * RADIUS + 1, 2 * RADIUS + 1))
    for direction in (0, 3):
        energy = sum(np.einsum("yxab,ab->yx", windows, one[direction]) ** 2 for one in (even, odd))
        mean = energy.reshape(SIDE // CELL, CELL, SIDE // CELL, CELL).mean(axis=(1, 3))
        np.testing.assert_allclose(found[..., 7 + direction], np.log(mean + 1e-5), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_plain_pictures_give_finite_features(value: float, tmp_path: Path) -> None:
    found = features(np.full((SIDE, SIDE, 3), value, np.float32), tmp_path)
    assert np.isfinite(found).all()


def test_enlarging_keeps_corners_and_goes_straight_between() -> None:
    small = np.array([[0, 1], [2, 3]], np.float32)
    large = enlarged(small, 8, 8)
    assert (large[0, 0], large[0, -1], large[-1, 0], large[-1, -1]) == (0, 1, 2, 3)
    assert large[0, 3] == pytest.approx(0.375)
    assert (enlarged(small, 2, 2) == small).all()


def test_heat_is_drawn_where_it_is_and_nowhere_else() -> None:
    grey = np.full((100, 200, 3), 90, np.uint8)
    values = np.zeros((5, 10), np.float32)
    values[2, 7] = 4.0
    over = heated(grey, Heat(values, (0, 0, 400, 200), 1.5, 3.0), 400, 200)
    assert over.shape == grey.shape and grey.min() == grey.max() == 90
    changed = (over != grey).any(axis=2)
    assert changed[50, 150]
    assert not changed[:, :100].any()
    assert over[50, 150, 0] > over[50, 150, 2]
    # A map of a part of the frame, partly outside.
    part = heated(grey, Heat(values, (200, -50, 500, 250), 1.5, 3.0), 400, 200)
    assert not (part != grey).any(axis=2)[:, :90].any()
    assert (heated(grey, Heat(values, (500, 0, 600, 10), 1.5, 3.0), 400, 200) == grey).all()
