"""What goes over a connection, either way, and what the broker allows on it."""

from dataclasses import dataclass

PACKET_OVERHEAD_BYTES_MAX = 32  # headers, lengths and identifiers of a PUBLISH with all the properties that we set


@dataclass(frozen=True, slots=True)
class Message:
    """Something to publish."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    content_type: str = ""
    correlation: bytes = b""
    expiry_s: int | None = None
    response_topic: str = ""

    @property
    def packet_bytes_max(self) -> int:
        """The packet is no larger than this."""
        texts = len(self.topic.encode()) + len(self.content_type) + 4 * len(self.response_topic)
        return len(self.payload) + texts + len(self.correlation) + PACKET_OVERHEAD_BYTES_MAX


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something received; `mid` is for `acknowledge`. `link` tells apart the connections of one process that has
    several: an answer goes back where the question came from."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    response_topic: str = ""
    correlation: bytes = b""
    expiry_s: int | None = None
    link: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker allows on this connection."""

    receive_max: int = 65535
    packet_bytes_max: int = 268_435_455
