"""Another agent with our name, as far as its statuses on our own topic tell. Pure; time is an argument.

Whoever was started before us is dead by now: one of us alone runs on a data folder. So it is another agent that lives
if it says that it is there while we are, or if it goes more than once: the dead have one will. What the broker kept
says something only once we have been online ourselves; before it is of our own last start.
"""

from dataclasses import dataclass
from typing import Any

from schemas.messages import Presence, Status

COMPLAIN_EVERY_S = 3600.0


@dataclass(slots=True)
class Twin:
    """Of one start of the agent; what stands here is the other one seen last."""

    ours: str = ""
    boot: int = 0
    _gone: Status | None = None  # the last will or goodbye of another
    _other: Status | None = None
    _seen_s: float = 0.0
    _times: int = 0
    _complained_s: float | None = None

    def seen(self, status: Status, session: int, now_s: float, *, live: bool) -> bool:
        """A status on our topic, in our session of that number; True when a person should be told, once an hour."""
        if not self.ours or not status.instance or status.instance == self.ours:
            return False
        if not self._lives(status, after_us=live or session > 1):
            return False
        is_news = self._other is None or status.instance != self._other.instance
        self._other, self._seen_s, self._times = status, now_s, self._times + 1
        if not is_news and self._complained_s is not None and now_s - self._complained_s < COMPLAIN_EVERY_S:
            return False
        self._complained_s = now_s
        return True

    def _lives(self, status: Status, *, after_us: bool) -> bool:
        if status.state is not Presence.OFFLINE:
            return after_us
        before, self._gone = self._gone, status
        again = before is not None and before.instance == status.instance
        later = before is not None and (status.boot, status.session) > (before.boot, before.session)
        return after_us and (status.boot >= self.boot or (again and later))

    def report(self, now_s: float) -> dict[str, Any] | None:
        """None: nobody else was ever seen under our name."""
        other = self._other
        if other is None:
            return None
        return {
            "instance": other.instance,
            "boot": other.boot,
            "session": other.session,
            "seen_s_ago": round(now_s - self._seen_s, 1),
            "times": self._times,
        }
