"""What models found in several pictures of a part, put together: one defect each, with a confidence of them all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from platforms.manufacturing.inspection.picture import Span
from platforms.stages import Found

Box = tuple[float, float, float, float]
SAME_IOU_MIN = 0.2
NEAR_SHARE = 0.75  # of its size: centres nearer than this are one place, however thin the boxes


@dataclass(frozen=True, slots=True)
class Sighting:
    """A part in one picture. offset: (x, y) of where the part begins in it, pixels. quality: 0..1."""

    index: int
    time_s: float
    quality: float
    findings: tuple[Found, ...] = ()
    offset: tuple[float, float] = (0.0, 0.0)
    place: float = 0.0  # of the part, share of the region
    span: Span | None = None
    size: tuple[int, int] = (0, 0)  # of the picture, pixels


@dataclass(slots=True)
class Defect:
    """One defect of a part. confidence: the mean over all the pictures, 0 for those in which it was not found.
    box, index, time_s, size: of the picture in which it was surest."""

    label: str
    confidence: float
    box: Box
    index: int
    time_s: float
    size: tuple[int, int]
    sightings: int = 1
    place: Box = field(default=(0.0, 0.0, 0.0, 0.0), repr=False)  # counted from where the part begins


def merged(sightings: Sequence[Sighting]) -> list[Defect]:
    """The defects of one part as one model saw it, the surest first."""
    ranked = sorted(
        ((finding, sighting) for sighting in sightings for finding in sighting.findings),
        key=lambda pair: (-pair[0].confidence, pair[1].index, pair[0].box),
    )
    groups: list[tuple[Defect, set[int], float]] = []
    for finding, sighting in ranked:
        place = _moved(finding.box, sighting.offset)
        for i, (defect, seen_in, total) in enumerate(groups):
            same = defect.label == finding.label and sighting.index not in seen_in
            if same and is_same_place(defect.place, place):
                groups[i] = defect, seen_in | {sighting.index}, total + finding.confidence
                break
        else:
            surest = Defect(finding.label, 0.0, finding.box, sighting.index, sighting.time_s, sighting.size)
            surest.place = place
            groups.append((surest, {sighting.index}, finding.confidence))
    for defect, seen_in, total in groups:
        defect.confidence, defect.sightings = total / len(sightings), len(seen_in)
    return sorted((defect for defect, _, _ in groups), key=lambda defect: -defect.confidence)


def together(by_model: Sequence[Sequence[Defect]]) -> list[Defect]:
    """Those of several models: what two of them call the same at the same place is one, the surer."""
    kept: list[Defect] = []
    for defect in sorted((one for each in by_model for one in each), key=lambda one: -one.confidence):
        if not any(other.label == defect.label and is_same_place(other.place, defect.place) for other in kept):
            kept.append(defect)
    return kept


def is_same_place(a: Box, b: Box) -> bool:
    """Overlapping, or next to each other by their size."""
    shared = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = _area(a) + _area(b) - shared
    if union > 0 and shared / union >= SAME_IOU_MIN:
        return True
    return all(
        abs((a[i] + a[i + 2]) - (b[i] + b[i + 2])) / 2 <= NEAR_SHARE * max(a[i + 2] - a[i], b[i + 2] - b[i]) / 2
        for i in (0, 1)
    )


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _moved(box: Box, offset: tuple[float, float]) -> Box:
    return box[0] - offset[0], box[1] - offset[1], box[2] - offset[0], box[3] - offset[1]


def best(kept: list[Sighting], new: Sighting, most: int, apart: float) -> list[Sighting]:
    """The best pictures so far, at most `most`, and one of each stretch of `apart`; oldest first. 0: any two."""
    if apart > 0:
        stretch = math.floor(new.place / apart)
        same = next((one for one in kept if math.floor(one.place / apart) == stretch), None)
        if same is not None and same.quality >= new.quality:
            return kept
        kept = [one for one in kept if one is not same]
    kept = [*kept, new]
    if len(kept) > most:
        worst = min(kept, key=lambda one: one.quality)
        kept = [one for one in kept if one is not worst]
    return kept
