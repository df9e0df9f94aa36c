"""Hybrid logical clock: stamps that order what happened on several machines. Pure; wall time is an argument.

After Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks" (2014). A stamp is close to wall time,
and whoever has seen a stamp gives only later ones, whatever the clock of the machine does. Rules kept here:

- Stamps of one node grow, also where its clock jumps back, and over restarts where `Clock.last` is kept.
- A stamp from elsewhere that is more than AHEAD_MS_MAX ahead of our wall clock does not drag our clock along: it is
  clamped, and `Seen.ahead_ms` says by how much it was ahead.
"""

import re
from dataclasses import dataclass
from functools import total_ordering

AHEAD_MS_MAX = 60_000
COUNTER_MAX = 2**31 - 1
WALL_MS_MAX = 2**53 - 1  # exact in every JSON reader

_TEXT = re.compile(r"(0|[1-9]\d{0,15})\.(0|[1-9]\d{0,9})\.([a-z0-9][a-z0-9._-]{0,62})", re.ASCII)


@total_ordering
@dataclass(frozen=True, slots=True)
class Stamp:
    """When something was written, and by whom: by wall time, then by counter, then by the node's name.

    >>> str(Stamp(1795521600123, 2, "gw-1"))
    '1795521600123.2.gw-1'
    >>> Stamp.parse("1795521600123.2.gw-1") < Stamp.parse("1795521600124.0.gw-1")
    True
    """

    wall_ms: int = 0  # UTC
    counter: int = 0  # orders stamps of one millisecond
    node: str = ""

    def __lt__(self, other: "Stamp") -> bool:
        return (self.wall_ms, self.counter, self.node) < (other.wall_ms, other.counter, other.node)

    def __str__(self) -> str:
        return f"{self.wall_ms}.{self.counter}.{self.node}"

    @staticmethod
    def parse(text: str) -> "Stamp":
        """The stamp behind its text form. Raises ValueError."""
        found = _TEXT.fullmatch(text)
        if not found or int(found[1]) > WALL_MS_MAX or int(found[2]) > COUNTER_MAX:
            raise ValueError(f"{text[:100]!r} is no stamp: <UTC ms>.<counter>.<node>")
        return Stamp(int(found[1]), int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class Clock:
    """One node's clock: the last stamp that it gave or saw. To be kept on disk before a stamp is used."""

    node: str
    last: Stamp = Stamp()

    def tick(self, now_ms: int) -> "Clock":
        """The clock after something of our own happened; `last` is its stamp."""
        return Clock(self.node, _after(self.last, now_ms, self.node))

    def merge(self, remote: Stamp, now_ms: int) -> "Seen":
        """The clock after seeing a stamp from elsewhere: our next stamp is later than it, unless it was clamped."""
        ahead_ms = remote.wall_ms - now_ms
        clamped = ahead_ms > AHEAD_MS_MAX
        seen = Stamp(now_ms + AHEAD_MS_MAX, 0, remote.node) if clamped else remote
        return Seen(Clock(self.node, max(self.last, seen)), ahead_ms if clamped else 0)


@dataclass(frozen=True, slots=True)
class Seen:
    """What `Clock.merge` comes to; `ahead_ms` is more than 0 where the stamp was clamped."""

    clock: Clock
    ahead_ms: int


def _after(last: Stamp, now_ms: int, node: str) -> Stamp:
    """The first stamp of `node` that is later than `last` and not before the wall clock."""
    now_ms = min(max(0, now_ms), WALL_MS_MAX)
    if now_ms > last.wall_ms:
        return Stamp(now_ms, 0, node)
    if last.counter < COUNTER_MAX:
        return Stamp(last.wall_ms, last.counter + 1, node)
    return Stamp(last.wall_ms + 1, 0, node)
