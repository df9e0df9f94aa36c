"""What goes over a connection, either way, and what the broker allows on it."""

from dataclasses import dataclass


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


@dataclass(frozen=True, slots=True)
class Delivery:
    """Something received; `mid` is for `acknowledge`."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int
    response_topic: str = ""
    correlation: bytes = b""
    expiry_s: int | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker allows on this connection."""

    receive_max: int = 65535
    packet_bytes_max: int = 268_435_455
