"""How long to wait before the next attempt: growing, capped, and jittered so that a fleet does not knock at once."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Full-range jitter around an exponential: attempt n waits between half and all of `first_s * factor**n`."""

    first_s: float = 0.5
    max_s: float = 60.0
    factor: float = 2.0

    def delay_s(self, attempt: int, jitter: float) -> float:
        """`attempt` counts from 0; `jitter` is a random number in 0..1 given by the caller."""
        # The exponent is capped: factor ** 5000 would overflow after a weekend without a link.
        full_s = min(self.max_s, self.first_s * self.factor ** min(attempt, 32))
        return full_s * (0.5 + 0.5 * jitter)
