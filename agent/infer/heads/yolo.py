"""YOLO heads: one row per cell, a box as centre and size, with or without an objectness, in either orientation.

    objectness = true    (1, n, 5 + classes)   v5, v7, YOLOX:  confidence = objectness * class score
    objectness = false   (1, 4 + classes, n)   v8, v9, v11:    confidence = class score

Boxes come as fractions of the input (`normalised`), in model pixels (`pixels`), or as the raw regression of a
YOLOX grid (`grid`): centre = (raw + cell) * stride, size = exp(raw) * stride. Scores are probabilities already.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.engine import Tensor, TensorSpec
from agent.infer.heads.base import Surroundings, corners, misfit
from agent.infer.preprocess import Geometry, Placement
from agent.infer.quantised import at_least, dequantise, stored_threshold
from agent.infer.reader import Reader

NAME = "yolo"
BOXES = ("normalised", "pixels", "grid")


@dataclass(frozen=True, slots=True)
class Options:
    boxes: str  # unit of the boxes, one of BOXES
    objectness: bool  # column 4 is an objectness
    strides: tuple[int, ...] = (8, 16, 32)  # of the grids, finest first; used with boxes = "grid"


def read_options(reader: Reader) -> Options:
    strides = reader.numbers("strides", (8, 16, 32))
    if not strides or any(s < 1 or s != int(s) for s in strides):
        reader.wrong("strides", "whole numbers of at least 1 are wanted")
        strides = (8, 16, 32)
    if "objectness" not in reader:
        reader.wrong("objectness", "is missing")
    return Options(
        boxes=reader.choice("boxes", BOXES),
        objectness=reader.flag("objectness", False),
        strides=tuple(int(s) for s in strides),
    )


def cells(geometry: Geometry, strides: Sequence[int]) -> NDArray[np.float32]:
    """(n, 3) float32: column, row and stride of each cell, grid after grid, each in rows."""
    parts = []
    for stride in strides:
        rows, columns = math.ceil(geometry.height / stride), math.ceil(geometry.width / stride)
        y, x = np.mgrid[:rows, :columns]
        parts.append(np.stack([x.ravel(), y.ravel(), np.full(rows * columns, stride)], axis=1))
    return np.concatenate(parts).astype(np.float32)


class Yolo:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._options, self._around = options, around
        self._spec, self._index = self._output(around.outputs)
        spec = self._spec
        columns = around.classes + (5 if options.objectness else 4)
        axes = [axis for axis in (1, 2) if spec.shape[axis] == columns]
        if not axes:
            raise misfit(
                NAME,
                around.outputs,
                f"{around.classes} classes make {columns} columns",
                "the labels do not fit the model, or objectness is wrong",
            )
        # Where both axes fit, the longer one holds the cells; a square one is taken as (columns, cells).
        self._columns_first = axes == [1] or (len(axes) == 2 and spec.shape[1] <= spec.shape[2])
        self._cells = None
        if options.boxes == "grid":
            self._cells = cells(around.geometry, options.strides)
            n = spec.shape[2] if self._columns_first else spec.shape[1]
            if len(self._cells) != n:
                raise misfit(
                    NAME, around.outputs, f"strides {options.strides} make {len(self._cells)} cells, not {n}"
                )
        # A class score above the floor is needed; so is an objectness above it, since neither factor exceeds 1.
        self._threshold = stored_threshold(around.floor, spec)

    @staticmethod
    def _output(outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, int]:
        cubes = [i for i, s in enumerate(outputs) if len(s.shape) == 3 and s.shape[0] == 1]
        if len(cubes) != 1:
            raise misfit(NAME, outputs, "exactly one output of three dimensions is wanted")
        return outputs[cubes[0]], cubes[0]

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        table = outputs[self._index][0]
        if not self._columns_first:
            table = table.T  # a view: (columns, cells) from here on
        picked, best, confidence = self._objects(table) if self._options.objectness else self._plain(table)
        xyxy = self._boxes_of(dequantise(table[:4, picked], self._spec), picked)
        return self._around.finish(xyxy, confidence, best, placement, frame_width, frame_height)

    def _plain(self, table: Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        """Cells whose best class reaches the floor, that class, and its score."""
        scores = table[4:]
        picked = np.flatnonzero(at_least(scores.max(axis=0), self._threshold))
        chosen = scores[:, picked]
        best = chosen.argmax(axis=0)
        return picked, best, dequantise(chosen[best, np.arange(len(picked))], self._spec)

    def _objects(self, table: Tensor) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
        picked = np.flatnonzero(at_least(table[4], self._threshold))
        chosen = table[5:, picked]
        best = chosen.argmax(axis=0)
        score = dequantise(chosen[best, np.arange(len(picked))], self._spec)
        return picked, best, score * dequantise(table[4, picked], self._spec)

    def _boxes_of(self, raw: NDArray[np.float32], picked: NDArray[np.intp]) -> NDArray[np.float32]:
        x, y, width, height = raw
        if self._cells is not None:
            column, row, stride = self._cells[picked].T
            with np.errstate(over="ignore"):
                return corners(
                    (x + column) * stride, (y + row) * stride, np.exp(width) * stride, np.exp(height) * stride
                )
        if self._options.boxes == "normalised":
            geometry = self._around.geometry
            x, width = x * geometry.width, width * geometry.width
            y, height = y * geometry.height, height * geometry.height
        return corners(x, y, width, height)
