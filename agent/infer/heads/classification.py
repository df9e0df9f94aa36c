"""Classifiers: one score per class for the whole picture. A detection's box is the whole frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.infer.detections import Detections
from agent.infer.engine import Tensor
from agent.infer.heads.base import Surroundings, misfit, sigmoid, softmax
from agent.infer.preprocess import Placement
from agent.infer.quantised import dequantise
from agent.infer.reader import Reader

NAME = "classification"
ACTIVATIONS = ("none", "softmax", "sigmoid")


@dataclass(frozen=True, slots=True)
class Options:
    activation: str = "none"  # what turns the outputs into probabilities
    top_k: int = 1  # the most classes reported for one frame


def read_options(reader: Reader) -> Options:
    return Options(
        activation=reader.choice("activation", ACTIVATIONS, "none"), top_k=reader.integer("top_k", 1, 1, 1000)
    )


class Classification:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._options, self._around = options, around
        if len(around.outputs) != 1:
            raise misfit(NAME, around.outputs, "exactly one output is wanted")
        shape = around.outputs[0].shape
        if not shape or int(np.prod(shape)) != shape[-1]:
            raise misfit(NAME, around.outputs, "a single row of scores is wanted")
        if shape[-1] != around.classes:
            raise misfit(
                NAME, around.outputs, f"{shape[-1]} scores, but the labels name {around.classes} classes",
                "give one label for each score, background included",
            )  # fmt: skip

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        around = self._around
        score = dequantise(outputs[0].reshape(-1), around.outputs[0])
        if self._options.activation != "none":
            score = softmax(score) if self._options.activation == "softmax" else sigmoid(score)
        # NaN passes no comparison, so a broken output yields nothing.
        good = np.flatnonzero(score >= around.floors)
        best = good[np.argsort(-score[good], kind="stable")][: min(self._options.top_k, around.limit)]
        return Detections(
            np.tile(np.array([0, 0, frame_width, frame_height], np.float32), (len(best), 1)),
            np.minimum(score[best], np.float32(1)),
            (best + around.label_offset).astype(np.int32),
        )
