"""Flapping: a node that keeps going and coming back is one problem, not a hundred. Pure.

Each loss adds a penalty that halves in a while (as route flap damping does, RFC 2439). Above one bound a node flaps,
below a lower one it does no more. While it flaps its comings and goings are not told one by one, and no work is given
to it.
"""

from dataclasses import dataclass
from math import ceil, log2


@dataclass(frozen=True, slots=True)
class FlapRules:
    """With these, three losses within five minutes flap, and a quiet half hour ends it."""

    penalty: float = 1.0
    half_life_ms: int = 15 * 60_000
    flaps_above: float = 2.5
    steady_below: float = 0.75
    penalty_max: float = 6.0  # so that no past is too bad to be forgotten within an hour


@dataclass(frozen=True, slots=True)
class Flap:
    """What is kept of a node: the penalty at a time. The default is that of a node that was never lost."""

    penalty: float = 0.0
    at_ms: int = 0
    flaps: bool = False
    losses: int = 0  # since it was last steady

    def at(self, now_ms: int, rules: FlapRules) -> "Flap":
        """As time passes; a node may become steady by it."""
        if not self.penalty:
            return self
        left = self.penalty * 0.5 ** (max(0, now_ms - self.at_ms) / rules.half_life_ms)
        flaps = self.flaps and left >= rules.steady_below
        if left < 0.01:
            return Flap()
        return Flap(left, max(now_ms, self.at_ms), flaps, self.losses if flaps == self.flaps else 0)

    def lost(self, now_ms: int, rules: FlapRules) -> "Flap":
        """After one loss more."""
        now = self.at(now_ms, rules)
        penalty = min(rules.penalty_max, now.penalty + rules.penalty)
        flaps = now.flaps or penalty > rules.flaps_above
        return Flap(penalty, max(now_ms, self.at_ms), flaps, now.losses + 1)

    def steady_in_ms(self, rules: FlapRules) -> int:
        """How long it must be quiet until it flaps no more; 0 when it does not flap."""
        if not self.flaps or self.penalty <= rules.steady_below:
            return 0
        return ceil(log2(self.penalty / rules.steady_below) * rules.half_life_ms) + 1


NEVER_LOST = Flap()
