"""Each head against outputs written by hand: what goes in as a known box must come out as that box in the frame."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from agent.infer.decode import HEADS, Decoder, OutputRule, build_decoder
from agent.infer.detections import Detections
from agent.infer.engine import ModelError, Tensor, TensorSpec
from agent.infer.heads.anchors import AnchorRule, anchors
from agent.infer.preprocess import Geometry
from agent.infer.quantised import quantise
from agent.infer.reader import Reader
from agent.infer.thresholds import Thresholds

LABELS = ("cat", "dog", "bird")
GEOMETRY = Geometry(64, 64, "letterbox")
PLACEMENT = GEOMETRY.placement(128, 64)  # the picture lies in rows 16..48, at half its size


def f32(name: str, *shape: int) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(np.float32))


def i8(name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> TensorSpec:
    return TensorSpec(name, shape, np.dtype(np.int8), scale, zero_point)


def build(
    decoder: str,
    outputs: list[TensorSpec],
    options: Mapping[str, object] | None = None,
    labels: tuple[str, ...] = LABELS,
    offset: int = 0,
    geometry: Geometry = GEOMETRY,
    **thresholds: Any,
) -> Decoder:
    mistakes: list[str] = []
    reader = Reader(options or {}, "output", mistakes)
    rule = OutputRule(decoder, HEADS[decoder].read_options(reader))
    reader.finish()
    assert not mistakes
    return build_decoder(rule, outputs, geometry, labels, offset, Thresholds(**thresholds))


def run(decoder: Decoder, outputs: list[Tensor]) -> Detections:
    return decoder.decode(outputs, PLACEMENT, 128, 64)


def check(found: Detections, *expected: tuple[str, float, list[float]]) -> None:
    assert [LABELS[c] for c in found.class_id] == [label for label, _, _ in expected]
    np.testing.assert_allclose(found.confidence, [c for _, c, _ in expected], atol=0.02)
    np.testing.assert_allclose(found.xyxy, [box for _, _, box in expected], atol=1.5)


# One cat at model pixels (16, 24)-(32, 40), that is frame (32, 16)-(64, 48).
CAT_FRAME = [32.0, 16, 64, 48]


def yolo_table(objectness: bool, unit: float, cells: int = 84) -> np.ndarray:
    """(columns, cells): the cat in cell 5 with 0.9, its weaker double in 6, a dog below the threshold in 7."""
    table = np.zeros((4 + objectness + len(LABELS), cells), np.float32)
    first = 4 + objectness
    table[:4, 5] = np.array([24, 32, 16, 16]) / unit
    table[:4, 6] = np.array([25, 32, 16, 16]) / unit
    table[:4, 7] = np.array([50, 32, 8, 8]) / unit
    table[first, 5], table[first, 6], table[first + 1, 7] = 0.9, 0.8, 0.3
    if objectness:
        table[4, 5:8] = 1.0
    return table


@pytest.mark.parametrize("boxes", ["normalised", "pixels"])
@pytest.mark.parametrize("objectness", [True, False])
@pytest.mark.parametrize("columns_first", [True, False])
def test_yolo_in_either_orientation_and_unit(boxes: str, objectness: bool, columns_first: bool) -> None:
    table = yolo_table(objectness, 64 if boxes == "normalised" else 1)[None]
    if not columns_first:
        table = np.ascontiguousarray(table.transpose(0, 2, 1))
    decoder = build("yolo", [f32("out", *table.shape)], {"boxes": boxes, "objectness": objectness})
    check(run(decoder, [table]), ("cat", 0.9, CAT_FRAME))


def test_yolo_quantised_to_int8() -> None:
    table = yolo_table(False, 64)[None]
    spec = i8("out", table.shape, 1 / 255, -128)
    decoder = build("yolo", [spec], {"boxes": "normalised", "objectness": False})
    check(run(decoder, [quantise(table, spec)]), ("cat", 0.9, CAT_FRAME))


def test_yolo_multiplies_objectness_and_class() -> None:
    table = yolo_table(True, 1)[None]
    table[0, 4, 5] = 0.6
    decoder = build(
        "yolo", [f32("out", *table.shape)], {"boxes": "pixels", "objectness": True}, confidence=0.5, iou=1
    )
    check(run(decoder, [table]), ("cat", 0.8, [34.0, 16, 66, 48]), ("cat", 0.54, CAT_FRAME))


def test_yolo_undecoded_grid() -> None:
    # Strides 8, 16, 32 on 64 pixels: 64 + 16 + 4 cells. Cell (row 2, column 1) of stride 16 is number 64 + 9.
    table = np.full((1, 84, 8), -10, np.float32)
    table[..., 4:] = 0
    table[0, 73] = [0.5, 0.0, 0.0, 0.0, 1.0, 0.0, 0.9, 0.0]
    decoder = build("yolo", [f32("out", 1, 84, 8)], {"boxes": "grid", "objectness": True})
    check(run(decoder, [table]), ("dog", 0.9, [32.0, 16, 64, 48]))


def test_a_threshold_per_class_and_the_classes_to_keep() -> None:
    table = yolo_table(False, 1)[None]
    outputs, options = [f32("out", *table.shape)], {"boxes": "pixels", "objectness": False}
    dog = ("dog", 0.3, [92.0, 24, 108, 40])
    check(run(build("yolo", outputs, options, per_class={"dog": 0.2}), [table]), ("cat", 0.9, CAT_FRAME), dog)
    check(run(build("yolo", outputs, options, confidence=0.2, keep=("dog",)), [table]), dog)


def test_label_offset_moves_the_model_classes() -> None:
    table = yolo_table(False, 1)[None]
    labels = ("background", *LABELS)
    decoder = build("yolo", [f32("out", *table.shape)], {"boxes": "pixels", "objectness": False}, labels, 1)
    assert run(decoder, [table]).class_id.tolist() == [1]


def test_nan_everywhere_yields_nothing() -> None:
    for objectness in (True, False):
        table = np.full((1, 7 + objectness, 84), np.nan, np.float32)
        decoder = build("yolo", [f32("out", *table.shape)], {"boxes": "pixels", "objectness": objectness})
        assert len(run(decoder, [table])) == 0


SSD_NAMES = ["TFLite_Detection_PostProcess" + s for s in ("", ":1", ":2", ":3")]
SSD = [
    np.array([[[0.375, 0.25, 0.625, 0.5], [0.3, 0.7, 0.4, 0.9], [0, 0, 0, 0]]], np.float32),
    np.array([[0.0, 1.0, 0.0]], np.float32),
    np.array([[0.9, 0.6, 0.95]], np.float32),
    np.array([2.0], np.float32),
]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (1, 3, 0, 2)])
def test_ssd_postprocess_finds_its_outputs_in_any_order(order: tuple[int, ...]) -> None:
    specs = [f32(SSD_NAMES[i], *SSD[i].shape) for i in order]
    found = run(build("ssd_postprocess", specs), [SSD[i] for i in order])
    check(found, ("cat", 0.9, CAT_FRAME), ("dog", 0.6, [89.6, 6.4, 115.2, 19.2]))


def test_ssd_postprocess_under_other_names_takes_a_statement() -> None:
    specs = [f32(f"StatefulPartitionedCall:{i}", *a.shape) for i, a in enumerate(SSD)]
    with pytest.raises(ModelError, match="nothing tells scores from classes; name one in"):
        build("ssd_postprocess", specs)
    for options in ({"scores": "Call:2"}, {"classes": "1"}):
        assert len(run(build("ssd_postprocess", specs, options), SSD)) == 2


@pytest.mark.parametrize("count", [0.0, -3.0, float("nan")])
def test_ssd_postprocess_believes_the_count(count: float) -> None:
    specs = [f32(n, *a.shape) for n, a in zip(SSD_NAMES, SSD, strict=True)]
    assert len(run(build("ssd_postprocess", specs), [*SSD[:3], np.array([count], np.float32)])) == 0


def test_ssd_postprocess_ignores_classes_without_a_label() -> None:
    specs = [f32(n, *a.shape) for n, a in zip(SSD_NAMES, SSD, strict=True)]
    outputs = [SSD[0], np.array([[7.0, -1.0, np.nan]], np.float32), SSD[2], SSD[3]]
    assert len(run(build("ssd_postprocess", specs), outputs)) == 0


def test_anchors_of_the_usual_ssd_number_1917() -> None:
    rule = AnchorRule(grids=tuple((n, n) for n in (19, 10, 5, 3, 2, 1)))
    made = anchors(rule)
    assert made.shape == (1917, 4)
    np.testing.assert_allclose(made[0], [0.5 / 19, 0.5 / 19, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(made[1, 2:], [0.2 / 2**0.5, 0.2 * 2**0.5], rtol=1e-5)
    np.testing.assert_allclose(made[-1], [0.5, 0.5, (0.95 * 1.0) ** 0.5, (0.95 * 1.0) ** 0.5], rtol=1e-5)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "none"])
def test_ssd_raw_decodes_against_its_anchors(activation: str) -> None:
    options = {"strides": [16, 32], "activation": activation}
    made = anchors(AnchorRule(grids=((4, 4), (2, 2))))
    n = len(made)
    assert n == 16 * 3 + 4 * 6
    boxes, scores = np.zeros((1, n, 4), np.float32), np.zeros((1, n, 4), np.float32)
    logits = {"sigmoid": (2.2, -6.0), "softmax": (6.0, 0.0), "none": (0.9, 0.0)}[activation]
    scores[...] = logits[1]
    at = 30  # some anchor; its box is encoded so that it becomes the cat's
    ay, ax, ah, aw = made[at]
    boxes[0, at] = [(0.5 - ay) / ah * 10, (0.375 - ax) / aw * 10, np.log(0.25 / ah) * 5, np.log(0.25 / aw) * 5]
    scores[0, at, 1] = logits[0]
    decoder = build(
        "ssd_raw", [f32("boxes", 1, n, 4), f32("scores", 1, n, 4)], {**options, "boxes": "boxes", "scores": "scores"}
    )
    found = run(decoder, [boxes, scores])
    assert [LABELS[c] for c in found.class_id] == ["cat"]
    np.testing.assert_allclose(found.xyxy, [CAT_FRAME], atol=0.1)
    assert found.confidence[0] > 0.85


def test_classification_reports_the_best_classes_for_the_whole_frame() -> None:
    row = np.array([[0.2, 0.7, 0.1]], np.float32)
    found = run(build("classification", [f32("p", 1, 3)], {"top_k": 2}, confidence=0.15), [row])
    check(found, ("dog", 0.7, [0.0, 0, 128, 64]), ("cat", 0.2, [0.0, 0, 128, 64]))
    assert len(run(build("classification", [f32("p", 1, 1, 1, 3)], confidence=0.8), [row.reshape(1, 1, 1, 3)])) == 0


def test_classification_turns_logits_into_probabilities() -> None:
    spec = i8("logits", (1, 3), 0.1, 10)
    logits = quantise(np.array([[0.0, 3.0, -1.0]], np.float32), spec)
    check(
        run(build("classification", [spec], {"activation": "softmax"}), [logits]), ("dog", 0.936, [0.0, 0, 128, 64])
    )


CENTER = [f32("heatmap", 1, 16, 16, 3), f32("offset", 1, 16, 16, 2), f32("size", 1, 16, 16, 2)]


def center_outputs() -> list[Tensor]:
    heat, offset, size = (np.zeros(s.shape, np.float32) for s in CENTER)
    heat[0, 8, 6, 0], heat[0, 8, 7, 0], heat[0, 8, 7, 1] = 0.9, 0.7, 0.6
    offset[0, 8, 6] = [0.0, 0.0]
    size[0, 8, 6] = [0.25, 0.25]
    size[0, 8, 7] = [0.125, 0.125]
    return [heat, offset, size]


def test_centerpoint_takes_the_peaks() -> None:
    found = run(build("centerpoint", CENTER), center_outputs())
    check(found, ("cat", 0.9, CAT_FRAME), ("dog", 0.6, [48.0, 24, 64, 40]))


def test_centerpoint_outputs_are_told_apart_by_name() -> None:
    shuffled = [2, 0, 1]
    decoder = build("centerpoint", [CENTER[i] for i in shuffled])
    outputs = center_outputs()
    assert len(run(decoder, [outputs[i] for i in shuffled])) == 2
    renamed = [f32(f"out:{i}", *s.shape) for i, s in enumerate(CENTER)]
    with pytest.raises(ModelError, match="no output is called 'heatmap'; name one of them in"):
        build("centerpoint", renamed)
    assert len(run(build("centerpoint", renamed, {"heatmap": "0", "offset": "1", "size": "out:2"}), outputs)) == 2


def test_centerpoint_counts_a_saturated_plateau_once() -> None:
    spec = i8("heatmap", CENTER[0].shape, 1 / 255, -128)
    outputs = center_outputs()
    outputs[0][0, 8, 6:8, 0] = 1.0
    found = run(build("centerpoint", [spec, *CENTER[1:]], iou=1), [quantise(outputs[0], spec), *outputs[1:]])
    assert [LABELS[c] for c in found.class_id] == ["cat", "dog"]


def test_centerpoint_at_the_border() -> None:
    outputs = center_outputs()
    outputs[0][...] = 0
    outputs[0][0, 0, 0, 2] = outputs[0][0, 15, 15, 2] = 0.8
    outputs[2][...] = 0.9
    decoder = build("centerpoint", CENTER)
    found = decoder.decode(outputs, Geometry(64, 64).placement(64, 64), 64, 64)
    assert len(found) == 2
    assert found.xyxy.min() >= 0
    assert found.xyxy.max() <= 64


@pytest.mark.parametrize(
    ("decoder", "specs", "options", "said"),
    [
        ("yolo", [f32("o", 1, 84, 1029)], {"boxes": "pixels", "objectness": False}, "3 classes make 7 columns"),
        ("yolo", [f32("o", 1, 7, 90)], {"boxes": "grid", "objectness": False}, "make 84 cells, not 90"),
        ("yolo", [f32("a", 1, 7, 9), f32("b", 1, 7, 9)], {"boxes": "pixels", "objectness": False}, "exactly one"),
        ("classification", [f32("o", 1, 4)], {}, "4 scores, but the labels name 3"),
        ("classification", [f32("o", 2, 3)], {}, "a single row"),
        ("ssd_postprocess", [f32("o", 1, 7, 84)], {}, "boxes"),
        ("ssd_raw", [f32("a", 1, 9, 4), f32("b", 1, 9, 4)], {"boxes": "a", "scores": "b"}, "anchors"),
        ("ssd_raw", [f32("a", 1, 9, 4), f32("b", 1, 9, 4)], {}, "nothing tells the scores output"),
        ("centerpoint", [f32("heatmap", 1, 4, 4, 9), *CENTER[1:]], {}, "one map a label"),
        ("centerpoint", [CENTER[0], f32("offset", 1, 4, 4, 2), CENTER[2]], {}, "offset and size must be"),
    ],
)
def test_outputs_that_do_not_fit_are_refused_when_the_decoder_is_built(
    decoder: str, specs: list[TensorSpec], options: dict[str, object], said: str
) -> None:
    with pytest.raises(ModelError, match=said):
        build(decoder, specs, options)
