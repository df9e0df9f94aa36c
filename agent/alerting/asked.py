"""What a call of `triggerAlert` asks for, as a rule. Pure."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from agent.actions.settings import ActionSettings, Do, own_mistakes
from agent.alerting.engine import BY_HAND
from agent.alerting.rule import Response, Rule, Seen
from agent.alerting.settings import (
    NAME,
    Escalation,
    action_mistakes,
    condition_mistake,
    escalation_mistakes,
    is_at_once,
)
from runtime.calls.errors import CallRejectedError
from schemas.messages import Severity
from schemas.shape import Limit

BY_CALL = (Do.MQTT, Do.WEBHOOK)  # what a call may describe; programs and lines are named in agent.toml


@dataclass(frozen=True, slots=True)
class TriggerAlert:
    """`condition` as `Alert_Condition` of core.edge, `action` as `Response_Action`: all that is right is checked."""

    condition: dict[str, Any] = field(default_factory=dict)
    action: dict[str, Any] = field(default_factory=dict)
    name: Annotated[str, Limit(pattern=f"|{NAME}", means="1 to 63 letters, digits, . _ -")] = ""


def rule_asked_for(call: TriggerAlert, actions: Collection[str]) -> tuple[Rule, bool]:
    """The rule, and whether it is an alert at once. `actions` are the configured ones. Raises CallRejectedError."""
    given = call.condition
    seen = _seen(given)
    condition = given.get("when") or ""
    at_once = seen is None and is_at_once(condition)
    if seen is not None and condition:
        raise _rejected(
            "condition.when", "classes, zone and for are another kind of condition: leave one of them out"
        )
    clear = given.get("clear") or ""
    if clear and (at_once or seen is not None):
        wrong = "is over when it is acknowledged" if at_once else "is over when nothing of these classes is there"
        raise _rejected("condition.clear", f"means nothing here: the alert {wrong}")
    for key, text in (("when", "" if at_once else condition), ("clear", clear)):
        if text and (mistake := condition_mistake(text)):
            raise _rejected(f"condition.{key}", mistake)
    steps = _steps(given.get("escalation") or [], actions)
    names, response = _action(call.action, actions)
    made = Rule(
        call.name,
        "" if at_once else condition,
        clear,
        seen,
        Severity(given.get("severity") or "warning"),
        given.get("message") or "",
        given.get("camera_id") or "" if seen is None else "",
        names,
        response,
        float(given.get("cooldown", 30.0)),
        float(given.get("update_every") or 0.0),
        steps,
    )
    return _named(made, at_once), at_once


def _named(rule: Rule, at_once: bool) -> Rule:
    """With a name: the same condition without one is the same rule."""
    if rule.name:
        return rule
    if at_once:
        return replace(rule, name=BY_HAND)
    return replace(rule, name="rule-" + hashlib.sha256(rule.mark.encode()).hexdigest()[:10])


def _seen(given: Mapping[str, Any]) -> Seen | None:
    """A condition of the picture: for a class, a zone, a time or a confidence, or for anything at a camera."""
    classes, zone = tuple(given.get("classes") or ()), given.get("zone") or ""
    for_s, confidence = float(given.get("for") or 0.0), float(given.get("confidence_min") or 0.0)
    camera = given.get("camera_id") or ""
    if not (classes or zone or for_s or confidence or (camera and not given.get("when"))):
        return None
    if not camera:
        raise _rejected(
            "condition.camera_id", "is needed where classes, a zone, a time or a confidence are asked for"
        )
    return Seen(camera, classes, zone, for_s, confidence)


def _steps(given: Any, actions: Collection[str]) -> tuple[Escalation, ...]:
    steps = tuple(
        Escalation(
            float(one["after"]),
            Severity(one["severity"]) if one.get("severity") else None,
            tuple(one.get("actions") or ()),
        )
        for one in given
    )
    if wrong := escalation_mistakes("condition.escalation", "after", steps, actions):
        raise _rejected(wrong[0].partition(":")[0], "; ".join(text.partition(": ")[2] for text in wrong))
    return steps


def _action(given: Mapping[str, Any], actions: Collection[str]) -> tuple[tuple[str, ...], Response | None]:
    """The name of a configured action, or one that is described; never both."""
    name = given.get("action") or ""
    described = {key: given[key] for key in ("do", "topic", "url", "message") if given.get(key)}
    if name and described:
        key = next(iter(described))
        raise _rejected(
            f"action.{key}", f"means nothing beside action: {name!r} is configured; leave one of them out"
        )
    if name:
        if wrong := action_mistakes("action.action", (name,), actions):
            raise _rejected("action.action", wrong[0].partition(": ")[2])
        return (name,), None
    if not described:
        return (), None
    do = Do(given.get("do") or ("webhook" if given.get("url") else "mqtt"))
    if do not in BY_CALL:
        text = f"do = {do.value!r} cannot be described by a call: put it into agent.toml ([[actions]]) and name it"
        raise _rejected("action.do", text)
    response = Response(do, given.get("topic") or "", given.get("url") or "", given.get("message") or "")
    settings = Rule("x", response=response).response_action()
    assert isinstance(settings, ActionSettings)
    if wrong := own_mistakes(settings):
        key, _, text = wrong[0].partition(": ")
        raise _rejected(f"action.{'message' if key == 'payload' else key}", text)
    return (), response


def _rejected(field_: str, text: str) -> CallRejectedError:
    return CallRejectedError("bad_arguments", f"{field_}: {text}", field_)
