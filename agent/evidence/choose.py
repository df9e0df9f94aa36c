"""Which events get evidence. Pure; times are monotonic seconds."""

from collections import OrderedDict

from agent.actions.choose import concerns
from agent.actions.settings import OnSettings
from agent.outbox.rows import Draft
from schemas.identity import Lane

SUBJECTS_MAX = 1024
_SHOWN = frozenset({Lane.ALERT, Lane.EVENT, Lane.LIFECYCLE})


class Chooser:
    """The filter of `[evidence.on]`, and one cool-down for each camera and rule (or type of event)."""

    def __init__(self, on: OnSettings, cooldown_s: float) -> None:
        self._on = on
        self._cooldown_s = cooldown_s
        self._taken_s: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.cooled_total = 0  # events that came within the cool-down

    def concerns(self, draft: Draft) -> bool:
        """Whether it is an event of the kind that gets evidence. One without a camera has nothing to show."""
        return draft.lane in _SHOWN and concerns(self._on, draft) and isinstance(draft.data.get("camera_id"), str)

    def takes(self, draft: Draft, now_s: float) -> bool:
        """Whether this event gets evidence now: it concerns us, and the cool-down is over."""
        if not self.concerns(draft):
            return False
        key = str(draft.data["camera_id"]), str(draft.data.get("rule") or draft.type)
        taken_s = self._taken_s.get(key)
        if taken_s is not None and now_s - taken_s < self._cooldown_s:
            self.cooled_total += 1
            return False
        self._taken_s[key] = now_s
        self._taken_s.move_to_end(key)
        if len(self._taken_s) > SUBJECTS_MAX:
            self._taken_s.popitem(last=False)
        return True
