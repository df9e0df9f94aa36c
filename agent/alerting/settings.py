"""`[[alerts]]` and `[alerting]`: what raises an alert, what follows, and how many there may be."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Annotated

from platforms.conditions import ConditionError, parse
from schemas.messages import Severity
from schemas.shape import Limit

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
MESSAGE_CHARS_MAX = 500
CONDITION_CHARS_MAX = 4000
STEPS_MAX = 8  # of an escalation
ACTIONS_MAX = 16  # of an alert, or of a step
SECONDS_MAX = 7 * 86_400.0

Seconds = Annotated[float, Limit(ge=0, le=SECONDS_MAX)]
Names = Annotated[tuple[str, ...], Limit(len_max=ACTIONS_MAX)]
_TRUE = re.compile(r"\s*true\s*")


@dataclass(frozen=True, slots=True)
class Escalation:
    """What follows when an alert has been on for `after_s` and nobody has acknowledged it."""

    after_s: Annotated[float, Limit(gt=0, le=SECONDS_MAX)]
    severity: Severity | None = None  # None: as before
    actions: Names = ()


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """One `[[alerts]]` table.

    Without `condition` it bears the name of a rule of a pipeline, and says what follows that rule's alerts.
    """

    name: Annotated[str, Limit(pattern=NAME, means="1 to 63 letters, digits, . _ -")]
    condition: Annotated[str, Limit(len_max=CONDITION_CHARS_MAX)] = ""
    clear: Annotated[str, Limit(len_max=CONDITION_CHARS_MAX)] = ""  # empty: when the condition does not hold any more
    severity: Severity = Severity.WARNING
    message: Annotated[str, Limit(len_max=MESSAGE_CHARS_MAX)] = ""
    camera_id: Annotated[str, Limit(len_max=63)] = ""  # empty: that of the event that raised it
    actions: Names = ()
    cooldown_s: Seconds = 30.0
    update_interval_s: Seconds = 0.0  # 0: no updates by time
    escalate: Annotated[tuple[Escalation, ...], Limit(len_max=STEPS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class AlertingSettings:
    """The `[alerting]` table."""

    rules_max: Annotated[int, Limit(ge=1, le=1000)] = 100  # those of agent.toml and those made by calls together
    raised_max: Annotated[int, Limit(ge=1, le=1000)] = 200  # at a time
    queue_max: Annotated[int, Limit(ge=100, le=100_000)] = 10_000  # events that wait to be looked at
    kept_s: Annotated[float, Limit(ge=0, le=30 * 86_400)] = 86_400.0  # an alert that is over is shown for so long
    settle_s: Annotated[float, Limit(ge=0, le=3600)] = 60.0  # after a start, before an alert may be over


def is_at_once(condition: str) -> bool:
    """Whether a condition is no condition."""
    return not condition.strip() or _TRUE.fullmatch(condition) is not None


def alerts_mistakes(
    alerts: Sequence[AlertSettings | None],
    limits: AlertingSettings,
    rules: Collection[str],
    actions: Collection[str],
    cameras: Collection[str],
) -> list[str]:
    """Every mistake in the tables that their shape alone does not show. `rules` are those of the pipelines."""
    given = [(i, one) for i, one in enumerate(alerts) if one]
    names = [one.name for _, one in given]
    mistakes = []
    if len(alerts) > limits.rules_max:
        mistakes.append(f"alerts: {len(alerts)} are configured; alerting.rules_max allows {limits.rules_max}")
    for i, one in given:
        where = f"alerts[{i}]"
        if names.count(one.name) > 1:
            mistakes.append(f"{where}.name: {one.name!r} is given {names.count(one.name)} times")
        if not one.condition and one.name not in rules:
            known = ", ".join(sorted(rules)) or "there is none"
            mistakes.append(f"{where}.condition: is needed, for no pipeline has a rule {one.name!r} ({known})")
        if one.condition and one.name in rules:
            mistakes.append(
                f"{where}.name: a rule of a pipeline is called {one.name!r} already; leave out the condition"
            )
        if one.camera_id and one.camera_id not in cameras:
            mistakes.append(f"{where}.camera_id: no camera has the id {one.camera_id!r}")
        mistakes += [f"{where}.{text}" for text in alert_mistakes(one, actions)]
    return mistakes


def alert_mistakes(one: AlertSettings, actions: Collection[str]) -> list[str]:
    """Of one alert, each as `key: what`. `actions` are the names of those that there are."""
    mistakes = []
    if one.condition and is_at_once(one.condition):
        mistakes.append("condition: is always true: an alert at once is raised by a call of triggerAlert")
    for key, text in (("condition", one.condition), ("clear", one.clear)):
        if text and not (key == "condition" and is_at_once(text)) and (wrong := condition_mistake(text)):
            mistakes.append(f"{key}: {wrong}")
    if one.clear and not one.condition:
        mistakes.append("clear: means nothing without a condition; the rule of the pipeline says when it is over")
    mistakes += action_mistakes("actions", one.actions, actions)
    return mistakes + escalation_mistakes("escalate", "after_s", one.escalate, actions)


def escalation_mistakes(key: str, after: str, steps: Sequence[Escalation], actions: Collection[str]) -> list[str]:
    """Steps follow one another in time, once each: so none leads back to an earlier one."""
    mistakes = []
    for i, step in enumerate(steps):
        if i and step.after_s <= steps[i - 1].after_s:
            before = f"{steps[i - 1].after_s:g} s of the step before"
            mistakes.append(f"{key}[{i}].{after}: {step.after_s:g} s must be later than the {before}")
        if step.severity is None and not step.actions:
            mistakes.append(f"{key}[{i}]: has neither a severity nor actions: nothing would follow")
        mistakes += action_mistakes(f"{key}[{i}].actions", step.actions, actions)
    return mistakes


def action_mistakes(key: str, names: Sequence[str], actions: Collection[str]) -> list[str]:
    """Actions that there are not."""
    known = ", ".join(sorted(actions)) or "there is none"
    return [f"{key}: no action is called {name!r} ({known})" for name in names if name not in actions]


def condition_mistake(text: str) -> str | None:
    """What is wrong with a condition, its column in it; None where nothing is."""
    try:
        parse(text)
    except ConditionError as error:
        return str(error)
    return None
