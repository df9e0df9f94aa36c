"""The two packets that nearly all traffic consists of, PUBLISH and PUBACK of MQTT 5, to bytes and back. Pure.

paho makes an object with a lock of each message and a set of named properties of each packet: ten times the work.
"""

import functools
import struct

from runtime.mqtt.messages import Delivery, Message
from schemas.values import quick_maker

PUBLISH, PUBACK = 0x30, 0x40
_U16, _U32 = struct.Struct(">H"), struct.Struct(">I")
_EXPIRY, _CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION = 0x02, 0x03, 0x08, 0x09
_PAYLOAD_FORMAT, _SUBSCRIPTION, _USER = 0x01, 0x0B, 0x26
TEXT_BYTES_MAX = 65_535
_delivery = quick_maker(Delivery)


class MalformedError(ValueError):
    """The other side sent what is no packet."""


def publish(message: Message, mid: int) -> bytes:
    """The packet; `mid` counts for QoS 1 only. Raises ValueError for a topic on which nothing can be published."""
    topic = message.topic.encode()
    if not 0 < len(topic) <= TEXT_BYTES_MAX or b"+" in topic or b"#" in topic or b"\0" in topic:
        raise ValueError(f"nothing can be published on {message.topic[:200]!r}")
    head = _U16.pack(len(topic)) + topic
    if message.qos:
        head += _U16.pack(mid)
    body = b"".join((head, _properties(message), message.payload))
    return bytes((PUBLISH | message.qos << 1 | message.retain,)) + _size(len(body)) + body


def pubacks(mids: list[int]) -> bytes:
    """One packet for each, in this order."""
    return b"".join(b"\x40\x02" + _U16.pack(mid) for mid in mids)


def read_publish(first: int, data: bytes, at: int, end: int) -> Delivery:
    """The message of a PUBLISH whose body is `data[at:end]`. Raises MalformedError."""
    qos = first >> 1 & 3
    if qos > 1:
        raise MalformedError(f"a message of QoS {qos}: nothing was subscribed to at that quality")
    try:
        begin = at + 2
        at = begin + _U16.unpack_from(data, at)[0]
        topic = data[begin:at].decode()
        mid = 0
        if qos:
            mid = _U16.unpack_from(data, at)[0]
            at += 2
        size, at = data[at], at + 1
        if size == 0 and at <= end:
            return _delivery(topic, data[at:end], qos, bool(first & 1), mid, "", b"", None, 0)
        if size > 127:
            size, at = read_size(data, at - 1, end)
        if at + size > end:
            raise MalformedError("a message is shorter than it says")
        response_topic, correlation, expiry_s = _read_properties(data, at, at + size)
        payload = data[at + size : end]
        return _delivery(topic, payload, qos, bool(first & 1), mid, response_topic, correlation, expiry_s, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise MalformedError(f"a message cannot be read: {error}") from error


def read_puback(data: bytes, at: int, end: int) -> tuple[int, bool]:
    """(mid, accepted) of a PUBACK whose body is `data[at:end]`. Raises MalformedError."""
    if end - at < 2:
        raise MalformedError("an acknowledgement without a number")
    return _U16.unpack_from(data, at)[0], end - at == 2 or data[at + 2] < 0x80


def read_size(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A length of up to four bytes, and where it ends; -1 where not all of it is there. Raises MalformedError."""
    size = shift = 0
    for i in range(at, min(at + 4, end)):
        size |= (data[i] & 127) << shift
        if data[i] < 128:
            return size, i + 1
        shift += 7
    if end - at >= 4:
        raise MalformedError("a length of more than four bytes")
    return -1, at


def _size(size: int) -> bytes:
    if size < 128:
        return bytes((size,))
    found = bytearray()
    while size > 127:
        found.append(size & 127 | 128)
        size >>= 7
    found.append(size)
    return bytes(found)


def _properties(message: Message) -> bytes:
    if not (message.correlation or message.expiry_s is not None or message.response_topic):
        return _content_type(message.content_type) if message.content_type else b"\0"
    parts = []
    if message.content_type:
        parts.append(_text(_CONTENT_TYPE, message.content_type.encode()))
    if message.correlation:
        parts.append(_text(_CORRELATION, message.correlation))
    if message.expiry_s is not None:
        parts.append(bytes((_EXPIRY,)) + _U32.pack(message.expiry_s))
    if message.response_topic:
        parts.append(_text(_RESPONSE_TOPIC, message.response_topic.encode()))
    packed = b"".join(parts)
    return _size(len(packed)) + packed


@functools.cache
def _content_type(content_type: str) -> bytes:
    packed = _text(_CONTENT_TYPE, content_type.encode())
    return _size(len(packed)) + packed


def _text(identifier: int, value: bytes) -> bytes:
    if len(value) > TEXT_BYTES_MAX:
        raise ValueError(f"a property of {len(value)} bytes; at most {TEXT_BYTES_MAX} can be sent")
    return bytes((identifier,)) + _U16.pack(len(value)) + value


def _read_properties(data: bytes, at: int, end: int) -> tuple[str, bytes, int | None]:
    """(response topic, correlation data, expiry in seconds); the others are passed over."""
    response_topic, correlation, expiry_s = "", b"", None
    while at < end:
        identifier = data[at]
        at += 1
        if identifier == _EXPIRY:
            expiry_s, at = _U32.unpack_from(data, at)[0], at + 4
        elif identifier in (_CONTENT_TYPE, _RESPONSE_TOPIC, _CORRELATION):
            value, at = _read_text(data, at, end)
            if identifier == _RESPONSE_TOPIC:
                response_topic = value.decode()
            elif identifier == _CORRELATION:
                correlation = value
        elif identifier == _PAYLOAD_FORMAT:
            at += 1
        elif identifier == _SUBSCRIPTION:
            _, at = read_size(data, at, end)
        elif identifier == _USER:
            _, at = _read_text(data, at, end)
            _, at = _read_text(data, at, end)
        else:
            raise MalformedError(f"a message has the property {identifier:#x}, which no message has")
    if at != end:
        raise MalformedError("the properties of a message are longer than they say")
    return response_topic, correlation, expiry_s


def _read_text(data: bytes, at: int, end: int) -> tuple[bytes, int]:
    begin = at + 2
    at = begin + _U16.unpack_from(data, at)[0]
    if at > end:
        raise MalformedError("a property of a message is longer than they are together")
    return data[begin:at], at
