"""Where a frame waits for the inference thread: one place per camera, one consumer for all of them."""

import threading
from collections.abc import Callable
from enum import Enum
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Keep(Enum):
    """What a put does while the slot is still full."""

    NEWEST = "newest"  # it replaces what waits, and that is counted: live cameras
    EVERY = "every"  # it waits until the consumer took what was there: lossless, deterministic replay


class Slot(Generic[T]):
    """One waiting place, depth 1. Made by `Slots.add`; `put` is called by one producer thread.

    At any moment: offered = replaced + taken + (1 while an item waits) + those discarded when the slot was removed.
    """

    __slots__ = ("_full", "_item", "_open", "_room", "_shared", "keep", "name", "offered", "replaced", "taken")

    def __init__(self, name: str, keep: Keep, shared: "_Shared") -> None:
        self.name = name
        self.keep = keep
        self.offered = 0
        self.replaced = 0
        self.taken = 0
        self._shared = shared
        self._room = threading.Condition(shared.lock)
        self._item: T | None = None
        self._full = False
        self._open = True

    @property
    def waiting(self) -> bool:
        """Whether an item waits to be taken."""
        return self._full

    def put(self, item: T, stopped: Callable[[], bool] | None = None) -> bool:
        """Leave `item` for the consumer. False: the slot is closed (or `stopped()` became true) and it was not kept.

        NEWEST never waits. EVERY waits for room; `stopped` is asked again after every `wake`.
        """
        with self._shared.lock:
            if self.keep is Keep.EVERY:
                while self._full and self._open and not (stopped is not None and stopped()):
                    self._room.wait()
            if not self._open or (stopped is not None and stopped()):
                return False
            self.offered += 1
            if self._full:
                self.replaced += 1
            self._item = item
            self._full = True
            self._shared.arrived.notify()
            return True

    def wake(self) -> None:
        """Let a waiting `put` ask its `stopped` again."""
        with self._shared.lock:
            self._room.notify_all()

    def _take(self) -> T:
        item, self._item = self._item, None
        self._full = False
        self.taken += 1
        self._room.notify()
        assert item is not None
        return item

    def _shut(self) -> None:
        self._open = False
        self._room.notify_all()


class _Shared:
    """The one lock of all slots and the consumer's wake-up call."""

    __slots__ = ("arrived", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.arrived = threading.Condition(self.lock)


class Slots(Generic[T]):
    """The slots of all cameras. Exactly one thread takes, any number put; fair between cameras (round robin)."""

    def __init__(self) -> None:
        self._shared = _Shared()
        self._slots: dict[str, Slot[T]] = {}
        self._turns: list[Slot[T]] = []
        self._next = 0  # whose turn it is in _turns
        self._open = True

    def add(self, name: str, keep: Keep = Keep.NEWEST) -> Slot[T]:
        """A new slot. Raises ValueError when the name is in use or the slots are closed."""
        with self._shared.lock:
            if not self._open:
                raise ValueError(f"no slot {name!r}: the slots are closed")
            if name in self._slots:
                raise ValueError(f"there is a slot {name!r} already")
            slot: Slot[T] = Slot(name, keep, self._shared)
            self._slots[name] = slot
            self._turns.append(slot)
            return slot

    def remove(self, name: str) -> None:
        """Close one slot; what waits in it is discarded and a blocked put returns False. Unknown names are fine."""
        with self._shared.lock:
            slot = self._slots.pop(name, None)
            if slot is None:
                return
            at = self._turns.index(slot)
            del self._turns[at]
            if at < self._next:
                self._next -= 1
            slot._shut()

    def take(self, timeout_s: float | None = None) -> tuple[str, T] | None:
        """The next waiting item with its camera's name; waits up to `timeout_s` (None: for ever).

        None: nothing came, or the slots are closed (then what still waits is not handed out).
        """
        deadline_s = None if timeout_s is None else monotonic() + timeout_s
        with self._shared.lock:
            while self._open:
                for step in range(len(self._turns)):
                    at = (self._next + step) % len(self._turns)
                    slot = self._turns[at]
                    if slot._full:
                        self._next = (at + 1) % len(self._turns)
                        return slot.name, slot._take()
                left_s = None if deadline_s is None else deadline_s - monotonic()
                if left_s is not None and left_s <= 0:
                    return None
                self._shared.arrived.wait(left_s)
            return None

    @property
    def closed(self) -> bool:
        return not self._open

    def close(self) -> None:
        """Wake the consumer and every blocked put; nothing can be put or taken any more."""
        with self._shared.lock:
            self._open = False
            for slot in self._turns:
                slot._shut()
            self._shared.arrived.notify_all()
