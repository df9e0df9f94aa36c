"""The anomalous regions of a map: cells above a limit that touch, each with a box around it.

. . # # .        two regions: cells that touch at a side or a corner belong together
. . # . .
# . . . .
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

REGIONS_MAX = 20


@dataclass(frozen=True, slots=True)
class Region:
    """x0, y0, x1, y1 in cells, the right and lower edges beyond the last cell; `peak` is the map's greatest value."""

    x0: int
    y0: int
    x1: int
    y1: int
    peak: float
    cells: int


def regions(heat: NDArray[np.float32], limit: float) -> list[Region]:
    """Of (rows, columns) float32, the cells of at least `limit`; the greatest peak first, at most REGIONS_MAX."""
    rows, columns = heat.shape
    left = {(int(y), int(x)) for y, x in np.argwhere(heat >= limit)}
    found = []
    while left:
        start = left.pop()
        cells, edge = [start], [start]
        while edge:
            y, x = edge.pop()
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            cells += near
            edge += near
        at = np.array(cells)
        (y0, x0), (y1, x1) = at.min(axis=0), at.max(axis=0)
        peak = float(heat[at[:, 0], at[:, 1]].max())
        found.append(Region(int(x0), int(y0), int(x1) + 1, int(y1) + 1, peak, len(cells)))
    assert all(region.x1 <= columns and region.y1 <= rows for region in found)
    found.sort(key=lambda region: (-region.peak, region.y0, region.x0))
    return found[:REGIONS_MAX]
