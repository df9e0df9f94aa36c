"""From any thread to the event loop, with one wake-up for all that arrives before the loop gets to it."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Items are handed to `take` on the loop, in the order of `put`. Whoever puts bounds how many may wait.

    A busy loop is woken once and takes all: each wake-up costs the caller a system call and a turn of the GIL.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, take: Callable[[T], None]) -> None:
        self._loop = loop
        self._take = take
        self._items: deque[T] = deque()
        self._woken = False

    def put(self, item: T) -> None:
        """From any thread. Raises RuntimeError when the loop is closed."""
        self._items.append(item)
        # Read after the append: a drain that is still to come, or that has just begun, finds the item.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        self._woken = False
        try:
            while self._items:
                self._take(self._items.popleft())
        finally:  # a defect in `take` belongs to its own item
            if self._items and not self._woken:
                self._woken = True
                self._loop.call_soon(self._drain)
