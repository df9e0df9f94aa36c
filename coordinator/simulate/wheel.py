"""A timer wheel: very many timers at the price of a list append each. Pure; time is an argument.

Nothing is taken out again: whoever put a timer in finds out when it fires whether it still counts.
"""

import heapq
from typing import Generic, TypeVar

T = TypeVar("T")
STEP_S = 0.02


class Wheel(Generic[T]):
    """Timers in slots of `STEP_S`: one fires up to that much late, never early."""

    def __init__(self) -> None:
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []  # the slots that hold something: a heap
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, at_s: float, item: T) -> None:
        """`item` is due at `at_s`, or at once where that is over."""
        number = -int(-at_s // STEP_S)
        slot = self._slots.get(number)
        if slot is None:
            self._slots[number] = [item]
            heapq.heappush(self._order, number)
        else:
            slot.append(item)
        self._count += 1

    def take(self, now_s: float) -> list[tuple[float, T]]:
        """What is due by now, with when it was due, the earliest first."""
        last, found = int(now_s // STEP_S), []
        while self._order and self._order[0] <= last:
            number = heapq.heappop(self._order)
            due_s = number * STEP_S
            found += [(due_s, item) for item in self._slots.pop(number)]
        self._count -= len(found)
        return found
