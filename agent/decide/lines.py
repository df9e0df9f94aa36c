"""Crossings of lines, counted per direction and class.

An object is on a side once its anchor is farther from the line than the hysteresis; in between it stays where it was,
so an anchor that trembles on the line is never counted twice. It has crossed when it is on the other side and its way
there, from where it last stood clear of the line, met the segment: walking round an end counts nothing.
"""

from collections import Counter
from collections.abc import Sequence

from agent.decide.facts import EventFact, JsonObject
from agent.decide.geometry import Line, Point
from agent.decide.settings import LineSettings
from agent.decide.view import Sighting, View

IN, OUT = "in", "out"


class Lines:
    """All lines of one camera."""

    def __init__(self, camera_id: str, settings: Sequence[LineSettings]) -> None:
        self._lines = [_Line(camera_id, each) for each in settings]

    def observe(self, view: View) -> list[EventFact]:
        """A `LineCrossed` for each crossing; only detected objects cross."""
        return [fact for line in self._lines for fact in line.observe(view)]

    def forget(self, track_ids: list[int]) -> None:
        for line in self._lines:
            for track_id in track_ids:
                line.clear_at.pop(track_id, None)

    def counts(self) -> JsonObject:
        """By line: crossings so far by direction and class."""
        return {line.settings.name: line.counts_so_far() for line in self._lines}


class _Line:
    """One line, and where each object last stood clear of it."""

    def __init__(self, camera_id: str, settings: LineSettings) -> None:
        self.settings = settings
        self.clear_at: dict[int, tuple[float, Point]] = {}  # by track id: distance and anchor
        self._camera_id = camera_id
        self._line = Line(settings.start, settings.end)
        self._counts: dict[str, Counter[str]] = {IN: Counter(), OUT: Counter()}

    def observe(self, view: View) -> list[EventFact]:
        facts = []
        for sighting, (x, y) in zip(view.sightings, view.anchors(self.settings.anchor).tolist(), strict=True):
            if not sighting.matched or (self.settings.classes and sighting.class_name not in self.settings.classes):
                continue
            here = (x, y)
            distance = self._line.distance(here)
            if abs(distance) <= self.settings.hysteresis:
                continue
            before = self.clear_at.get(sighting.track_id)
            self.clear_at[sighting.track_id] = (distance, here)
            if before is not None and before[0] * distance < 0.0 and self._line.crossed_by(before[1], here):
                facts.append(self._crossed(sighting, IN if distance > 0.0 else OUT, view))
        return facts

    def counts_so_far(self) -> JsonObject:
        return {direction: {**counts} for direction, counts in self._counts.items()}

    def _crossed(self, sighting: Sighting, direction: str, view: View) -> EventFact:
        self._counts[direction][sighting.class_name] += 1
        data: JsonObject = {
            "camera_id": self._camera_id,
            "line": self.settings.name,
            "direction": direction,
            **sighting.described(),
            "frame_width": view.frame_width,
            "frame_height": view.frame_height,
            "counts": self.counts_so_far(),
        }
        return EventFact("LineCrossed", self.settings.name, view.time_s, data)
