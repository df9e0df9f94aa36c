"""The packets of MQTT 5 as values, as far as nodes need them: no QoS 2, no AUTH."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

MID_MAX = 65_535


class ProtocolError(Exception):
    """Base; never raised itself."""


class LocalProtocolError(ProtocolError):
    """We were about to send what the standard forbids."""


class RemoteProtocolError(ProtocolError):
    """The other side sent what the standard forbids."""


class Property(IntEnum):
    """Of MQTT 5, section 2.2.2.2."""

    PAYLOAD_FORMAT = 1
    MESSAGE_EXPIRY_S = 2
    CONTENT_TYPE = 3
    RESPONSE_TOPIC = 8
    CORRELATION_DATA = 9
    SUBSCRIPTION_IDENTIFIER = 11
    SESSION_EXPIRY_S = 17
    ASSIGNED_CLIENT_ID = 18
    SERVER_KEEP_ALIVE_S = 19
    AUTHENTICATION_METHOD = 21
    AUTHENTICATION_DATA = 22
    REQUEST_PROBLEM_INFORMATION = 23
    WILL_DELAY_S = 24
    REQUEST_RESPONSE_INFORMATION = 25
    RESPONSE_INFORMATION = 26
    SERVER_REFERENCE = 28
    REASON = 31
    RECEIVE_MAXIMUM = 33
    TOPIC_ALIAS_MAXIMUM = 34
    TOPIC_ALIAS = 35
    MAXIMUM_QOS = 36
    RETAIN_AVAILABLE = 37
    USER = 38
    PACKET_BYTES_MAX = 39
    WILDCARDS_AVAILABLE = 40
    SUBSCRIPTION_IDENTIFIERS_AVAILABLE = 41
    SHARED_AVAILABLE = 42


Properties = Mapping[Any, Any]
"""By number. A number, text or bytes each; of USER a list of pairs of texts."""
NONE: Properties = {}


@dataclass(frozen=True, slots=True)
class Will:
    """What the broker says for us when we fall silent."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


@dataclass(frozen=True, slots=True)
class Connect:
    client_id: str
    keepalive_s: int = 20
    clean_start: bool = True
    will: Will | None = None
    username: str | None = None
    password: bytes | None = None
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ConnAck:
    reason: int = 0
    session_present: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publish:
    """`mid` is 0 with QoS 0, else from 1 to MID_MAX."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    mid: int = 0
    dup: bool = False
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PubAck:
    """A reason of 0x80 or more refuses the message."""

    mid: int
    reason: int = 0
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Subscribe:
    mid: int
    filters: Sequence[tuple[str, int]]  # with the QoS
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SubAck:
    mid: int
    reasons: Sequence[int]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    mid: int
    filters: Sequence[str]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UnsubAck:
    mid: int
    reasons: Sequence[int]
    properties: Properties = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PingReq:
    """Are you there?"""


@dataclass(frozen=True, slots=True)
class PingResp:
    """I am."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    reason: int = 0
    properties: Properties = field(default_factory=dict)


Subscribing = Subscribe | SubAck | Unsubscribe | UnsubAck
Packet = Connect | ConnAck | Publish | PubAck | Subscribing | PingReq | PingResp | Disconnect
