"""An alert as it is known here, and as it travels. Pure."""

from dataclasses import dataclass
from typing import Any

from agent.alerting.rule import Rule
from agent.decide.facts import AlertState
from agent.outbox.rows import Draft
from schemas.codec import alert_type
from schemas.identity import Lane
from schemas.messages import Severity

RANKS = {severity: rank for rank, severity in enumerate(Severity)}


@dataclass(frozen=True, slots=True)
class Now:
    """Monotonic seconds to reckon with, and UTC for people."""

    s: float
    utc_ms: int


@dataclass(frozen=True, slots=True)
class Alert:
    """From raised to cleared, and acknowledged once in between or afterwards. Times are UTC milliseconds."""

    alert_id: str
    rule: str
    severity: Severity
    raised_utc_ms: int
    state: AlertState = AlertState.RAISED
    camera_id: str = ""
    zone: str = ""
    message: str = ""
    cause: str = ""  # the event that raised it: its type and subject
    reason: str = ""  # of the last step
    count: int = 1  # how often it was triggered
    steps: int = 0  # of its escalation, taken so far
    cleared_utc_ms: int | None = None
    acknowledged_utc_ms: int | None = None
    acknowledged_by: str = ""
    note: str = ""
    own: bool = True  # raised here; else by a rule of a pipeline
    mark: str = ""  # of the rule that raised it
    given: Rule | None = None  # of one that was raised by hand: what follows it

    @property
    def is_on(self) -> bool:
        return self.state is not AlertState.CLEARED

    @property
    def is_acknowledged(self) -> bool:
        return self.acknowledged_utc_ms is not None

    def duration_s(self, now_utc_ms: int) -> float:
        """How long it has been on, or was."""
        until_ms = now_utc_ms if self.cleared_utc_ms is None else self.cleared_utc_ms
        return max(0, until_ms - self.raised_utc_ms) / 1000

    def value(self, node: str) -> dict[str, Any]:
        """As `Alert_Event` of core.edge: under its id in the state `alerts`."""
        over = self.cleared_utc_ms is not None
        return {
            "alert_id": self.alert_id,
            "rule": self.rule,
            "state": self.state.value,
            "severity": self.severity.value,
            "node_id": node,
            "camera_id": self.camera_id or None,
            "zone": self.zone or None,
            "raised_at": self.raised_utc_ms,
            "cleared_at": self.cleared_utc_ms,
            "duration_s": self.duration_s(0) if over else None,
            **self._more(),
        }

    def _more(self) -> dict[str, Any]:
        return {
            "message": self.message or None,
            "cause": self.cause or None,
            "reason": self.reason or None,
            "triggered": self.count,
            "escalation": self.steps,
            "acknowledged_at": self.acknowledged_utc_ms,
            "acknowledged_by": self.acknowledged_by or None,
            "note": self.note or None,
        }

    def draft(self, now_utc_ms: int) -> Draft:
        """The step that it has just taken."""
        data = {
            "camera_id": self.camera_id,
            "rule": self.rule,
            "alert_id": self.alert_id,
            "state": self.state.value,
            "zone": self.zone or None,
            "duration_s": round(self.duration_s(now_utc_ms), 3),
            **self._more(),
        }
        subject = self.camera_id or self.rule
        return Draft(Lane.ALERT, alert_type(self.state), subject, now_utc_ms, data, self.severity)
