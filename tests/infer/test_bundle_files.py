from pathlib import Path
from typing import Any

import pytest

from agent.infer.bundle import Target
from agent.infer.bundle_files import load_bundle
from agent.infer.bundle_maker import make_bundle
from agent.infer.engine import ModelError
from agent.infer.tflite_file import label_lines
from tests.assets import ASSETS, needs_assets
from tests.infer.pictures import coco_names
from tests.infer.tiny_models import write_echo

LABELS = [f"thing {i}" for i in range(48)]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    model = write_echo(tmp_path / "echo.tflite")
    make_bundle(model, tmp_path / "bundle", labels=LABELS, licence='no "claims"')
    return tmp_path / "bundle"


def test_a_made_bundle_loads_from_its_folder_or_its_manifest(made: Path) -> None:
    bundle = load_bundle(made)
    assert bundle == load_bundle(made / "bundle.toml")
    assert bundle.name == "echo"
    assert bundle.licence == 'no "claims"'
    assert bundle.labels == tuple(LABELS)
    assert bundle.output.decoder == "classification"


def test_a_truncated_model_file_is_told_by_its_sha256(made: Path) -> None:
    model = made / "echo.tflite"
    model.write_bytes(model.read_bytes()[:-20])
    with pytest.raises(ModelError, match=r"sha256 .* but bundle.toml states .*damaged, truncated"):
        load_bundle(made)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "the file is empty"),
        (b"TFL", "it ends after 3 bytes"),
        (b"\x89PNG\r\n\x1a\n0000", "a PNG picture"),
        (b"PK\x03\x04rest of it", "a zip archive"),
        (b"<!doctype html><html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "a git LFS pointer"),
        (b"\x00" * 64, r"it has b'\\x00\\x00\\x00\\x00'"),
    ],
)
def test_a_foreign_file_is_refused_by_what_it_is(made: Path, content: bytes, found: str) -> None:
    (made / "echo.tflite").write_bytes(content)
    with pytest.raises(ModelError, match=f"not a TFLite model: .*{found}"):
        load_bundle(made)


def test_missing_files_are_named(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere.bundle\.toml cannot be read"):
        load_bundle(tmp_path / "nowhere")
    (made / "labels.txt").unlink()
    with pytest.raises(ModelError, match=r"labels: label file .*labels.txt cannot be read"):
        load_bundle(made)


def test_a_manifest_that_is_not_toml_is_refused(made: Path) -> None:
    (made / "bundle.toml").write_bytes(b"name = \xff")
    with pytest.raises(ModelError, match="not valid TOML"):
        load_bundle(made)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (b"a\r\nb\n\n\n", ("a", "b")),
        (b"\xef\xbb\xbfa\n\nb", ("a", "", "b")),
        (b"0  person\n2  car\n", ("person", "???", "car")),
        (b"0: a\n1: b", ("a", "b")),
        (b"", ()),
    ],
)
def test_label_files_in_their_common_forms(text: bytes, labels: tuple[str, ...]) -> None:
    assert label_lines(text) == labels


def test_labels_of_the_wrong_length_are_refused(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "echo.tflite")
    with pytest.raises(ModelError, match="48 scores, but the labels name 10 classes"):
        make_bundle(model, tmp_path / "bundle", labels=LABELS[:10])
    assert not (tmp_path / "bundle/bundle.toml").exists()


def test_a_bundle_is_not_written_over_another(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds a bundle already"):
        make_bundle(tmp_path / "echo.tflite", made, labels=LABELS)


def test_a_model_without_labels_asks_for_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="brings no labels; give a label file"):
        make_bundle(write_echo(tmp_path / "echo.tflite"), tmp_path / "bundle")


def test_a_model_with_two_inputs_is_refused(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "two.tflite", inputs=2)
    with pytest.raises(ModelError, match=r"has 2 inputs \(picture, picture1\).*stateful"):
        make_bundle(model, tmp_path / "bundle", labels=LABELS)


MODELS = ASSETS / "models"
GUESSES = [
    ("coco_ssd_mobilenet_v1_1.0_quant_2018_06_29", False, {"decoder": "ssd_postprocess"}, {"resize": "stretch"}, 90),
    (
        "yolov8n_full_integer_quant_224",
        False,
        {"boxes": "normalised", "objectness": False},
        {"std": (255.0,) * 3},
        80,
    ),
    ("yolox_nano_float32", True, {"boxes": "pixels", "objectness": True}, {"color": "bgr", "std": ()}, 80),
    ("mobilenet_v1_0.25_224_quant_metadata", False, {"activation": "none"}, {"std": ()}, 1001),
]


@needs_assets
@pytest.mark.parametrize(("model", "give_labels", "output", "given", "labels"), GUESSES)
def test_real_models_are_guessed(
    tmp_path: Path, model: str, give_labels: bool, output: dict[str, Any], given: dict[str, Any], labels: int
) -> None:
    made = make_bundle(MODELS / f"{model}.tflite", tmp_path / "b", labels=coco_names() if give_labels else None)
    assert len(made.bundle.labels) == labels
    for key, value in output.items():
        assert (made.bundle.output.decoder if key == "decoder" else getattr(made.bundle.output.options, key)) == value
    for key, value in given.items():
        assert getattr(made.bundle.input, key) == value
    assert made.notes


@needs_assets
def test_an_edge_tpu_twin_becomes_a_second_variant(tmp_path: Path) -> None:
    twin = MODELS / "yolov8n_full_integer_quant_edgetpu.tflite"
    made = make_bundle(MODELS / "yolov8n_full_integer_quant.tflite", tmp_path / "b", more_files=[twin])
    assert [v.target for v in made.bundle.variants] == [Target.CPU, Target.EDGETPU]


@needs_assets
@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("age_gender_two_outputs", "no decoder is known"),
        ("deeplabv3_float32", "no decoder is known"),
        ("mobilenet_v1_1.0_224_quant_embedding_extractor", "1024 scores, but the labels name 80"),
        ("model_invoking_error", "unresolved custom op: fake-op-double"),
        ("person_detect_tflm", "quantized_dimension"),
        ("traffic_model", "has 3 inputs"),
    ],
)
def test_models_that_cannot_serve_are_refused_with_the_reason(tmp_path: Path, model: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        make_bundle(MODELS / f"{model}.tflite", tmp_path / "b", labels=coco_names())
