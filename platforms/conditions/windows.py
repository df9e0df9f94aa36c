"""Calls over the events of a window: count, rate, sum, avg, min, max, last, distinct, since.

Each keeps what it needs of the events that concern it, for as long as its window, and no more than ENTRIES_MAX of
them; of what was given up beyond it the number is known (`clipped`).
"""

import math
from abc import abstractmethod
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from platforms.conditions.nodes import Moment, Node, Value, plain

ENTRIES_MAX = 10_000


@dataclass(slots=True)
class Call(Node):
    """Over events of one type that fulfil `where`. `take` each of them; the window ends with now."""

    name: str
    event: str
    path: tuple[str, ...]  # of the field that is looked at; empty for count, rate, since
    window_s: float
    where: Node | None
    column: int = 0  # of the event's type in the text
    kind: str = "number"
    clipped: int = 0
    entries: deque[tuple[float, Value]] = field(default_factory=deque)

    def take(self, event: Mapping[str, Any], at_s: float) -> None:
        """An event of its type; times never go back."""
        if self.where is not None and self.where.value(Moment(at_s, event)) is not True:
            return
        value: Value = None
        if self.path:
            found: Any = event
            for name in self.path:
                found = found.get(name) if isinstance(found, Mapping) else None
            value = plain(found)
            if value is None or (self.kind == "number" and self.name != "distinct" and not isinstance(value, float)):
                return
        if len(self.entries) >= ENTRIES_MAX:
            self.entries.popleft()
            self.clipped += 1
        self.entries.append((at_s, value))

    def forget(self, now_s: float) -> None:
        """What has left the window."""
        while self.entries and self.entries[0][0] <= now_s - self.window_s:
            self.entries.popleft()

    def value(self, moment: Moment) -> Value:
        self.forget(moment.now_s)
        return self._over(moment.now_s)

    def due_s(self, now_s: float) -> float:
        """The oldest entry leaves then."""
        return self.entries[0][0] + self.window_s if self.entries else math.inf

    def parts(self) -> Iterator[Node]:
        return iter(())  # `where` looks at events, not at moments

    @abstractmethod
    def _over(self, now_s: float) -> Value: ...


@dataclass(slots=True)
class Count(Call):
    """Events in the window; with `rate` so many a second."""

    def _over(self, now_s: float) -> Value:
        count = float(len(self.entries))
        return count / self.window_s if self.name == "rate" else count


@dataclass(slots=True)
class Figure(Call):
    """sum, avg, min, max, last of a field. Without an entry: 0 for the sum, not known for the others."""

    def _over(self, now_s: float) -> Value:
        values = [value for _, value in self.entries if isinstance(value, float)]
        if self.name == "sum":
            return math.fsum(values)
        if not values:
            return None
        if self.name == "avg":
            return math.fsum(values) / len(values)
        if self.name == "last":
            return values[-1]
        return min(values) if self.name == "min" else max(values)


@dataclass(slots=True)
class Distinct(Call):
    """How many different values a field had."""

    def _over(self, now_s: float) -> Value:
        return float(len(Counter((type(value), value) for _, value in self.entries)))


@dataclass(slots=True)
class Since(Call):
    """Seconds since the last event; since the beginning where there was none. It grows with time by itself."""

    began_s: float | None = None

    def take(self, event: Mapping[str, Any], at_s: float) -> None:
        if self.where is None or self.where.value(Moment(at_s, event)) is True:
            self.began_s = at_s

    def value(self, moment: Moment) -> Value:
        if self.began_s is None:
            self.began_s = moment.now_s
        return moment.now_s - self.began_s

    def due_s(self, now_s: float) -> float:
        return math.inf  # `Condition.due_s` looks again each second where one is in it

    def _over(self, now_s: float) -> Value:
        return None
