"""What is usual for a figure, learnt while the machine is well, and how far from it a new value is.

Median and median absolute deviation: a few odd windows among those that are learnt from do no harm. A baseline may
have several operating points (speeds, loads), each with its own figures.
"""

from bisect import insort
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True, slots=True)
class Usual:
    """`centre` and `spread` (a robust standard deviation) of a figure, over `windows` of them."""

    centre: float
    spread: float
    windows: int

    def score(self, value: float) -> float:
        """How many spreads the value lies above the centre; negative below it."""
        return (value - self.centre) / self.spread


@dataclass(slots=True)
class Baseline:
    """Of one figure at one operating point. `learn` until `is_ready`, then it stands until `forget`.

    spread_share_min: the least spread, as a share of the centre: a figure that hardly moves would call everything
    odd.
    """

    windows: int = 50
    spread_share_min: float = 0.02
    _values: list[float] = field(default_factory=list)
    _usual: Usual | None = None

    @property
    def is_ready(self) -> bool:
        return self._usual is not None

    @property
    def usual(self) -> Usual | None:
        return self._usual

    def learn(self, value: float) -> None:
        """Takes one more value; the last that is wanted makes the baseline. Afterwards nothing is learnt."""
        if self._usual is not None:
            return
        insort(self._values, value)
        if len(self._values) >= self.windows:
            self._usual = usual_of(self._values, self.spread_share_min)
            self._values.clear()

    @property
    def values(self) -> tuple[float, ...]:
        """What is learnt from so far, ascending."""
        return tuple(self._values)

    def remember(self, usual: Usual | None, values: Sequence[float] = ()) -> None:
        """As it was before a restart."""
        self._usual, self._values = usual, sorted(values)

    def forget(self) -> None:
        """After a repair: it is learnt anew."""
        self._values.clear()
        self._usual = None


def usual_of(values: list[float], spread_share_min: float = 0.02) -> Usual:
    """Of at least one value."""
    ordered = sorted(values)
    centre = _median(ordered)
    spread = MAD_TO_SIGMA * _median(sorted(abs(value - centre) for value in ordered))
    least = max(abs(centre) * spread_share_min, 1e-12)
    return Usual(centre, max(spread, least), len(ordered))


def _median(ordered: list[float]) -> float:
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(slots=True)
class Recent:
    """The newest values of a figure, for a robust level of now."""

    length: int = 9
    _values: deque[float] = field(default_factory=deque)

    def add(self, value: float) -> float:
        """The median of the newest values with this one."""
        self._values.append(value)
        while len(self._values) > self.length:
            self._values.popleft()
        return _median(sorted(self._values))
