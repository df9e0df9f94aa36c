"""Frames of a window as one value: counts, least, most and mean, and a histogram of confidences. Pure.

Bounds b1 < b2 < … < bn cut confidences into n + 1 bins: below b1, b1 up to but without b2, …, bn and above.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of what is kept at the node
SUM_DIGITS = 6  # confidences have three: so sums are exact, in whatever order they are made
GRACE_MS = 2000  # a window is closed by time so much after its end: its last frames may still be under way


@dataclass(slots=True)
class ClassSummary:
    """One class over some frames. `count_*` over the frames that had any."""

    histogram: list[int]
    detections: int = 0
    frames: int = 0
    count_min: int = 0
    count_max: int = 0
    confidence_min: float = 1.0
    confidence_max: float = 0.0
    confidence_sum: float = 0.0

    def merge(self, other: "ClassSummary", histogram: list[int]) -> None:
        """Takes the other's frames in, with its histogram by our bounds."""
        self.count_min = min(self.count_min, other.count_min) if self.frames else other.count_min
        self.count_max = max(self.count_max, other.count_max)
        self.detections += other.detections
        self.frames += other.frames
        self.confidence_min = min(self.confidence_min, other.confidence_min)
        self.confidence_max = max(self.confidence_max, other.confidence_max)
        self.confidence_sum = round(self.confidence_sum + other.confidence_sum, SUM_DIGITS)
        self.histogram = [a + b for a, b in zip(self.histogram, histogram, strict=True)]


@dataclass(slots=True)
class Summary:
    """Some frames of one pipeline. All frames count, also those with nothing in them."""

    bounds: tuple[float, ...] = ()
    frames: int = 0
    objects_min: int = 0
    objects_max: int = 0
    objects_sum: int = 0
    classes: dict[str, ClassSummary] = field(default_factory=dict)

    def add(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """One frame."""
        count = len(objects)
        self.objects_min = min(self.objects_min, count) if self.frames else count
        self.objects_max = max(self.objects_max, count)
        self.objects_sum += count
        self.frames += 1
        counts: dict[str, int] = {}
        for item in objects:
            name, confidence = str(item["class"]), float(item["confidence"])
            counts[name] = counts.get(name, 0) + 1
            seen = self.classes.get(name)
            if seen is None:
                seen = self.classes[name] = ClassSummary([0] * (len(self.bounds) + 1))
            seen.detections += 1
            seen.confidence_sum = round(seen.confidence_sum + confidence, SUM_DIGITS)
            seen.confidence_min = min(seen.confidence_min, confidence)
            seen.confidence_max = max(seen.confidence_max, confidence)
            seen.histogram[bisect_right(self.bounds, confidence)] += 1
        for name, number in counts.items():
            seen = self.classes[name]
            seen.count_min = min(seen.count_min, number) if seen.frames else number
            seen.count_max = max(seen.count_max, number)
            seen.frames += 1

    def merge(self, other: "Summary") -> None:
        """Takes the other's frames in. With other bounds the histograms do not add up: none is left."""
        same = self.bounds == other.bounds
        if not same:
            self.bounds = ()
            for each in self.classes.values():
                each.histogram = [each.detections]
        if other.frames:
            least = min(self.objects_min, other.objects_min)
            self.objects_min = least if self.frames else other.objects_min
        self.objects_max = max(self.objects_max, other.objects_max)
        self.objects_sum += other.objects_sum
        self.frames += other.frames
        for name, theirs in other.classes.items():
            ours = self.classes.setdefault(name, ClassSummary([0] * (len(self.bounds) + 1)))
            ours.merge(theirs, theirs.histogram if same else [theirs.detections])

    def described(self) -> dict[str, Any]:
        """As it travels and is shown."""
        return {
            "frames": self.frames,
            "objects": {
                "min": self.objects_min,
                "max": self.objects_max,
                "mean": round(self.objects_sum / self.frames, 4) if self.frames else 0.0,
            },
            "bounds": list(self.bounds),
            "classes": {name: self._class(each) for name, each in sorted(self.classes.items())},
        }

    def _class(self, each: ClassSummary) -> dict[str, Any]:
        return {
            "detections": each.detections,
            "count": {
                "min": each.count_min if each.frames == self.frames else 0,
                "max": each.count_max,
                "mean": round(each.detections / self.frames, 4),
            },
            "confidence": {
                "min": each.confidence_min,
                "max": each.confidence_max,
                "mean": round(each.confidence_sum / each.detections, 4),
            },
            "histogram": list(each.histogram),
        }


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A window that is over."""

    camera: str
    pipeline: str
    from_utc_ms: int
    window_s: float
    summary: Summary
    local_only: bool = False

    def described(self) -> dict[str, Any]:
        """As it travels; when it begins is the row's own time."""
        return {
            "camera_id": self.camera,
            "pipeline": self.pipeline,
            "window_s": self.window_s,
            **self.summary.described(),
        }


class Windows:
    """The frames of one pipeline, window after window. They begin at multiples of their length from `origin_ms` on.

    When the calendar's time jumps, the window that is open ends as it is and another one begins, or the same once
    more: two rows of one window add up to it.
    """

    def __init__(self, camera: str, pipeline: str, *, local_only: bool = False) -> None:
        self.origin_ms = 0  # UTC; where a recording begins for one, so that a replay has the same windows each time
        self._camera = camera
        self._pipeline = pipeline
        self._local_only = local_only
        self._open: tuple[int, int, Summary] | None = None  # from, length in ms, frames

    def add(
        self, time_utc_ms: int, objects: Sequence[Mapping[str, Any]], window_s: float, bounds: tuple[float, ...]
    ) -> Aggregate | None:
        """One frame; the window before it, if that is over by this."""
        length_ms = round(window_s * 1000)
        begins_ms = time_utc_ms - (time_utc_ms - self.origin_ms) % length_ms
        done = None
        if self._open is None or self._open[:2] != (begins_ms, length_ms) or self._open[2].bounds != bounds:
            done = self.finish()
            self._open = (begins_ms, length_ms, Summary(bounds))
        self._open[2].add(objects)
        return done

    def due(self, now_utc_ms: int) -> Aggregate | None:
        """The open window, if its time is over."""
        if self._open is None or now_utc_ms < self._open[0] + self._open[1] + GRACE_MS:
            return None
        return self.finish()

    def finish(self) -> Aggregate | None:
        """The open window as it is."""
        if self._open is None:
            return None
        (begins_ms, length_ms, summary), self._open = self._open, None
        return Aggregate(self._camera, self._pipeline, begins_ms, length_ms / 1000, summary, self._local_only)
