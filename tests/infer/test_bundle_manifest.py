import copy
from pathlib import Path
from typing import Any

import pytest

from agent.infer.bundle import Bundle, Target, parse_bundle
from agent.infer.engine import ModelError

SHA = "0" * 64
GOOD: dict[str, Any] = {
    "name": "porefinder",
    "version": "3",
    "labels": ["background", "pore", "crack"],
    "label_offset": 1,
    "input": {"layout": "nhwc", "resize": "letterbox", "mean": 0, "std": [255, 255, 255]},
    "output": {"decoder": "yolo", "boxes": "pixels", "objectness": False},
    "thresholds": {"confidence": 0.4, "per_class": {"crack": 0.2}, "keep": ["pore", "crack"]},
    "variants": [{"target": "cpu", "file": "m.tflite", "sha256": SHA}],
}


def parse(table: dict[str, Any]) -> Bundle:
    return parse_bundle(table, Path("/bundles/x"), lambda name: ("a", "b"), "bundle.toml")


def test_a_complete_manifest_becomes_a_bundle() -> None:
    bundle = parse(GOOD)
    assert bundle.labels == ("background", "pore", "crack")
    assert bundle.label_offset == 1
    assert bundle.input.std == (255.0, 255.0, 255.0)
    assert bundle.input.mean == (0.0, 0.0, 0.0)
    assert bundle.thresholds.by_class(bundle.labels).tolist() == pytest.approx([float("inf"), 0.4, 0.2])
    assert bundle.variant(Target.CPU) is bundle.variants[0]
    assert bundle.variant(Target.EDGETPU) is None
    assert bundle.variants[0].path == Path("/bundles/x/m.tflite")


def test_what_is_for_the_registry_changes_nothing() -> None:
    table = copy.deepcopy(GOOD)
    table |= {"declared": {"accuracy": {"map50": 0.6}}, "lineage": {"parent": "porefinder@2"}}
    table["variants"][0] |= {"requires": {"arch": ["arm64"]}, "declared": {"latency_ms": {"pi 5": 38.5}}}
    assert parse(table) == parse(GOOD)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (["name"], "", "name: a text is wanted"),
        (["name"], "a/b", "name: at most 64"),
        (["version"], 3, "version: a text is wanted"),
        (["labels"], [], "labels: 1 to"),
        (["labels"], "../labels.txt", "must be a file inside the bundle"),
        (["label_offset"], 7, "label_offset: leaves none of the 3 labels"),
        (["lables"], "x", "lables: unknown key, did you mean labels?"),
        (["input", "layout"], "chw", "input.layout: 'chw' is none of nhwc, nchw"),
        (["input", "std"], 0, "input.std: must not be 0"),
        (["input", "mean"], [1, 2], "input.mean: a list of 3 numbers"),
        (["input", "fill"], 999, "input.fill: a whole number from 0 to 255"),
        (["output", "decoder"], "yolo99", "output.decoder: 'yolo99' is none of"),
        (["output", "boxes"], "inches", "output.boxes: 'inches' is none of"),
        (["output", "objectness"], 1, "output.objectness: true or false"),
        (["output", "strides"], [8, 0.5], "output.strides: whole numbers"),
        (["thresholds", "confidence"], 1.5, "thresholds.confidence: a number from 0 to 1"),
        (["thresholds", "confidence"], True, "thresholds.confidence: a number"),
        (["thresholds", "keep"], ["dent"], "thresholds.keep: not among the labels: dent"),
        (["thresholds", "per_class"], {"dent": 0.1}, "thresholds.per_class.dent: not among the labels"),
        (["thresholds", "max_detections"], -1, "thresholds.max_detections: a whole number"),
        (["variants"], [], "variants: at least one"),
        (["variants"], "m.tflite", "variants: an array of tables"),
        (["variants", 0, "target"], "tpu", "variants[0].target: 'tpu' is none of"),
        (["variants", 0, "file"], "/etc/passwd", "variants[0].file"),
        (["variants", 0, "sha256"], "abc", "variants[0].sha256: 64 hex digits"),
        (["variants", 0, "golden"], "x", "variants[0].golden: unknown key"),
    ],
)
def test_each_mistake_is_named_by_its_key(path: list[Any], value: object, said: str) -> None:
    table = copy.deepcopy(GOOD)
    place: Any = table
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(ModelError) as caught:
        parse(table)
    assert said in str(caught.value)


def test_all_mistakes_come_in_one_report() -> None:
    table = copy.deepcopy(GOOD)
    del table["version"], table["output"]["boxes"]
    table["input"]["color"] = "cmyk"
    with pytest.raises(ModelError) as caught:
        parse(table)
    message = str(caught.value)
    assert "3 mistake(s)" in message
    for part in ("version: is missing", "input.color: 'cmyk'", "output.boxes: is missing"):
        assert part in message


def test_two_variants_of_one_target_are_refused() -> None:
    table = copy.deepcopy(GOOD)
    table["variants"] = table["variants"] * 2
    with pytest.raises(ModelError, match="same target"):
        parse(table)
