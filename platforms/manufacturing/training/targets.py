"""What the network should answer for a picture: the centre-point targets of its boxes. Idea: numpy only."""

import numpy as np

from platforms.manufacturing.weld_parts import KINDS, FloatArray
from platforms.manufacturing.weld_samples import INPUT_HEIGHT, INPUT_WIDTH, Sample

STRIDE = 8
GRID_WIDTH, GRID_HEIGHT = INPUT_WIDTH // STRIDE, INPUT_HEIGHT // STRIDE
CLASSES = len(KINDS)
LEARN_VISIBLE_MIN = 0.4
"""Defects shown less are neither taught nor forbidden: their cells carry no loss."""

CHANNELS = 2 * CLASSES + 5
"""Heat map, its weight, offset x y, size w h, and whether the cell is a centre."""


def targets_of(sample: Sample) -> FloatArray:
    """(GRID_HEIGHT, GRID_WIDTH, CHANNELS) float32."""
    heat = np.zeros((GRID_HEIGHT, GRID_WIDTH, CLASSES), np.float32)
    weight = np.ones_like(heat)
    box = np.zeros((GRID_HEIGHT, GRID_WIDTH, 5), np.float32)
    cell_x, cell_y = np.arange(GRID_WIDTH)[None, :], np.arange(GRID_HEIGHT)[:, None]
    for (x0, y0, x1, y1), label, visible in zip(sample.boxes, sample.class_id, sample.visible, strict=True):
        if visible < LEARN_VISIBLE_MIN:
            rows = slice(max(int(y0 * GRID_HEIGHT) - 1, 0), int(y1 * GRID_HEIGHT) + 2)
            columns = slice(max(int(x0 * GRID_WIDTH) - 1, 0), int(x1 * GRID_WIDTH) + 2)
            weight[rows, columns, label] = 0.0
            continue
        width, height = x1 - x0, y1 - y0
        centre_x, centre_y = (x0 + x1) / 2 * GRID_WIDTH, (y0 + y1) / 2 * GRID_HEIGHT
        column, row = min(int(centre_x), GRID_WIDTH - 1), min(int(centre_y), GRID_HEIGHT - 1)
        sigma_x, sigma_y = max(width * GRID_WIDTH / 7, 0.45), max(height * GRID_HEIGHT / 7, 0.45)
        near = np.exp(-0.5 * (((cell_x - column) / sigma_x) ** 2 + ((cell_y - row) / sigma_y) ** 2))
        heat[:, :, label] = np.maximum(heat[:, :, label], near)
        box[row, column] = centre_x - column, centre_y - row, width, height, 1.0
    weight[heat >= 0.999] = 1.0
    return np.concatenate([heat, weight, box], axis=2)
