"""The life of an object: seen, updated now and then, gone."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from agent.decide.facts import EventFact, JsonObject
from agent.decide.view import Sighting, View

LEFT = "left"
CAMERA_STOPPED = "camera_stopped"


@dataclass(slots=True)
class _Life:
    """What is remembered of an object while it is there."""

    latest: Sighting
    size: JsonObject
    first_box: list[float]
    best_confidence: float
    frames: int
    reported: Sighting
    reported_s: float


class Objects:
    """Knows every object that is there, by track id; forgets it when it is gone.

    seen:       objects so far per class, each under the class it was first seen as
    detections: detections so far per class
    """

    def __init__(self, camera_id: str, update_interval_s: float, move_min: float) -> None:
        self.seen: Counter[str] = Counter()
        self.detections: Counter[str] = Counter()
        self._camera_id = camera_id
        self._update_interval_s = update_interval_s
        self._move_min = move_min
        self._lives: dict[int, _Life] = {}

    def __len__(self) -> int:
        return len(self._lives)

    def missing(self, view: View) -> list[int]:
        """Known track ids that are not in `view` any more."""
        there = {sighting.track_id for sighting in view.sightings}
        return [track_id for track_id in self._lives if track_id not in there]

    def all(self) -> list[int]:
        """Every known track id."""
        return [*self._lives]

    def observe(self, view: View) -> list[EventFact]:
        """`ObjectSeen` and `ObjectUpdated`; a predicted box is no news of an object."""
        facts = []
        for sighting in view.sightings:
            if not sighting.matched:
                continue
            self.detections[sighting.class_name] += 1
            life = self._lives.get(sighting.track_id)
            if life is None:
                self._lives[sighting.track_id] = _Life(
                    sighting, view.size(), sighting.box, sighting.confidence, 1, sighting, view.time_s
                )
                self.seen[sighting.class_name] += 1
                facts.append(self._event("ObjectSeen", sighting, view))
                continue
            life.latest = sighting
            life.frames += 1
            life.best_confidence = max(life.best_confidence, sighting.confidence)
            if view.time_s - life.reported_s >= self._update_interval_s and self._changed(life.reported, sighting):
                life.reported, life.reported_s = sighting, view.time_s
                facts.append(self._event("ObjectUpdated", sighting, view))
        return facts

    def end(
        self, track_ids: list[int], time_s: float, reason: str, zone_dwell_s: Mapping[int, JsonObject]
    ) -> list[EventFact]:
        """`ObjectGone` for each of `track_ids`, with its seconds in each zone."""
        return [self._gone(track_id, time_s, reason, zone_dwell_s.get(track_id, {})) for track_id in track_ids]

    def _changed(self, before: Sighting, now: Sighting) -> bool:
        if before.class_name != now.class_name:
            return True
        x0, y0, x1, y1 = before.box
        least = self._move_min * max(x1 - x0, y1 - y0)
        return max(abs(a - b) for a, b in zip(before.box, now.box, strict=True)) > least

    def _event(self, kind: str, sighting: Sighting, view: View) -> EventFact:
        data: JsonObject = {
            "camera_id": self._camera_id,
            **sighting.described(),
            "age_s": sighting.age_s,
            "frame_width": view.frame_width,
            "frame_height": view.frame_height,
        }
        return EventFact(kind, sighting.object_id, view.time_s, data)

    def _gone(self, track_id: int, time_s: float, reason: str, zone_dwell_s: JsonObject) -> EventFact:
        life = self._lives.pop(track_id)
        data: JsonObject = {
            "camera_id": self._camera_id,
            "object_id": life.latest.object_id,
            "class": life.latest.class_name,
            "reason": reason,
            "dwell_s": life.latest.age_s,
            "best_confidence": life.best_confidence,
            "frames": life.frames,
            "first_box": [*life.first_box],
            "last_box": [*life.latest.box],
            "zone_dwell_s": zone_dwell_s,
            **life.size,
        }
        return EventFact("ObjectGone", life.latest.object_id, time_s, data)
