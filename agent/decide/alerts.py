"""Alerts of the rule "one of these classes in this zone for so long", and their life.

    IDLE ──present──▶ ARMING ──held for_s──▶ RAISED ──absent clear_after_s──▶ COOLING ──cooldown_s──▶ IDLE
                        └──absent gap_s──▶ IDLE

Rules kept here:

    - A frame without the object changes nothing by itself: only time does, when the object stays away too long. So a
      lost detection or two neither stop an alert from coming nor end it, and an alert ends even if no frames come.
    - What ends by time carries the moment at which it ended, whether a frame or a tick came to tell.
    - `raised`, any number of `updated` and `cleared` share an `alert_id`; the next alert of the rule has another.
"""

import math
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from agent.decide.facts import AlertFact, AlertState, JsonObject
from agent.decide.settings import NO_KINDS, AlertRuleSettings
from agent.decide.view import Sighting, View, listed
from agent.decide.zones import Located
from platforms.watching import Condition, MakeCondition, Scene

OBJECTS_MAX = 32
"""Objects listed in an alert, the most confident ones; `count` has them all."""


class Phase(Enum):
    IDLE = "nothing to tell"
    ARMING = "the condition is fulfilled, not long enough yet"
    RAISED = "the alert is on"
    COOLING = "the alert has been cleared, and no new one may come yet"


class Sign(Enum):
    PRESENT = "a frame fulfils the condition"
    HELD = "a frame fulfils it, and it has been so for `for_s`"
    LAPSED = "the phase's time is over"


TRANSITIONS: dict[tuple[Phase, Sign], Phase] = {
    (Phase.IDLE, Sign.PRESENT): Phase.ARMING,
    (Phase.IDLE, Sign.HELD): Phase.RAISED,
    (Phase.ARMING, Sign.PRESENT): Phase.ARMING,
    (Phase.ARMING, Sign.HELD): Phase.RAISED,
    (Phase.ARMING, Sign.LAPSED): Phase.IDLE,
    (Phase.RAISED, Sign.PRESENT): Phase.RAISED,
    (Phase.RAISED, Sign.HELD): Phase.RAISED,
    (Phase.RAISED, Sign.LAPSED): Phase.COOLING,
    (Phase.COOLING, Sign.PRESENT): Phase.COOLING,
    (Phase.COOLING, Sign.HELD): Phase.COOLING,
    (Phase.COOLING, Sign.LAPSED): Phase.IDLE,
}
"""IDLE has no end in time, so it cannot lapse."""

ABSENT = "absent"
NO_FRAMES = "no_frames"


class Alerts:
    """All alert rules of one camera."""

    def __init__(
        self,
        camera_id: str,
        settings: Sequence[AlertRuleSettings],
        prefix: str,
        labels: Sequence[str] = (),
        kinds: Mapping[str, MakeCondition] = NO_KINDS,
    ) -> None:
        self._camera_id, self._prefix = camera_id, prefix
        self._rules = [_Rule(camera_id, each, prefix) for each in settings]
        for rule, each in zip(self._rules, settings, strict=True):
            if each.kind:
                rule.condition = kinds[each.kind](each.settings, labels)
        self._watched: dict[str, _Rule] = {}  # those that were added later, also among the rules
        self._muted: frozenset[str] = frozenset()
        self._began = 0  # of those: no two bear the same alerts

    def observe(self, view: View, located: Located) -> list[AlertFact]:
        """What a frame changes; `lapse` must have been called for the frame's time."""
        return [fact for rule in self._rules for fact in rule.observe(view, located)]

    def lapse(self, until_s: float) -> list[AlertFact]:
        """What ended before `until_s`, and the cool-downs that end with it."""
        return [fact for rule in self._rules for fact in rule.lapse(until_s)]

    def wake_at(self) -> float | None:
        """When something ends next, if no frame comes first."""
        deadline_s = min((rule.deadline_s() for rule in self._rules), default=math.inf)
        return None if deadline_s == math.inf else deadline_s

    def finish(self, time_s: float, reason: str) -> list[AlertFact]:
        """Clears every alert that is on."""
        return [fact for rule in self._rules for fact in rule.finish(time_s, reason)]

    def mute(self, rules: frozenset[str]) -> None:
        """From now on these rules raise no alert. One that is on goes on without updates, and is cleared as ever."""
        self._muted = rules
        for rule in self._rules:
            rule.muted = rule.name in rules

    def watch(self, wanted: Mapping[str, AlertRuleSettings]) -> None:
        """From now on these rules beside those that it began with. One that is not wanted any more, or changed, is
        forgotten: whoever took it away says that its alert is over."""
        for name, rule in list(self._watched.items()):
            if wanted.get(name) != rule.settings:
                del self._watched[name]
                self._rules.remove(rule)
        for name, settings in wanted.items():
            if name not in self._watched:
                self._began += 1
                rule = _Rule(self._camera_id, settings, f"{self._prefix}.w{self._began}")
                rule.muted = name in self._muted
                self._watched[name] = rule
                self._rules.append(rule)

    def active(self) -> list[str]:
        """The ids of the alerts that are on."""
        return [rule.alert_id() for rule in self._rules if rule.phase is Phase.RAISED]


class _Rule:
    def __init__(self, camera_id: str, settings: AlertRuleSettings, prefix: str) -> None:
        self.phase = Phase.IDLE
        self.name = settings.name
        self.muted = False
        self.condition: Condition | None = None  # of a platform's kind; None: to be there is enough
        self._said: dict[int, Mapping[str, Any]] = {}  # by the condition of an object, by its track id
        self._camera_id = camera_id
        self._prefix = prefix
        self.settings = settings
        self._raised_so_far = 0
        self._since_s = 0.0  # first fulfilled, in this life
        self._present_s = 0.0  # last fulfilled
        self._frame_s = 0.0  # last frame of any kind
        self._reported_s = 0.0
        self._cleared_s = 0.0
        self._best_confidence = 0.0

    def alert_id(self) -> str:
        """The id of the alert that is on, or was last."""
        return f"{self._prefix}-{self.settings.name}-{self._raised_so_far}"

    def deadline_s(self) -> float:
        """When the phase ends by itself."""
        match self.phase:
            case Phase.ARMING:
                return self._present_s + self.settings.gap_s
            case Phase.RAISED:
                return self._present_s + self.settings.clear_after_s
            case Phase.COOLING:
                return self._cleared_s + self.settings.cooldown_s
        return math.inf

    def observe(self, view: View, located: Located) -> list[AlertFact]:
        self._frame_s = view.time_s
        present = self._fulfilling(view, located)
        if not present:
            return []
        before = self.phase
        if before is Phase.IDLE:
            self._since_s, self._best_confidence = view.time_s, 0.0
        self._present_s = view.time_s
        self._best_confidence = max(self._best_confidence, *(sighting.confidence for sighting in present))
        held = view.time_s - self._since_s >= self.settings.for_s and not self.muted
        self.phase = TRANSITIONS[before, Sign.HELD if held else Sign.PRESENT]
        if self.phase is not Phase.RAISED or self.muted:
            return []
        if before is not Phase.RAISED:
            self._raised_so_far += 1
            return [self._report(AlertState.RAISED, view.time_s, self._objects(view, present))]
        if view.time_s - self._reported_s >= self.settings.update_interval_s:
            return [self._report(AlertState.UPDATED, view.time_s, self._objects(view, present))]
        return []

    def lapse(self, until_s: float) -> list[AlertFact]:
        facts = []
        while self._is_over(deadline_s := self.deadline_s(), until_s):
            if self.phase is Phase.RAISED:
                reason = ABSENT if self._frame_s > self._present_s else NO_FRAMES
                facts.append(self._clear(deadline_s, reason))
            self.phase = TRANSITIONS[self.phase, Sign.LAPSED]
        return facts

    def finish(self, time_s: float, reason: str) -> list[AlertFact]:
        facts = [self._clear(time_s, reason)] if self.phase is Phase.RAISED else []
        self.phase = Phase.IDLE
        return facts

    def _is_over(self, deadline_s: float, until_s: float) -> bool:
        """A frame on the deadline itself can still prolong a fulfilled condition, but is held up by no cool-down."""
        return deadline_s <= until_s if self.phase is Phase.COOLING else deadline_s < until_s

    def _fulfilling(self, view: View, located: Located) -> list[Sighting]:
        settings = self.settings
        inside = located[settings.zone] if settings.zone else [True] * len(view.sightings)
        meant = [
            is_inside
            and sighting.matched
            and sighting.confidence >= settings.min_confidence
            and (not settings.classes or sighting.class_name in settings.classes)
            for sighting, is_inside in zip(view.sightings, inside, strict=True)
        ]
        if self.condition is None:
            return [sighting for sighting, is_meant in zip(view.sightings, meant, strict=True) if is_meant]
        scene = Scene(view.time_s, view.frame_width, view.frame_height, view.sightings, meant)
        matches = [match for match in self.condition.matches(scene) if meant[match.index]]
        self._said = {view.sightings[match.index].track_id: match.said for match in matches}
        return [view.sightings[match.index] for match in matches]

    def _objects(self, view: View, present: list[Sighting]) -> JsonObject:
        surest = sorted(present, key=lambda sighting: -sighting.confidence)[:OBJECTS_MAX]
        return {
            "count": len(present),
            "objects": listed(
                [{**sighting.described(), **self._said.get(sighting.track_id, {})} for sighting in surest]
            ),
            **view.size(),
        }

    def _clear(self, time_s: float, reason: str) -> AlertFact:
        self._cleared_s = time_s
        return self._report(AlertState.CLEARED, time_s, {"reason": reason})

    def _report(self, state: AlertState, time_s: float, more: JsonObject) -> AlertFact:
        self._reported_s = time_s
        data: JsonObject = {
            "camera_id": self._camera_id,
            "rule": self.settings.name,
            "zone": self.settings.zone or None,
            "duration_s": round(time_s - self._since_s, 3),
            "best_confidence": self._best_confidence,
            **more,
        }
        return AlertFact(
            self.settings.name, self.alert_id(), state, self.settings.severity, self._camera_id, time_s, data
        )
