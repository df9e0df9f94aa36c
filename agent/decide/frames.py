"""An event for every frame, for those who want each result as it is."""

from agent.decide.facts import EventFact, JsonValue
from agent.decide.view import View


def frame_analyzed(camera_id: str, view: View) -> EventFact:
    """`FrameAnalyzed`: every object of the frame; `predicted` tells those that were not detected in it."""
    objects: list[JsonValue] = [
        {
            "object_id": sighting.object_id,
            "class": sighting.class_name,
            "confidence": sighting.confidence,
            "box": [*sighting.box],
            "predicted": not sighting.matched,
        }
        for sighting in view.sightings
    ]
    return EventFact(
        "FrameAnalyzed",
        camera_id,
        view.time_s,
        {
            "camera_id": camera_id,
            "frame_width": view.frame_width,
            "frame_height": view.frame_height,
            "objects": objects,
        },
    )
