"""Between the broker and the transactions: bounded, oldest first, and batches of samples last.

A lane's rows always come the same way, alone or in batches, so that their order within a lane is kept.
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
from schemas.topics import Kind

PRESSURE_AT = 2 * RECEIVE_MAXIMUM
PRESSURE_BYTES_AT = 32 * 1024 * 1024
INBOX_MAX = 2 * PRESSURE_AT  # reached only by a link that flaps while the disk is slow
INBOX_BYTES_MAX = 2 * PRESSURE_BYTES_AT
_BULK = f"/{Kind.SYNC.value}"


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
    """Two queues for one reader: alerts, events and news of nodes do not wait behind batches of samples."""

    def __init__(self, counters: Counters) -> None:
        self._urgent: deque[Item] = deque()
        self._bulk: deque[Item] = deque()
        self._bytes = 0
        self._counters = counters
        self._pressed = False
        self._bulk_first = False
        self.on_pressure: Callable[[bool], None] = lambda pressed: None
        self.wake = asyncio.Event()
        self.closed = False

    def __len__(self) -> int:
        return len(self._urgent) + len(self._bulk)

    @property
    def bytes(self) -> int:
        """The payloads that wait."""
        return self._bytes

    def put(self, item: Item) -> None:
        """Takes the message, unless it is too much."""
        size = len(item.delivery.payload)
        full = len(self) >= INBOX_MAX or self._bytes + size > INBOX_BYTES_MAX
        if self.closed or (full and len(self)):
            self._counters.dropped += 1
            return
        self._queue_of(item).append(item)
        self._bytes += size
        self._counters.received += 1
        if len(self) >= PRESSURE_AT or self._bytes >= PRESSURE_BYTES_AT:
            self._pressed = True
            self.on_pressure(True)
        self.wake.set()

    def take(self, messages_max: int, bytes_max: int) -> list[Item]:
        """Messages that came over one wire, the oldest of each queue first; at least one if there is any.

        What is urgent comes first, yet one batch of samples at least goes with it: nobody waits for ever.
        """
        taken: list[Item] = []
        first, second = self._urgent, self._bulk
        if first and second and first[0].wire is not second[0].wire:  # the two take turns
            self._bulk_first = not self._bulk_first
            first, second = (second, first) if self._bulk_first else (first, second)
        left = self._move(first, taken, messages_max, bytes_max)
        least = 1 if second is self._bulk else 0
        left = self._move(second, taken, max(least, messages_max - len(taken)), left, least)
        self._bytes -= sum(len(item.delivery.payload) for item in taken)
        if self._pressed and len(self) < PRESSURE_AT // 2 and self._bytes < PRESSURE_BYTES_AT // 2:
            self._pressed = False
            self.on_pressure(False)
        return taken

    def put_back(self, items: list[Item]) -> None:
        """What was taken and not finished, to the front again."""
        for item in reversed(items):
            self._queue_of(item).appendleft(item)
        self._bytes += sum(len(item.delivery.payload) for item in items)
        self.wake.set()

    def _move(self, queue: deque[Item], taken: list[Item], count_max: int, bytes_left: int, least: int = 0) -> int:
        """As many as fit, and `least` all the same; says how many bytes are left."""
        moved = 0
        while queue and moved < count_max:
            size = len(queue[0].delivery.payload)
            if taken and (queue[0].wire is not taken[0].wire or (size > bytes_left and moved >= least)):
                break
            taken.append(queue.popleft())
            bytes_left -= size
            moved += 1
        return bytes_left

    def _queue_of(self, item: Item) -> deque[Item]:
        return self._bulk if item.delivery.topic.endswith(_BULK) else self._urgent

    def close(self) -> None:
        """Takes nothing more; what is inside is still to be finished."""
        self.closed = True
        self.wake.set()
