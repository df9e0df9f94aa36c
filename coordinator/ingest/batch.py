"""How much goes into one transaction, and when: at once when idle, in groups when busy. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """One transaction takes at most this much; the first limit reached counts."""

    messages_max: int = 500
    bytes_max: int = 4 * 1024 * 1024
    pause_ms: float = 50.0

    def wait_ms(self, waiting: int, since_commit_ms: float) -> float:
        """How long to let messages gather before the next transaction.

        The first message after a pause goes alone and at once; a steady flow shares a transaction, and so one disk
        flush and one acknowledgement, every `pause_ms`.
        """
        if waiting >= self.messages_max:
            return 0.0
        return max(0.0, self.pause_ms - since_commit_ms)
