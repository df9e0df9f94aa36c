import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from agent.infer.bundle import Bundle, Target, Variant
from agent.infer.bundle_maker import make_bundle
from agent.infer.engine import (
    Engine,
    EngineError,
    EngineLostError,
    EngineUnavailableError,
    ModelError,
    Tensor,
    TensorSpec,
)
from agent.infer.host import EngineChanged, EngineHost, convert
from agent.infer.ladder import Rung
from agent.infer.settings import InferSettings
from runtime.errors import ConfigError
from tests.infer.fickle import Fickle, needs_gcc
from tests.infer.tiny_models import write_echo

LABELS = [f"thing {i}" for i in range(48)]
TENSOR = np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3)
ECHO = list(range(48))
SEVENS = [7] * 48


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(write_echo(tmp_path / "echo.tflite"), tmp_path / "bundle", labels=LABELS).bundle


def with_target(bundle: Bundle, *targets: str) -> Bundle:
    cpu = bundle.variants[0]
    return replace(bundle, variants=tuple(Variant(Target(t), cpu.path, cpu.sha256) for t in targets))


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def infer_until_settled(host: EngineHost) -> None:
    """Infers until the attempt that the first inference starts has ended and was taken note of."""
    host.infer(TENSOR)
    assert host.is_opening

    def settled() -> bool:
        host.infer(TENSOR)
        return not host.is_opening

    until(settled)


@dataclass
class FakeEngine:
    name: str
    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    problem: Exception | None = None
    closed: bool = False

    def infer(self, tensor: Tensor) -> list[Tensor]:
        assert not self.closed
        if self.problem is not None:
            raise self.problem
        return [np.full(s.shape, 1, s.dtype) for s in self.outputs]

    def close(self) -> None:
        self.closed = True


SPEC = TensorSpec("in", (1, 4, 4, 3), np.dtype(np.uint8), 1 / 256, 0)
OUT = TensorSpec("out", (1, 48), np.dtype(np.uint8), 1 / 256, 0)


@dataclass
class Stage:
    """Fake engines by rung, a clock that stands until it is moved, and what was announced."""

    refuse: dict[str, Exception] = field(default_factory=dict)
    specs: dict[str, tuple[TensorSpec, tuple[TensorSpec, ...]]] = field(default_factory=dict)
    now_s: float = 0.0
    opened: list[FakeEngine] = field(default_factory=list)
    told: list[EngineChanged] = field(default_factory=list)

    def open_engine(self, rung: Rung, settings: InferSettings) -> Engine:
        if rung.kind in self.refuse:
            raise self.refuse[rung.kind]
        given, outputs = self.specs.get(rung.kind, (SPEC, (OUT,)))
        engine = FakeEngine(rung.kind, given, outputs)
        self.opened.append(engine)
        return engine

    def host(self, bundle: Bundle, **settings: object) -> EngineHost:
        return EngineHost(
            bundle, InferSettings(**settings), self.told.append,  # type: ignore[arg-type]
            open_engine=self.open_engine, clock=lambda: self.now_s, jitter=lambda: 0.5,
        )  # fmt: skip

    def steps(self) -> list[tuple[str, str]]:
        return [(c.rung_from, c.rung_to) for c in self.told]


def test_the_best_rung_that_opens_is_used_and_nothing_is_announced(bundle: Bundle) -> None:
    stage = Stage()
    host = stage.host(with_target(bundle, "cpu", "edgetpu"))
    host.open()
    assert host.rung is not None
    assert host.rung.kind == "edgetpu"
    assert host.infer(TENSOR)[0].shape == (1, 48)
    assert not stage.told


def test_a_first_choice_that_refuses_is_announced_with_its_reason(bundle: Bundle) -> None:
    stage = Stage(refuse={"edgetpu": EngineUnavailableError("no library", hint="install it")})
    host = stage.host(with_target(bundle, "cpu", "edgetpu"), fallback_fps=5.0)
    host.open()
    assert stage.told == [EngineChanged("echo", "edgetpu", "cpu", "no library; install it", False, 5.0)]


def test_the_frame_in_hand_is_run_again_on_the_next_rung(bundle: Bundle) -> None:
    stage = Stage()
    host = stage.host(with_target(bundle, "cpu", "gpu", "edgetpu"))
    host.open()
    stage.opened[0].problem = EngineLostError("the stick was pulled")
    assert host.infer(TENSOR)[0][0, 0] == 1
    assert stage.steps() == [("edgetpu", "gpu")]
    assert "the stick was pulled" in stage.told[0].reason
    assert stage.opened[0].closed
    stats = host.stats()
    assert (stats.rung, stats.invokes, stats.failures) == ("gpu", 1, 1)


def test_a_better_rung_takes_over_when_it_opens_again(bundle: Bundle) -> None:
    stage = Stage()
    host = stage.host(with_target(bundle, "cpu", "edgetpu"), retry_first_s=5.0)
    host.open()
    stage.opened[0].problem = EngineLostError("gone")
    stage.refuse["edgetpu"] = EngineUnavailableError("still gone")
    host.infer(TENSOR)
    stage.now_s = 5.0
    infer_until_settled(host)  # an attempt in the background, which is refused
    assert stage.steps() == [("edgetpu", "cpu")]
    del stage.refuse["edgetpu"]
    stage.now_s = 14.0
    host.infer(TENSOR)
    assert not host.is_opening, "the second wait is twice the first"
    stage.now_s = 15.0
    infer_until_settled(host)
    assert stage.steps() == [("edgetpu", "cpu"), ("cpu", "edgetpu")]
    assert stage.told[1].up
    assert [e.closed for e in stage.opened] == [True, True, False]


def test_frames_flow_while_a_better_rung_is_being_opened(bundle: Bundle) -> None:
    stage = Stage()
    gate = threading.Event()

    def slow(rung: Rung, settings: InferSettings) -> Engine:
        if stage.told and rung.kind == "edgetpu":
            gate.wait(30)
        return Stage.open_engine(stage, rung, settings)

    stage.open_engine = slow  # type: ignore[method-assign]
    host = stage.host(with_target(bundle, "cpu", "edgetpu"))
    host.open()
    stage.opened[0].problem = EngineLostError("gone")
    host.infer(TENSOR)
    stage.now_s = 100.0
    for _ in range(5):
        host.infer(TENSOR)
    assert host.stats().rung == "cpu"
    host.close()
    gate.set()
    until(lambda: len(stage.opened) == 3 and stage.opened[2].closed)


def test_repeated_failures_step_down_but_single_ones_do_not(bundle: Bundle) -> None:
    stage = Stage()
    host = stage.host(with_target(bundle, "cpu", "edgetpu"), failures_max=3, failure_window_s=10.0)
    host.open()
    stage.opened[0].problem = EngineError("transfer failed")
    for _ in range(2):
        with pytest.raises(EngineError, match="transfer failed"):
            host.infer(TENSOR)
    host.infer(TENSOR)
    assert stage.steps() == [("edgetpu", "cpu")]
    assert stage.told[0].reason == "3 failures, the last: transfer failed"


def test_losing_the_only_rung_is_announced_and_it_is_opened_again(bundle: Bundle) -> None:
    stage = Stage()
    host = stage.host(with_target(bundle, "edgetpu"), retry_first_s=5.0)
    host.open()
    stage.opened[0].problem = EngineLostError("the stick was pulled")
    with pytest.raises(EngineUnavailableError, match=r"edgetpu: the stick was pulled \| cpu: the bundle has no cpu"):
        host.infer(TENSOR)
    assert stage.steps() == [("edgetpu", "")]
    stage.now_s = 5.0
    with pytest.raises(EngineUnavailableError):
        host.infer(TENSOR)
    assert host.is_opening

    def back() -> bool:
        try:
            host.infer(TENSOR)
        except EngineUnavailableError:
            return False
        return True

    until(back)
    assert stage.steps() == [("edgetpu", ""), ("", "edgetpu")]


def test_when_nothing_opens_every_rung_and_its_reason_is_named(bundle: Bundle) -> None:
    stage = Stage(
        refuse={"edgetpu": EngineUnavailableError("no library"), "gpu": EngineUnavailableError("no Vulkan")}
    )
    host = stage.host(with_target(bundle, "cpu", "edgetpu"), rungs=("edgetpu", "gpu"))
    with pytest.raises(EngineUnavailableError) as caught:
        host.open()
    assert "edgetpu: no library | gpu: no Vulkan | cpu: not among inference.rungs" in str(caught.value)


def test_variants_of_different_shapes_are_not_one_model(bundle: Bundle) -> None:
    other = replace(OUT, shape=(1, 50))
    stage = Stage(specs={"cpu": (SPEC, (other,))})
    host = stage.host(with_target(bundle, "cpu", "edgetpu"))
    host.open()
    stage.opened[0].problem = EngineLostError("gone")
    with pytest.raises(EngineUnavailableError, match="the variants of a bundle must be one model"):
        host.infer(TENSOR)


def test_a_twin_in_another_number_format_stands_in(bundle: Bundle) -> None:
    real = (
        replace(SPEC, dtype=np.dtype(np.float32), scale=0.0),
        (replace(OUT, dtype=np.dtype(np.float32), scale=0.0),),
    )
    stage = Stage(specs={"cpu": real})
    host = stage.host(with_target(bundle, "cpu", "edgetpu"))
    host.open()
    stage.opened[0].problem = EngineLostError("gone")
    outputs = host.infer(TENSOR)
    assert host.outputs == (OUT,)
    assert outputs[0].dtype == np.uint8
    assert outputs[0][0, 0] == 255  # the fake's 1.0, saturated


def test_converting_between_formats_keeps_the_values() -> None:
    stored = np.arange(256, dtype=np.uint8)
    given = TensorSpec("a", (256,), np.dtype(np.uint8), 1 / 255, 0)
    wanted = TensorSpec("b", (256,), np.dtype(np.int8), 1 / 255, -128)
    np.testing.assert_array_equal(convert(stored, given, wanted), stored.astype(np.int16) - 128)
    assert convert(stored, given, given) is stored


def test_impossible_settings_are_refused_in_one_report(bundle: Bundle) -> None:
    with pytest.raises(ConfigError) as caught:
        Stage().host(bundle, rungs=("tpu", "delegate"), threads=0, invoke_timeout_s=-1.0, retry_first_s=float("nan"))
    for part in (
        "'tpu' is none of",
        "needs delegate_library",
        "threads: 0",
        "invoke_timeout_s: -1",
        "retry_first_s: nan",
    ):
        assert part in str(caught.value)


def test_a_wrong_tensor_is_the_caller_s_mistake_and_costs_no_engine(bundle: Bundle) -> None:
    told: list[EngineChanged] = []
    host = EngineHost(bundle, InferSettings(), told.append)
    host.open()
    with pytest.raises(ModelError, match="takes an input of shape"):
        host.infer(TENSOR[:, :2])
    assert host.infer(TENSOR)[0].ravel().tolist() == ECHO
    assert not told
    host.close()


@pytest.fixture
def told() -> list[EngineChanged]:
    return []


@pytest.fixture
def start(bundle: Bundle, told: list[EngineChanged]) -> Iterator[Callable[[InferSettings], EngineHost]]:
    hosts: list[EngineHost] = []

    def begin(settings: InferSettings) -> EngineHost:
        host = EngineHost(bundle, settings, told.append)
        hosts.append(host)
        host.open()
        return host

    yield begin
    for host in hosts:
        host.close()


def infer_until(host: EngineHost, rung: str) -> None:
    """Keeps frames flowing until the host runs on `rung`; not one of them may fail."""

    def there() -> bool:
        host.infer(TENSOR)
        return host.stats().rung == rung

    until(there)


@needs_gcc
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("crash-invoke", "SIGABRT, last words: fickle delegate: the device went away"),
        ("hang-invoke", "gave no result within 2 s and was killed"),
    ],
)
def test_a_real_delegate_that_fails_falls_back_and_returns_when_it_works_again(
    start: Callable[[InferSettings], EngineHost], told: list[EngineChanged], fickle: Fickle, mode: str, said: str
) -> None:
    host = start(fickle.settings())
    assert host.infer(TENSOR)[0].ravel().tolist() == SEVENS
    fickle.become(mode)
    assert host.infer(TENSOR)[0].ravel().tolist() == ECHO, "the frame in hand is answered by the CPU"
    assert [(c.rung_from, c.rung_to, c.up) for c in told] == [("delegate", "cpu", False)]
    assert said in told[0].reason
    fickle.become("ok")
    infer_until(host, "delegate")
    assert host.infer(TENSOR)[0].ravel().tolist() == SEVENS
    assert (told[-1].rung_from, told[-1].rung_to, told[-1].up) == ("cpu", "delegate", True)


@needs_gcc
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("refuse", "no device answers on the bus"),
        ("crash-prepare", "died while loading: ended by SIGABRT"),
        ("hang-prepare", "did not load within 1 s and was killed"),
    ],
)
def test_a_real_delegate_that_does_not_come_up_leaves_the_cpu_and_is_tried_again(
    start: Callable[[InferSettings], EngineHost], told: list[EngineChanged], fickle: Fickle, mode: str, said: str
) -> None:
    fickle.become(mode)
    # A short limit only where the hang is meant: a loaded machine may take seconds to start a process.
    host = start(fickle.settings(load_timeout_s=1.0) if mode == "hang-prepare" else fickle.settings())
    assert host.infer(TENSOR)[0].ravel().tolist() == ECHO
    assert (told[0].rung_from, told[0].rung_to) == ("delegate", "cpu")
    assert said in told[0].reason
    if mode != "hang-prepare":
        fickle.become("ok")
        infer_until(host, "delegate")


def test_an_edge_tpu_bundle_without_the_tpu_falls_back_or_says_what_is_missing(bundle: Bundle) -> None:
    told: list[EngineChanged] = []
    twin = EngineHost(with_target(bundle, "cpu", "edgetpu"), InferSettings(), told.append)
    twin.open()
    assert twin.stats().rung == "cpu"
    assert "delegate library libedgetpu.so.1 cannot be loaded" in told[0].reason
    twin.close()
    alone = EngineHost(with_target(bundle, "edgetpu"), InferSettings(), told.append)
    with pytest.raises(EngineUnavailableError) as caught:
        alone.open()
    assert "edgetpu: delegate library libedgetpu.so.1 cannot be loaded" in str(caught.value)
    assert "cpu: the bundle has no cpu variant to fall back to" in str(caught.value)


@needs_gcc
def test_an_edge_tpu_library_without_its_device_is_told_from_a_missing_one(
    bundle: Bundle, told: list[EngineChanged], fickle: Fickle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FICKLE_MODE_FILE", str(fickle.mode_file))
    fickle.become("refuse")
    settings = InferSettings(edgetpu_library=str(fickle.library), edgetpu_device="usb:0")
    host = EngineHost(with_target(bundle, "cpu", "edgetpu"), settings, told.append)
    host.open()
    assert "refused to start with device=usb:0: " in told[0].reason
    assert "no device answers on the bus" in told[0].reason
    host.close()
