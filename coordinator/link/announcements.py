"""The fleet's own events on their way to the broker: which are next, and up to which it has all of them."""

import logging

from coordinator.store.store import Store
from runtime.mqtt import Message
from schemas.codec import encode_event
from schemas.errors import LocalWireError
from schemas.messages import Event
from schemas.topics import FLEET, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

UNDER_WAY_MAX = 100
ENCODED_MAX = 1000
EVENT_CONTENT_TYPE = "application/cloudevents+json"


class Encoded:
    """The newest events as messages: several brokers are told the same, at about the same time."""

    def __init__(self, space: TopicSpace) -> None:
        self._space = space
        self._messages: dict[int, Message] = {}

    def message(self, event: Event) -> Message:
        """Raises LocalWireError for one that cannot be said."""
        seq = event.identity.seq
        found = self._messages.get(seq)
        if found is None:
            topic = self._space.text(Topic(Kind.EVENT, FLEET, event.type))
            found = self._messages[seq] = Message(topic, encode_event(event), content_type=EVENT_CONTENT_TYPE)
            if len(self._messages) > ENCODED_MAX:
                del self._messages[next(iter(self._messages))]
        return found


class Announcements:
    """In the order of their numbers. One that cannot travel is passed over: `edgectl` shows it still."""

    def __init__(self, store: Store, encoded: Encoded) -> None:
        self._store = store
        self._encoded = encoded
        self._under_way: set[int] = set()
        self._highest = 0  # the number of the last one looked at on this connection
        self.announced_seq = 0  # every fleet event up to here is with the broker, or passed over
        self.passed_over_total = 0
        self.missed_total = 0  # by a broker that was away for so long that they are not kept for it any more

    @property
    def wants_more(self) -> bool:
        """True when so many may be published that it is worth looking: each alone costs as much as some dozen."""
        return len(self._under_way) <= UNDER_WAY_MAX // 2

    def connected(self) -> None:
        """What is not known to be there is said once more."""
        self._under_way.clear()
        self._highest = self.announced_seq

    def next(self, packet_bytes_max: int) -> list[tuple[int, Message]]:
        """What may be published now, with the numbers to confirm it by."""
        found: list[tuple[int, Message]] = []
        while events := self._store.unannounced(self._highest, UNDER_WAY_MAX - len(self._under_way)):
            self.missed_total += events[0].identity.seq - self._highest - 1 if self._highest else 0
            for event in events:
                self._highest = event.identity.seq
                message = self._message(event, packet_bytes_max)
                if message is not None:
                    self._under_way.add(self._highest)
                    found.append((self._highest, message))
        self._see()
        return found

    def confirmed(self, seq: int) -> None:
        """The broker has it."""
        self._under_way.discard(seq)
        self._see()

    def _see(self) -> None:
        self.announced_seq = min(self._under_way, default=self._highest + 1) - 1

    def _message(self, event: Event, packet_bytes_max: int) -> Message | None:
        try:
            message = self._encoded.message(event)
            if message.packet_bytes_max <= packet_bytes_max:
                return message
            reason = f"{len(message.payload)} bytes, and the broker takes {packet_bytes_max} in a packet"
        except LocalWireError as error:
            reason = str(error)
        self.passed_over_total += 1
        log.error("fleet event %s of %s is not published: %s", event.type, event.subject, reason)
        return None
