"""Models of a few hundred bytes, written here, so that engines can be tested where no test data is."""

from pathlib import Path

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema

_TYPES = {"float32": 0, "uint8": 3, "int8": 9, "int32": 2}


def write_echo(
    path: Path,
    shape: tuple[int, ...] = (1, 4, 4, 3),
    dtype: str = "uint8",
    scale: float = 1 / 256,
    zero_point: int = 0,
    inputs: int = 1,
    custom_op: str = "",
) -> Path:
    """A model that gives its input back as one row: (1, n). `custom_op` makes it need that op instead."""
    n = int(np.prod(shape))
    graph = schema.SubGraphT()
    names = [f"picture{i or ''}" for i in range(inputs)]
    graph.tensors = [_tensor(name, shape, dtype, scale, zero_point) for name in names]
    graph.tensors.append(_tensor("row", (1, n), dtype, scale, zero_point))
    graph.inputs, graph.outputs = list(range(inputs)), [inputs]
    op = schema.OperatorT()
    op.inputs, op.outputs = [0], [inputs]
    code = schema.OperatorCodeT()
    code.version = 1
    if custom_op:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = custom_op
    else:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESHAPE
        options = schema.ReshapeOptionsT()
        options.newShape = [1, n]
        op.builtinOptionsType, op.builtinOptions = schema.BuiltinOptions.ReshapeOptions, options
    graph.operators = [op]
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def _tensor(name: str, shape: tuple[int, ...], dtype: str, scale: float, zero_point: int) -> object:
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _TYPES[dtype], 0
    if dtype != "float32":
        quantization = schema.QuantizationParametersT()
        quantization.scale, quantization.zeroPoint = [scale], [zero_point]
        tensor.quantization = quantization
    return tensor
