"""Whether an action is for an event, and whether it may act now."""

from agent.actions.settings import FAILED, ActionSettings, OnSettings
from agent.outbox.rows import Draft
from schemas.identity import Lane


def concerns(on: OnSettings, draft: Draft) -> bool:
    """Whether an event fulfils all that `on` asks for."""
    if draft.type == FAILED:
        return False
    data = draft.data
    return (
        (draft.type in on.types if on.types else draft.lane is Lane.ALERT)
        and (not on.severities or draft.severity in on.severities)
        and (not on.states or data.get("state") in on.states)
        and (not on.rules or data.get("rule") in on.rules)
        and (not on.verdicts or data.get("verdict") in on.verdicts)
        and (not on.cameras or data.get("camera_id") in on.cameras)
    )


class Trigger:
    """One action's filter and cool-down. Times are monotonic seconds."""

    def __init__(self, settings: ActionSettings) -> None:
        self._on = settings.on
        self._cooldown_s = settings.cooldown_s
        self._acted_s: float | None = None
        self.cooled_total = 0  # events that came within the cool-down

    def fires(self, draft: Draft, now_s: float) -> bool:
        if not concerns(self._on, draft):
            return False
        if self._acted_s is not None and now_s - self._acted_s < self._cooldown_s:
            self.cooled_total += 1
            return False
        self._acted_s = now_s
        return True


class Follower:
    """Which alerts are on, for a line that follows them."""

    ALERTS_MAX = 1024  # more at once are a defect of the rules; the line is active then anyway

    def __init__(self) -> None:
        self._raised: set[str] = set()

    def see(self, draft: Draft) -> bool:
        """Whether the line is to be active after this event."""
        alert_id = str(draft.data.get("alert_id", ""))
        if draft.data.get("state") == "cleared":
            self._raised.discard(alert_id)
        elif len(self._raised) < self.ALERTS_MAX:
            self._raised.add(alert_id)
        return bool(self._raised)
