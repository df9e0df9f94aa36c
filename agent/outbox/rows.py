"""What goes into the outbox and what comes out of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from agent.decide.facts import AlertFact, EventFact, Fact
from schemas.codec import alert_type
from schemas.identity import Identity, Lane
from schemas.messages import Event, Severity
from schemas.topics import Kind, Topic

# Most urgent first: the order in which lanes are sent.
LANES: tuple[Lane, ...] = tuple(Lane)
NAMES = {lane: lane.value for lane in LANES}  # `value` is a call of Python: too much for each row
BATCHED_LANES = frozenset({Lane.STATE, Lane.SAMPLE})  # their rows travel together on the sync topic


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact on its way in: it has no identity before it is committed."""

    lane: Lane
    type: str
    subject: str
    time_utc_ms: int
    data: Mapping[str, Any]
    severity: Severity | None = None


class Row(NamedTuple):
    """A committed row, encoded once: what is sent again is the same bytes.

    A tuple, because one is made for each row: a frozen dataclass takes four times as long.
    """

    lane: Lane
    seq: int
    type: str
    payload: bytes
    severity: Severity | None = None
    stream: str = ""

    def topic(self, node: str) -> Topic:
        """Where a row that travels alone is published."""
        if self.severity is not None:
            return Topic(Kind.ALERT, node, self.severity.value)
        return Topic(Kind.EVENT, node, self.type)


def draft_of(fact: Fact, *, camera_id: str, time_utc_ms: int) -> Draft:
    """A fact of the frame path, ready to be stored. The camera and the media time become part of its data."""
    data = {"camera_id": camera_id, "time_s": round(fact.time_s, 3), **fact.data}
    match fact:
        case EventFact():
            return Draft(Lane(fact.lane), fact.type, fact.subject, time_utc_ms, data)
        case AlertFact():
            data |= {"rule": fact.rule, "alert_id": fact.alert_id, "state": fact.state.value}
            return Draft(Lane.ALERT, alert_type(fact.state), fact.subject, time_utc_ms, data, fact.severity)


def event_of(draft: Draft, identity: Identity, boot: int) -> Event:
    """The event a draft becomes once it has its identity."""
    return Event(identity, draft.type, draft.subject, draft.time_utc_ms, draft.data, boot, draft.severity)
