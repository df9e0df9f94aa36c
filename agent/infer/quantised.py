"""Quantised tensors: thresholds in the stored domain, and back. real = scale * (stored - zero_point)."""

import math

import numpy as np
from numpy.typing import NDArray

from agent.infer.engine import Tensor, TensorSpec


def dequantise(stored: Tensor, spec: TensorSpec) -> NDArray[np.float32]:
    """Real values, float32; a tensor without quantisation is only cast."""
    if stored.dtype.kind == "f" or spec.scale == 0:
        return stored.astype(np.float32, copy=False)
    return (stored.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


def quantise(real: NDArray[np.float32], spec: TensorSpec) -> Tensor:
    """Stored values of `spec`, rounded and saturated; a float tensor is only cast."""
    if spec.dtype.kind == "f":
        return real.astype(spec.dtype, copy=False)
    info = np.iinfo(spec.dtype)
    stored = np.rint(real / (spec.scale or 1.0)) + spec.zero_point
    clipped: Tensor = np.clip(stored, info.min, info.max).astype(spec.dtype)
    return clipped


def stored_threshold(real: float, spec: TensorSpec) -> float | int:
    """The least stored value whose real value reaches `real`; beyond the type's range when none does."""
    if spec.dtype.kind == "f" or spec.scale == 0:
        return real
    if not math.isfinite(real):
        return int(np.iinfo(spec.dtype).max) + 1
    # The small slack keeps a real value that is exact in the stored domain on the right side of rounding.
    return math.ceil(real / spec.scale + spec.zero_point - 1e-6)


def at_least(stored: Tensor, threshold: float | int) -> NDArray[np.bool_]:
    """stored >= threshold, element by element, without widening the array."""
    if stored.dtype.kind != "f":
        info = np.iinfo(stored.dtype)
        if threshold > info.max:
            return np.zeros(stored.shape, np.bool_)
        threshold = max(int(threshold), int(info.min))
    return np.asarray(stored >= stored.dtype.type(threshold))
