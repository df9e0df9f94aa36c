"""`edgectl model quantize`: what is refused and why, the new bundle, and the conversion where TensorFlow is."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from coordinator.models.folder import read_folder
from coordinator.models.release import ModelRefusedError
from coordinator.quantize import environment, report
from coordinator.quantize.environment import NoTensorFlowError, find_python, run
from coordinator.quantize.wish import input_rule, toml, wish_of, write_bundle
from runtime.errors import PermanentError
from tests.coordinator.process import ROOT, edgectl
from tests.models.making import make_folder, model_bytes

FOUND: dict[str, Any] = {
    "tensorflow": "2.21.0",
    "before": {"bytes": 400, "latency_ms_p50": 10.0, "latency_ms_p95": 12.0},
    "after": {"bytes": 100, "latency_ms_p50": 4.0, "latency_ms_p95": 5.0},
    "outputs": [
        {"name": "scores", "shape": [1, 10], "cosine": 0.999, "cosine_min": 0.97, "difference": 0.01, "top1": 0.9},
    ],
}


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(7):
        (folder / f"{number}.jpg").write_bytes(b"x")
    (folder / "notes.txt").write_text("x")
    return folder


def saved_model(folder: Path) -> Path:
    folder.mkdir()
    (folder / "saved_model.pb").write_bytes(b"x")
    return folder


def test_what_cannot_be_quantised_is_refused_with_every_reason(tmp_path: Path, pictures: Path) -> None:
    bundle = make_folder(tmp_path / "bundle")
    empty = tmp_path / "empty"
    empty.mkdir()
    source = saved_model(tmp_path / "saved")
    for given, said in (
        ((bundle / "m.tflite", bundle, pictures, "", ""), "a .tflite file cannot be quantised again"),
        ((bundle, None, pictures, "", ""), "they cannot be quantised again: give the SavedModel folder"),
        ((empty, bundle, pictures, "", ""), "is no bundle, no SavedModel folder"),
        ((source, None, pictures, "", ""), "which bundle says how the model takes its pictures"),
        ((source, bundle, empty, "", ""), "has no pictures"),
        ((source, bundle, tmp_path / "nowhere", "", ""), "cannot be read"),
        ((source, bundle, pictures, "1.0.0", ""), "1.0.0 is that of the bundle"),
        ((source, bundle, pictures, "x", ""), "is no version"),
        ((source, bundle, pictures, "", "empty"), "is there already"),
    ):
        model, described, calibration, version, out = given
        with pytest.raises(ModelRefusedError) as refused:
            wish_of(model, described, calibration, tmp_path / (out or "new"), version, 500)
        assert said in str(refused.value)
    with pytest.raises(ModelRefusedError) as refused:
        wish_of(source, None, empty, empty, "", 500)
    assert all(part in str(refused.value) for part in ("--bundle", "--calibration", "--out"))


def test_the_new_bundle_is_that_of_the_float_model_with_another_file(tmp_path: Path, pictures: Path) -> None:
    top = "[declared.accuracy]\nmap50 = 0.6\n"
    bundle = make_folder(tmp_path / "bundle", version="1.4.2", top=top, more="[variants.requires]\nmemory_mb = 256\n")
    (bundle / "model.keras").write_bytes(b"x")
    wish = wish_of(bundle, None, pictures, tmp_path / "new", "", 3)
    assert (wish.source, wish.version, len(wish.pictures)) == (bundle / "model.keras", "1.4.3", 3)
    int8 = tmp_path / "int8.tflite"
    int8.write_bytes(model_bytes(seed=9))
    release = write_bundle(wish, int8, report.note(FOUND, 3))
    assert release == read_folder(tmp_path / "new").release
    (variant,) = release.variants
    assert (release.version, release.lineage.parent, release.declared.accuracy) == ("1.4.3", "finder@1.4.2", {})
    assert (variant.file, variant.requires.memory_mb) == ("finder_int8.tflite", 256)
    assert release.lineage.note == "int8 with 3 calibration pictures by TensorFlow 2.21.0; agreement 0.9990"
    assert {file.path for file in release.files} == {"bundle.toml", "finder_int8.tflite", "golden.json", "labels.txt"}
    int8.write_bytes(b"no model")
    with pytest.raises(ModelRefusedError):
        write_bundle(wish_of(bundle, None, pictures, tmp_path / "other", "", 3), int8, "")
    assert not (tmp_path / "other").exists() and not list(tmp_path.glob(".*"))


def test_a_table_is_written_as_it_was_read() -> None:
    table = {
        "name": "a\"b\n\u00e4", "size": 3, "share": 0.5, "on": True, "labels": ["x", "y"], "empty": {},
        "input": {"mean": [1.0, 2.0], "deep": {"a b": 1}},
        "variants": [{"file": "x", "needs": {"cores": 2}}, {"file": "y"}],
    }  # fmt: skip
    assert tomllib.loads(toml(table)) == table


def test_the_rule_of_the_input_has_its_defaults() -> None:
    assert input_rule({}) == {
        "layout": "nhwc", "color": "rgb", "resize": "stretch", "fill": 114, "mean": [0.0] * 3, "std": [],
    }  # fmt: skip
    assert input_rule({"mean": 127.5, "std": 127.5, "color": "gray"})["std"] == [127.5]
    assert input_rule({"mean": [1, 2, 3], "std": [4, 5, 6]})["mean"] == [1, 2, 3]


def test_what_came_of_it_is_told_with_what_to_mind() -> None:
    text = report.rows(FOUND, 7)
    assert "0.25" in text and "0.40" in text and "90.0%" in text and "0.9700" in text
    said = report.warnings(FOUND, 7, 50)
    assert len(said) == 2 and "cosine 0.970" in said[0] and "7 calibration pictures are few" in said[1]
    assert "are called scores, and boxes in the" in report.warnings(FOUND | {"outputs_wanted": ["boxes"]}, 7, 1)[1]
    assert report.warnings(FOUND | {"outputs_wanted": ["scores"]}, 50, 50) == said[:1]


# ---- the environment ----------------------------------------------------------------------------


def program(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_where_tensorflow_is_missing_it_is_said_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(NoTensorFlowError, match=r"environment is missing.*scripts/setup --for train"):
        find_python(tmp_path / "nowhere", {})
    with pytest.raises(NoTensorFlowError, match="has no TensorFlow"):
        find_python(program(tmp_path / "python", "exit 1"), {})
    named = program(tmp_path / "with", "exit 0")
    assert find_python(None, {environment.VARIABLE: str(named)}) == named


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('echo \'{"error": "ValueError: no layer"}\'; exit 1', "cannot be converted: ValueError: no layer"),
        ("echo killed >&2; exit 137", "status 137 and said: killed"),
        ("exit 0", "said: nothing"),
        ("sleep 60", "took longer than"),
    ],
)
def test_a_conversion_that_fails_says_why(tmp_path: Path, body: str, said: str) -> None:
    with pytest.raises(PermanentError, match=said):
        run(program(tmp_path / "python", body), {"source": "x"}, timeout_s=5)


def test_without_the_environment_the_command_says_so_and_makes_nothing(tmp_path: Path, pictures: Path) -> None:
    bundle = make_folder(tmp_path / "bundle")
    source, out = saved_model(tmp_path / "saved"), tmp_path / "new"
    words = ["model", "quantize", str(source), "--bundle", str(bundle), "--calibration", str(pictures)]
    done = edgectl([*words, "--out", str(out), "--python", str(tmp_path / "nowhere")])
    assert done.returncode == 1 and "scripts/setup --for train" in done.stderr and not out.exists()


def tensorflow() -> Path | None:
    try:
        return find_python(None)
    except NoTensorFlowError:
        return None


@pytest.mark.slow
@pytest.mark.skipif(tensorflow() is None, reason="no TensorFlow here (scripts/setup --for train)")
def test_a_model_is_converted_and_compared(tmp_path: Path) -> None:
    python = find_python(None)
    made = subprocess.run(
        [python, "-c", MAKE, tmp_path], capture_output=True, text=True, timeout=300, check=False, env=os.environ
    )
    assert made.returncode == 0, made.stderr
    bundle = make_folder(tmp_path / "bundle")
    out = tmp_path / "new"
    words = ["model", "quantize", str(tmp_path / "model.keras"), "--bundle", str(bundle), "--json"]
    words += ["--calibration", str(tmp_path / "pictures"), "--out", str(out)]
    words = [sys.executable, "-m", "coordinator.edgectl", *words]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["after"]["bytes"] < 0.5 * said["before"]["bytes"]
    (scores,) = said["outputs"]
    assert scores["cosine"] > 0.98 and scores["top1"] is not None
    assert read_folder(out).release.version == "1.0.1"


MAKE = """
import os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import numpy as np, tensorflow as tf
folder = sys.argv[1]
tf.keras.utils.set_random_seed(3)
layers = tf.keras.layers
model = tf.keras.Sequential([
    layers.Input((64, 64, 3)), layers.Rescaling(1 / 255), layers.Conv2D(16, 3, 2, activation="relu"),
    layers.Conv2D(64, 3, 2, activation="relu"), layers.Conv2D(128, 3, 2, activation="relu"), layers.Flatten(),
    layers.Dense(5, activation="softmax"),
])
model.save(f"{folder}/model.keras")
model.export(f"{folder}/saved")
os.mkdir(f"{folder}/pictures")
for i in range(20):
    image = np.random.default_rng(i).integers(0, 256, (80, 100, 3), np.uint8)
    tf.io.write_file(f"{folder}/pictures/{i}.png", tf.io.encode_png(image))
"""
