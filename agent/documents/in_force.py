"""Puts a plan into force: pipelines, alert rules, the log, heartbeats, labels. Nothing is restarted for it."""

import logging
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.documents.plan import Plan, Tuning


class Tunable(Protocol):
    """A camera with its pipelines."""

    def tune(self, tunings: Mapping[str, Tuning]) -> None:
        """What is different about each pipeline, by name."""

    def mute(self, rules: frozenset[str]) -> None:
        """These alert rules, and no others, raise no alert."""


class Speaker(Protocol):
    """The connection."""

    def beat_every(self, heartbeat_s: float) -> None:
        """How often a heartbeat goes out."""

    def announce(self) -> None:
        """Publishes the birth again."""


class InForce:
    """Both methods may be called as often as wished."""

    def __init__(
        self,
        streams: Mapping[str, Tunable],
        speaker: Speaker,
        labels: Mapping[str, str],
        follow: Callable[[Plan], None] = lambda plan: None,
    ) -> None:
        """`follow`: a part that serves fields in its own time."""
        self._follow = follow
        self._streams = streams
        self._speaker = speaker
        self.labels = dict(labels)  # of the node, as the birth has them

    def apply(self, plan: Plan) -> None:
        """From now on."""
        for stream in self._streams.values():
            stream.tune(plan.tunings)
        logging.getLogger().setLevel(plan.log_level)
        self._speaker.beat_every(plan.heartbeat_s)
        self._follow(plan)
        if plan.labels != self.labels:
            self.labels = dict(plan.labels)
            self._speaker.announce()

    def mute(self, rules: frozenset[str]) -> None:
        """These rules raise no alert from now on."""
        for stream in self._streams.values():
            stream.mute(rules)
