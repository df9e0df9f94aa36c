"""That a figure has changed for good, found as early as chance allows.

CUSUM: Page, Continuous inspection schemes, Biometrika 41 (1954). EWMA: Roberts, Control chart tests based on
geometric moving averages, Technometrics 1 (1959). Both take scores: distances from what is usual in spreads.
"""

import math
from dataclasses import dataclass

SCORE_MAX = 8.0  # a single wild window counts as so much: it takes more than one to change for good


@dataclass(slots=True)
class Cusum:
    """Sums up what exceeds `slack` in each direction; an alarm when a sum passes `limit`.

    Of normal scores, slack 0.5 and limit 8: a shift of one spread is found after 16 windows on average, and chance
    alone raises an alarm every 10,000; limit 5: after 10, and every 465.
    """

    slack: float = 0.5
    limit: float = 8.0
    up: float = 0.0
    down: float = 0.0

    def add(self, score: float) -> int:
        """1: it has risen, -1: it has fallen, 0: neither. It stays so until the sum is used up again."""
        score = max(-SCORE_MAX, min(SCORE_MAX, score))
        most = 2 * self.limit  # so that it comes back within a bounded time
        self.up = min(most, max(0.0, self.up + score - self.slack))
        self.down = min(most, max(0.0, self.down - score - self.slack))
        if self.up > self.limit:
            return 1
        return -1 if self.down > self.limit else 0

    def reset(self) -> None:
        self.up = self.down = 0.0


@dataclass(slots=True)
class Ewma:
    """A mean in which older scores count less; an alarm beyond `limit` of its own standard deviations."""

    weight: float = 0.2
    limit: float = 4.0
    value: float = 0.0
    count: int = 0

    def add(self, score: float) -> int:
        """As `Cusum.add`."""
        score = max(-SCORE_MAX, min(SCORE_MAX, score))
        self.value += self.weight * (score - self.value)
        self.count += 1
        fade = (1 - self.weight) ** (2 * self.count)
        deviation = math.sqrt(self.weight / (2 - self.weight) * (1 - fade))
        if abs(self.value) <= self.limit * deviation:
            return 0
        return 1 if self.value > 0 else -1

    def reset(self) -> None:
        self.value, self.count = 0.0, 0
