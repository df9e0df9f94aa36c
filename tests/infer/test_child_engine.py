import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.infer.child import ChildEngine
from agent.infer.child_protocol import (
    EngineRequest,
    Kind,
    Ready,
    Reason,
    memory_bytes,
    pack,
    ready_from_bytes,
    ready_to_bytes,
    refusal_from_bytes,
    refusal_to_bytes,
    request_from_bytes,
    request_to_bytes,
    tensor_views,
    unpack,
)
from agent.infer.engine import EngineError, EngineLostError, EngineUnavailableError, ModelError, TensorSpec
from agent.infer.litert import LiteRtEngine
from tests.assets import ASSETS, needs_assets
from tests.infer.fickle import Fickle, needs_gcc
from tests.infer.tiny_models import write_echo

TENSOR = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)


def request(tmp_path: Path, fickle: Fickle | None = None) -> EngineRequest:
    return EngineRequest(
        name="delegate:libfickle.so" if fickle else "echo",
        model_path=str(write_echo(tmp_path / "echo.tflite")),
        delegate_path=str(fickle.library) if fickle else "",
        delegate_options=tuple(fickle.options.items()) if fickle else (),
        warmup_runs=1,
        heartbeat_s=0.05,
    )


def start(asked: EngineRequest, load_s: float = 20, invoke_s: float = 10, heartbeat_s: float = 10) -> ChildEngine:
    return ChildEngine(asked, load_timeout_s=load_s, invoke_timeout_s=invoke_s, heartbeat_timeout_s=heartbeat_s)


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in "ZX"


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while not is_gone(pid):
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[ChildEngine]:
    engine = start(request(tmp_path))
    yield engine
    engine.close()


def test_a_child_answers_as_the_engine_itself(child: ChildEngine) -> None:
    assert child.input.shape == (1, 4, 4, 3)
    assert [s.shape for s in child.outputs] == [(1, 48)]
    assert child.warmup_ms > 0
    first = child.infer(TENSOR)
    child.infer(np.zeros_like(TENSOR))
    assert first[0].ravel().tolist() == list(range(48))


def test_a_wrong_tensor_never_reaches_the_child(child: ChildEngine) -> None:
    with pytest.raises(ModelError, match="takes an input of shape"):
        child.infer(TENSOR[:, :2])
    assert child.infer(TENSOR)[0][0, 47] == 47


def test_closing_ends_the_child_and_its_threads(tmp_path: Path) -> None:
    engine = start(request(tmp_path))
    engine.close()
    engine.close()
    assert is_gone(engine.pid)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("infer-child")]
    with pytest.raises(EngineLostError, match="is closed"):
        engine.infer(TENSOR)


def test_a_child_killed_from_outside_is_lost_and_reaped(child: ChildEngine) -> None:
    os.kill(child.pid, signal.SIGKILL)
    with pytest.raises(EngineLostError, match=r"its process died \(ended by SIGKILL"):
        child.infer(TENSOR)
    assert is_gone(child.pid)


def test_a_frozen_child_is_noticed_by_its_heartbeat_and_killed(tmp_path: Path) -> None:
    engine = start(request(tmp_path), invoke_s=60, heartbeat_s=0.5)
    os.kill(engine.pid, signal.SIGSTOP)
    with pytest.raises(EngineLostError, match="gave no heartbeat for"):
        engine.infer(TENSOR)
    assert is_gone(engine.pid)


def test_a_model_that_cannot_be_loaded_is_refused_with_the_child_s_words(tmp_path: Path) -> None:
    odd = write_echo(tmp_path / "odd.tflite", custom_op="wavelet")
    with pytest.raises(ModelError, match="unresolved custom op: wavelet"):
        start(EngineRequest("x", str(odd)))


def test_a_missing_library_is_unavailable_with_the_child_s_words(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "echo.tflite")
    with pytest.raises(EngineUnavailableError, match=r"libedgetpu\.so\.1 cannot be loaded"):
        start(EngineRequest("edgetpu", str(model), delegate_path="libedgetpu.so.1"))


@pytest.mark.parametrize(("accelerator", "said"), [("gpu", "cannot compile"), ("npu", "cannot compile")])
def test_a_compiled_model_without_its_hardware_is_unavailable(tmp_path: Path, accelerator: str, said: str) -> None:
    model = write_echo(tmp_path / "echo.tflite", dtype="float32")
    if accelerator == "gpu" and list(Path("/dev/dri").glob("render*")):
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineUnavailableError, match=said):
        start(EngineRequest(accelerator, str(model), accelerator=accelerator), load_s=60)


def test_a_compiled_model_answers_as_the_interpreter(tmp_path: Path) -> None:
    model = write_echo(tmp_path / "echo.tflite", dtype="int8", scale=0.5, zero_point=-3)
    engine = start(EngineRequest("compiled", str(model), accelerator="cpu"), load_s=60)
    assert (engine.input.scale, engine.input.zero_point) == (0.5, -3)
    assert [s.shape for s in engine.outputs] == [(1, 48)]
    tensor = np.arange(-24, 24, dtype=np.int8).reshape(1, 4, 4, 3)
    assert engine.infer(tensor)[0].ravel().tolist() == list(range(-24, 24))
    engine.close()


@needs_assets
def test_a_compiled_detector_keeps_the_order_and_shapes_of_its_outputs() -> None:
    model = ASSETS / "models/coco_ssd_mobilenet_v1_1.0_quant_2018_06_29.tflite"
    tensor = np.random.default_rng(1).integers(0, 256, (1, 300, 300, 3)).astype(np.uint8)
    engine = start(EngineRequest("compiled", str(model), accelerator="cpu"), load_s=60)
    reference = LiteRtEngine.open(model, warmup_runs=0)
    assert engine.outputs == reference.outputs
    for ours, theirs in zip(engine.infer(tensor), reference.infer(tensor), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.02)
    engine.close()


@needs_gcc
def test_an_inference_that_fails_leaves_the_child_alive(tmp_path: Path, fickle: Fickle) -> None:
    engine = start(request(tmp_path, fickle))
    fickle.become("error-invoke")
    with pytest.raises(EngineError, match="a transfer failed"):
        engine.infer(TENSOR)
    fickle.become("ok")
    assert engine.infer(TENSOR)[0][0, 0] == 7
    engine.close()


@needs_gcc
def test_a_delegate_that_crashes_in_an_inference_costs_only_its_child(tmp_path: Path, fickle: Fickle) -> None:
    engine = start(request(tmp_path, fickle))
    fickle.become("crash-invoke")
    with pytest.raises(EngineLostError, match=r"SIGABRT, last words: fickle delegate: the device went away"):
        engine.infer(TENSOR)
    assert is_gone(engine.pid)


@needs_gcc
def test_a_delegate_that_hangs_in_an_inference_is_killed_at_the_deadline(tmp_path: Path, fickle: Fickle) -> None:
    engine = start(request(tmp_path, fickle), invoke_s=0.5)
    fickle.become("hang-invoke")
    with pytest.raises(EngineLostError, match=r"gave no result within 0.5 s and was killed"):
        engine.infer(TENSOR)
    assert is_gone(engine.pid)


@needs_gcc
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuse", "no device answers on the bus"),
        ("crash-prepare", r"died while loading: ended by SIGABRT, last words: fickle delegate"),
        ("hang-prepare", r"did not load within 2 s and was killed"),
    ],
)
def test_a_delegate_that_does_not_come_up_is_unavailable(
    tmp_path: Path, fickle: Fickle, mode: str, said: str
) -> None:
    fickle.become(mode)
    with pytest.raises(EngineUnavailableError, match=said):
        start(request(tmp_path, fickle), load_s=2 if mode == "hang-prepare" else 20)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("infer-child")]


_PARENT = """
import sys, threading, time
from agent.infer.child import ChildEngine
from agent.infer.child_protocol import request_from_bytes
import numpy as np
engine = ChildEngine(request_from_bytes(sys.argv[1].encode()), load_timeout_s=30, invoke_timeout_s=600,
                     heartbeat_timeout_s=600)
print(engine.pid, flush=True)
sys.stdin.readline()
threading.Thread(target=engine.infer, args=(np.zeros((1, 4, 4, 3), np.uint8),), daemon=True).start()
time.sleep(600)
"""


@needs_gcc
def test_a_hanging_child_dies_with_its_parent(tmp_path: Path, fickle: Fickle) -> None:
    asked = request_to_bytes(request(tmp_path, fickle)).decode()
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, asked], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    with parent:
        pid = int(parent.stdout.readline())
        fickle.become("hang-invoke")
        parent.stdin.write("\n")
        parent.stdin.flush()
        time.sleep(0.3)
        assert not is_gone(pid)
        parent.kill()
        parent.wait()
    wait_until_gone(pid)


def test_messages_survive_the_way() -> None:
    asked = EngineRequest("n", "/m", 2, "/d.so", (("a", "1"), ("b", "é")), "gpu", 5, 0.1)
    assert request_from_bytes(request_to_bytes(asked)) == asked
    spec = TensorSpec("t", (1, 84, 1029), np.dtype(np.int8), 0.0056, -114)
    ready = Ready(spec, (spec, TensorSpec("f", (1,), np.dtype(np.float32))), 3.5)
    assert ready_from_bytes(ready_to_bytes(ready)) == ready
    assert refusal_from_bytes(refusal_to_bytes(Reason.MODEL, "what", "hint")) == (Reason.MODEL, "what", "hint")
    assert unpack(pack(Kind.RUN, 2**40, b"x")) == (Kind.RUN, 2**40, b"x")
    for junk in (b"", b"\x01", b"\xff" * 9):
        with pytest.raises(ValueError):
            unpack(junk)


def test_tensors_in_shared_memory_are_aligned_and_apart() -> None:
    specs = [TensorSpec("a", (1, 7), np.dtype(np.uint8)), TensorSpec("b", (3, 5), np.dtype(np.float32))]
    memory = bytearray(memory_bytes(specs))
    a, b = tensor_views(memoryview(memory), specs)
    a[...], b[...] = 255, -1.5
    assert (a == 255).all()
    assert (b == -1.5).all()
    assert memory[:64] == bytes(64), "the heartbeat's place is untouched"
    assert (b.ctypes.data - a.ctypes.data) % 64 == 0
