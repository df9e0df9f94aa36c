"""One connection of a simulated node, as MQTT sees it: packet ids, the receive maximum, what waits for it. Pure."""

from collections import deque

from coordinator.simulate.mqtt5 import NO_PROPERTIES, PING, publish
from coordinator.simulate.packets import MID_MAX

RECEIVE_MAXIMUM = 65_535  # where the broker names none
Message = tuple[bytes, bytes, bool, bytes]
"""Topic, payload, whether it is retained, properties as they travel."""


class Session:
    """Never more QoS 1 messages under way than the broker's receive maximum: what is too much waits.

    Pings as other clients do: when for a keep-alive nothing was sent, or nothing came.
    """

    __slots__ = (
        "_hears", "_mid", "_ping_s", "_queue", "_under_way", "heard_s", "receive_maximum", "resend_set", "said_s",
    )  # fmt: skip

    def __init__(self, now_s: float, receive_maximum: int = RECEIVE_MAXIMUM) -> None:
        self.receive_maximum = receive_maximum
        self.heard_s = self.said_s = now_s
        self.resend_set = False  # a timer will look for rows that are overdue
        self._ping_s = 0.0  # when a ping was sent that is not answered
        self._mid = 0
        self._hears = 0  # of the presence of the coordinator: 1 that it has, 2 that it may alone
        self._under_way: set[int] = set()
        self._queue: deque[Message] | None = None

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

    def hears(self, what: int) -> bool:
        """It has heard of the coordinator (1), or may by a subscription of its own (2).

        True when both have come to be so: the other subscription is to be given up.
        """
        before, self._hears = self._hears, self._hears | what
        return before < 3 and self._hears == 3

    def publish(
        self, topic: bytes, payload: bytes, *, retain: bool = False, properties: bytes = NO_PROPERTIES
    ) -> bytes:
        """QoS 1. What may be sent now; nothing where it waits."""
        if self.room <= 0:
            if self._queue is None:
                self._queue = deque()
            self._queue.append((topic, payload, retain, properties))
            return b""
        return self._encode(topic, payload, retain, properties)

    def confirmed(self, mid: int) -> bytes:
        """A PUBACK came: what may be sent now."""
        self._under_way.discard(mid)
        if not self._queue:
            return b""
        return self._encode(*self._queue.popleft())

    def ponged(self) -> None:
        """The broker is there."""
        self._ping_s = 0.0

    def ping(self, now_s: float, keepalive_s: float) -> tuple[bytes | None, float]:
        """What to send now, None when the broker has not answered in time; and when to ask again."""
        if self._ping_s and now_s - self._ping_s >= keepalive_s:
            return None, 0.0
        quiet_s = min(self.heard_s, self.said_s)
        if self._ping_s or now_s - quiet_s < keepalive_s:
            return b"", max(quiet_s, self._ping_s) + keepalive_s
        self._ping_s = self.said_s = now_s
        return PING, now_s + keepalive_s

    def _encode(self, topic: bytes, payload: bytes, retain: bool, properties: bytes) -> bytes:
        mid = self.next_mid()
        self._under_way.add(mid)
        return publish(topic, payload, mid, retain=retain, properties=properties)
