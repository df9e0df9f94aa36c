"""Still pictures at the model's geometry, with boxes: what the model is trained, chosen and measured on.

Idea: the samples of a scene are a pure function of (split, scene number). The splits draw their scenes from seeds
that never meet each other, nor the small seeds that demos use.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from platforms.manufacturing.weld_parts import KINDS, LINES, FloatArray, Line, f32
from platforms.manufacturing.weld_scene import WeldDefect, WeldScene

INPUT_WIDTH, INPUT_HEIGHT = 320, 192
"""Geometry of the model's input, pixels. A frame is stretched to it, whatever its shape."""

FRAMES_PER_SCENE = 6


class Split(IntEnum):
    """The value is the first scene seed of the split; a split has at most 100,000 scenes."""

    TRAIN = 100_000
    VALIDATION = 200_000
    TEST = 300_000
    CALIBRATION = 400_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture with its truth.

    image:    (INPUT_HEIGHT, INPUT_WIDTH, 3) uint8 RGB
    boxes:    (n, 4) float32, x0 y0 x1 y1 as fractions of the picture
    class_id: (n,) int32, index into KINDS
    visible:  (n,) float32, share of the defect inside the picture
    """

    image: NDArray[np.uint8]
    boxes: FloatArray
    class_id: NDArray[np.int32]
    visible: FloatArray


def scene_samples(split: Split, scene: int) -> list[Sample]:
    """FRAMES_PER_SCENE pictures of scene number `scene` of the split: a random line, seen at random moments."""
    seed = int(split) + scene
    rng = np.random.default_rng([seed, 0x5A3])
    weld = WeldScene(seed, line=random_line(rng))
    indexes = np.sort(
        rng.integers(0, int(weld.fps * 6 * weld.line.pitch_px / weld.line.speed_px_s), FRAMES_PER_SCENE)
    )
    return [sample_of(weld, int(index), antialias=bool(rng.random() < 0.6)) for index in indexes]


def demo_samples(line: str, count: int, first_seed: int = int(Split.TEST) + 50_000) -> list[Sample]:
    """`count` pictures of one of the demo's lines, of scenes that no training has seen."""
    samples: list[Sample] = []
    seed = first_seed
    while len(samples) < count:
        weld = WeldScene(seed, line=LINES[line])
        samples += [sample_of(weld, 97 * k, antialias=True) for k in range(FRAMES_PER_SCENE)]
        seed += 1
    return samples[:count]


def sample_of(scene: WeldScene, index: int, antialias: bool) -> Sample:
    """Frame `index` of a scene, stretched to the model's input."""
    truth = scene.truth(index)
    return Sample(
        image=stretched(scene.render(index), INPUT_WIDTH, INPUT_HEIGHT, antialias),
        boxes=_fractions(truth, scene.size),
        class_id=np.array([KINDS.index(defect.label) for defect in truth], np.int32),
        visible=np.array([defect.visible_share for defect in truth], np.float32),
    )


def _fractions(truth: list[WeldDefect], size: tuple[int, int]) -> FloatArray:
    boxes = np.array([defect.xyxy for defect in truth], np.float32).reshape(-1, 4)
    return np.asarray(boxes / f32([*size, *size]), np.float32)


def random_line(rng: np.random.Generator) -> Line:
    """A line with lighting, optics, sensor and metal of its own, wider than the demo's."""
    grey, warm = rng.uniform(0.40, 0.78), rng.uniform(-0.05, 0.05)
    belt = rng.uniform(0.06, 0.24)
    light = rng.uniform(-0.12, 0.12)
    return Line(
        name="random",
        speed_px_s=float(rng.uniform(50, 220)),
        leftward=bool(rng.random() < 0.5),
        pitch_px=float(rng.uniform(470, 640)),
        defective_share=0.85,
        plate_rgb=(float(grey * (1 + warm)), float(grey), float(grey * (1 - warm))),
        belt_rgb=(float(belt * rng.uniform(0.7, 1.3)), float(belt), float(belt * rng.uniform(0.7, 1.3))),
        light_rgb=(float(1 + light), 1.0, float(1 - light)),
        light_azimuth_deg=float(rng.uniform(-180, 180)),
        light_elevation_deg=float(rng.uniform(34, 62)),
        exposure=float(rng.uniform(0.65, 1.2)),
        vignette=float(rng.uniform(0.05, 0.5)),
        focus_px=float(rng.uniform(0.3, 1.1)),
        shutter_share=float(rng.uniform(0.05, 0.5)),
        noise_levels=float(rng.uniform(1.0, 6.0)),
        flicker=float(rng.uniform(0.0, 0.04)),
        heat_tint=float(rng.uniform(0.2, 1.2)),
    )


def stretched(image: NDArray[np.uint8], width: int, height: int, antialias: bool) -> NDArray[np.uint8]:
    """Bilinear resize of (h, w, 3) uint8. With `antialias` the triangle widens with the reduction, as swscale does;
    without, two neighbours are weighted, as most image libraries do. The model has to live with either."""
    rows = _weights(image.shape[0], height, antialias)
    columns = _weights(image.shape[1], width, antialias)
    tall = np.tensordot(rows, image.astype(np.float32), axes=(1, 0))
    wide = np.tensordot(tall, columns, axes=(1, 1))
    return np.clip(np.rint(wide.transpose(0, 2, 1)), 0, 255).astype(np.uint8)


def _weights(old: int, new: int, antialias: bool) -> FloatArray:
    """(new, old) rows of triangle weights that sum to 1."""
    ratio = old / new
    support = max(ratio, 1.0) if antialias else 1.0
    centre = (np.arange(new)[:, None] + 0.5) * ratio - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(old)[None, :] - centre) / support)
    return np.asarray(weights / weights.sum(1, keepdims=True), np.float32)
