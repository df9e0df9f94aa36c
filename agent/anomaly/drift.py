"""Whether what is judged good still looks like what was taught as good.

Light, dirt on the lens or another batch move the scores of good parts long before they pass the threshold. Each
picture that is judged good adds how far its score is from the usual one, in spreads; a moving mean beyond its limit
is drift. Of pictures that look as taught, chance alone says so less than once in 10,000.
"""

from dataclasses import dataclass, field
from enum import StrEnum

from platforms.change import Ewma

PICTURES_MIN = 30
"""Judged good before anything is said: the first parts of a shift are no trend."""
SHIFT_MIN = 0.75
"""Spreads by which good pictures must have moved: less costs no good part, however certain it is."""


class Drift(StrEnum):
    NONE = "none"
    WORSE = "worse"  # good parts look less and less like the taught ones: clean, adjust, or teach again
    CLOSER = "closer"  # they look more alike than the taught ones: a picture that stands still, out of focus


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of what is true."""

    drift: Drift
    shift: float  # of the moving mean, in spreads
    pictures: int  # judged good since the watch began


@dataclass(slots=True)
class DriftWatch:
    """`add` each picture's deviation (`scores.deviation`); it answers when what is true has changed.

    It is over when the moving mean is back within half of SHIFT_MIN.
    """

    state: Drift = Drift.NONE
    pictures: int = 0
    _mean: Ewma = field(default_factory=lambda: Ewma(weight=0.05, limit=4.0))

    @property
    def shift(self) -> float:
        return self._mean.value

    def add(self, deviation: float, *, good: bool) -> Shift | None:
        """A picture judged anomalous says nothing about good ones."""
        if not good:
            return None
        self.pictures += 1
        side = self._mean.add(deviation)
        if self.pictures < PICTURES_MIN:
            return None
        if side and abs(self.shift) >= SHIFT_MIN:
            now = Drift.WORSE if side > 0 else Drift.CLOSER
        elif abs(self.shift) < SHIFT_MIN / 2:
            now = Drift.NONE
        else:
            return None
        if now is self.state:
            return None
        self.state = now
        return Shift(now, self.shift, self.pictures)
