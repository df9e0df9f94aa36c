"""What was decided: values ready for JSON.

`data` holds numbers, strings, lists and objects only. Boxes are [x0, y0, x1, y1] in pixels of the full frame, rounded
to 0.1, and always come with `frame_width` and `frame_height`. Times in `data` are durations; the one moment a fact
speaks of is its `time_s`, on the camera's own steady clock.
"""

from dataclasses import dataclass
from enum import StrEnum

from schemas.messages import Severity

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
JsonObject = dict[str, JsonValue]


class AlertState(StrEnum):
    RAISED = "raised"
    UPDATED = "updated"
    CLEARED = "cleared"


@dataclass(frozen=True, slots=True)
class EventFact:
    """Something happened.

    type:    the event's name in the platform's schema, such as `LineCrossed`
    subject: what it happened to: an object's id, a line's or zone's name, or the camera's id
    """

    type: str
    subject: str
    time_s: float
    data: JsonObject
    lane: str = "event"


@dataclass(frozen=True, slots=True)
class AlertFact:
    """A step in the life of an alert: raised once, updated now and then, cleared once, under one `alert_id`."""

    rule: str
    alert_id: str
    state: AlertState
    severity: Severity
    subject: str
    time_s: float
    data: JsonObject


Fact = EventFact | AlertFact
