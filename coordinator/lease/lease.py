"""A duty that one process at a time has: who has it, until when it may act, when it has to ask again. Pure.

A lease is asked for again well before it ends. Whoever has not been answered in time stops of its own accord; that is
a courtesy, for a process that was stopped or cut off learns of it late. What holds is the token: it grows with each
new holder, each write of the duty names it, and the database refuses a write with an old one.
"""

from dataclasses import dataclass, replace

RENEW_SHARE = 1 / 3  # of the time that a lease lasts
MARGIN_SHARE = 1 / 10  # of it a holder stops earlier than the lease ends: clocks do not run alike


@dataclass(frozen=True, slots=True)
class Lease:
    """What a process knows of its own. `token` 0: it has none."""

    duty: str
    lasts_ms: int
    token: int = 0
    asked_ms: int = 0  # when it last asked and was given it; steady time

    def is_held(self, now_ms: int) -> bool:
        """True while nobody else can have it, as far as our clock can tell."""
        return bool(self.token) and now_ms - self.asked_ms < self.lasts_ms * (1 - MARGIN_SHARE)

    def ask_at_ms(self, now_ms: int) -> int:
        """When to ask, next or again: at once where the answer took so long that its time was over by then."""
        wait_ms = round(self.lasts_ms * RENEW_SHARE)
        if self.is_held(now_ms):
            return self.asked_ms + wait_ms
        return now_ms if self.token else now_ms + wait_ms

    def given(self, token: int, asked_ms: int) -> "Lease":
        """The answer to a question that was asked then: it counts from the asking, not from the answer."""
        return replace(self, token=token, asked_ms=asked_ms)

    def lost(self) -> "Lease":
        """Somebody else has it, or a write was refused."""
        return replace(self, token=0)
