"""MQTT 5 packets to bytes and back, as far as nodes need it: no QoS 2, no AUTH. Pure: no socket, no clock.

`encode` makes bytes of a packet, `Reader.feed` packets of bytes that come in any pieces. Both know both directions,
so that each can be tested with the other. What we would say wrongly raises LocalProtocolError, what was said wrongly
to us RemoteProtocolError: then the connection has to end. A packet is read whole or not at all.
"""

import struct
from collections.abc import Callable

from coordinator.simulate.packets import (
    NONE,
    ConnAck,
    Connect,
    Disconnect,
    LocalProtocolError,
    Packet,
    PingReq,
    PingResp,
    PubAck,
    Publish,
    RemoteProtocolError,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)
from coordinator.simulate.parts import (
    U16,
    read_binary,
    read_mid,
    read_properties,
    read_size,
    read_text,
    write_binary,
    write_mid,
    write_properties,
    write_size,
    write_text,
)
from schemas.values import quick_maker

PACKET_BYTES_MAX = 4 * 1024 * 1024  # taken; nothing of the contract is larger
PING = b"\xc0\x00"
GOODBYE = b"\xe0\x00"
NO_PROPERTIES = b"\x00"

# ---- packets to bytes ----------------------------------------------------------------------------


def encode(packet: Packet) -> bytes:
    """The packet on the wire. Raises LocalProtocolError."""
    try:
        match packet:
            case Publish():
                return _publish(packet)
            case PubAck():
                return puback(packet.mid) if not packet.reason | len(packet.properties) else _puback(packet)
            case Connect():
                return _connect(packet)
            case ConnAck():
                body = bytes((packet.session_present, packet.reason)) + write_properties(packet.properties)
                return _framed(0x20, body)
            case Subscribe():
                filters = b"".join(write_text(topic) + bytes((_qos(qos),)) for topic, qos in packet.filters)
                return _framed(0x82, write_mid(packet.mid) + write_properties(packet.properties) + filters)
            case SubAck():
                body = write_mid(packet.mid) + write_properties(packet.properties) + bytes(packet.reasons)
                return _framed(0x90, body)
            case Unsubscribe():
                filters = b"".join(write_text(topic) for topic in packet.filters)
                return _framed(0xA2, write_mid(packet.mid) + write_properties(packet.properties) + filters)
            case UnsubAck():
                body = write_mid(packet.mid) + write_properties(packet.properties) + bytes(packet.reasons)
                return _framed(0xB0, body)
            case PingReq():
                return PING
            case PingResp():
                return b"\xd0\x00"
            case Disconnect():
                if not packet.reason | len(packet.properties):
                    return GOODBYE
                return _framed(0xE0, bytes((packet.reason,)) + write_properties(packet.properties))
    except (ValueError, TypeError, OverflowError, struct.error) as error:
        raise LocalProtocolError(f"a {type(packet).__name__} cannot be sent: {error}") from error


def puback(mid: int) -> bytes:
    """The plain acknowledgement, which is most of what a node sends back."""
    return b"\x40\x02" + write_mid(mid)


def publish(
    topic: bytes,
    payload: bytes,
    mid: int = 0,
    *,
    retain: bool = False,
    dup: bool = False,
    properties: bytes = NO_PROPERTIES,
) -> bytes:
    """A message of QoS 1, of QoS 0 where `mid` is 0, on a topic that is right; properties as they travel."""
    first, number = (0x32, U16.pack(mid)) if mid else (0x30, b"")
    size = 2 + len(topic) + len(number) + len(properties) + len(payload)
    head = bytes((first | dup << 3 | retain,))
    return b"".join((head, write_size(size), U16.pack(len(topic)), topic, number, properties, payload))


def _publish(packet: Publish) -> bytes:
    if (_qos(packet.qos) > 0) != (packet.mid > 0) or (packet.dup and not packet.qos):
        raise ValueError(f"QoS {packet.qos} with packet id {packet.mid}, dup {packet.dup}")
    if "+" in packet.topic or "#" in packet.topic or not packet.topic:
        raise ValueError(f"nothing can be published on {packet.topic!r}")
    return publish(
        write_text(packet.topic)[2:],
        packet.payload,
        packet.mid,
        retain=packet.retain,
        dup=packet.dup,
        properties=write_properties(packet.properties),
    )


def _puback(packet: PubAck) -> bytes:
    return _framed(0x40, write_mid(packet.mid) + bytes((packet.reason,)) + write_properties(packet.properties))


def _connect(packet: Connect) -> bytes:
    flags, rest = packet.clean_start << 1, write_text(packet.client_id)
    if (will := packet.will) is not None:
        flags |= 0x04 | _qos(will.qos) << 3 | will.retain << 5
        rest += b"\x00" + write_text(will.topic) + write_binary(will.payload)
    if packet.username is not None:
        flags |= 0x80
        rest += write_text(packet.username)
    if packet.password is not None:
        flags |= 0x40
        rest += write_binary(packet.password)
    head = b"\x00\x04MQTT\x05" + bytes((flags,)) + U16.pack(packet.keepalive_s)
    return _framed(0x10, head + write_properties(packet.properties) + rest)


def _framed(first: int, body: bytes) -> bytes:
    return bytes((first,)) + write_size(len(body)) + body


def _qos(value: int) -> int:
    if value not in (0, 1):
        raise ValueError(f"QoS {value} is not served here")
    return value


# ---- bytes to packets ----------------------------------------------------------------------------

_publish_of, _puback_of = quick_maker(Publish), quick_maker(PubAck)


class Reader:
    """One connection's bytes, in any pieces."""

    __slots__ = ("_rest", "bytes_max")

    def __init__(self, bytes_max: int = PACKET_BYTES_MAX) -> None:
        self.bytes_max = bytes_max
        self._rest = b""

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete now. Raises RemoteProtocolError: nothing can be read from here on."""
        if self._rest:
            data = self._rest + data
        found: list[Packet] = []
        at, end = 0, len(data)
        while end - at >= 2:
            size, begin = data[at + 1], at + 2
            if size > 127:
                size, begin = read_size(data, at + 1)
                if not begin:
                    break
            if size > self.bytes_max:
                raise RemoteProtocolError(f"a packet of {size} bytes; at most {self.bytes_max} are taken")
            if begin + size > end:
                break
            found.append(_decoded(data[at], data[begin : begin + size]))
            at = begin + size
        self._rest = data[at:]
        return found


def _decoded(first: int, body: bytes) -> Packet:
    reader = _READERS.get(first >> 4)
    if reader is None:
        raise RemoteProtocolError(f"a packet of type {first >> 4}")
    if first >> 4 != 3 and first & 15 != (2 if first >> 4 in (8, 10) else 0):
        raise RemoteProtocolError(f"flags {first & 15} of a packet of type {first >> 4}")
    try:
        return reader(first, body)
    except (IndexError, ValueError, struct.error) as error:
        raise RemoteProtocolError(f"a packet of type {first >> 4} cannot be read: {error}") from error


def _read_publish(first: int, body: bytes) -> Publish:
    qos = first >> 1 & 3
    if qos > 1 or (first & 8 and not qos):
        raise ValueError(f"flags {first & 15}")
    topic, at = read_text(body, 0)
    mid = 0
    if qos:
        mid, at = read_mid(body, at)
    properties, at = read_properties(body, at)
    return _publish_of(topic, body[at:], qos, bool(first & 1), mid, bool(first & 8), properties)


def _read_puback(first: int, body: bytes) -> PubAck:
    mid, at = read_mid(body, 0)
    if len(body) == 2:
        return _puback_of(mid, 0, NONE)
    reason = body[2]
    properties, at = read_properties(body, 3) if len(body) > 3 else (NONE, len(body))
    _whole(body, at)
    return _puback_of(mid, reason, properties)


def _read_connack(first: int, body: bytes) -> ConnAck:
    if body[0] > 1:
        raise ValueError(f"flags {body[0]}")
    properties, at = read_properties(body, 2)
    _whole(body, at)
    return ConnAck(body[1], bool(body[0]), properties)


def _read_connect(first: int, body: bytes) -> Connect:
    if body[:7] != b"\x00\x04MQTT\x05":
        raise ValueError(f"{body[:7]!r} is not how MQTT 5 begins")
    flags, keepalive_s = body[7], U16.unpack_from(body, 8)[0]
    if flags & 1 or flags >> 3 & 3 > 1 or (not flags & 4 and flags & 0x38):
        raise ValueError(f"flags {flags:#x}")
    properties, at = read_properties(body, 10)
    client_id, at = read_text(body, at)
    will = username = password = None
    if flags & 4:
        _, at = read_properties(body, at)
        topic, at = read_text(body, at)
        payload, at = read_binary(body, at)
        will = Will(topic, payload, flags >> 3 & 3, bool(flags & 0x20))
    if flags & 0x80:
        username, at = read_text(body, at)
    if flags & 0x40:
        password, at = read_binary(body, at)
    _whole(body, at)
    return Connect(client_id, keepalive_s, bool(flags & 2), will, username, password, properties)


def _read_subscribe(first: int, body: bytes) -> Subscribe:
    mid, at = read_mid(body, 0)
    properties, at = read_properties(body, at)
    filters = []
    while at < len(body):
        topic, at = read_text(body, at)
        filters.append((topic, _qos(body[at])))
        at += 1
    return Subscribe(mid, filters, properties)


def _read_suback(first: int, body: bytes) -> SubAck:
    mid, at = read_mid(body, 0)
    properties, at = read_properties(body, at)
    return SubAck(mid, list(body[at:]), properties)


def _read_unsubscribe(first: int, body: bytes) -> Unsubscribe:
    mid, at = read_mid(body, 0)
    properties, at = read_properties(body, at)
    filters = []
    while at < len(body):
        topic, at = read_text(body, at)
        filters.append(topic)
    return Unsubscribe(mid, filters, properties)


def _read_unsuback(first: int, body: bytes) -> UnsubAck:
    mid, at = read_mid(body, 0)
    properties, at = read_properties(body, at)
    return UnsubAck(mid, list(body[at:]), properties)


def _read_disconnect(first: int, body: bytes) -> Disconnect:
    properties, at = read_properties(body, 1) if len(body) > 1 else (NONE, len(body))
    _whole(body, at)
    return Disconnect(body[0] if body else 0, properties)


def _read_ping(first: int, body: bytes) -> PingReq | PingResp:
    _whole(body, 0)
    return PingReq() if first >> 4 == 12 else PingResp()


_READERS: dict[int, Callable[[int, bytes], Packet]] = {
    1: _read_connect,
    2: _read_connack,
    3: _read_publish,
    4: _read_puback,
    8: _read_subscribe,
    9: _read_suback,
    10: _read_unsubscribe,
    11: _read_unsuback,
    12: _read_ping,
    13: _read_ping,
    14: _read_disconnect,
}


def _whole(body: bytes, at: int) -> None:
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes follow it")
