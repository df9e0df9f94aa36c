"""A TFLite model as objects, read from its FlatBuffer and written back. The one file that knows the schema.

The schema's own Python module comes with LiteRT; nothing of TensorFlow is needed.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from agent.infer.engine import ModelError
from agent.infer.tflite_file import IDENTIFIER, check_identifier

MODEL_BYTES_MAX = 1 << 30
_ALIGNED = 16
"""Bytes that the runtime wants constants to begin at a multiple of."""

_TYPE_NAMES = {value: name.lower() for name, value in vars(schema.TensorType).items() if isinstance(value, int)}
_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int32": schema.TensorType.INT32,
}
_DAMAGED = (struct.error, IndexError, TypeError, ValueError, AttributeError, OverflowError, MemoryError)
_OPERATORS = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """What the file states of a tensor. real = scale * (stored - zero_point); scale 0: none, or one a channel."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # float32, int8, uint8 …
    scale: float
    zero_point: int
    is_constant: bool


@dataclass(frozen=True, slots=True)
class OperatorFacts:
    name: str  # CONV_2D, ADD …
    inputs: tuple[int, ...]  # tensors; -1: left out
    outputs: tuple[int, ...]


class Graph:
    """The main graph of a model; changed in place, then written by `save`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._graph = model.subgraphs[0]

    @staticmethod
    def load(path: Path) -> "Graph":
        """Raises ModelError where the file is no TFLite model, is damaged, or is of a kind that cannot be edited."""
        check_identifier(path)
        if path.stat().st_size > MODEL_BYTES_MAX:
            raise ModelError(f"model {path} is larger than {MODEL_BYTES_MAX >> 20} MiB")
        try:
            model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
            if model.subgraphs and model.subgraphs[0].operators is not None:
                _check(model)
        except _DAMAGED as error:
            raise ModelError(f"model {path} is damaged: {error}", hint="copy or convert it again") from error
        if not model.subgraphs or model.subgraphs[0].operators is None or model.subgraphs[0].tensors is None:
            raise ModelError(f"model {path} has no operators", hint="a network is wanted")
        if any(buffer.offset > 1 for buffer in model.buffers):
            raise ModelError(
                f"model {path} keeps its weights outside the FlatBuffer", hint="convert it to less than 2 GB"
            )
        if len(model.subgraphs) > 1:
            raise ModelError(
                f"model {path} has {len(model.subgraphs)} graphs (loops or signatures); one can be edited"
            )
        return Graph(model)

    @staticmethod
    def begin(name: str, shape: tuple[int, ...]) -> "Graph":
        """A network of nothing but its float32 input."""
        model, graph = schema.ModelT(), schema.SubGraphT()
        model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [], [schema.BufferT()]
        graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], []
        begun = Graph(model)
        begun._tensor(name, shape, "float32")
        return begun

    # ---- looking --------------------------------------------------------------------------------

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(int(i) for i in self._graph.inputs)

    @property
    def outputs(self) -> tuple[int, ...]:
        return tuple(int(i) for i in self._graph.outputs)

    @property
    def operators(self) -> tuple[OperatorFacts, ...]:
        """In the order in which they run."""
        return tuple(
            OperatorFacts(self._name(one.opcodeIndex), _indices(one.inputs), _indices(one.outputs))
            for one in self._graph.operators
        )

    def tensor(self, index: int) -> TensorFacts:
        tensor = self._graph.tensors[index]
        found = tensor.quantization
        scales = [] if found is None or found.scale is None else list(found.scale)
        points = [] if found is None or found.zeroPoint is None else list(found.zeroPoint)
        name = tensor.name.decode("utf-8", "replace") if isinstance(tensor.name, bytes) else str(tensor.name or "")
        shape = () if tensor.shape is None else tuple(int(d) for d in tensor.shape)
        return TensorFacts(
            name,
            shape,
            _TYPE_NAMES.get(tensor.type, str(tensor.type)),
            float(scales[0]) if len(scales) == 1 else 0.0,
            int(points[0]) if len(points) == 1 else 0,
            self._holds_data(tensor),
        )

    def _holds_data(self, tensor: Any) -> bool:
        data = self._model.buffers[tensor.buffer].data
        return data is not None and len(data) > 0

    def _name(self, opcode: int) -> str:
        code = self._model.operatorCodes[opcode]
        # Old files have the code in a byte, new ones in a word as well.
        name: str = _OPERATORS.get(max(code.builtinCode, code.deprecatedBuiltinCode), "?")
        return name

    # ---- changing -------------------------------------------------------------------------------

    def keep(self, outputs: list[int]) -> None:
        """These tensors are the outputs; operators, tensors, buffers and codes that none of them needs go."""
        graph = self._graph
        needed, kept = set(outputs), []
        for operator in reversed(graph.operators):
            if needed & set(_indices(operator.outputs)):
                kept.append(operator)
                needed |= {i for i in (*_indices(operator.inputs), *_indices(operator.intermediates)) if i >= 0}
                needed |= set(_indices(operator.outputs))
        needed |= set(self.inputs)
        order = sorted(needed)
        new = {old: i for i, old in enumerate(order)} | {-1: -1}
        graph.operators = kept[::-1]
        graph.tensors = [graph.tensors[old] for old in order]
        for operator in graph.operators:
            operator.inputs = [new[i] for i in _indices(operator.inputs)]
            operator.outputs = [new[i] for i in _indices(operator.outputs)]
            if operator.intermediates is not None:
                operator.intermediates = [new[i] for i in _indices(operator.intermediates)]
        graph.inputs = [new[i] for i in self.inputs]
        graph.outputs = [new[i] for i in outputs]
        self._drop_unused()

    def _drop_unused(self) -> None:
        model, graph = self._model, self._graph
        # Names of the old outputs and the metadata (labels, associated files) say nothing true any more.
        model.signatureDefs = model.metadata = model.metadataBuffer = None
        used = sorted({0} | {tensor.buffer for tensor in graph.tensors})
        new = {old: i for i, old in enumerate(used)}
        model.buffers = [model.buffers[old] for old in used]
        for tensor in graph.tensors:
            tensor.buffer = new[tensor.buffer]
        codes = sorted({operator.opcodeIndex for operator in graph.operators})
        model.operatorCodes = [model.operatorCodes[old] for old in codes]
        for operator in graph.operators:
            operator.opcodeIndex = codes.index(operator.opcodeIndex)

    def constant(self, name: str, values: NDArray[Any]) -> int:
        """A new tensor that holds float32, float16 or int32 values."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        index = self._tensor(name, values.shape, values.dtype.name)
        self._graph.tensors[index].buffer = len(self._model.buffers) - 1
        return index

    def append(
        self, operator: str, inputs: list[int], shape: tuple[int, ...], *, name: str,
        options: str = "", version: int = 1, **values: Any,
    ) -> int:  # fmt: skip
        """Puts an operator with one float32 output at the end; the output's tensor.

        options  the table of its options, such as `ReducerOptions`, whose fields are `values`
        version  of the operator as the runtime counts them
        """
        output = self._tensor(name, shape, "float32")
        one = schema.OperatorT()
        one.opcodeIndex = self._opcode(getattr(schema.BuiltinOperator, operator), version)
        one.inputs, one.outputs = inputs, [output]
        if options:
            one.builtinOptionsType = getattr(schema.BuiltinOptions, options)
            one.builtinOptions = getattr(schema, options + "T")()
            for field, value in values.items():
                setattr(one.builtinOptions, field, value)
        self._graph.operators.append(one)
        return output

    def give(self, outputs: list[int]) -> None:
        """These are the outputs from here on."""
        self._graph.outputs = outputs

    def _tensor(self, name: str, shape: tuple[int, ...], dtype: str) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), _TYPES[dtype], 0
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1

    def _opcode(self, code: int, version: int) -> int:
        for index, known in enumerate(self._model.operatorCodes):
            if max(known.builtinCode, known.deprecatedBuiltinCode) == code and known.version == version:
                return index
        new = schema.OperatorCodeT()
        new.builtinCode, new.deprecatedBuiltinCode, new.version = code, min(code, 127), version
        self._model.operatorCodes.append(new)
        return len(self._model.operatorCodes) - 1

    # ---- writing --------------------------------------------------------------------------------

    def content(self) -> bytes:
        """The .tflite file."""
        builder = flatbuffers.Builder(1 << 20)
        buffers = [_Aligned(buffer) for buffer in self._model.buffers]
        held, self._model.buffers = self._model.buffers, buffers
        try:
            builder.Finish(self._model.Pack(builder), IDENTIFIER)
        except _DAMAGED as error:
            raise ModelError(f"the network cannot be written: {error}", hint="the model is damaged") from error
        finally:
            self._model.buffers = held
        return bytes(builder.Output())

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        draft = path.with_name(path.name + ".tmp")
        draft.write_bytes(self.content())
        draft.replace(path)


def _check(model: Any) -> None:
    """That everything the main graph names is there. Raises what a damaged file raises."""
    graph = model.subgraphs[0]
    tensors, codes, buffers = len(graph.tensors), len(model.operatorCodes), len(model.buffers)
    named = [*graph.inputs, *graph.outputs]
    for one in graph.operators:
        named += [*_indices(one.inputs), *_indices(one.intermediates), *_indices(one.outputs)]
        if not 0 <= one.opcodeIndex < codes:
            raise IndexError(f"an operator of the kind {one.opcodeIndex}, of {codes}")
    if wrong := [int(i) for i in named if not -1 <= i < tensors]:
        raise IndexError(f"a tensor {wrong[0]}, of {tensors}")
    if wrong := [tensor.buffer for tensor in graph.tensors if not 0 <= tensor.buffer < buffers]:
        raise IndexError(f"a buffer {wrong[0]}, of {buffers}")


class _Aligned:
    """A buffer whose bytes begin where the runtime wants constants; the generated code puts them anywhere."""

    def __init__(self, buffer: Any) -> None:
        self._buffer = buffer

    def Pack(self, builder: Any) -> Any:  # noqa: N802 - the generated code's name
        data = self._buffer.data
        if data is None or len(data) == 0:
            return schema.BufferT().Pack(builder)
        raw = np.asarray(data, np.uint8).tobytes()
        builder.StartVector(1, len(raw), _ALIGNED)
        builder.head = builder.head - len(raw)
        builder.Bytes[builder.Head() : builder.Head() + len(raw)] = raw
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return schema.BufferEnd(builder)


def _indices(found: Any) -> tuple[int, ...]:
    return () if found is None else tuple(int(i) for i in found)
