"""LiteRT's compiled model on a GPU (WebGPU over Vulkan on Linux) or an NPU. Runs in a child: it holds the GIL."""

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from agent.infer.engine import EngineError, EngineUnavailableError, ModelError, Tensor, TensorSpec
from agent.infer.litert import model_specs, wrong_tensor


class CompiledEngine:
    """One model compiled for one accelerator."""

    def __init__(self, name: str, model: Any, specs: tuple[list[TensorSpec], list[TensorSpec]], runs: int) -> None:
        self.name = name
        self._model = model
        self.input = specs[0][0]
        key = next(iter(model.get_signature_list()))
        # Signatures rename and reorder tensors; the tensor's own name is the same in both runtimes. The file states
        # the quantisation, the compiled model the shapes.
        details = model.get_output_tensor_details(key)
        found = [details[n] for n in model.get_signature_list()[key]["outputs"]]
        order = [detail["name"] for detail in found]
        self._positions = [order.index(spec.name) for spec in specs[1]]
        self.outputs = tuple(
            replace(spec, shape=tuple(int(d) for d in found[position]["shape"]))
            for spec, position in zip(specs[1], self._positions, strict=True)
        )
        self._counts = [int(np.prod(spec.shape)) for spec in self.outputs]
        self._in = model.create_input_buffers(0)
        self._out = model.create_output_buffers(0)
        self.warmup_ms = self._warm_up(runs)

    @staticmethod
    def open(model_path: str | Path, *, accelerator: str, name: str, warmup_runs: int = 3) -> "CompiledEngine":
        """Compiles for `gpu` or `npu` (or `cpu`, to compare). Raises EngineUnavailableError or ModelError."""
        path = Path(model_path)
        specs = model_specs(path)
        if len(specs[0]) != 1:
            raise ModelError(f"model {path} has {len(specs[0])} inputs, one is supported")
        try:
            from ai_edge_litert.compiled_model import CompiledModel
            from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        except ImportError as error:
            raise EngineUnavailableError(
                f"{name} needs LiteRT's compiled model: {error}", hint="install ai-edge-litert 2"
            ) from error
        # With the CPU allowed, a GPU that is missing is refused all the same; an NPU that is missing is not:
        # everything would silently run on the CPU. So the NPU must take the whole model.
        wanted = {
            "gpu": HardwareAccelerator.GPU | HardwareAccelerator.CPU,
            "npu": HardwareAccelerator.NPU,
            "cpu": HardwareAccelerator.CPU,
        }
        try:
            model = CompiledModel.from_file(str(path), wanted[accelerator])
            return CompiledEngine(name, model, specs, warmup_runs)
        except (RuntimeError, ValueError, EngineError) as error:
            reason = " ".join(str(error).split())[:500]
            raise EngineUnavailableError(
                f"{name}: LiteRT cannot compile {path} for the {accelerator}: {reason}",
                hint="check the driver (Vulkan for a GPU, the vendor's library for an NPU)",
            ) from error

    def infer(self, tensor: Tensor) -> list[Tensor]:
        if tensor.shape != self.input.shape or tensor.dtype != self.input.dtype:
            raise wrong_tensor(self.name, self.input, tensor)
        try:
            self._in[0].write(tensor)
            self._model.run_by_index(0, self._in, self._out)
            return [
                np.asarray(self._out[position].read(count, spec.dtype.type)).reshape(spec.shape)
                for position, count, spec in zip(self._positions, self._counts, self.outputs, strict=True)
            ]
        except (RuntimeError, ValueError) as error:
            raise EngineError(f"inference on {self.name} failed: {error}") from error

    def close(self) -> None:
        for buffer in (*self._in, *self._out):
            buffer.destroy()
        self._in, self._out = [], []
        self._model.close()

    def _warm_up(self, runs: int) -> float:
        tensor = np.zeros(self.input.shape, self.input.dtype)
        self.infer(tensor)
        times = []
        for _ in range(runs):
            started = time.perf_counter()
            self.infer(tensor)
            times.append(time.perf_counter() - started)
        return median(times) * 1e3 if times else 0.0
