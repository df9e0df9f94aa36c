"""How much goes into one transaction, and when: at once when idle, in groups when busy. Pure."""

from dataclasses import dataclass, field

URGENT_SHARE = 0.1  # of the pause between two transactions, where an alert waits
BYTES_MIN = 64 * 1024  # however slow the disk: cutting further would only make it flush more often
BYTES_MIN_DEEP = 8 * BYTES_MIN  # the same where more than that waits: then it is how much is done that counts


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """One transaction takes at most this much; the first limit reached counts."""

    messages_max: int = 500
    bytes_max: int = 4 * 1024 * 1024
    pause_ms: float = 50.0
    aim_ms: float = 40.0


@dataclass(slots=True)
class Pacing:
    """Transactions that take about `aim_ms`, so that an alert never waits long behind samples.

    What a message costs grows with its bytes, alone or with many rows in it; how many fit is learnt.
    """

    limits: BatchLimits
    bytes_max: int = field(init=False)
    is_deep: bool = False

    def __post_init__(self) -> None:
        self.bytes_max = min(self.limits.bytes_max, 2 * BYTES_MIN)

    def wait_ms(self, waiting: int, waiting_bytes: int, since_begin_ms: float, *, urgent: bool = False) -> float:
        """How long to let messages gather before the next transaction, `since_begin_ms` after the last began.

        The first message after a pause goes alone and at once; a steady flow shares a transaction, and so one disk
        flush and one acknowledgement, every `pause_ms`. An alert waits a tenth of that, whatever else is on its way.
        """
        if waiting >= self.limits.messages_max or waiting_bytes >= self.bytes_max:
            return 0.0
        pause_ms = self.limits.pause_ms * (URGENT_SHARE if urgent else 1.0)
        return max(0.0, pause_ms - since_begin_ms)

    @property
    def messages_max(self) -> int:
        """Of the next transaction; twice as many where very much waits."""
        return 2 * self.limits.messages_max if self.is_deep else self.limits.messages_max

    def done(self, size: int, took_ms: float, waiting_bytes: int = 0) -> None:
        """A transaction of `size` bytes took so long, from reading to answering, and so much waits."""
        self.is_deep = waiting_bytes > BYTES_MIN_DEEP
        aim_ms, least = self.limits.aim_ms, min(self.limits.bytes_max, BYTES_MIN_DEEP if self.is_deep else BYTES_MIN)
        if took_ms > aim_ms:
            self.bytes_max = max(least, min(self.bytes_max, int(size * max(0.5, aim_ms / took_ms))))
        elif size > self.bytes_max // 2:
            self.bytes_max = min(self.limits.bytes_max, self.bytes_max * 9 // 8)
