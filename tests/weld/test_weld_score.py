"""Decoding and average precision, on numbers one can check by hand."""

import numpy as np
import pytest

from platforms.manufacturing.training.targets import CLASSES, GRID_HEIGHT, GRID_WIDTH, targets_of
from platforms.manufacturing.weld_parts import FloatArray
from platforms.manufacturing.weld_samples import INPUT_HEIGHT, INPUT_WIDTH, Sample, Split, scene_samples
from platforms.manufacturing.weld_score import Found, decode_centerpoint, iou, score

BOX = [0.2, 0.2, 0.4, 0.4]
FAR = [0.7, 0.7, 0.9, 0.9]
OVER_HALF = [0.25, 0.2, 0.4, 0.4]  # IoU 0.75 with BOX


def _sample(boxes: list[list[float]], labels: list[int], visible: list[float] | None = None) -> Sample:
    image = np.zeros((INPUT_HEIGHT, INPUT_WIDTH, 3), np.uint8)
    seen = np.array(visible if visible is not None else [1.0] * len(labels), np.float32)
    return Sample(image, _boxes(boxes), np.array(labels, np.int32), seen)


def _boxes(boxes: list[list[float]]) -> FloatArray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def _found(boxes: list[list[float]], labels: list[int], confidence: list[float]) -> Found:
    return Found(_boxes(boxes), np.array(confidence, np.float32), np.array(labels, np.int32))


@pytest.mark.parametrize(
    ("found", "ap50", "ap80"),
    [
        pytest.param(_found([BOX, FAR], [0, 0], [0.9, 0.8]), 1.0, 1.0, id="all found"),
        pytest.param(_found([], [], []), 0.0, 0.0, id="nothing found"),
        pytest.param(_found([BOX], [0], [0.9]), 51 / 101, 51 / 101, id="one of two"),
        pytest.param(_found([BOX, BOX, FAR], [0, 0, 0], [0.9, 0.8, 0.7]), (51 + 50 * 2 / 3) / 101,
                     (51 + 50 * 2 / 3) / 101, id="one found twice"),
        pytest.param(_found([OVER_HALF, FAR], [0, 0], [0.9, 0.8]), 1.0, 51 / 101 / 2, id="one box loose"),
        pytest.param(_found([BOX, FAR], [1, 1], [0.9, 0.8]), 0.0, 0.0, id="other class"),
    ],
)  # fmt: skip
def test_average_precision(found: Found, ap50: float, ap80: float) -> None:
    result = score([_sample([BOX, FAR], [0, 0])], [found], 1, 0.5)
    assert result.ap[0, 0] == pytest.approx(ap50)
    assert result.ap[0, 6] == pytest.approx(ap80)


def test_a_defect_barely_in_view_counts_neither_way() -> None:
    sample = _sample([BOX, FAR], [0, 0], [1.0, 0.1])
    for found in (_found([BOX], [0], [0.9]), _found([FAR, BOX], [0, 0], [0.95, 0.9])):
        result = score([sample], [found], 1, 0.5)
        assert (result.truths[0], result.map50, result.recall[0], result.precision[0]) == (1, 1.0, 1.0, 1.0)


def test_iou_of_boxes() -> None:
    assert iou(_boxes([BOX]), _boxes([BOX, OVER_HALF, FAR]))[0] == pytest.approx([1.0, 0.75, 0.0])


def test_equal_neighbours_give_one_detection() -> None:
    heat = np.zeros((GRID_HEIGHT, GRID_WIDTH, 1), np.float32)
    heat[5, 8:10] = 0.75
    offset, size = (
        np.full((GRID_HEIGHT, GRID_WIDTH, 2), 0.5, np.float32),
        np.full((*heat.shape[:2], 2), 0.1, np.float32),
    )
    found = decode_centerpoint(heat, offset, size, 0.3, 10)
    assert len(found.confidence) == 1
    assert found.boxes[0] == pytest.approx([8.5 / 40 - 0.05, 5.5 / 24 - 0.05, 8.5 / 40 + 0.05, 5.5 / 24 + 0.05])


def test_what_the_network_is_taught_decodes_to_the_truth() -> None:
    samples = [sample for scene in range(4) for sample in scene_samples(Split.VALIDATION, scene)]
    found = []
    for sample in samples:
        taught = targets_of(sample)
        box = taught[..., 2 * CLASSES :]
        found.append(decode_centerpoint(taught[..., :CLASSES], box[..., :2], box[..., 2:4], 0.9, 50))
    result = score(samples, found, CLASSES, 0.5)
    assert result.truths.sum() > 20
    assert result.map50_95 > 0.97
