"""Nodes that were taken out of the fleet, and what may bring one back. Pure.

What is late or kept by a broker brings nobody back: only a birth that comes live, of a connection or a start of the
agent that is later than all that was known when it was taken out. A banned node stays out.
"""

from dataclasses import dataclass

TOMBSTONES_MAX = 20_000  # the oldest that is not a ban gives way
BELIEVED_AFTER_MS = 60_000  # nothing late is that late


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What was last known of the node, and when it was taken out."""

    node: str
    boot: int
    session: int
    instance: str
    at_utc_ms: int
    banned: bool = False
    by: str = ""

    def gives_way(self, boot: int, session: int, instance: str, now_utc_ms: int, *, live: bool) -> bool:
        """True when who says this has really connected since."""
        if self.banned or not live:
            return False
        if (boot, session) > (self.boot, self.session):
            return True
        if instance and instance != self.instance:
            return True
        return now_utc_ms - self.at_utc_ms >= BELIEVED_AFTER_MS and (boot, session) != (self.boot, self.session)
