"""How fast bytes may go out: a token bucket that lends. Pure; now is an argument."""

from dataclasses import dataclass


@dataclass(slots=True)
class TokenBucket:
    """`bytes_s` on the long run, and so many at once after a pause. 0: no limit."""

    bytes_s: float
    burst_s: float = 1.0
    _held: float = 0.0  # below 0: taken in advance
    _at_s: float | None = None

    def take(self, count: int, now_s: float) -> float:
        """Takes the bytes, and returns how long to wait before the next ones go out."""
        if not self.bytes_s:
            return 0.0
        most = self.bytes_s * self.burst_s
        if self._at_s is None:
            self._held = most
        else:
            self._held = min(most, self._held + max(0.0, now_s - self._at_s) * self.bytes_s)
        self._at_s = now_s
        self._held -= count
        return max(0.0, -self._held / self.bytes_s)
