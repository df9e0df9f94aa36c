"""Another agent with our name, as far as we see it on our own topics. Pure; time is an argument."""

from dataclasses import dataclass
from typing import Any

from schemas.messages import Status

COMPLAIN_EVERY_S = 3600.0


@dataclass(slots=True)
class Twin:
    """The one seen last."""

    instance: str = ""
    boot: int = 0
    session: int = 0
    seen_s: float = 0.0
    times: int = 0
    _complained_s: float | None = None

    def seen(self, status: Status, now_s: float) -> bool:
        """One more sight; True when a person should be told: of each other agent once an hour."""
        news = status.instance != self.instance or self._complained_s is None
        self.instance, self.boot, self.session = status.instance, status.boot, status.session
        self.seen_s, self.times = now_s, self.times + 1
        if not news and self._complained_s is not None and now_s - self._complained_s < COMPLAIN_EVERY_S:
            return False
        self._complained_s = now_s
        return True

    def report(self, now_s: float) -> dict[str, Any] | None:
        """None: nobody else was ever seen under our name."""
        if not self.times:
            return None
        return {
            "instance": self.instance,
            "boot": self.boot,
            "session": self.session,
            "seen_s_ago": round(now_s - self.seen_s, 1),
            "times": self.times,
        }
