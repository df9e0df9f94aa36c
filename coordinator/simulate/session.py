"""One connection of a simulated node, as MQTT sees it: packet ids, the receive maximum, what waits for it. Pure."""

from collections import deque

from coordinator.simulate.mqtt5 import encode
from coordinator.simulate.packets import MID_MAX, NONE, Properties, Publish

RECEIVE_MAXIMUM = 65_535  # where the broker names none


class Session:
    """Never more QoS 1 messages under way than the broker's receive maximum: what is too much waits."""

    __slots__ = ("_mid", "_queue", "_under_way", "receive_maximum")

    def __init__(self, receive_maximum: int = RECEIVE_MAXIMUM) -> None:
        self.receive_maximum = receive_maximum
        self._mid = 0
        self._under_way: set[int] = set()
        self._queue: deque[Publish] | None = None

    @property
    def room(self) -> int:
        """How many more may be sent now."""
        return 0 if self._queue else self.receive_maximum - len(self._under_way)

    def next_mid(self) -> int:
        """Not in use."""
        while True:
            self._mid = self._mid % MID_MAX + 1
            if self._mid not in self._under_way:
                return self._mid

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, properties: Properties = NONE) -> bytes:
        """QoS 1. What may be sent now; nothing where it waits."""
        if self.room <= 0:
            if self._queue is None:
                self._queue = deque()
            self._queue.append(Publish(topic, payload, 1, retain, 0, properties=properties))
            return b""
        return self._encode(topic, payload, retain, properties)

    def confirmed(self, mid: int) -> bytes:
        """A PUBACK came: what may be sent now."""
        self._under_way.discard(mid)
        if not self._queue:
            return b""
        one = self._queue.popleft()
        return self._encode(one.topic, one.payload, one.retain, one.properties)

    def _encode(self, topic: str, payload: bytes, retain: bool, properties: Properties) -> bytes:
        mid = self.next_mid()
        self._under_way.add(mid)
        return encode(Publish(topic, payload, 1, retain, mid, properties=properties))
