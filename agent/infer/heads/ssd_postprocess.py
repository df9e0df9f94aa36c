"""SSD models that end in the TFLite_Detection_PostProcess op: boxes, classes, scores and a count, already reduced.

The op writes boxes (1, n, 4) as y0 x0 y1 x1 in 0..1 of the input, classes (1, n) as floats, scores (1, n) and the
count (1). Exporters reorder and rename these outputs, so they are found by shape and by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.infer.detections import Detections
from agent.infer.engine import Tensor, TensorSpec
from agent.infer.heads.base import Surroundings, find_output, misfit
from agent.infer.preprocess import Placement
from agent.infer.quantised import dequantise
from agent.infer.reader import Reader

NAME = "ssd_postprocess"


@dataclass(frozen=True, slots=True)
class Options:
    scores: str = ""  # name or position of the scores output where the names do not tell it from the classes
    classes: str = ""  # the same for the classes output


def read_options(reader: Reader) -> Options:
    return Options(scores=reader.text("scores", ""), classes=reader.text("classes", ""))


class SsdPostprocess:
    def __init__(self, options: Options, around: Surroundings) -> None:
        self._around = around
        outputs = around.outputs
        boxes = [i for i, s in enumerate(outputs) if len(s.shape) == 3 and s.shape[0] == 1 and s.shape[2] == 4]
        if len(boxes) != 1:
            raise misfit(NAME, outputs, "exactly one output of shape (1, n, 4) is wanted for the boxes")
        self._boxes = boxes[0]
        self._slots = outputs[self._boxes].shape[1]
        rows = [i for i, s in enumerate(outputs) if s.shape == (1, self._slots)]
        counts = [i for i, s in enumerate(outputs) if s.shape in ((1,), (1, 1)) and i not in rows[:2]]
        self._count = counts[0] if counts else None
        self._scores, self._classes = scores_and_classes(options, outputs, rows)

    def decode(
        self, outputs: Sequence[Tensor], placement: Placement, frame_width: int, frame_height: int
    ) -> Detections:
        around, specs = self._around, self._around.outputs
        n = self._slots
        if self._count is not None:
            count = float(outputs[self._count].reshape(-1)[0])
            n = min(n, max(0, int(count))) if np.isfinite(count) else 0
        scores = dequantise(outputs[self._scores][0, :n], specs[self._scores])
        classes = dequantise(outputs[self._classes][0, :n], specs[self._classes])
        # A class the labels do not know is noise of an empty slot.
        known = (scores >= around.floor) & (classes >= 0) & (classes < around.classes)
        y0, x0, y1, x1 = dequantise(outputs[self._boxes][0, :n][known], specs[self._boxes]).T
        width, height = around.geometry.width, around.geometry.height
        xyxy = np.stack([x0 * width, y0 * height, x1 * width, y1 * height], axis=1).astype(np.float32, copy=False)
        return around.finish(
            xyxy, scores[known], classes[known].astype(np.intp), placement, frame_width, frame_height
        )


def scores_and_classes(options: Options, outputs: Sequence[TensorSpec], rows: Sequence[int]) -> tuple[int, int]:
    """Positions of the scores and of the classes among the outputs. Raises ModelError where nothing tells them."""
    if len(rows) != 2:
        raise misfit(NAME, outputs, "two outputs of shape (1, n) are wanted, for classes and scores")
    if options.scores or options.classes:
        named, key = (options.scores, "scores") if options.scores else (options.classes, "classes")
        found = find_output(NAME, outputs, named, key)
        if found not in rows:
            raise misfit(NAME, outputs, f"{key} = {named!r} is not of shape (1, n)")
        other = rows[1] if found == rows[0] else rows[0]
        return (found, other) if options.scores else (other, found)
    names = [outputs[i].name.lower() for i in rows]
    for i, name in enumerate(names):
        if "score" in name:
            return rows[i], rows[1 - i]
        if "class" in name:
            return rows[1 - i], rows[i]
    # The op itself, unrenamed: `:1` classes, `:2` scores.
    suffixes = [name.rpartition(":")[2] for name in names]
    if all("detection_postprocess" in name for name in names) and sorted(suffixes) == ["1", "2"]:
        return rows[suffixes.index("2")], rows[suffixes.index("1")]
    raise misfit(NAME, outputs, "nothing tells scores from classes", "name one in [output] scores or classes")
