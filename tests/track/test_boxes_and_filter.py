"""Box arithmetic, the filter and the assignment, each against what it must equal."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.track.assignment import greedy
from agent.track.boxes import centres_of, corners_of, iou, nearness
from agent.track.kalman import COV, POSITION, VAR, VAR_V, VELOCITY, Kalman
from agent.track.settings import TrackerSettings
from benchmarks.mot import best_pairs


def columns(*boxes: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4).T


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param((0, 0, 10, 10), (0, 0, 10, 10), 1.0, id="the same"),
        pytest.param((0, 0, 10, 10), (5, 0, 15, 10), 1 / 3, id="half beside"),
        pytest.param((0, 0, 10, 10), (2, 2, 4, 4), 0.04, id="inside"),
        pytest.param((0, 0, 10, 10), (10, 0, 20, 10), 0.0, id="edges touch"),
        pytest.param((0, 0, 10, 10), (30, 30, 40, 40), 0.0, id="apart in both directions"),
        pytest.param((5, 5, 5, 5), (5, 5, 5, 5), 0.0, id="no area"),
    ],
)
def test_iou(a: tuple[float, ...], b: tuple[float, ...], expected: float) -> None:
    assert iou(columns(a), columns(b))[0, 0] == pytest.approx(expected)  # type: ignore[arg-type]


def test_iou_of_none_is_an_empty_matrix() -> None:
    assert iou(columns(), columns((0, 0, 1, 1))).shape == (0, 1)


def test_corners_and_centres_are_each_others_inverse() -> None:
    corners = columns((1, 2, 11, 42), (-5, 0, 5, 1))
    np.testing.assert_allclose(corners_of(centres_of(corners)), corners)


def test_reach_moves_every_side_outwards_by_its_share_of_the_size() -> None:
    np.testing.assert_allclose(corners_of(columns((50, 50, 10, 20)), reach=0.5), columns((40, 30, 60, 70)))


@pytest.mark.parametrize(
    ("b", "expected"),
    [
        pytest.param((50, 50, 7, 7), 1.0, id="the same centre"),
        pytest.param((60, 55, 10, 20), 0.25, id="10 across and 5 down of a height of 20"),
        pytest.param((90, 50, 10, 20), 0.0, id="farther than a height"),
    ],
)
def test_nearness(b: tuple[float, ...], expected: float) -> None:
    assert nearness(columns((50, 50, 10, 20)), columns(b))[0, 0] == pytest.approx(expected)  # type: ignore[arg-type]


def reference_filter(
    settings: TrackerSettings, steps: list[tuple[float, np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """The textbook filter with full 8 x 8 matrices, for one track; state order is 4 positions, 4 velocities."""
    h = steps[0][1][3]
    x = np.concatenate((steps[0][1], np.zeros(4)))
    p = np.diag([(settings.measure_noise * h) ** 2] * 4 + [(settings.initial_speed_noise * h) ** 2] * 4)
    measure = np.hstack((np.eye(4), np.zeros((4, 4))))
    for dt, z in steps[1:]:
        f = np.eye(8) + dt * np.eye(8, k=4)
        x = f @ x
        q = settings.acceleration_noise**2 * np.array(((dt**3 / 3, dt**2 / 2), (dt**2 / 2, dt)))
        q[0, 0] += settings.drift_noise**2 * dt
        p = f @ p @ f.T + np.kron(q, np.eye(4)) * x[3] ** 2
        s = measure @ p @ measure.T + np.eye(4) * (settings.measure_noise * z[3]) ** 2
        k = p @ measure.T @ np.linalg.inv(s)
        x = x + k @ (z - measure @ x)
        p = (np.eye(8) - k @ measure) @ p
    return x, p


def test_compact_filter_equals_the_textbook_one_with_full_matrices() -> None:
    settings = TrackerSettings()
    rng = np.random.default_rng(3)
    steps = [
        (dt, np.array((100 + 9 * i, 200 - 4 * i, 40 + i, 90 + i)) + rng.normal(0, 2, 4))
        for i, dt in enumerate((0.0, 0.1, 0.04, 1.3, 0.2, 0.033))
    ]
    kalman = Kalman(settings)
    other = np.array((700.0, 50.0, 30.0, 20.0))  # a second track must not disturb the first
    state = kalman.begin(np.stack((steps[0][1], other), axis=1))
    for dt, z in steps[1:]:
        state = kalman.predict(state, dt)
        state[:, :, [0]] = kalman.update(state[:, :, [0]], z[:, None])
    x, p = reference_filter(settings, steps)
    np.testing.assert_allclose(state[[POSITION, VELOCITY], :, 0].ravel(), x)
    np.testing.assert_allclose(state[VAR, :, 0], np.diag(p)[:4])
    np.testing.assert_allclose(state[VAR_V, :, 0], np.diag(p)[4:])
    np.testing.assert_allclose(state[COV, :, 0], np.diag(p, k=4))


def test_steady_motion_is_learned_at_an_uneven_frame_rate() -> None:
    kalman = Kalman(TrackerSettings())
    time_s, state = 0.0, kalman.begin(np.array([[0.0], [0.0], [40.0], [80.0]]))
    for dt in (0.1, 0.2, 0.03, 0.3, 0.1, 0.4, 0.1, 0.1):
        time_s += dt
        measured = np.array([[50.0 * time_s], [-20.0 * time_s], [40.0], [80.0]])
        state = kalman.update(kalman.predict(state, dt), measured)
    assert state[VELOCITY, :, 0] == pytest.approx([50.0, -20.0, 0.0, 0.0], abs=2.0)


gains = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=6),
    elements=st.one_of(st.floats(-1, 1), st.sampled_from((0.0, 0.25, 0.5))),
)


@given(gains)
def test_greedy_takes_the_best_pair_again_and_again(gain: np.ndarray) -> None:
    rows, cols = greedy(gain.copy())
    left, expected = gain.copy(), []
    while left.size and left.max() > 0.0:
        expected.append(left.max())
        i, j = np.unravel_index(left.argmax(), left.shape)
        left[i], left[:, j] = 0.0, 0.0
    assert len(set(rows.tolist())) == len(rows)
    assert len(set(cols.tolist())) == len(cols)
    if len(set(gain[gain > 0])) == np.count_nonzero(gain > 0):  # with ties, either choice is greedy
        assert sorted(gain[rows, cols], reverse=True) == expected
    assert not np.any(np.delete(np.delete(gain, rows, 0), cols, 1) > 0.0), "a pair was left over"


@given(gains)
def test_exact_assignment_gains_the_most_of_all_pairings(gain: np.ndarray) -> None:
    def best(row: int, free: frozenset[int]) -> float:
        if row == gain.shape[0]:
            return 0.0
        without = best(row + 1, free)
        return max([without] + [float(gain[row, j]) + best(row + 1, free - {j}) for j in free if gain[row, j] > 0])

    if gain.size <= 20:
        total = sum(gain[i, j] for i, j in best_pairs(gain))
        assert total == pytest.approx(best(0, frozenset(range(gain.shape[1]))))
