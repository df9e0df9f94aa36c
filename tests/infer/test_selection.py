import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.infer.engine import TensorSpec
from agent.infer.preprocess import Placement
from agent.infer.quantised import at_least, dequantise, quantise, stored_threshold
from agent.infer.selection import non_maximum, select, strongest

SAME = Placement(1, 1)
BOXES = st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2, st.integers(0, 2)), max_size=150)


def slow_non_maximum(xyxy: np.ndarray, label: np.ndarray, iou: float, limit: int) -> list[int]:
    kept: list[int] = []
    for i, (ax0, ay0, ax1, ay1) in enumerate(xyxy):
        for j in kept:
            bx0, by0, bx1, by1 = xyxy[j]
            shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
            union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
            if label[i] == label[j] and shared / union > iou:
                break
        else:
            kept.append(i)
    return kept[:limit]


# Limits that no ratio of these small areas meets exactly: there rounding may decide either way.
@given(BOXES, st.sampled_from([0.0, 0.3003, 0.4503, 0.7003, 1.0]), st.integers(1, 30))
def test_overlap_removal_equals_the_textbook(boxes: list[tuple[int, ...]], iou: float, limit: int) -> None:
    xyxy = np.array([(x, y, x + w, y + h) for x, y, w, h, _ in boxes], np.float32).reshape(-1, 4)
    label = np.array([b[4] for b in boxes], np.int32)
    assert non_maximum(xyxy, label, iou, limit).tolist() == slow_non_maximum(xyxy, label, iou, limit)


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(1, 40))
def test_the_strongest_come_in_order(values: list[int], limit: int) -> None:
    confidence = np.array(values, np.float32)
    assert confidence[strongest(confidence, limit)].tolist() == sorted(values, reverse=True)[:limit]


def test_broken_and_empty_boxes_are_dropped_and_the_rest_is_clipped() -> None:
    nan, inf = np.nan, np.inf
    xyxy = np.array(
        [[-5, -5, 20, 20], [nan, 0, 5, 5], [0, 0, inf, 5], [30, 30, 30, 40], [9, 9, 3, 12], [200, 200, 300, 300],
         [50, 50, 60, 60]], np.float32)  # fmt: skip
    confidence = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.9, nan], np.float32)
    found = select(
        xyxy, confidence, np.zeros(7, np.int32), placement=SAME, frame_width=100, frame_height=80, iou=0.5, limit=10
    )
    assert found.xyxy.tolist() == [[0, 0, 20, 20]]


def test_at_most_the_limit_is_returned_even_of_thousands() -> None:
    n = 5000
    corner = np.arange(n, dtype=np.float32)[:, None] * 10
    xyxy = np.concatenate([corner, corner, corner + 5, corner + 5], axis=1)
    confidence = np.linspace(0.1, 0.9, n, dtype=np.float32)
    found = select(
        xyxy,
        confidence,
        np.zeros(n, np.int32),
        placement=SAME,
        frame_width=10**6,
        frame_height=10**6,
        iou=0.5,
        limit=7,
    )
    np.testing.assert_allclose(found.confidence, confidence[::-1][:7])


@given(st.floats(0.001, 1.0), st.sampled_from([1 / 256, 0.00398602, 0.00564854, 0.02]), st.integers(-128, 127))
def test_the_stored_threshold_decides_as_the_real_one(real: float, scale: float, zero_point: int) -> None:
    spec = TensorSpec("s", (256,), np.dtype(np.int8), scale, zero_point)
    stored = np.arange(-128, 128).astype(np.int8)
    values = (stored.astype(np.float64) - zero_point) * scale
    clear = np.abs(values - real) > scale * 1e-4
    passed = at_least(stored, stored_threshold(real, spec))
    np.testing.assert_array_equal(passed[clear], (values >= real)[clear])


@given(st.floats(-3, 3, width=32), st.floats(0.01, 0.1), st.integers(-100, 100))
def test_quantising_returns_within_half_a_step_or_saturates(real: float, scale: float, zero_point: int) -> None:
    spec = TensorSpec("s", (1,), np.dtype(np.int8), scale, zero_point)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    back = float(dequantise(quantise(np.array([real], np.float32), spec), spec)[0])
    assert abs(back - min(max(real, low), high)) <= scale * 0.51
