"""Our own backbone: a network of fixed filters, made here whenever it is needed, with no weight that was learnt.

    luma ───┬─ Gabor pairs at 4 sizes ─ energy ─────────────────────── mean of each cell ─ log ─┐
            ├─ amplitudes of the 2 finest ─ Gabor pairs ─ energy ───── mean of each cell ─ log ─┤
            ├─ mean, darkest and brightest of each cell ────────────────────────────────────────┤
    colour ─── mean of each cell ───────────────────────────────────────────────────────────────┴─ features

A cell is 16 x 16 pixels. Logarithms, because energies vary by factors: so they come close to a normal distribution.
"""

import numpy as np
from numpy.typing import NDArray

from agent.anomaly.filters import gabor
from agent.infer.graph.flatbuffer import Graph
from agent.infer.preprocess import InputRule

NAME = "textures"
SIDE = 224
CELL = 16
RULE = InputRule(mean=(0.0, 0.0, 0.0), std=(255.0, 255.0, 255.0))
LEVELS = 4
DIRECTIONS = 8
FINER_LEVELS = 2  # whose amplitudes are filtered once more
FINER_DIRECTIONS = 4
_SHRINK = 4  # amplitudes before they are filtered
_QUIET = 1e-5  # energy of what is plain
_SAME, _VALID = 0, 1
Real = NDArray[np.float32]

# ITU-R BT.601 luma, and two differences that are 0 for grey.
_COLOUR = np.array([[0.299, 0.587, 0.114], [0.5, -0.5, 0.0], [-0.25, -0.25, 0.5]], np.float32)


def textures() -> Graph:
    """(1, SIDE, SIDE, 3) float32 0..1 to (1, SIDE / CELL, SIDE / CELL, channels), named `textures/features`."""
    graph = Graph.begin("picture", (1, SIDE, SIDE, 3))
    build = _Build(graph)
    level = build.mix(0, _COLOUR[:1], SIDE, "luma")
    colour = build.mix(0, _COLOUR[1:], SIDE, "colour")
    parts = [build.pool(level, SIDE, 1, CELL), *build.extremes(level, SIDE, CELL), build.pool(colour, SIDE, 2, CELL)]
    energies, counts = [], 0
    even, odd = gabor(DIRECTIONS)
    finer = [filters[:: DIRECTIONS // FINER_DIRECTIONS] for filters in (even, odd)]
    for number in range(LEVELS):
        side, cell = SIDE >> number, CELL >> number
        energy = build.energy(level, np.concatenate([even, odd]), side, 1)
        energies.append(build.pool(energy, side, DIRECTIONS, cell))
        counts += DIRECTIONS
        if number < FINER_LEVELS:
            amplitude = build.root(energy, side, DIRECTIONS)
            small = build.pool(amplitude, side, DIRECTIONS, _SHRINK)
            again = build.energy(small, np.concatenate(finer), side // _SHRINK, DIRECTIONS)
            energies.append(build.pool(again, side // _SHRINK, DIRECTIONS * FINER_DIRECTIONS, cell // _SHRINK))
            counts += DIRECTIONS * FINER_DIRECTIONS
        if number == FINER_LEVELS:
            parts += build.extremes(level, side, cell)
        if number < LEVELS - 1:
            level = build.pool(level, side, 1, 2)
    parts.append(build.log(build.stack(energies, counts, "energies"), counts))
    channels = 1 + 2 + 2 + 2 + counts
    graph.give([build.stack(parts, channels, f"{NAME}/features")])
    return graph


class _Build:
    """Puts one step after the other; each gives its tensor. Sides are pixels of a square map."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._steps = 0

    def _name(self, what: str) -> str:
        self._steps += 1
        return f"{NAME}/{self._steps}-{what}"

    def _bias(self, count: int) -> int:
        return self._graph.constant(self._name("zero"), np.zeros(count, np.float32))

    def mix(self, tensor: int, weights: Real, side: int, what: str) -> int:
        """Each channel of the result is a sum of the tensor's; weights: (to, from)."""
        constant = self._graph.constant(self._name("weights"), weights[:, None, None, :])
        return self._convolved([tensor, constant, self._bias(len(weights))], (1, side, side, len(weights)), what)

    def _convolved(self, inputs: list[int], shape: tuple[int, ...], what: str) -> int:
        return self._graph.append(
            "CONV_2D", inputs, shape, name=self._name(what), options="Conv2DOptions",
            padding=_SAME, strideW=1, strideH=1, dilationWFactor=1, dilationHFactor=1,
        )  # fmt: skip

    def energy(self, tensor: int, filters: Real, side: int, channels: int) -> int:
        """Of each channel and each direction: even² + odd². filters: (2 * directions, 9, 9), the even ones first."""
        count = len(filters) * channels
        shape = (1, side, side, count)
        if channels == 1:
            constant = self._graph.constant(self._name("gabor"), filters[..., None])
            waves = self._convolved([tensor, constant, self._bias(count)], shape, "waves")
        else:
            # Depthwise: each channel's filters lie together, the even ones first.
            weights = np.tile(filters.transpose(1, 2, 0), (1, 1, channels))[None]
            constant = self._graph.constant(self._name("gabor"), np.ascontiguousarray(weights))
            waves = self._graph.append(
                "DEPTHWISE_CONV_2D", [tensor, constant, self._bias(count)], shape, name=self._name("waves"),
                options="DepthwiseConv2DOptions", padding=_SAME, strideW=1, strideH=1, depthMultiplier=len(filters),
                dilationWFactor=1, dilationHFactor=1,
            )  # fmt: skip
        squared = self._graph.append("MUL", [waves, waves], shape, name=self._name("squared"), options="MulOptions")
        half = len(filters) // 2
        pairs = np.kron(np.eye(channels), np.tile(np.eye(half), (1, 2))).astype(np.float32)
        return self.mix(squared, pairs, side, "energy")

    def root(self, tensor: int, side: int, channels: int) -> int:
        return self._graph.append("SQRT", [tensor], (1, side, side, channels), name=self._name("amplitude"))

    def log(self, tensor: int, channels: int) -> int:
        rows = SIDE // CELL
        shape = (1, rows, rows, channels)
        quiet = self._graph.constant(self._name("quiet"), np.full(1, _QUIET, np.float32))
        lifted = self._graph.append("ADD", [tensor, quiet], shape, name=self._name("lifted"), options="AddOptions")
        return self._graph.append("LOG", [lifted], shape, name=self._name("log"))

    def pool(self, tensor: int, side: int, channels: int, cell: int, operator: str = "AVERAGE_POOL_2D") -> int:
        shape = (1, side // cell, side // cell, channels)
        return self._graph.append(
            operator, [tensor], shape, name=self._name("cells"), options="Pool2DOptions", padding=_VALID,
            strideW=cell, strideH=cell, filterWidth=cell, filterHeight=cell,
        )  # fmt: skip

    def extremes(self, tensor: int, side: int, cell: int) -> list[int]:
        """The brightest of each cell, and the darkest with its sign turned."""
        turned = self.mix(tensor, -np.ones((1, 1), np.float32), side, "turned")
        return [self.pool(one, side, 1, cell, "MAX_POOL_2D") for one in (tensor, turned)]

    def stack(self, parts: list[int], channels: int, name: str) -> int:
        rows = SIDE // CELL
        name = name if "/" in name else self._name(name)
        shape = (1, rows, rows, channels)
        return self._graph.append("CONCATENATION", parts, shape, name=name, options="ConcatenationOptions", axis=3)
