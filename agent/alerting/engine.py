"""All alerts of the node: what raises them, what follows, and what is known of them. Pure: time is an argument.

    WATCHING ──condition──▶ RAISED ──clear, or the condition is over──▶ COOLING ──cooldown_s──▶ WATCHING
                              │ acknowledged, once; until then the escalation takes its steps

Rules kept here:

    - What is raised here is heard by no condition, so that no alert raises another, or itself, again and again.
    - Alerts of the pipelines' rules are known too: they can be acknowledged, and a rule of their name may have them
      escalate.
    - A severity only rises.
    - An alert that was raised before a restart goes on; it can be over `settle_s` after the start, not sooner.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

from agent.actions.settings import ActionSettings
from agent.alerting.alert import RANKS, Alert, Now
from agent.alerting.rule import Counts, Rule
from agent.alerting.settings import AlertingSettings
from agent.alerting.watch import Watch
from agent.decide.facts import AlertState
from platforms.conditions import Fact
from schemas.messages import Severity

KNOWN_MAX = 1000  # alerts, those that are over included
FORGET_EVERY_S = 10.0
BY_HAND = "triggerAlert"  # the rule of alerts that somebody raised, and gave no name


class Phase(Enum):
    WATCHING = "no alert of this rule is on"
    RAISED = "an alert is on"
    COOLING = "the alert is over, and no new one may come yet"


@dataclass(frozen=True, slots=True)
class Step:
    """An alert after a step. `tell`: the step is ours, and others have to hear of it. `gone`: it is forgotten."""

    alert: Alert
    tell: bool = True
    gone: bool = False


@dataclass(slots=True)
class _Rule:
    rule: Rule
    watch: Watch | None
    alert_id: str = ""  # of the alert that is on
    cooling_until_s: float = -math.inf
    due_s: float = math.inf

    def phase(self, now_s: float) -> Phase:
        if self.alert_id:
            return Phase.RAISED
        return Phase.COOLING if now_s < self.cooling_until_s else Phase.WATCHING


@dataclass(slots=True)
class _Known:
    """An alert, and on the monotonic clock when it was raised and last told of."""

    alert: Alert
    raised_s: float
    told_s: float


class Engine:
    """One node's."""

    def __init__(self, settings: AlertingSettings, boot: int, known: Iterable[Alert], now: Now) -> None:
        """`known`: alerts of earlier starts. `boot` makes ids that none of them has."""
        self._settings = settings
        self._boot = boot
        self._numbered = 0
        self._rules: dict[str, _Rule] = {}
        self._by_type: dict[str, list[_Rule]] = defaultdict(list)
        self._known = {one.alert_id: self._remembered(one, now) for one in known}
        self._earlier = frozenset(self._known)  # of earlier starts, not looked at yet
        self._muted: frozenset[str] = frozenset()
        self._began_s = now.s
        self._forget_s = -math.inf
        self.counts = Counts()

    @staticmethod
    def _remembered(alert: Alert, now: Now) -> _Known:
        raised_s = now.s - max(0, now.utc_ms - alert.raised_utc_ms) / 1000
        return _Known(alert, raised_s, now.s)

    # ---- asked ------------------------------------------------------------------------------------

    @property
    def rules(self) -> dict[str, Rule]:
        return {name: one.rule for name, one in self._rules.items()}

    @property
    def alerts(self) -> list[Alert]:
        """The newest last."""
        return [one.alert for one in self._known.values()]

    @property
    def types(self) -> frozenset[str]:
        """Of the events that concern some condition."""
        return frozenset(kind for kind, rules in self._by_type.items() if rules)

    @property
    def window_s(self) -> float:
        """The longest of all conditions."""
        return max((one.watch.window_s for one in self._rules.values() if one.watch), default=0.0)

    @property
    def clipped(self) -> int:
        """Events that were given up because a window held too many."""
        return sum(one.watch.clipped for one in self._rules.values() if one.watch)

    def on(self) -> int:
        """How many alerts of ours are on."""
        return sum(1 for one in self._known.values() if one.alert.own and one.alert.is_on)

    def find(self, alert_id: str) -> Alert | None:
        """By its id; or by its rule, of which one alert is on, or else the last one waits to be acknowledged."""
        if (one := self._known.get(alert_id)) is not None:
            return one.alert
        of_rule = [one.alert for one in self._known.values() if one.alert.rule == alert_id]
        on = [alert for alert in of_rule if alert.is_on]
        if len(on) == 1:
            return on[0]
        waiting = [alert for alert in of_rule if not alert.is_acknowledged]
        return waiting[-1] if waiting and not on else None

    def actions(self, rule: str, alert_id: str) -> frozenset[str]:
        """The actions that an alert names."""
        known = self._known.get(alert_id)
        given = known.alert.given if known else None
        found = given or (self._rules[rule].rule if rule in self._rules else None)
        return found.actions_of(known.alert.steps if known else 0) if found else frozenset()

    def responses(self) -> dict[str, ActionSettings]:
        """The actions that rules, and alerts that are on, have brought along, by name."""
        rules = [one.rule for one in self._rules.values()]
        rules += [one.alert.given for one in self._known.values() if one.alert.given and one.alert.is_on]
        return {made.name: made for rule in rules if (made := rule.response_action())}

    def _rule_of(self, alert: Alert) -> Rule | None:
        return alert.given or (self._rules[alert.rule].rule if alert.rule in self._rules else None)

    def due_s(self) -> float:
        """When to call `pass_time`, if nothing else comes."""
        due_s = min((one.due_s for one in self._rules.values()), default=math.inf)
        for one in self._known.values():
            due_s = min(due_s, self._next_of(one))
        return due_s

    # ---- told of rules ------------------------------------------------------------------------------

    def set(self, rule: Rule, now: Now) -> list[Step]:
        """From now on this rule, in the place of the one of its name. An alert of that is over; the same rule once
        more changes nothing. Raises ConditionError, and nothing has changed."""
        before = self._rules.get(rule.name)
        if before is not None and before.rule.mark == rule.mark:
            return []
        watch = Watch(rule) if rule.condition else None
        steps = self.remove(rule.name, now, "changed") if before is not None else []
        made = self._rules[rule.name] = _Rule(rule, watch)
        for kind in watch.types if watch else ():
            self._by_type[kind].append(made)
        self._take_up(made, now)
        return steps

    def _take_up(self, made: _Rule, now: Now) -> None:
        """What an earlier start of the agent has left of this rule."""
        for one in self._known.values():
            alert = one.alert
            if alert.rule != made.rule.name or not alert.own or alert.mark != made.rule.mark:
                continue
            if alert.is_on:
                made.alert_id = alert.alert_id
            elif alert.cleared_utc_ms is not None:
                left_s = made.rule.cooldown_s - max(0, now.utc_ms - alert.cleared_utc_ms) / 1000
                made.cooling_until_s = max(made.cooling_until_s, now.s + left_s)
        made.due_s = now.s

    def remove(self, name: str, now: Now, reason: str = "removed") -> list[Step]:
        """No alert of this rule any more; one that is on is over."""
        found = self._rules.pop(name, None)
        if found is None:
            return []
        for rules in self._by_type.values():
            if found in rules:
                rules.remove(found)
        on = [
            one
            for one in self._known.values()
            if one.alert.is_on
            and (
                one.alert.alert_id == found.alert_id
                or (found.rule.seen and one.alert.rule == name and not one.alert.own)
            )
        ]
        return [self._clear(one, now, reason) for one in on]

    def begin(self, now: Now) -> list[Step]:
        """Once all rules are set: alerts of earlier starts whose rule is gone or another are over, and so are those
        of pipelines, which have begun anew. The others are told again."""
        steps = []
        held = {one.alert_id for one in self._rules.values()}
        earlier, self._earlier = self._earlier, frozenset()
        for one in list(self._known.values()):
            alert = one.alert
            if not alert.is_on or alert.alert_id not in earlier:
                continue
            if not alert.own:
                steps.append(self._clear(one, now, "restarted"))
            elif alert.given is None and alert.alert_id not in held:
                steps.append(self._clear(one, now, "changed" if alert.rule in self._rules else "removed"))
            else:
                steps.append(self._say(one, now, state=AlertState.UPDATED, reason="restarted"))
        return steps

    def mute(self, rules: frozenset[str]) -> None:
        """From now on these rules raise no alert; one that is on goes on."""
        self._muted = rules

    # ---- told of events and of the time -------------------------------------------------------------

    def fill(self, fact: Fact, at_s: float) -> None:
        """An event of before the start: it fills windows and raises nothing."""
        for one in self._by_type.get(fact.type, ()):
            assert one.watch is not None
            one.watch.take(fact, at_s)

    def hear(self, fact: Fact, now: Now) -> list[Step]:
        """An event, as it happened."""
        steps: list[Step] = []
        for one in self._by_type.get(fact.type, ()):
            assert one.watch is not None
            one.watch.take(fact, now.s)
            steps += self._look(one, now, fact)
        return steps

    def pass_time(self, now: Now) -> list[Step]:
        """What the time alone brings."""
        steps: list[Step] = []
        for rule in self._rules.values():
            if rule.due_s <= now.s:
                steps += self._look(rule, now, None)
        for known in self._known.values():
            if self._next_of(known) <= now.s:
                steps += self._on_time(known, now)
        return steps + self._forget(now)

    def _look(self, one: _Rule, now: Now, fact: Fact | None) -> list[Step]:
        watch = one.watch
        if watch is None:
            one.due_s = math.inf
            return []
        steps: list[Step] = []
        begin, end = watch.look(now.s)
        phase = one.phase(now.s)
        settled_s = self._began_s + self._settings.settle_s
        if phase is Phase.WATCHING and begin:
            steps = self._raise(one, now, fact)
        elif phase is Phase.RAISED and end:
            known = self._known[one.alert_id]
            if now.s >= settled_s or known.raised_s >= self._began_s:
                steps = [self._clear(known, now, "condition")]
                phase = one.phase(now.s)
        due_s = watch.due_s(now.s)
        if phase is Phase.COOLING:
            due_s = min(due_s, one.cooling_until_s)
        if phase is Phase.RAISED and now.s < settled_s:
            due_s = min(due_s, settled_s)
        one.due_s = due_s
        return steps

    def _raise(self, one: _Rule, now: Now, fact: Fact | None) -> list[Step]:
        rule = one.rule
        if rule.name in self._muted:
            return []
        camera = rule.camera_id
        if not camera and fact is not None and isinstance(found := fact.data.get("camera_id"), str):
            camera = found
        cause = f"{fact.type} {fact.subject}".strip()[:200] if fact is not None else ""
        alert = self._begun(rule, now, camera, cause, None)
        if alert is None:
            return []
        one.alert_id = alert.alert_id
        return [Step(alert)]

    def _begun(self, rule: Rule, now: Now, camera: str, cause: str, given: Rule | None) -> Alert | None:
        """None where too many are on."""
        if self.on() >= self._settings.raised_max:
            self.counts.refused += 1
            return None
        self._numbered += 1
        self.counts.raised += 1
        alert = Alert(
            f"{rule.name}-{self._boot}.a{self._numbered}",
            rule.name,
            rule.severity,
            now.utc_ms,
            camera_id=camera,
            message=rule.message,
            cause=cause,
            mark=rule.mark,
            given=given,
        )
        self._known[alert.alert_id] = _Known(alert, now.s, now.s)
        return alert

    # ---- told by people -----------------------------------------------------------------------------

    def trigger(self, rule: Rule, now: Now) -> Step | None:
        """At once. One of its name that is on is triggered once more; None where too many are on. It is over when it
        is acknowledged."""
        if rule.name != BY_HAND:
            for known in self._known.values():
                alert = known.alert
                if alert.rule == rule.name and alert.given is not None and alert.is_on:
                    return self._say(
                        known, now, state=AlertState.UPDATED, reason="triggered again", count=alert.count + 1,
                        severity=_higher(alert.severity, rule.severity),
                    )  # fmt: skip
        made = self._begun(rule, now, rule.camera_id, "", rule)
        return None if made is None else Step(made)

    def acknowledge(self, alert_id: str, by: str, note: str, now: Now) -> Step | None:
        """None where it was acknowledged already. One that was raised by hand is over with it."""
        one = self._known[alert_id]
        if one.alert.is_acknowledged:
            return None
        one.alert = replace(one.alert, acknowledged_utc_ms=now.utc_ms, acknowledged_by=by, note=note)
        if not one.alert.is_on:
            return self._say(one, now, state=AlertState.CLEARED, reason="acknowledged")
        if one.alert.given is not None:
            return self._clear(one, now, "acknowledged")
        return self._say(one, now, state=AlertState.UPDATED, reason="acknowledged")

    # ---- told of the alerts of pipelines ------------------------------------------------------------

    def adopt(self, data: Mapping[str, Any], severity: Severity, now: Now) -> list[Step]:
        """A step of an alert that a rule of a pipeline has raised; its data are as they travel."""
        alert_id, state = str(data.get("alert_id", "")), AlertState(str(data.get("state")))
        known = self._known.get(alert_id)
        if known is not None and known.alert.own:
            return []
        if known is None:
            if state is AlertState.CLEARED or not alert_id:
                return []
            raised_ms = now.utc_ms - round(1000 * _seconds(data.get("duration_s")))
            alert = Alert(
                alert_id,
                str(data.get("rule", "")),
                severity,
                raised_ms,
                camera_id=str(data.get("camera_id") or ""),
                zone=str(data.get("zone") or ""),
                message=self._message(str(data.get("rule", ""))),
                own=False,
            )
            known = self._known[alert_id] = _Known(alert, now.s, now.s)
            return [Step(alert, tell=False)]
        before = known.alert
        if not before.is_on:
            return []
        over_ms = now.utc_ms if state is AlertState.CLEARED else None
        known.alert = replace(
            before,
            state=state,
            severity=_higher(before.severity, severity),
            cleared_utc_ms=over_ms,
            reason=str(data.get("reason") or "")[:200],
        )
        return [] if known.alert == before else [Step(known.alert, tell=False)]

    def _message(self, rule: str) -> str:
        found = self._rules.get(rule)
        return found.rule.message if found else ""

    # ---- steps --------------------------------------------------------------------------------------

    def _next_of(self, one: _Known) -> float:
        """When time brings the next step of an alert."""
        alert = one.alert
        if not alert.is_on:
            return math.inf
        rule, due_s = self._rule_of(alert), math.inf
        if rule is None:
            return due_s
        if not alert.is_acknowledged and alert.steps < len(rule.escalate):
            due_s = one.raised_s + rule.escalate[alert.steps].after_s
        if rule.update_interval_s and alert.own:
            due_s = min(due_s, one.told_s + rule.update_interval_s)
        return due_s

    def _on_time(self, one: _Known, now: Now) -> list[Step]:
        """The escalation's steps that are due, each of them; or an update."""
        steps = []
        rule = self._rule_of(one.alert)
        escalate = rule.escalate if rule else ()
        while (
            not one.alert.is_acknowledged
            and one.alert.steps < len(escalate)
            and one.raised_s + (step := escalate[one.alert.steps]).after_s <= now.s
        ):
            severity = _higher(one.alert.severity, step.severity or one.alert.severity)
            more = {"steps": one.alert.steps + 1, "severity": severity}
            steps.append(self._say(one, now, state=AlertState.UPDATED, reason="escalated", **more))
        return steps or [self._say(one, now, state=AlertState.UPDATED, reason="still")]

    def _clear(self, one: _Known, now: Now, reason: str) -> Step:
        for rule in self._rules.values():
            if rule.alert_id == one.alert.alert_id:
                rule.alert_id = ""
                rule.cooling_until_s = now.s + rule.rule.cooldown_s
                rule.due_s = min(rule.due_s, rule.cooling_until_s)
        return self._say(one, now, state=AlertState.CLEARED, reason=reason, cleared_utc_ms=now.utc_ms)

    def _say(self, one: _Known, now: Now, **more: Any) -> Step:
        one.alert = replace(one.alert, **more)
        one.told_s = now.s
        return Step(one.alert)

    def _forget(self, now: Now) -> list[Step]:
        """What is over for long, and the oldest of what is over where too many are known."""
        if now.s < self._forget_s and len(self._known) <= KNOWN_MAX:
            return []
        self._forget_s = now.s + FORGET_EVERY_S
        kept_ms = self._settings.kept_s * 1000
        longest_ms = {name: one.rule.cooldown_s * 1000 for name, one in self._rules.items()}
        gone = [
            one.alert
            for one in self._known.values()
            if one.alert.cleared_utc_ms is not None
            and now.utc_ms - one.alert.cleared_utc_ms > max(kept_ms, longest_ms.get(one.alert.rule, 0.0))
        ]
        over = len(self._known) - len(gone) - KNOWN_MAX
        if over > 0:
            left = [one.alert for one in self._known.values() if not one.alert.is_on and one.alert not in gone]
            gone += left[:over]
            self.counts.forgotten += len(left[:over])
        for alert in gone:
            del self._known[alert.alert_id]
        return [Step(alert, tell=False, gone=True) for alert in gone]


def _higher(one: Severity, other: Severity) -> Severity:
    return max(one, other, key=RANKS.__getitem__)


def _seconds(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e9 else 0.0
