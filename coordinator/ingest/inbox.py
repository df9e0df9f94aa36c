"""Between the broker and the transactions: bounded, oldest first.

QoS 1 messages wait here unacknowledged. When much waits, the connection is asked to stop reading: the broker has to
hold the rest. What comes when the inbox is full all the same is dropped unacknowledged and counted: its outbox sends
it again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from coordinator.counters import Counters
from runtime.mqtt import RECEIVE_MAXIMUM, Delivery, Message

PRESSURE_AT = 2 * RECEIVE_MAXIMUM
PRESSURE_BYTES_AT = 32 * 1024 * 1024
INBOX_MAX = 2 * PRESSURE_AT  # reached only by a link that flaps while the disk is slow
INBOX_BYTES_MAX = 2 * PRESSURE_BYTES_AT


class Wire(Protocol):
    """The connection a message came on: its answers go back there."""

    def publish(self, message: Message) -> None:
        """Queues; harmless once the connection has ended."""

    def acknowledge(self, delivery: Delivery) -> None:
        """The message is durable here. Harmless once the connection has ended."""


@dataclass(frozen=True, slots=True)
class Item:
    """One message and when it came."""

    delivery: Delivery
    wire: Wire
    received_utc_ms: int


class Inbox:
    """A queue for one reader."""

    def __init__(self, counters: Counters) -> None:
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._counters = counters
        self._pressed = False
        self.on_pressure: Callable[[bool], None] = lambda pressed: None
        self.wake = asyncio.Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: Item) -> None:
        """Takes the message, unless it is too much."""
        size = len(item.delivery.payload)
        full = len(self._items) >= INBOX_MAX or self._bytes + size > INBOX_BYTES_MAX
        if self.closed or (full and self._items):
            self._counters.dropped += 1
            return
        self._items.append(item)
        self._bytes += size
        self._counters.received += 1
        if len(self._items) >= PRESSURE_AT or self._bytes >= PRESSURE_BYTES_AT:
            self._pressed = True
            self.on_pressure(True)
        self.wake.set()

    def take(self, messages_max: int, bytes_max: int) -> list[Item]:
        """The oldest messages that came over one wire, at least one if there is any."""
        taken: list[Item] = []
        size = 0
        while self._items and len(taken) < messages_max:
            next_bytes = len(self._items[0].delivery.payload)
            if taken and (size + next_bytes > bytes_max or self._items[0].wire is not taken[0].wire):
                break
            size += next_bytes
            taken.append(self._items.popleft())
        self._bytes -= size
        if self._pressed and len(self._items) < PRESSURE_AT // 2 and self._bytes < PRESSURE_BYTES_AT // 2:
            self._pressed = False
            self.on_pressure(False)
        return taken

    def put_back(self, items: list[Item]) -> None:
        """What was taken and not finished, to the front again."""
        self._items.extendleft(reversed(items))
        self._bytes += sum(len(item.delivery.payload) for item in items)
        self.wake.set()

    def close(self) -> None:
        """Takes nothing more; what is inside is still to be finished."""
        self.closed = True
        self.wake.set()
