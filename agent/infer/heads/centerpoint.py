"""Centre-point heads (after Zhou et al. 2019, "Objects as Points"): objects are peaks of a heat map.

    heatmap  (1, H, W, classes)  probabilities 0..1
    offset   (1, H, W, 2)        x, y of the centre within its cell, in cells
    size     (1, H, W, 2)        w, h as fractions of the input's width and height

A peak is a cell above the threshold that no neighbour of its 3 x 3 surroundings exceeds; of equal neighbours, as
quantised maps have them, the first in reading order wins.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.engine import Tensor
from agent.infer.heads.base import Surroundings, corners, find_output, misfit
from agent.infer.preprocess import Placement
from agent.infer.quantised import at_least, dequantise, stored_threshold
from agent.infer.reader import Reader

NAME = "centerpoint"


@dataclass(frozen=True, slots=True)
class Options:
    heatmap: str = "heatmap"  # name, part of the name, or position of each output
    offset: str = "offset"
    size: str = "size"


def read_options(reader: Reader) -> Options:
    return Options(
        heatmap=reader.text("heatmap", "heatmap"),
        offset=reader.text("offset", "offset"),
        size=reader.text("size", "size"),
    )


class CenterPoint:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._around = around
        outputs = around.outputs
        if len(outputs) != 3:
            raise misfit(NAME, outputs, "three outputs are wanted: heatmap, offset, size")
        self._heatmap, self._offset, self._size = (
            find_output(NAME, outputs, name, key)
            for key, name in (("heatmap", options.heatmap), ("offset", options.offset), ("size", options.size))
        )
        if len({self._heatmap, self._offset, self._size}) != 3:
            raise misfit(NAME, outputs, "heatmap, offset and size name the same output")
        shape = outputs[self._heatmap].shape
        if len(shape) != 4 or shape[3] != around.classes:
            raise misfit(NAME, outputs, f"the heat map must be (1, height, width, {around.classes}), one map a label")
        self._rows, self._columns = shape[1], shape[2]
        for index in (self._offset, self._size):
            if outputs[index].shape != (1, self._rows, self._columns, 2):
                raise misfit(NAME, outputs, f"offset and size must be (1, {self._rows}, {self._columns}, 2)")
        self._threshold = stored_threshold(around.floor, outputs[self._heatmap])

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        specs, geometry = self._around.outputs, self._around.geometry
        heat = outputs[self._heatmap][0]
        row, column, label = peaks(heat, at_least(heat, self._threshold))
        if len(row) == 0:
            return Detections.none()
        confidence = dequantise(heat[row, column, label], specs[self._heatmap])
        dx, dy = dequantise(outputs[self._offset][0, row, column], specs[self._offset]).T
        width, height = dequantise(outputs[self._size][0, row, column], specs[self._size]).T
        xyxy = corners(
            (column.astype(np.float32) + dx) * np.float32(geometry.width / self._columns),
            (row.astype(np.float32) + dy) * np.float32(geometry.height / self._rows),
            width * geometry.width,
            height * geometry.height,
        )
        return self._around.finish(xyxy, confidence, label, placement, frame_width, frame_height)


_DY, _DX = (np.array(d) for d in ((-1, -1, -1, 0, 0, 1, 1, 1), (-1, 0, 1, -1, 1, -1, 0, 1)))
_EARLIER = np.arange(8) < 4  # neighbours that come before the cell in reading order


def peaks(heat: Tensor, above: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Row, column and class of the local maxima among the cells of (H, W, classes) marked in `above`."""
    # Flat indices and a division are several times faster here than np.nonzero in three dimensions.
    cell, label = np.divmod(np.flatnonzero(above), heat.shape[2])
    row, column = np.divmod(cell, heat.shape[1])
    if len(cell) == 0:
        return row, column, label
    y, x = row[:, None] + _DY, column[:, None] + _DX
    inside = (y >= 0) & (y < heat.shape[0]) & (x >= 0) & (x < heat.shape[1])
    neighbour = heat[y * inside, x * inside, label[:, None]]
    value = heat[row, column, label][:, None]
    beaten = inside & np.where(_EARLIER, neighbour >= value, neighbour > value)
    peak = ~beaten.any(axis=1)
    return row[peak], column[peak], label[peak]
