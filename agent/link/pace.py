"""How fast the backlog may go: as fast as the coordinator answers in good time, and no faster. Pure.

The delay of the answers says how long the queue on the way is. The number of backlog rows under way grows while
answers come within the target and shrinks in proportion when they take longer, as delay-based congestion control
does (compare TCP Vegas, Brakmo and Peterson 1994). So an alert never waits behind more than that delay.

A connection begins with few rows, and doubles them with each round of answers (slow start, RFC 5681 section 3.1): a
fleet that comes back at once would fill its broker's queue with what nobody has answered yet, and the broker drops
what is too much.
"""

from dataclasses import dataclass

TARGET_S = 0.1
ROWS_BEGIN = 2  # and after answers that stayed away
ROWS_MIN = 250  # slow answers make it no less: a line with long delays carries so many all the same
ROWS_MAX = 20_000
CROWDED = 10.0  # times the target: answers that take so long come from a crowd, not from a long line


@dataclass(slots=True)
class Pace:
    """`rows` of the backlog may be unanswered."""

    target_s: float = TARGET_S
    rows: float = ROWS_BEGIN
    _cut_s: float = float("-inf")

    @property
    def rows_max(self) -> int:
        return int(self.rows)

    def answered(self, count: int, delay_s: float, now_s: float) -> None:
        """`count` rows of the backlog were answered `delay_s` after they had been sent."""
        if self.rows < ROWS_MIN:
            self.rows = min(ROWS_MIN, self.rows + (count if delay_s <= CROWDED * self.target_s else count / 16))
        elif delay_s <= self.target_s:
            self.rows = min(ROWS_MAX, self.rows + count / 4)
        elif (
            now_s - self._cut_s > delay_s
        ):  # once in a round trip: the answers under way know nothing of the last cut
            self._cut_s = now_s
            self.rows = max(ROWS_MIN, self.rows * max(0.5, self.target_s / delay_s))

    def timed_out(self) -> None:
        """An answer stayed away altogether."""
        self.rows = max(ROWS_BEGIN, self.rows / 2)
