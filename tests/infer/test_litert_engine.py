import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from agent.infer.engine import EngineError, EngineUnavailableError, ModelError
from agent.infer.litert import LiteRtEngine, classic_interpreter
from tests.assets import ASSETS, needs_assets
from tests.infer.fickle import Fickle, needs_gcc
from tests.infer.tiny_models import write_echo

MODELS = ASSETS / "models"


def test_a_model_runs_and_states_its_tensors(tmp_path: Path) -> None:
    engine = LiteRtEngine.open(write_echo(tmp_path / "echo.tflite", scale=0.5, zero_point=3), threads=2)
    assert engine.input.shape == (1, 4, 4, 3)
    assert engine.input.dtype == np.uint8
    assert (engine.input.scale, engine.input.zero_point) == (0.5, 3)
    assert [s.shape for s in engine.outputs] == [(1, 48)]
    assert engine.warmup_ms > 0
    tensor = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
    first = engine.infer(tensor)
    engine.infer(np.zeros_like(tensor))
    assert first[0].ravel().tolist() == list(range(48)), "the outputs are the caller's to keep"


@pytest.mark.parametrize(
    "tensor", [np.zeros((1, 4, 5, 3), np.uint8), np.zeros((1, 4, 4, 3), np.float32), np.zeros(48, np.uint8)]
)
def test_a_wrong_tensor_is_refused_with_what_is_wanted(tmp_path: Path, tensor: np.ndarray) -> None:
    engine = LiteRtEngine.open(write_echo(tmp_path / "echo.tflite"))
    with pytest.raises(ModelError, match=r"takes an input of shape \(1, 4, 4, 3\) and type uint8, not"):
        engine.infer(tensor)


def test_a_model_with_several_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"has 2 inputs \(picture, picture1\)"):
        LiteRtEngine.open(write_echo(tmp_path / "two.tflite", inputs=2))


def test_an_unknown_op_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unresolved custom op: wavelet"):
        LiteRtEngine.open(write_echo(tmp_path / "odd.tflite", custom_op="wavelet"))


def test_an_edge_tpu_model_on_the_cpu_says_so(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "x_edgetpu.tflite", custom_op="edgetpu-custom-op")
    with pytest.raises(EngineUnavailableError, match=r"compiled for the Edge TPU and cannot run on .*cpu variant"):
        LiteRtEngine.open(model)


def test_a_truncated_model_is_refused(tmp_path: Path) -> None:
    whole = write_echo(tmp_path / "echo.tflite").read_bytes()
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="cannot be loaded"):
        LiteRtEngine.open(cut)


# LiteRT's half-made Delegate complains when it is collected; nothing of ours holds it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_missing_delegate_library_is_named(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "echo.tflite")
    with pytest.raises(EngineUnavailableError, match=r"delegate library libnone.so.1 cannot be loaded: libnone"):
        LiteRtEngine.open(model, delegate_path="libnone.so.1")


@needs_gcc
def test_a_delegate_runs_the_model(tmp_path: Path, fickle: Fickle) -> None:
    model = write_echo(tmp_path / "echo.tflite")
    engine = LiteRtEngine.open(model, delegate_path=str(fickle.library), delegate_options=[*fickle.options.items()])
    tensor = np.zeros((1, 4, 4, 3), np.uint8)
    assert set(engine.infer(tensor)[0].ravel().tolist()) == {7}
    fickle.become("error-invoke")
    with pytest.raises(EngineError, match="a transfer failed"):
        engine.infer(tensor)
    fickle.become("ok")
    assert engine.infer(tensor)[0][0, 0] == 7


@needs_gcc
def test_a_delegate_that_refuses_gives_its_reason(tmp_path: Path, fickle: Fickle) -> None:
    fickle.become("refuse")
    model = write_echo(tmp_path / "echo.tflite")
    with pytest.raises(EngineUnavailableError, match=r"refused to start with mode_file=.*: .*no device answers"):
        LiteRtEngine.open(model, delegate_path=str(fickle.library), delegate_options=[*fickle.options.items()])


class Broken:
    """What tflite-runtime 2.14 does under numpy 2: it imports, and the first model fails."""

    def __init__(self, **_: Any) -> None:
        raise SystemError("initialization of _pywrap raised unreported exception")


class Working:
    def __init__(self, **_: Any) -> None:
        pass

    def allocate_tensors(self) -> None:
        pass


def fake(monkeypatch: pytest.MonkeyPatch, name: str, interpreter: type) -> None:
    parent, _, leaf = name.partition(".")
    module = ModuleType(name)
    module.__dict__.update(Interpreter=interpreter, load_delegate=SimpleNamespace())
    package = ModuleType(parent)
    package.__dict__[leaf] = module
    monkeypatch.setitem(sys.modules, parent, package)
    monkeypatch.setitem(sys.modules, name, module)


def test_a_runtime_that_only_imports_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "fake_broken.interpreter", Broken)
    fake(monkeypatch, "fake_working.interpreter", Working)
    names = ("no_such_runtime.interpreter", "fake_broken.interpreter", "fake_working.interpreter")
    assert classic_interpreter(names).name == "fake_working"


def test_no_runtime_at_all_names_each_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fake(monkeypatch, "fake_broken.interpreter", Broken)
    with pytest.raises(EngineUnavailableError) as caught:
        classic_interpreter(("no_such_runtime.interpreter", "fake_broken.interpreter"))
    assert "no_such_runtime.interpreter: ModuleNotFoundError" in str(caught.value)
    assert "fake_broken.interpreter: SystemError: initialization" in str(caught.value)


def test_litert_itself_passes_the_probe() -> None:
    assert classic_interpreter().name == "ai_edge_litert"


@needs_assets
@pytest.mark.parametrize(
    ("model", "error", "said"),
    [
        ("model_invoking_error", ModelError, "fake-op-double"),
        ("person_detect_tflm", ModelError, "quantized_dimension"),
        ("traffic_model", ModelError, "3 inputs"),
        ("yolov8n_full_integer_quant_edgetpu", EngineUnavailableError, "compiled for the Edge TPU"),
        ("mobilenet_v2_1.0_224_quant_edgetpu", EngineUnavailableError, "compiled for the Edge TPU"),
    ],
)
def test_files_made_to_fail_fail_clearly(model: str, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        LiteRtEngine.open(MODELS / f"{model}.tflite")
