"""Cutting .tflite graphs: what comes out is what the whole network computes inside."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.__main__ import main
from agent.infer.engine import ModelError
from agent.infer.graph.cutting import cut, find_layer, layers
from agent.infer.graph.flatbuffer import Graph
from agent.infer.litert import LiteRtEngine
from tests.assets import ASSETS, needs_assets
from tests.infer.tiny_models import write_echo

OURS = Path(__file__).resolve().parents[2] / "platforms" / "manufacturing" / "models" / "weld_defects"
MODEL = OURS / "weld_defects_int8.tflite"


def inner(model: Path, picture: np.ndarray, tensors: list[int]) -> list[np.ndarray]:
    """What the whole network computes inside, without XNNPACK."""
    with pytest.warns(UserWarning, match="preserve_all_tensors"):
        whole = Interpreter(str(model), experimental_preserve_all_tensors=True)
    whole.allocate_tensors()
    whole.set_tensor(whole.get_input_details()[0]["index"], picture)
    whole.invoke()
    return [whole.get_tensor(tensor) for tensor in tensors]


def noise_for(engine: LiteRtEngine) -> np.ndarray:
    drawn = np.random.default_rng(0).integers(0, 120, engine.input.shape)
    return drawn.astype(engine.input.dtype)


def test_several_layers_come_out_as_they_are_inside(tmp_path: Path) -> None:
    known = layers(Graph.load(MODEL))
    wanted = [known[-6], known[3], known[len(known) // 2]]
    found = cut(MODEL, [str(layer.index) for layer in wanted], tmp_path / "cut.tflite")
    assert found == wanted
    engine = LiteRtEngine.open(tmp_path / "cut.tflite", warmup_runs=0)
    assert [spec.name for spec in engine.outputs] == [layer.name for layer in wanted]
    picture = noise_for(engine)
    for ours, theirs in zip(
        engine.infer(picture), inner(MODEL, picture, [layer.tensor for layer in wanted]), strict=True
    ):
        # XNNPACK may round the last step of a quantised value the other way.
        assert np.abs(ours.astype(np.int32) - theirs.astype(np.int32)).max() <= 2
    engine.close()


def test_what_no_output_needs_is_gone(tmp_path: Path) -> None:
    whole = Graph.load(MODEL)
    layer = layers(whole)[2]
    cut(MODEL, [layer.name], tmp_path / "cut.tflite")
    left = Graph.load(tmp_path / "cut.tflite")
    assert len(left.operators) == layer.index + 1
    assert (tmp_path / "cut.tflite").stat().st_size < MODEL.stat().st_size / 10
    assert left.tensor(left.outputs[0]).name == layer.name
    # Cutting the cut at its end changes nothing.
    cut(tmp_path / "cut.tflite", [layer.name], tmp_path / "again.tflite")
    assert (tmp_path / "again.tflite").read_bytes() == (tmp_path / "cut.tflite").read_bytes()


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["no such layer"], "has no layer 'no such layer'"),
        (["9999"], "has no layer '9999'"),
        (["conv2d"], "means"),
        ([], "1 to 8 layers"),
        (["3", "3"], "a layer is named twice"),
    ],
)
def test_layers_that_are_not_there_are_said(wanted: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=said):
        cut(MODEL, wanted, tmp_path / "cut.tflite")
    assert not (tmp_path / "cut.tflite").exists()


def test_a_part_of_a_name_is_enough_where_it_is_the_only_one() -> None:
    known = layers(Graph.load(MODEL))
    assert find_layer(known, known[4].name, MODEL) == known[4]
    assert find_layer(known, str(known[4].index), MODEL) == known[4]


def test_files_that_are_no_models_or_damaged_are_refused(tmp_path: Path) -> None:
    text, broken = tmp_path / "a.tflite", tmp_path / "b.tflite"
    text.write_text("a text that is no model at all")
    broken.write_bytes(MODEL.read_bytes()[:600])
    with pytest.raises(ModelError, match="not a TFLite model"):
        Graph.load(text)
    with pytest.raises(ModelError, match="is damaged"):
        Graph.load(broken)
    with pytest.raises(ModelError, match="cannot be read"):
        Graph.load(tmp_path / "none.tflite")
    with pytest.raises(ModelError, match="is the model itself"):
        cut(MODEL, ["3"], MODEL)


@settings(max_examples=150, deadline=None)
@given(damage=st.lists(st.tuples(st.integers(8, 3000), st.integers(0, 255)), min_size=1, max_size=6), data=st.data())
def test_a_damaged_file_is_refused_or_cut_but_breaks_nothing(
    small: bytes, damage: list[tuple[int, int]], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    content = bytearray(small)
    for at, value in damage:
        content[at % len(content)] = value
    content[4:8] = b"TFL3"
    path = tmp_path_factory.mktemp("damaged") / "model.tflite"
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    try:
        graph = Graph.load(path)
        for layer in layers(graph)[:1]:
            graph.keep([layer.tensor])
            graph.content()
    except ModelError as error:
        assert str(path) in str(error) or "damaged" in str(error)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A few operators."""
    out = tmp_path_factory.mktemp("small") / "cut.tflite"
    cut(MODEL, [str(layers(Graph.load(MODEL))[1].index)], out)
    return out.read_bytes()


def test_a_network_without_feature_maps_has_no_layers(tmp_path: Path) -> None:
    assert layers(Graph.load(write_echo(tmp_path / "echo.tflite"))) == []


def test_the_command_lists_and_cuts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "features", str(MODEL), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(layers(Graph.load(MODEL)))
    out = tmp_path / "cut.tflite"
    index = lines[5].split()[0]
    assert main(["model", "features", str(MODEL), "--layer", index, "-o", str(out)]) == 0
    assert "96 x 160" in capsys.readouterr().out or out.exists()
    assert main(["model", "features", str(MODEL), "--layer", "nothing", "-o", str(tmp_path / "x")]) == 1
    assert "--list shows all" in capsys.readouterr().err
    assert main(["model", "features", str(MODEL)]) == 2


@needs_assets
@pytest.mark.parametrize(
    ("file", "layer"),
    [
        ("mobilenet_v2_1.0_224_quant.tflite", "expanded_conv_12/add"),
        ("mobilenet_v2_int8_nchw_1x3x224x224.tflite", "61"),
        ("mobilenet_v1_0.25_224_float32.tflite", "Conv2d_11_pointwise/Relu6"),
        ("deeplabv3_float32.tflite", "expanded_conv_12/add"),
        ("yolox_nano_float32.tflite", "30"),
        ("coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite", "20"),
        ("face_detection_short_range_fp16.tflite", "20"),
    ],
)
def test_real_models_are_cut(file: str, layer: str, tmp_path: Path) -> None:
    model = ASSETS / "models" / file
    known = layers(Graph.load(model))
    chosen = layer if not layer.isdecimal() else str(min(known, key=lambda one: abs(one.index - int(layer))).index)
    (found,) = cut(model, [chosen], tmp_path / "cut.tflite")
    engine = LiteRtEngine.open(tmp_path / "cut.tflite", warmup_runs=0)
    picture = noise_for(engine)
    (ours,) = engine.infer(picture)
    (theirs,) = inner(model, picture, [found.tensor])
    difference = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    assert difference.max() <= (2 if ours.dtype != np.float32 else 1e-2 * max(1.0, float(np.abs(theirs).max())))
    engine.close()


@needs_assets
@pytest.mark.parametrize(
    ("file", "said"),
    [("person_detect_tflm.tflite", ""), ("traffic_model.tflite", "")],
)
def test_models_of_other_kinds_are_listed_or_refused_with_a_reason(file: str, said: str) -> None:
    try:
        assert layers(Graph.load(ASSETS / "models" / file))
    except ModelError as error:
        assert error.hint or error.what
