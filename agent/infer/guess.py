"""Guesses a manifest from what a model file states and from its answer to one plain grey picture.

Guesses are said aloud (`Guess.notes`), and what cannot be told is refused with a hint, never assumed in silence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.infer.engine import ModelError, TensorSpec
from agent.infer.heads.base import listed

Real = NDArray[np.float32]
Value = str | int | float | bool | Sequence[float] | Sequence[str]
_IMAGENET = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_UNIT = {"mean": 0.0, "std": 255.0}
_SIGNED = {"mean": 127.5, "std": 127.5}


@dataclass(frozen=True, slots=True)
class Guess:
    labels: tuple[str, ...]
    label_offset: int
    input: Mapping[str, Value]
    output: Mapping[str, Value]  # decoder and options
    notes: tuple[str, ...]  # what was guessed, for the person who has to check it


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to guess from. `answers` are real values, empty when the model could not be run here."""

    input: TensorSpec
    outputs: tuple[TensorSpec, ...]
    labels: tuple[str, ...]
    answers: tuple[Real, ...] = ()


def guess(known: Known, decoder: str | None = None) -> Guess:
    """Raises ModelError where the tensors do not tell."""
    decoder = decoder or guess_decoder(known.outputs)
    notes = [f"decoder {decoder}, from the outputs {listed(known.outputs)}"]
    labels, offset = guess_labels(known, decoder, notes)
    options: dict[str, Value]
    match decoder:
        case "yolo":
            options = guess_yolo(known, len(labels) - offset)
        case "classification":
            options = guess_classification(known)
        case "ssd_postprocess":
            options = guess_ssd_columns(known)
        case _:
            options = {}
    notes += [f"[output] {key} = {value}" for key, value in options.items()]
    rule = guess_input(known, decoder, options)
    notes.append("[input] " + ", ".join(f"{key} = {value}" for key, value in rule.items()))
    return Guess(labels, offset, rule, {"decoder": decoder, **options}, tuple(notes))


def guess_decoder(outputs: Sequence[TensorSpec]) -> str:
    if len(outputs) == 4 and all("detection_postprocess" in s.name.lower() for s in outputs):
        return "ssd_postprocess"
    shapes = [s.shape for s in outputs]
    cubes = [s for s in shapes if len(s) == 3 and s[0] == 1]
    boxes = [s for s in cubes if s[2] == 4]
    if len(boxes) == 1 and shapes.count((1, boxes[0][1])) == 2:
        return "ssd_postprocess"
    if len(outputs) == 1 and cubes:
        return "yolo"
    if len(outputs) == 1 and shapes[0] and math.prod(shapes[0]) == shapes[0][-1]:
        return "classification"
    if len(outputs) == 3 and all(len(s) == 4 for s in shapes) and sum(s[3] == 2 for s in shapes) >= 2:
        return "centerpoint"
    if len(outputs) == 2 and len(cubes) == 2 and len(boxes) == 1 and cubes[0][1] == cubes[1][1]:
        return "ssd_raw"
    raise ModelError(
        f"no decoder is known for the outputs {listed(outputs)}",
        hint="detectors (SSD, YOLO, centre-point) and classifiers are supported; name a decoder if it is one of them",
    )


def guess_labels(known: Known, decoder: str, notes: list[str]) -> tuple[tuple[str, ...], int]:
    labels = known.labels
    if not labels:
        raise ModelError("the model brings no labels", hint="give a label file, one label a line")
    background = labels[0].strip("?").strip().lower() in ("", "background")
    if decoder == "ssd_postprocess" and background:
        notes.append(f"label_offset = 1, since label 0 is {labels[0]!r}")
        return labels, 1
    if decoder == "classification":
        scores = known.outputs[0].shape[-1]
        if len(labels) == scores - 1 and not background:
            notes.append("a background label was put in front: one score more than labels")
            return ("background", *labels), 0
        if len(labels) == scores + 1 and background:
            notes.append(f"label_offset = 1, since label 0 is {labels[0]!r} and has no score")
            return labels, 1
    return labels, 0


def guess_yolo(known: Known, classes: int) -> dict[str, Value]:
    shape = known.outputs[0].shape
    columns = [d for d in shape[1:] if d in (4 + classes, 5 + classes)]
    if not columns:
        raise ModelError(
            f"output {shape} has neither {4 + classes} nor {5 + classes} columns, as YOLO has for {classes} labels",
            hint="give the labels the model was trained with",
        )
    objectness = min(columns) == 5 + classes
    return {"objectness": objectness, "boxes": guess_boxes(known, columns[0])}


def guess_boxes(known: Known, columns: int) -> str:
    """The unit of YOLO boxes, from the range the tensor can hold or from the answer to a grey picture."""
    spec = known.outputs[0]
    if spec.scale and spec.dtype.kind != "f" and (np.iinfo(spec.dtype).max - spec.zero_point) * spec.scale < 4:
        return "normalised"
    if not known.answers:
        raise ModelError(
            "the unit of the YOLO boxes cannot be told without running the model", hint="set boxes by hand"
        )
    table = known.answers[0][0]
    boxes = table[:4] if table.shape[0] == columns else table[:, :4].T
    if boxes[2:].min() < 0:
        return "grid"
    # Cells cover the picture, so some centre lies far beyond 1 when the unit is pixels.
    return "normalised" if np.abs(boxes).max() < 4 else "pixels"


def guess_classification(known: Known) -> dict[str, Value]:
    spec = known.outputs[0]
    if spec.scale:
        # Converters give the output of a softmax the range 0..1 exactly; its rounded values need not sum to 1.
        probabilities = abs(spec.scale - 1 / 256) < 1e-4
    else:
        answer = known.answers[0] if known.answers else np.zeros(1, np.float32)
        probabilities = bool(answer.min() >= 0 and abs(float(answer.sum()) - 1) < 0.01)
    return {"activation": "none" if probabilities else "softmax"}


def guess_ssd_columns(known: Known) -> dict[str, Value]:
    """Which of the two rows are the scores, where their names do not say."""
    rows = [i for i, s in enumerate(known.outputs) if len(s.shape) == 2 and s.shape[1] > 1]
    names = [known.outputs[i].name.lower() for i in rows]
    if any("score" in n or "class" in n for n in names) or all("detection_postprocess" in n for n in names):
        return {}
    # Classes are whole numbers; scores of a grey picture are fractions.
    fractions = [i for i in rows if known.answers and np.mod(known.answers[i], 1).any()]
    if len(fractions) != 1:
        raise ModelError(
            f"nothing tells scores from classes in {listed(known.outputs)}", hint="set [output] scores by hand"
        )
    return {"scores": str(fractions[0])}


def guess_input(known: Known, decoder: str, options: Mapping[str, Value]) -> dict[str, Value]:
    spec = known.input
    layout, color = guess_layout(spec)
    rule: dict[str, Value] = {"layout": layout, "color": color, "resize": "stretch"}
    if decoder == "yolo":
        rule |= {"resize": "letterbox", "fill": 114}
    if spec.dtype == np.uint8:
        return rule  # pixels as they are
    if decoder == "yolo":
        if spec.dtype.kind == "f" and options["objectness"] and _is_yolox(known):
            return rule | {"color": "bgr"}
        return rule | _UNIT
    span = _span(spec)
    if span is None:
        torch = layout == "nchw"
        return rule | (_IMAGENET if torch and color == "rgb" else _SIGNED)
    for low, high, normal in ((0.0, 1.0, _UNIT), (-1.0, 1.0, _SIGNED), (-2.12, 2.64, _IMAGENET)):
        if abs(span[0] - low) < 0.05 and abs(span[1] - high) < 0.05:
            return rule | (normal if color != "gray" or normal is not _IMAGENET else _SIGNED)
    return rule | (_IMAGENET if layout == "nchw" and color == "rgb" else {})


def guess_layout(spec: TensorSpec) -> tuple[str, str]:
    if len(spec.shape) == 4 and spec.shape[0] == 1:
        for axis, layout in ((3, "nhwc"), (1, "nchw")):
            if spec.shape[axis] in (1, 3):
                return layout, "gray" if spec.shape[axis] == 1 else "rgb"
    raise ModelError(
        f"input {spec.name!r} of shape {spec.shape} is not a picture", hint="one picture input is supported"
    )


def _span(spec: TensorSpec) -> tuple[float, float] | None:
    """The least and the greatest real value a quantised input can hold."""
    if spec.dtype.kind == "f" or not spec.scale:
        return None
    info = np.iinfo(spec.dtype)
    return (info.min - spec.zero_point) * spec.scale, (info.max - spec.zero_point) * spec.scale


def _is_yolox(known: Known) -> bool:
    """One box a cell on strides 8, 16, 32; the YOLO generations with an objectness before it had three."""
    height, width = (d for d in known.input.shape[1:] if d not in (1, 3))
    cells = sum(math.ceil(height / s) * math.ceil(width / s) for s in (8, 16, 32))
    return cells in known.outputs[0].shape
