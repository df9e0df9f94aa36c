"""The event as actions see it: known before it is committed, so without the number it gets in the outbox."""

import json
from dataclasses import dataclass, field
from typing import Any

from agent.outbox.rows import Draft
from schemas.codec import format_utc


@dataclass(frozen=True, slots=True)
class LocalEvent:
    """A fact, and who speaks of it. `id` is unique within the node but is not the id it has on the fleet's broker."""

    node: str
    topic_root: str
    id: str
    draft: Draft = field(repr=False)

    def values(self) -> dict[str, Any]:
        """What templates may name beside `data`."""
        draft, data = self.draft, self.draft.data
        return {
            "node": self.node,
            "type": draft.type,
            "subject": draft.subject,
            "time": format_utc(draft.time_utc_ms),
            "time_utc_ms": draft.time_utc_ms,
            "severity": draft.severity.value if draft.severity else "",
            "camera_id": data.get("camera_id"),
            "rule": data.get("rule"),
            "state": data.get("state"),
            "alert_id": data.get("alert_id"),
            "json": self.json(),
        }

    def json(self) -> str:
        """A CloudEvent 1.0 in its JSON form."""
        draft = self.draft
        fields: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": f"/{self.topic_root}/{self.node}",
            "type": draft.type,
            "subject": draft.subject,
            "time": format_utc(draft.time_utc_ms),
            "datacontenttype": "application/json",
            "data": dict(draft.data),
        }
        if draft.severity is not None:
            fields["edgeseverity"] = draft.severity.value
        return json.dumps(fields, ensure_ascii=False)
