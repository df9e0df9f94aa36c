"""What others may do about alerts by command: triggerAlert, ackAlert, listAlerts, removeAlert."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from agent.alerting.alerting import Alerting
from agent.alerting.asked import TriggerAlert, rule_asked_for
from agent.alerting.rule import CONFIGURED, Rule
from agent.alerting.store import Order
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Served, plain
from runtime.errors import EdgewrightError
from schemas.shape import Limit, fields_of

BY_CHARS_MAX, NOTE_CHARS_MAX = 100, 500
Normal = Callable[[Any], Any]
"""A call's arguments as core.edge declares them: defaults filled in, durations in seconds."""


@dataclass(frozen=True, slots=True)
class AckAlert:
    """`{"alert_id": "porous-3.a1", "by": "Kim", "note": "nozzle changed"}`; or a rule's name, of its alert."""

    alert_id: Annotated[str, Limit(len_min=1, len_max=300)]
    by: Annotated[str, Limit(len_max=BY_CHARS_MAX)] = ""
    note: Annotated[str, Limit(len_max=NOTE_CHARS_MAX)] = ""


@dataclass(frozen=True, slots=True)
class ListAlerts:
    """`{"over": true}`: with those that are over."""

    over: bool = False
    limit: Annotated[int, Limit(ge=1, le=500)] = 100


@dataclass(frozen=True, slots=True)
class RemoveAlert:
    """`{"name": "porous"}`: a rule that a call has made."""

    name: Annotated[str, Limit(len_min=1, len_max=63)]


def alert_functions(
    alerting: Alerting, node: str, streams: Collection[str], actions: Collection[str], normal: Normal
) -> list[Served]:
    """Bound to one agent's. `streams`: its cameras; `actions`: its configured actions."""

    async def trigger(call: TriggerAlert) -> str:
        given: Mapping[str, Any] = normal(fields_of(call))
        call = TriggerAlert(dict(given["condition"]), dict(given["action"]), given.get("name") or "")
        rule, at_once = rule_asked_for(call, actions)
        _check(alerting, rule, streams)
        there = alerting.engine.rules.get(rule.name)
        if there is not None and there.source == CONFIGURED:
            raise _rejected(
                "name", f"the rule {rule.name!r} stands in agent.toml: change it there, or take another name"
            )
        if rule.name in alerting.taken:
            raise _rejected("name", f"a rule of a pipeline is called {rule.name!r}: take another name")
        if at_once:
            if there is not None:
                raise _rejected("name", f"{rule.name!r} is a rule with a condition; take another name")
            alert = alerting.trigger(rule)
            if alert is None:
                text = f"{alerting.settings.raised_max} alerts are on, as many as alerting.raised_max allows"
                raise CallFailedError("too_many", text)
            return alert.alert_id
        if there is None and len(alerting.engine.rules) >= alerting.settings.rules_max:
            text = f"there are {alerting.settings.rules_max} rules, as many as alerting.rules_max allows; remove one"
            raise CallFailedError("too_many", text)
        try:
            await alerting.set_rule(rule)
        except EdgewrightError as error:
            raise CallFailedError("not_kept", f"the rule is not in force: {error}") from error
        alerting.begin_actions()
        return rule.name

    async def ack(call: AckAlert) -> dict[str, Any]:
        alert = alerting.engine.find(call.alert_id)
        if alert is None:
            on = [one.alert_id for one in alerting.engine.alerts if not one.is_acknowledged]
            known = ", ".join(on[-12:]) or "nothing is to be acknowledged"
            raise CallRejectedError(
                "unknown_alert", f"no alert {call.alert_id!r} is known here ({known})", "alert_id"
            )
        return alerting.acknowledge(alert.alert_id, Order(alert.alert_id, call.by, call.note)).value(node)

    async def listing(call: ListAlerts) -> dict[str, Any]:
        alerts = [one for one in alerting.engine.alerts if call.over or one.is_on or not one.is_acknowledged]
        rules = list(alerting.engine.rules.values())
        return {
            "alerts": [one.value(node) for one in alerts[::-1][: call.limit]],
            "rules": [shown(rule) for rule in rules[: call.limit]],
            "left_out": max(0, len(alerts) - call.limit) + max(0, len(rules) - call.limit),
        }

    async def remove(call: RemoveAlert) -> dict[str, Any]:
        rule = alerting.engine.rules.get(call.name)
        if rule is None:
            known = ", ".join(alerting.engine.rules) or "there is none"
            raise CallRejectedError("unknown_rule", f"there is no rule {call.name!r} here ({known})", "name")
        if rule.source == CONFIGURED:
            raise _rejected("name", f"the rule {call.name!r} stands in agent.toml: take it out there")
        try:
            await alerting.remove_rule(call.name)
        except EdgewrightError as error:
            raise CallFailedError("not_kept", f"the rule is still there: {error}") from error
        alerting.begin_actions()
        return {"name": call.name, "removed": True}

    return [
        plain("triggerAlert", TriggerAlert, trigger),
        plain("ackAlert", AckAlert, ack),
        plain("listAlerts", ListAlerts, listing, journalled=False),
        plain("removeAlert", RemoveAlert, remove),
    ]


def shown(rule: Rule) -> dict[str, Any]:
    """As `Alert_Rule` of core.edge."""
    seen = rule.seen
    return {
        "name": rule.name,
        "source": rule.source,
        "when": rule.condition,
        "clear": rule.clear,
        "camera_id": (seen.camera_id if seen else rule.camera_id) or None,
        "classes": list(seen.classes) if seen else [],
        "zone": (seen.zone if seen else "") or None,
        "severity": rule.severity.value,
        "message": rule.message,
        "actions": list(rule.all_actions),
        "escalation": [
            {
                "after": step.after_s,
                "severity": step.severity.value if step.severity else None,
                "actions": list(step.actions),
            }
            for step in rule.escalate
        ],
    }


def _check(alerting: Alerting, rule: Rule, streams: Collection[str]) -> None:
    """What the call alone does not show. Raises CallRejectedError."""
    camera = rule.seen.camera_id if rule.seen else rule.camera_id
    if camera and camera not in streams:
        known = ", ".join(sorted(streams)) or "there is none"
        raise _rejected("condition.camera_id", f"no camera {camera!r} here ({known})")
    for key, text in (("when", rule.condition), ("clear", rule.clear)):
        if text and (wrong := alerting.mistakes_of(text)):
            raise _rejected(f"condition.{key}", "; ".join(wrong))
    if (watched := rule.picture_rule()) is not None and (wrong_rule := alerting.watch_mistake(camera, watched)):
        raise _rejected("condition", wrong_rule)


def _rejected(field: str, text: str) -> CallRejectedError:
    return CallRejectedError("bad_arguments", f"{field}: {text}", field)
