"""SSD heads without the post-processing op: box encodings (1, n, >= 4) and class scores (1, n, classes) per anchor.

A box is decoded against its anchor a with the divisors s (`box_scales`, order y x h w):

    cy = ty / s_y * a_h + a_y     h = exp(th / s_h) * a_h     (without `exponential_size`: th / s_h * a_h)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.detections import Detections
from agent.infer.engine import Tensor
from agent.infer.heads.anchors import AnchorRule, anchors
from agent.infer.heads.base import Surroundings, corners, find_output, logit, misfit, sigmoid, softmax
from agent.infer.preprocess import Geometry, Placement
from agent.infer.quantised import at_least, dequantise, stored_threshold
from agent.infer.reader import Reader

NAME = "ssd_raw"
ACTIVATIONS = ("sigmoid", "softmax", "none")


@dataclass(frozen=True, slots=True)
class Options:
    boxes: str = ""  # name or position of the box output; else by shape
    scores: str = ""  # name or position of the score output; else by shape
    activation: str = "sigmoid"  # what turns scores into probabilities
    background: bool = True  # class 0 of the scores is the background
    box_order: str = "yxhw"  # or xywh
    box_scales: tuple[float, ...] = (10.0, 10.0, 5.0, 5.0)  # divisors, order y x h w
    exponential_size: bool = True
    strides: tuple[int, ...] = (16, 32, 64, 128, 256, 512)  # model pixels per cell, one for each layer
    min_scale: float = 0.2
    max_scale: float = 0.95
    aspect_ratios: tuple[float, ...] = (1.0, 2.0, 0.5, 3.0, 1 / 3)
    interpolated: bool = True
    reduce_lowest: bool = True
    fixed_anchor_size: bool = False


def read_options(reader: Reader) -> Options:
    d = Options()
    strides = reader.numbers("strides", d.strides)
    if not strides or any(s < 1 or s != int(s) for s in strides) or len(strides) > 16:
        reader.wrong("strides", "1 to 16 whole numbers of at least 1 are wanted")
        strides = d.strides
    ratios = reader.numbers("aspect_ratios", d.aspect_ratios)
    if not ratios or any(r <= 0 for r in ratios):
        reader.wrong("aspect_ratios", "numbers above 0 are wanted")
        ratios = d.aspect_ratios
    scales = reader.numbers("box_scales", d.box_scales, 4)
    if any(s <= 0 for s in scales):
        reader.wrong("box_scales", "numbers above 0 are wanted")
        scales = d.box_scales
    return Options(
        boxes=reader.text("boxes", d.boxes),
        scores=reader.text("scores", d.scores),
        activation=reader.choice("activation", ACTIVATIONS, d.activation),
        background=reader.flag("background", d.background),
        box_order=reader.choice("box_order", ("yxhw", "xywh"), d.box_order),
        box_scales=scales,
        exponential_size=reader.flag("exponential_size", d.exponential_size),
        strides=tuple(int(s) for s in strides),
        min_scale=reader.number("min_scale", d.min_scale, 0.001, 1),
        max_scale=reader.number("max_scale", d.max_scale, 0.001, 1),
        aspect_ratios=ratios,
        interpolated=reader.flag("interpolated", d.interpolated),
        reduce_lowest=reader.flag("reduce_lowest", d.reduce_lowest),
        fixed_anchor_size=reader.flag("fixed_anchor_size", d.fixed_anchor_size),
    )


def anchor_rule(options: Options, geometry: Geometry) -> AnchorRule:
    return AnchorRule(
        grids=tuple((math.ceil(geometry.height / s), math.ceil(geometry.width / s)) for s in options.strides),
        min_scale=options.min_scale,
        max_scale=options.max_scale,
        aspect_ratios=options.aspect_ratios,
        interpolated=options.interpolated,
        reduce_lowest=options.reduce_lowest,
        fixed_size=options.fixed_anchor_size,
    )


class SsdRaw:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._options, self._around = options, around
        outputs = around.outputs
        self._anchors = anchors(anchor_rule(options, around.geometry))
        self._first = 1 if options.background else 0
        depth = around.classes + self._first
        self._scores = self._find(options.scores, "scores", depth)
        self._boxes = self._find(options.boxes, "boxes", None)
        if outputs[self._scores].shape[2] != depth:
            raise misfit(NAME, outputs, f"the labels ask for {depth} score columns (background included)")
        if outputs[self._boxes].shape[1] != len(self._anchors) or outputs[self._scores].shape[1] != len(
            self._anchors
        ):
            raise misfit(NAME, outputs, f"the anchor options make {len(self._anchors)} anchors")
        floor = logit(around.floor) if options.activation == "sigmoid" else around.floor
        self._threshold = stored_threshold(floor, outputs[self._scores])

    def _find(self, named: str, key: str, depth: int | None) -> int:
        outputs = self._around.outputs
        if named:
            found = find_output(NAME, outputs, named, key)
            if len(outputs[found].shape) != 3:
                raise misfit(NAME, outputs, f"{key} must have the shape (1, anchors, columns)")
            return found
        cubes = [i for i, s in enumerate(outputs) if len(s.shape) == 3 and s.shape[0] == 1]
        if depth is not None:
            fits = [i for i in cubes if outputs[i].shape[2] == depth]
        else:
            fits = [i for i in cubes if i != self._scores and outputs[i].shape[2] >= 4]
        if len(fits) != 1:
            raise misfit(NAME, outputs, f"nothing tells the {key} output", f"name it in [output] {key}")
        return fits[0]

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        specs = self._around.outputs
        scores = outputs[self._scores][0]
        if self._options.activation == "softmax":
            # The classes compete, so every row is needed as real values.
            real = softmax(dequantise(scores, specs[self._scores]))[:, self._first :]
            rows = np.flatnonzero(real.max(axis=1) >= self._around.floor)
            real = real[rows]
        else:
            wanted = scores[:, self._first :]
            rows = np.flatnonzero(at_least(wanted.max(axis=1), self._threshold))
            real = dequantise(wanted[rows], specs[self._scores])
            if self._options.activation == "sigmoid":
                real = sigmoid(real)
        best = real.argmax(axis=1) if len(rows) else np.zeros(0, np.intp)
        confidence = real[np.arange(len(rows)), best]
        encoded = dequantise(outputs[self._boxes][0, rows, :4], specs[self._boxes])
        xyxy = self._boxes_of(encoded, self._anchors[rows])
        return self._around.finish(xyxy, confidence, best, placement, frame_width, frame_height)

    def _boxes_of(self, encoded: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, 4) corners in model pixels from encodings and the anchors they belong to."""
        geometry = self._around.geometry
        order = (0, 1, 2, 3) if self._options.box_order == "yxhw" else (1, 0, 3, 2)
        ty, tx, th, tw = (encoded[:, order] / np.array(self._options.box_scales, np.float32)).T
        ay, ax, ah, aw = at.T
        if self._options.exponential_size:
            with np.errstate(over="ignore"):
                th, tw = np.exp(th), np.exp(tw)
        return corners(
            (tx * aw + ax) * geometry.width,
            (ty * ah + ay) * geometry.height,
            tw * aw * geometry.width,
            th * ah * geometry.height,
        )
