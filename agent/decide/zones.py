"""Who is in which zone, since when, and how many.

An object is where it was last detected: while it is lost for a moment it stays in its zone, and leaves it when it is
gone. A count is reported once it has differed from the one reported last for `settle_s` without a break, whatever it
is by then, so a zone with much coming and going is reported at that pace.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.decide.facts import EventFact, JsonObject, JsonValue
from agent.decide.geometry import Polygon
from agent.decide.settings import ZoneSettings
from agent.decide.view import Sighting, View

Located = Mapping[str, Sequence[bool]]
"""By zone name: whether each sighting of the view has its anchor inside, of whatever class it is."""


class Zones:
    """All zones of one camera."""

    def __init__(self, camera_id: str, settings: Sequence[ZoneSettings]) -> None:
        self._zones = [_Zone(camera_id, each) for each in settings]

    def locate(self, view: View) -> Located:
        return {
            zone.settings.name: zone.polygon.contains(view.anchors(zone.settings.anchor)).tolist()
            for zone in self._zones
        }

    def observe(self, view: View, located: Located) -> list[EventFact]:
        """Moves objects in and out; a `ZoneCountChanged` for each count that settled with this frame."""
        facts = []
        for zone in self._zones:
            zone.observe(view, located[zone.settings.name])
            facts += zone.settle(math.nextafter(view.time_s, math.inf))
        return facts

    def settle(self, until_s: float) -> list[EventFact]:
        """A `ZoneCountChanged` for each count that had differed for long enough before `until_s`."""
        return [fact for zone in self._zones for fact in zone.settle(until_s)]

    def wake_at(self) -> float | None:
        """When `settle` should be asked next, if no frame comes first."""
        return min((due_s for zone in self._zones if (due_s := zone.due_s()) is not None), default=None)

    def forget(self, track_ids: list[int], time_s: float) -> dict[int, JsonObject]:
        """Takes objects that are gone out of all zones; by track id, seconds spent in each zone it was in."""
        dwell_s: dict[int, JsonObject] = {track_id: {} for track_id in track_ids}
        for zone in self._zones:
            for track_id, seconds in zone.forget(track_ids, time_s).items():
                dwell_s[track_id][zone.settings.name] = seconds
        return dwell_s

    def report(self, time_s: float) -> list[EventFact]:
        """Reports at once every count that differs from the one reported last."""
        return [fact for zone in self._zones for fact in zone.report(time_s)]

    def occupancy(self, time_s: float) -> JsonObject:
        """By zone: objects inside per class, in all, and the longest stay."""
        return {zone.settings.name: zone.occupancy(time_s) for zone in self._zones}


@dataclass(slots=True)
class _Stay:
    """An object's time in a zone: `before_s` in earlier stays, and since `entered_s` until now or `left_s`.

    seen_s: when it was last detected inside
    """

    object_id: str
    class_name: str
    entered_s: float
    seen_s: float
    left_s: float | None = None
    before_s: float = 0.0

    def dwell_s(self, time_s: float) -> float:
        """Seconds of the present or last stay."""
        return (time_s if self.left_s is None else self.left_s) - self.entered_s


class _Zone:
    def __init__(self, camera_id: str, settings: ZoneSettings) -> None:
        self.settings = settings
        self.polygon = Polygon(settings.polygon)
        self._camera_id = camera_id
        self._stays: dict[int, _Stay] = {}  # by track id, from an object's first entry until it is gone
        self._counts: Counter[str] = Counter()
        self._reported: Counter[str] = Counter()
        self._differs_since_s: float | None = None

    def observe(self, view: View, inside: Sequence[bool]) -> None:
        moved = False
        for sighting, is_inside in zip(view.sightings, inside, strict=True):
            if sighting.matched:
                moved |= self._place(sighting, is_inside and self._counts_class(sighting.class_name), view.time_s)
        if moved:
            self._count(view.time_s)

    def _counts_class(self, class_name: str) -> bool:
        return not self.settings.classes or class_name in self.settings.classes

    def _place(self, sighting: Sighting, inside: bool, time_s: float) -> bool:
        """Records whether an object is inside; whether that changes the count."""
        stay = self._stays.get(sighting.track_id)
        if not inside:
            if stay is None or stay.left_s is not None:
                return False
            stay.left_s = time_s
            return True
        if stay is None:
            self._stays[sighting.track_id] = _Stay(sighting.object_id, sighting.class_name, time_s, time_s)
            return True
        same = stay.left_s is None and stay.class_name == sighting.class_name
        if stay.left_s is not None and time_s - stay.left_s > self.settings.settle_s:
            stay.before_s += stay.dwell_s(time_s)
            stay.entered_s = time_s
        stay.left_s = None
        stay.seen_s = time_s
        stay.class_name = sighting.class_name
        return not same

    def _count(self, time_s: float) -> None:
        self._counts = Counter(stay.class_name for stay in self._stays.values() if stay.left_s is None)
        if self._counts == self._reported:
            self._differs_since_s = None
        elif self._differs_since_s is None:
            self._differs_since_s = time_s

    def due_s(self) -> float | None:
        return None if self._differs_since_s is None else self._differs_since_s + self.settings.settle_s

    def settle(self, until_s: float) -> list[EventFact]:
        due_s = self.due_s()
        return [] if due_s is None or due_s >= until_s else self.report(due_s)

    def report(self, time_s: float) -> list[EventFact]:
        if self._differs_since_s is None:
            return []
        names = sorted(self._counts.keys() | self._reported.keys())
        inside: list[JsonValue] = [
            {
                "object_id": stay.object_id,
                "class": stay.class_name,
                "dwell_s": round(max(0.0, stay.dwell_s(time_s)), 3),
            }
            for stay in self._stays.values()
            if stay.left_s is None
        ]
        data: JsonObject = {
            "camera_id": self._camera_id,
            "zone": self.settings.name,
            "counts": {name: self._counts[name] for name in names},
            "counts_before": {name: self._reported[name] for name in names},
            "total": self._counts.total(),
            "objects": inside,
        }
        self._reported = +self._counts
        self._differs_since_s = None
        return [EventFact("ZoneCountChanged", self.settings.name, time_s, data)]

    def forget(self, track_ids: list[int], time_s: float) -> dict[int, float]:
        dwell_s = {}
        for track_id in track_ids:
            stay = self._stays.pop(track_id, None)
            if stay is not None:
                dwell_s[track_id] = round(stay.before_s + stay.dwell_s(stay.seen_s), 3)
        if dwell_s:
            self._count(time_s)
        return dwell_s

    def occupancy(self, time_s: float) -> JsonObject:
        stays = [stay.dwell_s(time_s) for stay in self._stays.values() if stay.left_s is None]
        return {
            "counts": {**self._counts},
            "total": len(stays),
            "dwell_s_max": round(max(stays, default=0.0), 3),
        }
