"""What every inference engine promises, whatever runs underneath."""

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.errors import PermanentError, TemporaryError

Tensor = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape, element type and quantisation of one tensor. real = scale * (stored - zero_point); scale 0: none."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    scale: float = 0.0
    zero_point: int = 0


class Engine(Protocol):
    """A loaded model. Used by one thread at a time: the thread that owns it.

    `infer` takes the input tensor exactly as `input` states it (shape with the batch axis, dtype) and returns the
    raw output tensors in the model's order; the arrays are the caller's to keep.
    Raises EngineError (this call failed, the engine may go on) or EngineLostError (the engine is gone).
    """

    @property
    def name(self) -> str:
        """For people and logs: `litert-cpu`, `edgetpu`, `delegate:libfoo.so` …"""
        ...

    @property
    def input(self) -> TensorSpec: ...

    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def infer(self, tensor: Tensor) -> list[Tensor]: ...

    def close(self) -> None: ...


class ModelError(PermanentError):
    """The model file, its manifest or its labels are unusable."""


class EngineUnavailableError(PermanentError):
    """This engine cannot run here (library missing, device missing, delegate refused)."""


class EngineError(TemporaryError):
    """One inference failed; the engine may be asked again."""


class EngineLostError(TemporaryError):
    """The engine crashed, hung or lost its device; another one has to take over."""
