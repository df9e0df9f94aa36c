"""The classic LiteRT interpreter (or tflite-runtime where there is no LiteRT), with or without a delegate."""

import base64
import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agent.infer.engine import EngineError, EngineUnavailableError, ModelError, Tensor, TensorSpec
from agent.infer.tflite_file import EDGETPU_OP, check_identifier

RUNTIMES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")

# The smallest model: one float32 tensor that is both input and output.
_PROBE = base64.b64decode(
    "GAAAAFRGTDMAAA4AFAAQAAwACAAAAAQADgAAABAAAAAcAAAAhAAAAAMAAAABAAAACAAAAAQABAAEAAAAAQAAABAAAAAMABQAEAAMAAgABAAMAA"
    "AAEAAAABAAAAAUAAAAGAAAAAAAAAABAAAAAAAAAAEAAAAAAAAAAQAAABAAAAAMAAwACAAAAAAABAAMAAAACAAAAAwAAAABAAAAeAAAAAEAAAAB"
    "AAAAAAAAAA=="
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A classic interpreter that works here."""

    name: str
    interpreter: Any  # the Interpreter class
    load_delegate: Any


def classic_interpreter(candidates: Sequence[str] = RUNTIMES) -> Runtime:
    """The first runtime that imports and really loads and allocates a model.

    tflite-runtime 2.14 imports under numpy 2 and fails at the first model, so importing proves nothing.
    Raises EngineUnavailableError naming each candidate and its reason.
    """
    reasons = []
    for name in candidates:
        try:
            module = importlib.import_module(name)
            module.Interpreter(model_content=_PROBE, num_threads=1).allocate_tensors()
            return Runtime(name.split(".")[0], module.Interpreter, module.load_delegate)
        except Exception as error:  # noqa: BLE001 - a native wheel that does not fit may raise anything
            reasons.append(f"{name}: {type(error).__name__}: {error}")
    raise EngineUnavailableError(
        "no TFLite runtime works here: " + "; ".join(reasons), hint="install ai-edge-litert (the agent extra)"
    )


class LiteRtEngine:
    """One loaded model on one interpreter. `open` makes it; `infer` belongs to one thread at a time."""

    def __init__(self, name: str, interpreter: Any, warmup_runs: int) -> None:
        self.name = name
        self._interpreter = interpreter
        self.input = _spec(interpreter.get_input_details()[0])
        self._input_index = interpreter.get_input_details()[0]["index"]
        details = interpreter.get_output_details()
        self._output_indices = [d["index"] for d in details]
        self.outputs = tuple(_spec(d) for d in details)
        self.warmup_ms = self._warm_up(warmup_runs)
        # Shapes of outputs that depend on data are known only after a run.
        self.outputs = tuple(_spec(d) for d in interpreter.get_output_details())

    @staticmethod
    def open(
        model_path: str | Path,
        *,
        name: str = "litert-cpu",
        threads: int = 1,
        delegate_path: str = "",
        delegate_options: Sequence[tuple[str, str]] = (),
        warmup_runs: int = 3,
        runtime: Runtime | None = None,
    ) -> "LiteRtEngine":
        """Loads, allocates and warms up.

        Raises ModelError (the file is unusable anywhere) or EngineUnavailableError (it cannot run here).
        """
        path = Path(model_path)
        check_identifier(path)
        runtime = runtime or classic_interpreter()
        delegates = [_load_delegate(runtime, delegate_path, delegate_options)] if delegate_path else []
        try:
            interpreter = runtime.interpreter(
                model_path=str(path), num_threads=threads, experimental_delegates=delegates or None
            )
            inputs = interpreter.get_input_details()
            if len(inputs) != 1:
                raise ModelError(
                    f"model {path} has {len(inputs)} inputs ({', '.join(d['name'] for d in inputs)})",
                    hint="only models with one picture as input are supported, not stateful ones",
                )
            interpreter.allocate_tensors()
            return LiteRtEngine(name, interpreter, warmup_runs)
        except (ValueError, RuntimeError, EngineError) as error:
            raise _explained(path, name, delegate_path, error) from error

    def infer(self, tensor: Tensor) -> list[Tensor]:
        interpreter = self._interpreter
        try:
            interpreter.set_tensor(self._input_index, tensor)
        except (ValueError, TypeError) as error:
            raise wrong_tensor(self.name, self.input, tensor) from error
        try:
            interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"inference on {self.name} failed: {error}") from error
        return [interpreter.get_tensor(i) for i in self._output_indices]

    def close(self) -> None:
        self._interpreter = None

    def _warm_up(self, runs: int) -> float:
        """Median latency in milliseconds of `runs` inferences on an empty picture, after a first one."""
        tensor = np.zeros(self.input.shape, self.input.dtype)
        self.infer(tensor)
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            self.infer(tensor)
            times.append(time.perf_counter() - started)
        return median(times) * 1e3 if times else 0.0


def wrong_tensor(name: str, wanted: TensorSpec, tensor: Tensor) -> ModelError:
    return ModelError(
        f"{name} takes an input of shape {wanted.shape} and type {wanted.dtype}, not {tensor.shape} {tensor.dtype}",
        hint="prepare pictures with the Preprocessor of this engine's input",
    )


def model_specs(path: Path) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """Inputs and outputs a model file states, without allocating it: works for accelerator files as well."""
    check_identifier(path)
    try:
        interpreter = classic_interpreter().interpreter(model_path=str(path), num_threads=1)
    except (ValueError, RuntimeError) as error:
        raise _explained(path, "litert-cpu", "", error) from error
    return (
        [_spec(d) for d in interpreter.get_input_details()],
        [_spec(d) for d in interpreter.get_output_details()],
    )


def _load_delegate(runtime: Runtime, library: str, options: Sequence[tuple[str, str]]) -> Any:
    try:
        return runtime.load_delegate(library, dict(options))
    except OSError as error:
        raise EngineUnavailableError(
            f"delegate library {library} cannot be loaded: {error}", hint="install it or correct its path"
        ) from error
    except (ValueError, AttributeError) as error:
        stated = ", ".join(f"{k}={v}" for k, v in options) or "no options"
        reason = " ".join(str(error).split()) or "no reason given"
        raise EngineUnavailableError(
            f"delegate {library} refused to start with {stated}: {reason}",
            hint="check that its device is connected and that this process may open it",
        ) from error


def _explained(path: Path, name: str, delegate_path: str, error: Exception) -> ModelError | EngineUnavailableError:
    """What a failure to load means, from where it happened and what the runtime said."""
    reason = " ".join(str(error).split())[:300]
    if EDGETPU_OP.decode() in reason and not delegate_path:
        return EngineUnavailableError(
            f"model {path} is compiled for the Edge TPU and cannot run on {name}",
            hint="use it with target edgetpu, and give the bundle a cpu variant to fall back to",
        )
    if delegate_path:
        return EngineUnavailableError(
            f"delegate {delegate_path} did not take model {path}: {reason}",
            hint="use a model made for this delegate, or leave the delegate out",
        )
    return ModelError(
        f"model {path} cannot be loaded: {reason}", hint="convert it with builtin operators for this runtime"
    )


def _spec(details: dict[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=str(details["name"]),
        shape=tuple(int(d) for d in details["shape"]),
        dtype=np.dtype(details["dtype"]),
        scale=float(scale),
        zero_point=int(zero_point),
    )
