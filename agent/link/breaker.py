"""A circuit breaker before a coordinator that is there and does not answer. Pure; time is an argument.

Closed: everything flows. Open, after answers stayed away several times in a row: the backlog rests, live facts are
still published once for whoever listens. Half-open, after a pause that grows: one message of the backlog is the
probe; an answer closes the breaker, silence opens it again.
"""

import enum
from dataclasses import dataclass

TIMEOUTS_MAX = 3
PAUSE_FIRST_S = 5.0
PAUSE_MAX_S = 120.0


class BreakerState(enum.Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(slots=True)
class Breaker:
    """One coordinator's."""

    state: BreakerState = BreakerState.CLOSED
    opened_total: int = 0
    _timeouts: int = 0
    _pause_s: float = PAUSE_FIRST_S
    _until_s: float = 0.0
    _probed: bool = False

    def may_send_backlog(self, now_s: float) -> bool:
        """Asked before each message of the backlog."""
        if self.state is BreakerState.OPEN and now_s >= self._until_s:
            self.state, self._probed = BreakerState.HALF_OPEN, False
        return self.state is BreakerState.CLOSED or (self.state is BreakerState.HALF_OPEN and not self._probed)

    def sent(self) -> None:
        """A message of the backlog went out."""
        self._probed = True

    def answered(self) -> None:
        """The coordinator answered something that was sent."""
        self.state, self._timeouts, self._pause_s = BreakerState.CLOSED, 0, PAUSE_FIRST_S

    def timed_out(self, now_s: float) -> None:
        """Answers are overdue."""
        self._timeouts += 1
        if self.state is BreakerState.OPEN:
            return
        if self.state is BreakerState.HALF_OPEN:
            self._pause_s = min(PAUSE_MAX_S, 2 * self._pause_s)
        elif self._timeouts < TIMEOUTS_MAX:
            return
        self.state, self._until_s = BreakerState.OPEN, now_s + self._pause_s
        self.opened_total += 1

    def reset(self) -> None:
        """Another connection, or the coordinator said that it is back: what was is no sign of what will be."""
        self.answered()
