"""Between the broker and the transactions: bounded by the receive maximum, oldest first.

QoS 1 messages wait here unacknowledged, so the broker stops at the receive maximum of a connection. A message that
comes when it is full all the same is dropped unacknowledged and counted: its outbox sends it again.
"""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from coordinator.counters import Counters
from runtime.mqtt import RECEIVE_MAXIMUM, Delivery, Message

INBOX_MAX = 4 * RECEIVE_MAXIMUM  # a few connections' worth, for a link that flaps while the disk is slow
INBOX_BYTES_MAX = 64 * 1024 * 1024


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
