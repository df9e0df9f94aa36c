"""One frame's tracks as the decisions want to see them: plain Python values, rounded once."""

from dataclasses import dataclass

import numpy as np

from agent.decide.facts import JsonObject, JsonValue
from agent.decide.geometry import Anchor, Points, anchors_of
from agent.track.tracks import Tracks


@dataclass(slots=True)
class Sighting:
    """One object in one frame.

    box:     x0 y0 x1 y1, pixels, rounded to 0.1
    matched: detected in this very frame, else only predicted
    age_s:   from its first detection to its last
    """

    track_id: int
    object_id: str
    class_name: str
    confidence: float
    box: list[float]
    matched: bool
    age_s: float

    def described(self) -> JsonObject:
        return {
            "object_id": self.object_id,
            "class": self.class_name,
            "confidence": self.confidence,
            "box": [*self.box],
        }


class View:
    """One frame: when, how large, and the sightings in the order of their track ids."""

    __slots__ = ("_anchors", "_tracks", "frame_height", "frame_width", "sightings", "time_s")

    def __init__(
        self, prefix: str, labels: tuple[str, ...], tracks: Tracks, time_s: float, width: int, height: int
    ) -> None:
        self.time_s = time_s
        self.frame_width = width
        self.frame_height = height
        self._tracks = tracks
        self._anchors: dict[Anchor, Points] = {}
        # A predicted box may run out of the picture; what is reported does not.
        boxes = np.clip(tracks.xyxy, 0, np.array([width, height, width, height], np.float32))
        self.sightings = [
            Sighting(
                track_id,
                f"{prefix}-{track_id}",
                labels[class_id] if 0 <= class_id < len(labels) else f"class_{class_id}",
                confidence,
                box,
                matched,
                age_s,
            )
            for track_id, class_id, confidence, box, matched, age_s in zip(
                tracks.track_id.tolist(),
                tracks.class_id.tolist(),
                tracks.confidence.astype(np.float64).round(3).tolist(),
                boxes.astype(np.float64).round(1).tolist(),
                tracks.matched.tolist(),
                (tracks.last_seen_s - tracks.first_seen_s).round(3).tolist(),
                strict=True,
            )
        ]

    def anchors(self, anchor: Anchor) -> Points:
        """(n, 2) float64, shares of the picture, a row per sighting."""
        if anchor not in self._anchors:
            self._anchors[anchor] = anchors_of(self._tracks.xyxy, self.frame_width, self.frame_height, anchor)
        return self._anchors[anchor]

    def size(self) -> JsonObject:
        return {"frame_width": self.frame_width, "frame_height": self.frame_height}


def listed(items: list[JsonObject]) -> list[JsonValue]:
    """The same list under the type that JSON values may nest."""
    return [*items]
