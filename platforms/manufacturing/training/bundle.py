"""Writes the model's bundle: the file, its labels, its manifest and a card with measured numbers. Driver."""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.training.measure import CONFIDENCE_MIN, Int8Model, found_in
from platforms.manufacturing.weld_parts import KINDS, LINES
from platforms.manufacturing.weld_samples import (
    FRAMES_PER_SCENE,
    INPUT_HEIGHT,
    INPUT_WIDTH,
    Sample,
    Split,
    demo_samples,
    sample_of,
    scene_samples,
)
from platforms.manufacturing.weld_scene import WeldScene
from platforms.manufacturing.weld_score import VISIBLE_MIN, Score, score

log = logging.getLogger(__name__)

MODEL_FILE = "weld_defects_int8.tflite"
CONFIDENCE = 0.4
"""Detections from here on are reported, unless a configuration says otherwise."""


@dataclass(frozen=True, slots=True)
class Training:
    """How the model came to be, for its card."""

    scenes: int
    epochs: int
    seed: int
    minutes: float
    parameters: int


def write(folder: Path, tflite: bytes, training: Training, test_scenes: int) -> str:
    """Writes the bundle's files and returns the card's table of results."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / MODEL_FILE
    file.write_bytes(tflite)
    (folder / "labels.txt").write_text("".join(f"{kind}\n" for kind in KINDS), encoding="utf-8")
    sha256 = hashlib.sha256(tflite).hexdigest()
    (folder / "bundle.toml").write_text(_MANIFEST.format(file=MODEL_FILE, sha256=sha256, confidence=CONFIDENCE))
    model = Int8Model(file)
    held_out = [sample for scene in range(test_scenes) for sample in scene_samples(Split.TEST, scene)]
    results = _table(held_out, _scored(model, held_out))
    demo = "\n".join(_demo_row(model, name, len(held_out) // 3) for name in LINES)
    card = _CARD.format(
        results=results,
        demo=demo,
        width=INPUT_WIDTH,
        height=INPUT_HEIGHT,
        kib=len(tflite) / 1024,
        invoke_ms=model.invoke_ms(),
        scenes=training.scenes,
        pictures=training.scenes * FRAMES_PER_SCENE,
        epochs=training.epochs,
        seed=training.seed,
        minutes=training.minutes,
        parameters=training.parameters,
        confidence=CONFIDENCE,
        confidence_min=CONFIDENCE_MIN,
        visible=VISIBLE_MIN,
        train=int(Split.TRAIN),
        validation=int(Split.VALIDATION),
        test=int(Split.TEST),
        calibration=int(Split.CALIBRATION),
        sha256=sha256,
    )
    (folder / "MODEL_CARD.md").write_text(card, encoding="utf-8")
    return f"{results}\n{demo}"


def write_golden(folder: Path, encode: Callable[[NDArray[np.uint8]], bytes]) -> None:
    """A whole frame of the demo as `golden.jpg`, and in `golden.json` what the shipped file finds in it.

    The frame is the first that shows at least three kinds, each defect whole and found with some margin, and nothing
    near the threshold: another JPEG decoder or scaler must come to the same answer.
    """
    model = Int8Model(folder / MODEL_FILE)
    scene = WeldScene(int(Split.TEST) + 70_000)
    for index in range(0, 20_000, 40):
        sample = sample_of(scene, index, antialias=True)
        if len(set(sample.class_id)) < 3 or (sample.visible < 1).any():
            continue
        found = model.find(sample.image)
        shown = found.confidence >= CONFIDENCE
        if (np.abs(found.confidence - CONFIDENCE) < 0.15).any():
            continue
        if sorted(found.class_id[shown]) != sorted(sample.class_id):
            continue
        rows = zip(found.class_id[shown], found.confidence[shown], found.boxes[shown], strict=True)
        golden = [
            {
                "label": str(KINDS[int(label)]),
                "confidence": round(float(confidence), 3),
                "box": [round(float(v), 4) for v in box],
            }
            for label, confidence, box in rows
        ]
        (folder / "golden.jpg").write_bytes(encode(scene.render(index)))
        lines = ",\n".join(f"  {json.dumps(row)}" for row in golden)
        (folder / "golden.json").write_text(f"[\n{lines}\n]\n", encoding="utf-8")
        return
    log.warning("no frame is found clearly enough to be golden: golden.jpg is not written")


def _scored(model: Int8Model, samples: list[Sample]) -> Score:
    return score(samples, found_in(model, samples), len(KINDS), CONFIDENCE)


def _demo_row(model: Int8Model, line: str, count: int) -> str:
    result = _scored(model, demo_samples(line, count))
    return (
        f"On the demo's `{line}` line ({count} pictures, unseen seeds): mAP@0.5 {result.map50:.3f}, "
        f"mAP@[.5:.95] {result.map50_95:.3f}.\n"
    )


def _table(samples: list[Sample], result: Score) -> str:
    rows = [
        f"Pictures: {len(samples)}. Defects: {int(result.truths.sum())}.\n",
        f"**mAP@0.5 = {result.map50:.3f}, mAP@[.5:.95] = {result.map50_95:.3f}**\n",
        "| class | defects | AP@0.5 | AP@[.5:.95] | recall | precision |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for k, kind in enumerate(KINDS):
        rows.append(
            f"| {kind} | {result.truths[k]} | {result.ap[k, 0]:.3f} | {result.ap[k].mean():.3f} "
            f"| {result.recall[k]:.3f} | {result.precision[k]:.3f} |"
        )
    return "\n".join(rows) + "\n"


_MANIFEST = """\
# A demonstration model, trained on rendered pictures: see MODEL_CARD.md. Written by scripts/train_weld.py.
name = "weld_defects"
version = "1"
description = "Pores, cracks, undercut and spatter on rendered weld seams (demonstration only)"
licence = "Apache-2.0"
labels = "labels.txt"

[input]
layout = "nhwc"
color = "rgb"
resize = "stretch"

[output]
decoder = "centerpoint"
heatmap = "heatmap"
offset = "offset"
size = "size"

[thresholds]
confidence = {confidence}
iou = 0.5
max_detections = 50

[[variants]]
target = "cpu"
file = "{file}"
sha256 = "{sha256}"
"""

_CARD = """\
# Model card: weld_defects

**A demonstration model. It has seen nothing but pictures rendered by this project and is not fit for inspecting real
welds.** Its purpose is a demo, and tests, that need no download: small, quick, and honest about what it finds on the
scene it was made for. Numbers on rendered pictures say nothing about photographs.

## What it does

Finds `pore`, `crack`, `undercut` and `spatter` on welded plates under a camera above a conveyor.

- Input: uint8 RGB, {width} x {height}, the whole frame stretched to it; pixels go in as they are.
- Outputs, int8, at stride 8: `heatmap` (one map a class, probabilities), `offset` (x, y within the cell),
  `size` (width, height as fractions of the input). Zhou et al. 2019, "Objects as Points".
- Plain convolutions at first, MobileNetV2's inverted residuals (Sandler et al. 2018) behind; {parameters:,}
  parameters; full-integer int8, quantised after training.
- File: {kib:.0f} KiB, sha256 `{sha256}`.
- One invoke: {invoke_ms:.2f} ms (median, LiteRT, one thread, on the machine that trained it).
- Licence: Apache-2.0, as the project.

## Data

Rendered by `platforms/manufacturing/weld_scene.py`: each scene is a random line (`random_line` in
`weld_samples.py`) with its own metal, belt, light direction, colour, exposure, vignette, focus, motion blur, noise
and flicker, and plates of its own. {pictures} training pictures of {scenes} scenes. Scene seeds never meet:

| split | first scene seed | used for |
| --- | ---: | --- |
| train | {train} | training |
| validation | {validation} | watching the loss |
| calibration | {calibration} | ranges of the int8 activations |
| test | {test} | the numbers below, and nothing else |

Trained for {epochs} epochs (seed {seed}) in {minutes:.0f} minutes on two cores, rendering aside, from random weights:
`python scripts/train_weld.py`. Seeds are fixed, but the order in which threads add is not: another run gives another
file, with numbers that differ a little.

## Results: the shipped int8 file on the held-out pictures

Average precision as COCO counts it, from detections down to a confidence of {confidence_min}; recall and precision
at IoU 0.5 and the shipped confidence of {confidence}. Defects less than {visible:.0%} inside the picture are neither
demanded nor counted against the model.

{results}
{demo}
## Limits

- Rendered pictures only: real seams differ in every respect, and no real picture was used to train or to measure.
- Training and test pictures come from the same renderer. The numbers measure learning, not transfer.
- Thin defects (a crack along the seam, an undercut) are a few pixels high at the model's resolution; their boxes are
  loose, which shows in AP at high IoU.
- Spatter counts as one box a group; single drops are not separated.
"""
