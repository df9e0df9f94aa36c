"""Between the broker and the transactions: bounded, alerts first, batches of samples last, each oldest first.

A lane's rows always come on topics of one kind, so that their order within a lane is kept.
QoS 1 messages wait here unacknowledged. When much waits, the connection is asked to stop reading: the broker has to
hold the rest. What comes when the inbox is full all the same is dropped unacknowledged and counted: its outbox sends
it again.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice
from typing import Protocol

from coordinator.counters import Counters
from coordinator.ingest.decode import Decoded
from runtime.mqtt import RECEIVE_MAXIMUM, Delivery, Message
from schemas.messages import Ack
from schemas.topics import Kind

PRESSURE_AT = 2 * RECEIVE_MAXIMUM  # with one broker; with each more of them as many more as that one may send
PRESSURE_BYTES_AT = 32 * 1024 * 1024
INBOX_MAX = 2 * PRESSURE_AT  # reached only by a link that flaps while the disk is slow
INBOX_BYTES_MAX = 2 * PRESSURE_BYTES_AT
WITH_ALERT = 4  # a quarter of a transaction's bytes
BEATS_MAX = 200_000
BEATS_SHARE = 4  # a quarter of a transaction's messages
_SYNC = f"/{Kind.SYNC.value}"
_ALERT = f"/{Kind.ALERT.value}/"
_HEARTBEAT = f"/{Kind.HEARTBEAT.value}"


class Way(Protocol):
    """The connection a message came on: what is said of it goes back there. Harmless once it has ended."""

    def publish(self, message: Message) -> None:
        """Queues."""

    def acknowledge(self, *deliveries: Delivery) -> None:
        """The messages are durable here."""


class Wire(Way, Protocol):
    """The same for rows of nodes and what they say of themselves."""

    @property
    def index(self) -> int:
        """Which of the brokers it leads to."""

    def answer(self, *answers: tuple[str, Ack]) -> None:
        """(node, answer) pairs: which of its rows are durable."""


@dataclass(slots=True)
class Item:
    """One message and when it came. `said`: what it says, once somebody has read it."""

    delivery: Delivery
    wire: Wire
    received_utc_ms: int
    said: Decoded | None = None


class Inbox:
    """Three queues for one reader: alerts do not wait behind events, nor these and news of nodes behind samples.

    Of the heartbeats of a node the newest waits, beside them: where there is more to do than time, births and events
    go on, and no heartbeat is worked on that is out of date.
    """

    def __init__(self, counters: Counters, brokers: int = 1) -> None:
        self._pressure_at = PRESSURE_AT + (brokers - 1) * RECEIVE_MAXIMUM
        self._most = INBOX_MAX // PRESSURE_AT * self._pressure_at
        self._queues: tuple[deque[Item], ...] = (deque(), deque(), deque())  # most urgent first
        self._beats: dict[str, Item] = {}  # by topic, the longest waiting first
        self._bytes = 0
        self._counters = counters
        self._pressed = False
        self.on_pressure: Callable[[bool], None] = lambda pressed: None
        self.wake = asyncio.Event()
        self.urgent = asyncio.Event()  # an alert waits
        self.closed = False

    def __len__(self) -> int:
        return self._queued + len(self._beats)

    @property
    def _queued(self) -> int:
        """Without heartbeats: those nobody holds back for us."""
        return sum(map(len, self._queues))

    @property
    def bytes(self) -> int:
        """The payloads that wait, without heartbeats."""
        return self._bytes

    @property
    def rows_wait(self) -> bool:
        """More waits than heartbeats."""
        return bool(self._queued)

    @property
    def alert_waits(self) -> bool:
        return bool(self._queues[0])

    def put(self, item: Item) -> None:
        """Takes the message, unless it is too much."""
        if item.delivery.topic.endswith(_HEARTBEAT):
            self._put_beat(item)
            return
        size, queued = len(item.delivery.payload), self._queued
        full = queued >= self._most or self._bytes + size > INBOX_BYTES_MAX
        if self.closed or (full and queued):
            self._counters.dropped += 1
            return
        queue = self._queue_of(item)
        queue.append(item)
        self._bytes += size
        self._counters.received += 1
        if queued + 1 >= self._pressure_at or self._bytes >= PRESSURE_BYTES_AT:
            self._pressed = True
            self.on_pressure(True)
        if queue is self._queues[0]:
            self.urgent.set()
        self.wake.set()

    def _put_beat(self, item: Item) -> None:
        topic = item.delivery.topic
        before = self._beats.get(topic)
        if self.closed or (before is None and len(self._beats) >= BEATS_MAX):
            self._counters.dropped += 1
            return
        self._counters.received += 1
        self._counters.heartbeats_skipped += before is not None
        self._beats[topic] = item  # where the one before it stood
        self.wake.set()

    def take(self, messages_max: int, bytes_max: int) -> list[Item]:
        """The oldest of each queue first; at least one if there is any.

        What is urgent comes first, yet one message at least of each other queue goes with it, and heartbeats have a
        quarter, or what the others leave: none waits for ever. With an alert goes little of the rest, so that it is
        stored soon.
        """
        taken: list[Item] = []
        bytes_left = bytes_max
        beats = min(len(self._beats), -(-messages_max // BEATS_SHARE))
        for queue in filter(None, self._queues):
            bytes_left = self._move(queue, taken, messages_max - beats - len(taken), bytes_left)
            if queue is self._queues[0]:
                bytes_left = min(bytes_left, bytes_max // WITH_ALERT)
        self._bytes -= sum(len(item.delivery.payload) for item in taken)
        if self._queued:  # their bytes were too many: more heartbeats would take the time of those that wait still
            beats = min(beats, max(1, len(taken) // (BEATS_SHARE - 1)))
        else:
            beats = max(beats, messages_max - len(taken))
        taken += self._take_beats(beats)
        if not self._queues[0]:
            self.urgent.clear()
        if self._pressed and self._queued < self._pressure_at // 2 and self._bytes < PRESSURE_BYTES_AT // 2:
            self._pressed = False
            self.on_pressure(False)
        return taken

    def ahead(self, messages_max: int) -> list[Item]:
        """What is about to be taken and was not read yet, the first of it first; as it waits now."""
        waiting = islice(chain(*self._queues), messages_max)
        beats = islice(self._beats.values(), -(-messages_max // BEATS_SHARE))
        return [item for item in chain(waiting, beats) if item.said is None]

    def put_back(self, items: list[Item]) -> None:
        """What was taken and not finished, to the front again."""
        for item in reversed(items):
            if item.delivery.topic.endswith(_HEARTBEAT):
                self._beats.setdefault(item.delivery.topic, item)  # unless there is a newer one
            else:
                self._queue_of(item).appendleft(item)
                self._bytes += len(item.delivery.payload)
        if self._queues[0]:
            self.urgent.set()
        self.wake.set()

    def _take_beats(self, count_max: int) -> list[Item]:
        topics = list(islice(self._beats, count_max))
        return [self._beats.pop(topic) for topic in topics]

    def _move(self, queue: deque[Item], taken: list[Item], count_max: int, bytes_left: int) -> int:
        """As many as fit, and one all the same; says how many bytes are left."""
        moved = 0
        while queue and moved < max(1, count_max):
            size = len(queue[0].delivery.payload)
            if taken and size > bytes_left and moved:
                break
            taken.append(queue.popleft())
            bytes_left -= size
            moved += 1
        return bytes_left

    def _queue_of(self, item: Item) -> deque[Item]:
        topic = item.delivery.topic
        if topic.endswith(_SYNC):
            return self._queues[2]
        return self._queues[0 if _ALERT in topic else 1]

    def close(self) -> None:
        """Takes nothing more; what is inside is still to be finished."""
        self.closed = True
        self.wake.set()
        self.urgent.set()
