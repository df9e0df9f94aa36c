"""What raises an alert and what follows, wherever it was said: in agent.toml, or by a call. Pure."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from agent.actions.settings import ActionSettings, Do
from agent.alerting.settings import AlertSettings, Escalation
from agent.decide.settings import AlertRuleSettings
from schemas.messages import Severity
from schemas.shape import fields_of, read

CONFIGURED, CALLED = "agent.toml", "call"


@dataclass(frozen=True, slots=True)
class Seen:
    """One of these classes in the picture of a camera, sure enough, for so long, in a zone or anywhere."""

    camera_id: str
    classes: tuple[str, ...] = ()
    zone: str = ""
    for_s: float = 0.0
    confidence_min: float = 0.0


@dataclass(frozen=True, slots=True)
class Response:
    """An action that a call brings along: to publish on the local broker, or to call a web address."""

    do: Do
    topic: str = ""
    url: str = ""
    message: str = ""  # the payload's template; empty: the event

    @property
    def name(self) -> str:
        """Of the action: the same for the same response. No configured one can be called so."""
        text = "\0".join((self.do.value, self.topic, self.url, self.message))
        return f"{self.do.value}:{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True, slots=True)
class Rule:
    """`condition` over events, or `seen` in a picture, or neither: then the name is that of a pipeline's rule."""

    name: str
    condition: str = ""
    clear: str = ""
    seen: Seen | None = None
    severity: Severity = Severity.WARNING
    message: str = ""
    camera_id: str = ""
    actions: tuple[str, ...] = ()
    response: Response | None = None
    cooldown_s: float = 30.0
    update_interval_s: float = 0.0
    escalate: tuple[Escalation, ...] = ()
    source: str = CALLED

    @property
    def mark(self) -> str:
        """The same for the same rule."""
        return json.dumps(fields_of(self), sort_keys=True)

    @property
    def all_actions(self) -> tuple[str, ...]:
        """The names of those that follow at once."""
        return (*self.actions, self.response.name) if self.response else self.actions

    def actions_of(self, steps: int) -> frozenset[str]:
        """All that have followed when the escalation has taken so many steps."""
        return frozenset([*self.all_actions, *(name for step in self.escalate[:steps] for name in step.actions)])

    def picture_rule(self) -> AlertRuleSettings | None:
        """As a pipeline watches for it."""
        seen = self.seen
        if seen is None:
            return None
        return AlertRuleSettings(
            self.name,
            seen.classes,
            seen.zone,
            seen.confidence_min,
            seen.for_s,
            cooldown_s=self.cooldown_s,
            severity=self.severity,
        )

    def response_action(self) -> ActionSettings | None:
        """The action that it brings along."""
        given = self.response
        if given is None:
            return None
        more: dict[str, Any] = {"payload": given.message} if given.message else {}
        return ActionSettings(given.name, given.do, named=True, topic=given.topic, url=given.url, **more)


def configured(settings: AlertSettings) -> Rule:
    """Of agent.toml."""
    one = settings
    return Rule(
        one.name,
        one.condition,
        one.clear,
        None,
        one.severity,
        one.message,
        one.camera_id,
        one.actions,
        None,
        one.cooldown_s,
        one.update_interval_s,
        one.escalate,
        CONFIGURED,
    )


def rule_of(document: object) -> Rule:
    """A rule as `alerts.db` has it. Raises ShapeError."""
    return read(Rule, document, strict=False)


@dataclass(slots=True)
class Counts:
    """Since the agent started."""

    raised: int = 0
    refused: int = 0  # times that an alert was not raised, because too many were on
    forgotten: int = 0  # over, and given up before their time because too many are known
