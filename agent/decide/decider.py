"""All decisions about one camera, one frame after the other.

    tracks ─▶ view ─▶ objects ─▶ lines ─▶ zones ─▶ alerts ─▶ facts
                                                tick, finish ─┘

A decider lives as long as the tracker that feeds it: track ids name objects, so a new tracker needs a new decider.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from agent.decide.alerts import Alerts
from agent.decide.facts import EventFact, Fact, JsonObject
from agent.decide.frames import frame_analyzed
from agent.decide.lines import Lines
from agent.decide.objects import CAMERA_STOPPED, LEFT, Objects
from agent.decide.settings import NO_KINDS, AlertRuleSettings, DecideSettings, check_decide_settings, rule_mistakes
from agent.decide.view import View
from agent.decide.zones import Zones
from agent.track.tracks import Tracks
from platforms.watching import MakeCondition
from runtime.errors import ConfigError

_TICK_SLACK_S = 1e-6
"""A tick settles what is due now and this much later: without it, a deadline that rounding moved could ask to be
woken for again and again. A frame has no such slack, so a deadline on its own time is the frame's to decide."""


class Decider:
    """Turns the tracks of one camera into facts.

    All times are capture times in seconds, as in `Frame.time_s`. Should they jump back, what was waiting goes on
    waiting from there: no time passes at the jump. `labels` are the model's, by class id.
    """

    def __init__(
        self,
        camera_id: str,
        labels: Sequence[str],
        settings: DecideSettings,
        *,
        prefix: str = "",
        kinds: Mapping[str, MakeCondition] = NO_KINDS,
    ) -> None:
        """Ids of objects and alerts begin with `prefix` (the camera's id if empty): a name for this run, since their
        numbers begin anew with each decider. Raises ConfigError with every mistake in `settings`."""
        if mistakes := check_decide_settings(settings, labels, kinds):
            raise ConfigError(
                f"decisions of camera {camera_id!r}: {'; '.join(mistakes)}", hint="correct these settings"
            )
        self.camera_id = camera_id
        self._prefix = prefix or camera_id
        self._labels = tuple(labels)
        self._settings = settings
        self._objects = Objects(camera_id, settings.update_interval_s, settings.move_min)
        self._lines = Lines(camera_id, settings.lines)
        self._zones = Zones(camera_id, settings.zones)
        self._alerts = Alerts(camera_id, settings.rules, self._prefix, labels, kinds)
        self._time = _SteadyTime()
        self.view: View | None = None  # of the last frame

    def know(self, labels: Sequence[str]) -> None:
        """Further classes, behind those that are known: another model has come."""
        self._labels = tuple(labels)

    def update(self, tracks: Tracks, time_s: float, frame_width: int, frame_height: int) -> list[Fact]:
        """What the tracks of one frame mean, in the order in which it happened."""
        now_s = self._time.steady_s(time_s)
        view = self.view = View(self._prefix, self._labels, tracks, now_s, frame_width, frame_height)
        facts = self._pass_time(now_s)

        ended = self._objects.missing(view)
        zone_dwell_s = self._zones.forget(ended, now_s)
        self._lines.forget(ended)
        life: list[EventFact] = self._objects.end(ended, now_s, LEFT, zone_dwell_s)
        life += self._objects.observe(view)
        if self._settings.object_events:
            facts += life

        located = self._zones.locate(view)
        facts += self._lines.observe(view)
        facts += self._zones.observe(view, located)
        facts += self._alerts.observe(view, located)
        if self._settings.every_frame:
            facts.append(frame_analyzed(self.camera_id, view))
        return self._in_camera_time(facts)

    def tick(self, time_s: float) -> list[Fact]:
        """What the mere passing of time until `time_s` means; call it at `wake_at` if no frame came before."""
        now_s = self._time.steady_s(time_s)
        return self._in_camera_time(self._pass_time(now_s + _TICK_SLACK_S))

    def wake_at(self) -> float | None:
        """The capture time at which `tick` should be called next; None: no need."""
        due_s = [due for due in (self._zones.wake_at(), self._alerts.wake_at()) if due is not None]
        return min(due_s) - self._time.offset_s if due_s else None

    def finish(self, time_s: float) -> list[Fact]:
        """The camera has stopped: alerts are cleared, objects are gone, zones are empty; totals stay."""
        now_s = self._time.steady_s(time_s)
        facts = self._pass_time(now_s)
        facts += self._alerts.finish(now_s, CAMERA_STOPPED)
        ended = self._objects.all()
        zone_dwell_s = self._zones.forget(ended, now_s)
        self._lines.forget(ended)
        life = self._objects.end(ended, now_s, CAMERA_STOPPED, zone_dwell_s)
        if self._settings.object_events:
            facts += life
        facts += self._zones.report(now_s)
        return self._in_camera_time(facts)

    def mute(self, rules: frozenset[str]) -> None:
        """From now on these alert rules, and no others, raise no alert."""
        self._alerts.mute(rules)

    def watch(self, rules: Mapping[str, AlertRuleSettings]) -> None:
        """From now on these alert rules too, and no others beside the configured ones."""
        self._alerts.watch(rules)

    def watch_mistakes(self, rule: AlertRuleSettings) -> list[str]:
        """Why it cannot watch for a rule; empty where it can."""
        return rule_mistakes(rule, self._labels, [zone.name for zone in self._settings.zones])

    def counts(self) -> JsonObject:
        """Totals so far: objects and detections per class, crossings per line, direction and class."""
        return {
            "objects": {**self._objects.seen},
            "detections": {**self._objects.detections},
            "lines": self._lines.counts(),
        }

    def occupancy(self) -> JsonObject:
        """What is there now: objects in all, each zone's counts and longest stay, the alerts that are on."""
        return {
            "objects": len(self._objects),
            "zones": self._zones.occupancy(self._time.now_s),
            "alerts": [*self._alerts.active()],
        }

    def _pass_time(self, until_s: float) -> list[Fact]:
        facts: list[Fact] = [*self._zones.settle(until_s), *self._alerts.lapse(until_s)]
        return sorted(facts, key=lambda fact: fact.time_s)

    def _in_camera_time(self, facts: list[Fact]) -> list[Fact]:
        offset_s = self._time.offset_s
        if offset_s == 0.0:
            return facts
        return [replace(fact, time_s=fact.time_s - offset_s) for fact in facts]


class _SteadyTime:
    """Time that stands still where the camera's time jumps back, and goes on with it from there."""

    def __init__(self) -> None:
        self.now_s = -math.inf
        self.offset_s = 0.0

    def steady_s(self, time_s: float) -> float:
        if not math.isfinite(time_s):
            raise ValueError(f"capture time must be finite, not {time_s}")
        if time_s + self.offset_s < self.now_s:
            self.offset_s = self.now_s - time_s
        self.now_s = max(self.now_s, time_s + self.offset_s)
        return self.now_s
