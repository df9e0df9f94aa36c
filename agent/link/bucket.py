"""A token bucket: so much a second in the long run, a burst in the short. Pure; time is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """`rate` tokens a second, at most `burst` saved up. A rate of 0 is no limit."""

    rate: float
    burst: float
    tokens: float = 0.0
    _at_s: float | None = None

    def has(self, amount: float, now_s: float) -> bool:
        """True when `amount` may be taken: the bucket holds as much, or is full and could never hold more."""
        self._fill(now_s)
        return self.rate <= 0 or self.tokens >= min(amount, self.burst)

    def wait_s(self, amount: float, now_s: float) -> float:
        """In how many seconds `has` says yes, if nobody takes anything before; 0 for now."""
        return 0.0 if self.has(amount, now_s) else (min(amount, self.burst) - self.tokens) / self.rate

    def take(self, amount: float, now_s: float) -> None:
        """Takes it, also where it is not there: what could not wait is paid for by what follows."""
        self._fill(now_s)
        if self.rate > 0:
            self.tokens -= amount

    def _fill(self, now_s: float) -> None:
        if self._at_s is None:
            self.tokens = self.burst  # full to begin with
        else:
            self.tokens = min(self.burst, self.tokens + max(0.0, now_s - self._at_s) * self.rate)
        self._at_s = now_s
