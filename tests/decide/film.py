"""Tracks made by hand, a frame of 1000 x 1000 pixels, so that 10 pixels are 0.01 of the picture."""

from dataclasses import dataclass, field

import numpy as np

from agent.decide.decider import Decider
from agent.decide.facts import AlertFact, EventFact, Fact
from agent.track.tracks import Tracks

LABELS = ("person", "car", "dog")
SIZE = 1000


@dataclass(frozen=True)
class Thing:
    """An object whose bottom centre is at (x, y), shares of the picture."""

    track_id: int
    x: float
    y: float
    label: str = "person"
    confidence: float = 0.8
    matched: bool = True
    first_seen_s: float = 0.0
    last_seen_s: float = 0.0
    half_width: float = field(default=20.0, repr=False)


def tracks_of(*things: Thing, gone: tuple[int, ...] = ()) -> Tracks:
    n = len(things)
    xyxy = [(t.x * SIZE - t.half_width, t.y * SIZE - 100.0, t.x * SIZE + t.half_width, t.y * SIZE) for t in things]
    return Tracks(
        track_id=np.array([t.track_id for t in things], np.int64),
        xyxy=np.array(xyxy, np.float32).reshape(n, 4),
        confidence=np.array([t.confidence for t in things], np.float32),
        class_id=np.array([LABELS.index(t.label) for t in things], np.int32),
        first_seen_s=np.array([t.first_seen_s for t in things], np.float64),
        last_seen_s=np.array([t.last_seen_s for t in things], np.float64),
        matched=np.array([t.matched for t in things], np.bool_),
        gone=np.array(gone, np.int64),
    )


def show(decider: Decider, time_s: float, *things: Thing) -> list[Fact]:
    """One frame."""
    return decider.update(tracks_of(*things), time_s, SIZE, SIZE)


def events(facts: list[Fact], kind: str) -> list[EventFact]:
    return [fact for fact in facts if isinstance(fact, EventFact) and fact.type == kind]


def alerts(facts: list[Fact]) -> list[AlertFact]:
    return [fact for fact in facts if isinstance(fact, AlertFact)]


def story(facts: list[Fact]) -> list[tuple[str, float]]:
    """The states of alerts and their times."""
    return [(fact.state.value, round(fact.time_s, 6)) for fact in alerts(facts)]
