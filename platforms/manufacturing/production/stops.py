"""When the line stands, by the parts that do not come, and why, by what somebody says.

A stop begins with the last part, once none has come for `after_s`; it ends with the next part. Short ones are minor
stops (idling), as TPM counts them. A reason may be given while it lasts or afterwards; planned ones do not count as
lost time.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

UNKNOWN = "unknown"
STOPS_MAX = 1000  # remembered; of older ones only the sums


@dataclass(frozen=True, slots=True)
class Stop:
    """`until_s` is None while it lasts. Seconds of a clock that never goes back."""

    number: int
    since_s: float
    until_s: float | None = None
    reason: str = UNKNOWN
    planned: bool = False

    def lasted_s(self, now_s: float) -> float:
        return (now_s if self.until_s is None else self.until_s) - self.since_s


class Stops:
    """Told of each part and, now and then, of the time."""

    def __init__(self, *, after_s: float, minor_s: float = 300.0) -> None:
        """`after_s`: some ideal cycles. `minor_s`: shorter stops are minor ones."""
        if not 0 < after_s < minor_s:
            raise ValueError(
                f"a stop after {after_s:g} s, minor below {minor_s:g} s: 0 < the first < the second is wanted"
            )
        self.after_s = after_s
        self._minor_s = minor_s
        self._last_s: float | None = None
        self._count = 0
        self.stops: list[Stop] = []

    @property
    def current(self) -> Stop | None:
        """The one that lasts."""
        return self.stops[-1] if self.stops and self.stops[-1].until_s is None else None

    def begin(self, now_s: float) -> None:
        """The line is to run from now on: without a part it stands."""
        if self._last_s is None:
            self._last_s = now_s

    def watched_again(self, now_s: float) -> None:
        """Nobody has watched, or the clock was set: a line that ran is taken for one that had a part just now."""
        if self._last_s is not None and self.current is None:
            self._last_s = now_s

    def part(self, now_s: float) -> Stop | None:
        """A part has come. Returns the stop that it ends, if any."""
        self.tick(now_s)
        self._last_s = now_s
        if (current := self.current) is None:
            return None
        self.stops[-1] = ended = replace(current, until_s=now_s)
        return ended

    def tick(self, now_s: float) -> Stop | None:
        """Returns a stop that has begun, which is known only now."""
        if self._last_s is None or self.current is not None or now_s - self._last_s < self.after_s:
            return None
        self._count += 1
        self.stops.append(Stop(self._count, self._last_s))
        del self.stops[:-STOPS_MAX]
        return self.stops[-1]

    def explain(self, number: int, reason: str, *, planned: bool = False) -> Stop | None:
        """Gives a stop its reason; None where there is no such stop."""
        for at, stop in enumerate(self.stops):
            if stop.number == number:
                self.stops[at] = replace(stop, reason=reason or UNKNOWN, planned=planned)
                return self.stops[at]
        return None

    def lost_s(self, from_s: float, to_s: float) -> float:
        """Seconds of unplanned stops within a span."""
        return sum(_within(stop, from_s, to_s) for stop in self.stops if not stop.planned)

    def planned_s(self, from_s: float, to_s: float) -> float:
        """Seconds of planned stops within a span."""
        return sum(_within(stop, from_s, to_s) for stop in self.stops if stop.planned)

    def by_reason(self, spans: Sequence[tuple[float, float]]) -> dict[str, tuple[int, float]]:
        """(stops, seconds) by reason within spans of time, the longest first; minor ones together as `minor`."""
        counts: Counter[str] = Counter()
        seconds: dict[str, float] = {}
        to_s = max((end for _, end in spans), default=0.0)
        for stop in self.stops:
            inside_s = sum(_within(stop, *span) for span in spans)
            if inside_s <= 0 or stop.planned:
                continue
            minor = stop.until_s is not None and stop.lasted_s(to_s) < self._minor_s and stop.reason == UNKNOWN
            name = "minor" if minor else stop.reason
            counts[name] += 1
            seconds[name] = seconds.get(name, 0.0) + inside_s
        longest = sorted(seconds, key=lambda name: -seconds[name])
        return {name: (counts[name], seconds[name]) for name in longest}

    def at(self, at_s: float) -> Stop | None:
        """The stop that was then; else the last one before."""
        before = [stop for stop in self.stops if stop.since_s <= at_s]
        return before[-1] if before else None


def _within(stop: Stop, from_s: float, to_s: float) -> float:
    until_s = to_s if stop.until_s is None else min(stop.until_s, to_s)
    return max(0.0, until_s - max(stop.since_s, from_s))
