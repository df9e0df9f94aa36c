"""One result of the frame path as it is kept here, and which results a filter means. Pure.

The objects of a result are the items of `data["objects"]`; a result without such a list that names a class is one
object itself, as events about objects are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent.capture.frame import Frame
from agent.decide.view import View
from agent.sync.windows import is_open
from schemas.sync import DataFilter

FRAME = "FrameResult"

Objects = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Result:
    """What a pipeline found at a moment. `local_only`: it must never leave the node. `told`: it left as an event."""

    time_utc_ms: int
    camera: str
    pipeline: str
    type: str
    subject: str
    data: Mapping[str, Any]
    local_only: bool = False
    told: bool = False

    @property
    def objects(self) -> Objects:
        found = self.data.get("objects")
        if isinstance(found, list):
            return found
        return [self.data] if "class" in self.data else []


def frame_result(view: View, frame: Frame, time_utc_ms: int, pipeline: str, *, local_only: bool) -> Result:
    """Every object that was detected in this very frame."""
    data = {
        "camera_id": frame.camera_id,
        "pipeline": pipeline,
        "time_s": round(frame.time_s, 3),
        "frame_width": view.frame_width,
        "frame_height": view.frame_height,
        "objects": [sighting.described() for sighting in view.sightings if sighting.matched],
    }
    return Result(time_utc_ms, frame.camera_id, pipeline, FRAME, frame.camera_id, data, local_only)


def meant(data_filter: DataFilter, result: Result) -> bool:
    """True when the filter asks for this result, whatever is in it."""
    since, until = data_filter.since_utc_ms, data_filter.until_utc_ms
    return (
        (not data_filter.types or result.type in data_filter.types)
        and (not data_filter.cameras or result.camera in data_filter.cameras)
        and (not data_filter.pipelines or result.pipeline in data_filter.pipelines)
        and (since is None or result.time_utc_ms >= since)
        and (until is None or result.time_utc_ms < until)
        and is_open(data_filter.times, data_filter.timezone, result.time_utc_ms)
    )


def chosen(data_filter: DataFilter, objects: Objects) -> Objects:
    """The objects that the filter asks for."""
    classes, least = data_filter.classes, data_filter.confidence_min
    if not classes and not least:
        return objects
    return [
        item
        for item in objects
        if (not classes or item.get("class") in classes) and (_confidence(item) >= least if least else True)
    ]


def narrowed(data_filter: DataFilter, result: Result) -> Result | None:
    """The result with the objects that are asked for; None where the filter does not mean it.

    One that has objects, and none that is asked for, is not meant; a filter of classes or confidences means no
    result without objects, except where it names the type.
    """
    if not meant(data_filter, result):
        return None
    if not data_filter.classes and not data_filter.confidence_min:
        return result
    objects = result.objects
    if not objects:
        return result if result.type in data_filter.types and result.type != FRAME else None
    kept = chosen(data_filter, objects)
    if not kept:
        return None
    if len(kept) == len(objects):
        return result
    return replace(result, data={**result.data, "objects": list(kept)})


def _confidence(item: Mapping[str, Any]) -> float:
    value = item.get("confidence", item.get("best_confidence", 0.0))
    return float(value) if isinstance(value, int | float) else 0.0
