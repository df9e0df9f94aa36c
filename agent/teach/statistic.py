"""Puts the statistic behind the backbone, into the same .tflite file: it then runs where and as fast as the backbone.

    layer ─ dequantise ─ to grid ─┐
    layer ─ dequantise ─ to grid ─┴ concatenate ─ 3 x 3 mean ─ scale ─ (project) ─ per place |x @ whiten - bias|²

All operators are builtin ones of TFLite. The grid is (rows, columns) cells; a place is a cell, row by row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.anomaly.gaussian import Gaussians
from agent.infer.graph.cutting import Layer
from agent.infer.graph.flatbuffer import Graph

Real = NDArray[np.float32]
NEIGHBOURS = 3  # cells each way that a place is the mean of
_VERSIONS = {"uint8": 1, "int8": 2, "float16": 3}  # of DEQUANTIZE, by what it takes


@dataclass(frozen=True, slots=True)
class Shaping:
    """From the concatenated layers to features of comparable size.

    scale: (channels,) float32, what each channel is multiplied by; project: (channels, features) float32, or None
    """

    scale: Real
    project: Real | None = None

    def apply(self, stacked: Real) -> Real:
        """(…, channels) to (…, features), as the graph does it."""
        scaled = stacked * self.scale
        return scaled if self.project is None else np.asarray(scaled @ self.project, np.float32)


def put_grid(graph: Graph, layers: Sequence[Layer], rows: int, columns: int) -> tuple[int, int]:
    """Brings the layers, the graph's outputs in this order, onto one grid. Gives the tensor and its channels."""
    parts, channels = [], 0
    for number, (layer, tensor) in enumerate(zip(layers, graph.outputs, strict=True)):
        shape = (1, layer.rows, layer.columns, layer.channels)
        if layer.dtype != "float32":
            version = _VERSIONS[layer.dtype]
            tensor = graph.append("DEQUANTIZE", [tensor], shape, name=f"teach/real{number}", version=version)
        parts.append(_to_grid(graph, tensor, shape, rows, columns, number))
        channels += layer.channels
    shape = (1, rows, columns, channels)
    stacked = parts[0]
    if len(parts) > 1:
        options = "ConcatenationOptions"
        stacked = graph.append("CONCATENATION", parts, shape, name="teach/stack", options=options, axis=3)
    # A place is known by its neighbourhood: what lies one cell further is no anomaly.
    mixed = graph.append(
        "AVERAGE_POOL_2D", [stacked], shape, name="teach/neighbours", options="Pool2DOptions", padding=0,
        strideW=1, strideH=1, filterWidth=NEIGHBOURS, filterHeight=NEIGHBOURS,
    )  # fmt: skip
    return mixed, channels


def _to_grid(graph: Graph, tensor: int, shape: tuple[int, ...], rows: int, columns: int, number: int) -> int:
    _, height, width, channels = shape
    if (height, width) == (rows, columns):
        return tensor
    name, given = f"teach/grid{number}", (1, rows, columns, channels)
    down, across = height // rows, width // columns
    if down * rows == height and across * columns == width:
        return graph.append(
            "AVERAGE_POOL_2D", [tensor], given, name=name, options="Pool2DOptions", padding=1,
            strideW=across, strideH=down, filterWidth=across, filterHeight=down,
        )  # fmt: skip
    size = graph.constant(f"{name}/size", np.array([rows, columns], np.int32))
    return graph.append(
        "RESIZE_BILINEAR", [tensor, size], given, name=name, version=3,
        options="ResizeBilinearOptions", alignCorners=False, halfPixelCenters=True,
    )  # fmt: skip


def put_statistic(graph: Graph, stacked: int, shaping: Shaping, known: Gaussians, rows: int, columns: int) -> None:
    """Goes on from `put_grid` to the graph's only output: (1, rows, columns) float32, squared distances."""
    places, features, rank = known.whiten.shape
    tensor = _shaped(graph, stacked, shaping, rows, columns)
    tensor = _reshaped(graph, tensor, (places, 1, features), "teach/places")
    # Half precision halves the file; the bias is that of the rounded matrix, so the mean still lies at distance 0.
    whiten = known.whiten.astype(np.float16)
    bias = (known.mean[:, None, :] @ whiten.astype(np.float32)).astype(np.float32)
    constant = graph.constant("teach/whiten16", whiten)
    matrix = graph.append("DEQUANTIZE", [constant], whiten.shape, name="teach/whiten", version=_VERSIONS["float16"])
    shape = (places, 1, rank)
    turned = graph.append(
        "BATCH_MATMUL", [tensor, matrix], shape, name="teach/turned", options="BatchMatMulOptions",
        adjX=False, adjY=False,
    )  # fmt: skip
    apart = graph.append(
        "SUB", [turned, graph.constant("teach/bias", bias)], shape, name="teach/apart", options="SubOptions"
    )
    squared = graph.append("MUL", [apart, apart], shape, name="teach/squared", options="MulOptions")
    axis = graph.constant("teach/axis", np.array([2], np.int32))
    summed = graph.append(
        "SUM", [squared, axis], (places, 1), name="teach/summed", options="ReducerOptions", keepDims=False
    )
    graph.give([_reshaped(graph, summed, (1, rows, columns), "teach/heat")])


def _shaped(graph: Graph, tensor: int, shaping: Shaping, rows: int, columns: int) -> int:
    channels = len(shaping.scale)
    if shaping.project is None:
        scale = graph.constant("teach/scale", shaping.scale)
        shape = (1, rows, columns, channels)
        return graph.append("MUL", [tensor, scale], shape, name="teach/scaled", options="MulOptions")
    weights = np.ascontiguousarray((shaping.scale[:, None] * shaping.project).T[:, None, None, :], np.float32)
    features = len(weights)
    inputs = [
        tensor,
        graph.constant("teach/project", weights),
        graph.constant("teach/zero", np.zeros(features, np.float32)),
    ]
    return graph.append(
        "CONV_2D", inputs, (1, rows, columns, features), name="teach/projected", options="Conv2DOptions",
        padding=1, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1,
    )  # fmt: skip


def _reshaped(graph: Graph, tensor: int, shape: tuple[int, ...], name: str) -> int:
    wanted = graph.constant(f"{name}/shape", np.array(shape, np.int32))
    return graph.append("RESHAPE", [tensor, wanted], shape, name=name, options="ReshapeOptions", newShape=list(shape))
