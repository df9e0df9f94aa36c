"""Anchor boxes of SSD heads.

Cell by cell in rows, in each cell the shapes of its layer. Sizes follow the multiple-grid generator of the SSD
paper (Liu et al. 2016, section 2.2): scale_k = min + (max - min) * k / (layers - 1), width = scale * sqrt(ratio),
height = scale / sqrt(ratio), and one square of the geometric mean of two scales. Layers in a row with the same
grid share its cells, as in MediaPipe's detectors.
"""

import math
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class AnchorRule:
    grids: tuple[tuple[int, int], ...]  # (rows, columns) of each layer
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 1 / 3)
    interpolated: bool = True  # adds the square of the geometric mean
    reduce_lowest: bool = True  # the first layer has three shapes only, the first of them at half the least scale
    fixed_size: bool = False  # every anchor is the whole input (1 x 1); only its centre counts


def anchors(rule: AnchorRule) -> NDArray[np.float32]:
    """(n, 4) float32: centre y, centre x, height, width as fractions of the input."""
    parts = []
    for grid, layers in groupby(range(len(rule.grids)), key=lambda layer: rule.grids[layer]):
        shapes = np.array([shape for layer in layers for shape in _shapes(rule, layer)], np.float32)
        rows, columns = grid
        y, x = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns, indexing="ij")
        centers = np.stack([y, x], axis=-1).reshape(-1, 1, 2)
        block = np.empty((rows * columns, len(shapes), 4), np.float32)
        block[..., :2] = centers
        block[..., 2:] = shapes
        parts.append(block.reshape(-1, 4))
    return np.concatenate(parts)


def _shapes(rule: AnchorRule, layer: int) -> list[tuple[float, float]]:
    """(height, width) of the anchors in one cell of a layer."""
    scale, following = _scale(rule, layer), _scale(rule, layer + 1)
    if layer == 0 and rule.reduce_lowest:
        wanted = [(rule.min_scale / 2, 1.0), (scale, 2.0), (scale, 0.5)]
    else:
        wanted = [(scale, ratio) for ratio in rule.aspect_ratios]
        if rule.interpolated:
            wanted.append((math.sqrt(scale * following), 1.0))
    if rule.fixed_size:
        return [(1.0, 1.0)] * len(wanted)
    return [(size / math.sqrt(ratio), size * math.sqrt(ratio)) for size, ratio in wanted]


def _scale(rule: AnchorRule, layer: int) -> float:
    layers = len(rule.grids)
    if layer >= layers:
        return 1.0
    if layers == 1:
        return (rule.min_scale + rule.max_scale) / 2
    return rule.min_scale + (rule.max_scale - rule.min_scale) * layer / (layers - 1)
