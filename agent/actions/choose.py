"""Whether an action is for an event, and whether it may act now."""

from typing import Any

from agent.actions.settings import FAILED, ActionSettings, Do, Drive, OnSettings
from agent.outbox.rows import Draft
from schemas.identity import Lane


def concerns(on: OnSettings, draft: Draft) -> bool:
    """Whether an event fulfils all that `on` asks for."""
    if draft.type == FAILED:
        return False
    return (draft.type in on.types if on.types else draft.lane is Lane.ALERT) and _fulfils(on, draft)


def _fulfils(on: OnSettings, draft: Draft) -> bool:
    data = draft.data
    return (
        (not on.severities or draft.severity in on.severities)
        and (not on.states or data.get("state") in on.states)
        and (not on.rules or data.get("rule") in on.rules)
        and (not on.fields or all(_text(data.get(name)) in texts for name, texts in on.fields.items()))
        and (not on.cameras or data.get("camera_id") in on.cameras)
    )


def _text(value: Any) -> str | None:
    """As it is written in `on.fields`; None is no text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else str(value)


def is_asked_for(settings: ActionSettings, draft: Draft) -> bool:
    """Whether an action acts at this step of an alert that names it. Where `on` names no states, a line that follows
    alerts sees each step, and all others act when it is raised, triggered again, or escalated."""
    if not _fulfils(settings.on, draft):
        return False
    if settings.on.states or (settings.do is Do.GPIO and settings.drive is not Drive.PULSE):
        return True
    return draft.data.get("state") == "raised" or draft.data.get("reason") in BEGINS_AGAIN


BEGINS_AGAIN = frozenset({"escalated", "triggered again"})
"""Reasons of an AlertUpdated at which an action acts as if the alert were raised."""


class Trigger:
    """One action's filter and cool-down. Times are monotonic seconds."""

    def __init__(self, settings: ActionSettings) -> None:
        self._settings = settings
        self._on = settings.on
        self._cooldown_s = settings.cooldown_s
        self._acted_s: float | None = None
        self.cooled_total = 0  # events that came within the cool-down

    def fires(self, draft: Draft, now_s: float, *, named: bool = False) -> bool:
        """`named`: the alert names this action."""
        by_itself = not self._settings.named and concerns(self._on, draft)
        if not by_itself and not (named and is_asked_for(self._settings, draft)):
            return False
        if self._acted_s is not None and now_s - self._acted_s < self._cooldown_s:
            self.cooled_total += 1
            return False
        self._acted_s = now_s
        return True


class Follower:
    """Which alerts are on, for a line that follows them; with `latch` also those that nobody has acknowledged."""

    ALERTS_MAX = 1024  # more at once are a defect of the rules; the line is active then anyway

    def __init__(self, *, latch: bool = False) -> None:
        self._latch = latch
        self._raised: set[str] = set()

    def see(self, draft: Draft) -> bool:
        """Whether the line is to be active after this event."""
        alert_id = str(draft.data.get("alert_id", ""))
        over = draft.data.get("state") == "cleared"
        if over and not (self._latch and draft.data.get("acknowledged_at") is None):
            self._raised.discard(alert_id)
        elif not over and len(self._raised) < self.ALERTS_MAX:
            self._raised.add(alert_id)
        return bool(self._raised)
