"""The shipped model bundle: untouched, of the stated shape, and as good as its card says."""

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from platforms.manufacturing.training.measure import Int8Model, found_in
from platforms.manufacturing.weld_parts import KINDS, LINES, Line
from platforms.manufacturing.weld_samples import INPUT_HEIGHT, INPUT_WIDTH, Split, sample_of, scene_samples
from platforms.manufacturing.weld_scene import WeldScene
from platforms.manufacturing.weld_score import iou, score

BUNDLE = Path(__file__).resolve().parents[2] / "platforms" / "manufacturing" / "models" / "weld_defects"
MANIFEST: dict[str, Any] = tomllib.loads((BUNDLE / "bundle.toml").read_text(encoding="utf-8"))
FILE = BUNDLE / MANIFEST["variants"][0]["file"]
CARD = (BUNDLE / "MODEL_CARD.md").read_text(encoding="utf-8")
SHOWN = float(MANIFEST["thresholds"]["confidence"])


@pytest.fixture(scope="module")
def model() -> Int8Model:
    return Int8Model(FILE)


def test_the_file_is_the_one_of_the_manifest_and_the_card() -> None:
    sha256 = hashlib.sha256(FILE.read_bytes()).hexdigest()
    assert sha256 == MANIFEST["variants"][0]["sha256"]
    assert sha256 in CARD
    assert FILE.stat().st_size < 1_000_000


def test_labels_are_the_kinds_in_order() -> None:
    assert (BUNDLE / MANIFEST["labels"]).read_text(encoding="utf-8").split() == list(KINDS)


def test_pixels_go_in_as_they_are_and_outputs_are_named(model: Int8Model) -> None:
    assert tuple(model.input["shape"]) == (1, INPUT_HEIGHT, INPUT_WIDTH, 3)
    assert model.input["dtype"] == np.uint8
    assert model.input["quantization"] == (pytest.approx(1 / 255), 0)
    rows, columns = INPUT_HEIGHT // 8, INPUT_WIDTH // 8
    depths = {"heatmap": len(KINDS), "offset": 2, "size": 2}
    assert {name: tuple(output["shape"]) for name, output in model.outputs.items()} == {
        MANIFEST["output"][name]: (1, rows, columns, depth) for name, depth in depths.items()
    }
    assert {output["dtype"] for output in model.outputs.values()} == {np.int8}


def test_it_finds_what_its_card_claims_on_held_out_pictures(model: Int8Model) -> None:
    stated = re.search(r"mAP@0\.5 = ([0-9.]+)", CARD)
    assert stated is not None
    samples = [sample for scene in range(10) for sample in scene_samples(Split.TEST, scene)]
    result = score(samples, found_in(model, samples), len(KINDS), SHOWN)
    assert result.truths.min() >= 10
    assert result.map50 > float(stated[1]) - 0.06


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_good_parts_raise_few_false_alarms(model: Int8Model, line: Line) -> None:
    scene = WeldScene(int(Split.TEST) + 60_000, line=line, defects=False)
    found = [model.find(sample_of(scene, 60 * k, antialias=True).image) for k in range(30)]
    alarms = sum(int((one.confidence >= SHOWN).sum()) for one in found)
    assert alarms <= 3


def test_the_golden_picture_gives_the_golden_detections(model: Int8Model) -> None:
    av = pytest.importorskip("av")
    with av.open(str(BUNDLE / "golden.jpg")) as container:
        frame = next(container.decode(video=0)).reformat(width=INPUT_WIDTH, height=INPUT_HEIGHT, format="rgb24")
    found = model.find(frame.to_ndarray())
    expected = json.loads((BUNDLE / "golden.json").read_text(encoding="utf-8"))
    shown = found.confidence >= SHOWN
    assert len(expected) >= 3
    assert int(shown.sum()) == len(expected)
    for wanted in expected:
        box = np.array([wanted["box"]], np.float32)
        same = shown & (found.class_id == KINDS.index(wanted["label"])) & (iou(box, found.boxes)[0] > 0.6)
        assert same.any(), f"{wanted} is not among the detections"
