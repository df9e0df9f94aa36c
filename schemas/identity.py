"""The durable identity of a row: `(node, stream, lane, seq)`.

`stream` is drawn at random when an outbox file is created, salvaged or restored, so a sequence number never means
two things. Each lane counts its own sequence from 1, without holes.
"""

import enum
from dataclasses import dataclass


class Lane(enum.Enum):
    """Lanes of the outbox, most urgent first."""

    LIFECYCLE = "lifecycle"  # what happened to the node itself: cameras, engines, commands, gap records
    ALERT = "alert"
    EVENT = "event"
    STATE = "state"
    SAMPLE = "sample"
    EVIDENCE = "evidence"

    # A lane is looked up for each row, several times: Enum's own hash is a call of Python, a tenth as fast.
    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """The dedupe key of a row, equal however often the row is sent."""

    node: str
    stream: str
    lane: str
    seq: int

    @property
    def id(self) -> str:
        """As text, for CloudEvents `id`: `(source, id)` is unique, as that standard asks."""
        return f"{self.stream}.{self.lane}.{self.seq}"
