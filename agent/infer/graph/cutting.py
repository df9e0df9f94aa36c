"""Cutting a network at inner layers: which there are, and which one a text means."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.infer.engine import ModelError
from agent.infer.graph.flatbuffer import Graph

LAYERS_MAX = 8
_REAL = ("float32", "int8", "uint8")
_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Layer:
    """The feature map that one operator gives."""

    index: int  # of the operator, in the order in which they run
    operator: str
    tensor: int
    name: str
    rows: int
    columns: int
    channels: int
    dtype: str


def layers(graph: Graph) -> list[Layer]:
    """The layers where a cut makes sense: outputs (1, rows, columns, channels) of more than one cell."""
    found = []
    for index, operator in enumerate(graph.operators):
        if len(operator.outputs) != 1 or operator.name in ("DEQUANTIZE", "QUANTIZE", "PAD", "TRANSPOSE"):
            continue
        tensor = graph.tensor(operator.outputs[0])
        if len(tensor.shape) != 4 or tensor.shape[0] != 1 or tensor.dtype not in _REAL or tensor.is_constant:
            continue
        _, rows, columns, channels = tensor.shape
        if rows * columns > 1:
            layer = Layer(
                index, operator.name, operator.outputs[0], tensor.name, rows, columns, channels, tensor.dtype
            )
            found.append(layer)
    return found


def find_layer(known: Sequence[Layer], wanted: str, source: Path | str) -> Layer:
    """By the index of its operator, its name, or a part of its name that no other layer has. Raises ModelError."""
    if wanted.isdecimal():
        at = [layer for layer in known if layer.index == int(wanted)]
    else:
        at = [layer for layer in known if layer.name == wanted]
        at = at or [layer for layer in known if wanted.lower() in layer.name.lower()]
    if len(at) == 1:
        return at[0]
    hint = f"edge-agent model features {source} --list shows all {len(known)}"
    if not at:
        raise ModelError(f"model {source} has no layer {wanted!r} that gives a feature map", hint=hint)
    some = ", ".join(f"{layer.index} {layer.name}" for layer in at[:_SHOWN])
    raise ModelError(
        f"{wanted!r} means {len(at)} layers of model {source}: {some}", hint="give the whole name or the index"
    )


def cut(model: Path, wanted: Sequence[str], out: Path) -> list[Layer]:
    """Writes the network up to these layers, one output each in this order. Raises ModelError."""
    graph = Graph.load(model)
    chosen = chosen_layers(graph, wanted, model)
    if out.resolve() == model.resolve():
        raise ModelError(f"{out} is the model itself", hint="write into another file")
    graph.keep([layer.tensor for layer in chosen])
    try:
        graph.save(out)
    except OSError as error:
        raise ModelError(f"{out} cannot be written: {error.strerror}") from error
    return chosen


def chosen_layers(graph: Graph, wanted: Sequence[str], source: Path | str) -> list[Layer]:
    """Raises ModelError where a layer is not there, or named twice."""
    if not 0 < len(wanted) <= LAYERS_MAX:
        raise ModelError(f"1 to {LAYERS_MAX} layers can be cut at, not {len(wanted)}", hint="give --layer")
    known = layers(graph)
    chosen = [find_layer(known, one, source) for one in wanted]
    if len({layer.tensor for layer in chosen}) < len(chosen):
        raise ModelError(f"a layer is named twice: {', '.join(wanted)}")
    return chosen
