"""How well the shipped weld model finds defects on rendered welds that it never saw.

- `map50`: COCO's average precision at IoU 0.5, mean of the four classes.
- `recall_at_1pct_false_alarms`: the share of pictures with a defect in which one is found, of any class and at any
  place, at the confidence at which 1 % of the pictures of the same parts without their defects give an alarm.
- `recall_defects_at_1pct_false_alarms`: the share of all defects found (IoU 0.5, right class) at that confidence.

Defects that are less than half inside the picture are neither demanded nor held against the model; pictures with no
other ones are left out.
"""

from pathlib import Path
from typing import Any

import numpy as np

from agent.config import model_path
from platforms.manufacturing.training.measure import Int8Model
from platforms.manufacturing.weld_parts import KINDS
from platforms.manufacturing.weld_samples import FRAMES_PER_SCENE, Sample, Split, random_line, sample_of
from platforms.manufacturing.weld_scene import WeldScene
from platforms.manufacturing.weld_score import VISIBLE_MIN, Found, iou, score

FALSE_ALARMS = 0.01
SHOWN = 0.4


def detector(scenes: int) -> dict[str, Any]:
    """The figures of `scenes` scenes of the test split, FRAMES_PER_SCENE pictures each, with and without defects."""
    model = Int8Model(model_path(Path(), "weld_defects") / "weld_defects_int8.tflite")
    samples: list[Sample] = []
    found: list[Found] = []
    alarms: list[float] = []
    for scene in range(scenes):
        for sample, good in _pictures(scene):
            samples.append(sample)
            found.append(model.find(sample.image))
            alarms.append(_surest(model.find(good.image)))
    threshold = _threshold(alarms)
    shown = [(sample, one) for sample, one in zip(samples, found, strict=True) if _is_defective(sample)]
    hits = [_surest(one) > threshold for _, one in shown]
    defects, found_defects = _defects(samples, found, threshold)
    figures = score(samples, found, len(KINDS), SHOWN)
    return {
        "map50": round(figures.map50, 4),
        "map50_95": round(figures.map50_95, 4),
        "recall_at_1pct_false_alarms": round(float(np.mean(hits)), 4) if hits else None,
        "recall_defects_at_1pct_false_alarms": round(found_defects / defects, 4) if defects else None,
        "threshold_at_1pct_false_alarms": round(threshold, 3),
        "recall_by_class": {kind.value: round(float(r), 4) for kind, r in zip(KINDS, figures.recall, strict=True)},
        "pictures_defective": len(shown),
        "pictures_good": len(alarms),
        "defects": defects,
    }


def _pictures(scene: int) -> list[tuple[Sample, Sample]]:
    """Each picture of a scene with its twin without defects; the pictures are those of `scene_samples`."""
    seed = int(Split.TEST) + scene
    rng = np.random.default_rng([seed, 0x5A3])
    line = random_line(rng)
    weld, clean = WeldScene(seed, line=line), WeldScene(seed, line=line, defects=False)
    last = int(weld.fps * 6 * line.pitch_px / line.speed_px_s)
    indexes = np.sort(rng.integers(0, last, FRAMES_PER_SCENE))
    pairs = []
    for index in indexes.tolist():
        antialias = bool(rng.random() < 0.6)
        pairs.append((sample_of(weld, index, antialias), sample_of(clean, index, antialias)))
    return pairs


def _threshold(alarms: list[float]) -> float:
    """The least confidence above which no more than FALSE_ALARMS of the good pictures lie."""
    ranked = sorted(alarms, reverse=True)
    return ranked[int(FALSE_ALARMS * len(ranked))] if ranked else 1.0


def _surest(found: Found) -> float:
    return float(found.confidence.max()) if len(found.confidence) else 0.0


def _is_defective(sample: Sample) -> bool:
    return bool((sample.visible >= VISIBLE_MIN).any())


def _defects(samples: list[Sample], found: list[Found], threshold: float) -> tuple[int, int]:
    """Defects demanded, and those found above the threshold."""
    demanded = hit = 0
    for sample, one in zip(samples, found, strict=True):
        sure = one.confidence > threshold
        overlap = iou(sample.boxes, one.boxes[sure])
        same = sample.class_id[:, None] == one.class_id[sure][None]
        matched = ((overlap >= 0.5) & same).any(axis=1) if sure.any() else np.zeros(len(sample.boxes), bool)
        wanted = sample.visible >= VISIBLE_MIN
        demanded += int(wanted.sum())
        hit += int((matched & wanted).sum())
    return demanded, hit
