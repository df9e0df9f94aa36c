"""The parts that MQTT 5 packets are made of, to bytes and back: numbers, texts, properties. Pure.

Writers raise ValueError, TypeError, OverflowError or struct.error, readers ValueError, IndexError or struct.error:
`mqtt5.py` says in which packet.
"""

import struct
from typing import Any

from coordinator.simulate.packets import MID_MAX, NONE, Properties, Property, RemoteProtocolError

SIZE_MAX = 268_435_455  # what a variable byte integer can say
U16, U32 = struct.Struct(">H"), struct.Struct(">I")

_BYTE = frozenset({1, 23, 25, 36, 37, 40, 41, 42})
_TWO = frozenset({19, 33, 34, 35})
_FOUR = frozenset({2, 17, 24, 39})
_TEXT = frozenset({3, 8, 18, 21, 26, 28, 31})
_BINARY = frozenset({9, 22})
_NAMES = {member.value: member for member in Property}

# ---- to bytes ------------------------------------------------------------------------------------


def write_size(value: int) -> bytes:
    if not 0 <= value <= SIZE_MAX:
        raise ValueError(f"{value} is beyond a variable byte integer")
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def write_mid(value: int) -> bytes:
    if not 1 <= value <= MID_MAX:
        raise ValueError(f"{value} is no packet id")
    return U16.pack(value)


def write_text(value: str) -> bytes:
    if "\0" in value:
        raise ValueError("a text holds U+0000")
    return write_binary(value.encode())


def write_binary(value: bytes) -> bytes:
    return U16.pack(len(value)) + value


def write_properties(properties: Properties) -> bytes:
    if not properties:
        return b"\x00"
    body = b"".join(_property(number, value) for number, value in properties.items())
    return write_size(len(body)) + body


def _property(number: int, value: Any) -> bytes:
    head = bytes((number,))
    if number in _BYTE:
        return head + bytes((value,))
    if number in _TWO:
        return head + U16.pack(value)
    if number in _FOUR:
        return head + U32.pack(value)
    if number in _TEXT:
        return head + write_text(value)
    if number in _BINARY:
        return head + write_binary(value)
    if number == Property.SUBSCRIPTION_IDENTIFIER:
        return head + write_size(value)
    if number == Property.USER:
        return b"".join(head + write_text(key) + write_text(item) for key, item in value)
    raise ValueError(f"there is no property {number}")


# ---- from bytes ----------------------------------------------------------------------------------


def read_size(data: bytes, at: int) -> tuple[int, int]:
    """A variable byte integer and where it ends; it ends at 0 when it is not whole yet."""
    value = 0
    for shift in range(4):
        if at + shift >= len(data):
            return 0, 0
        byte = data[at + shift]
        value |= (byte & 127) << (7 * shift)
        if byte < 128:
            return value, at + shift + 1
    raise RemoteProtocolError("a length of more than four bytes")


def read_mid(body: bytes, at: int) -> tuple[int, int]:
    (mid,) = U16.unpack_from(body, at)
    if not mid:
        raise ValueError("packet id 0")
    return mid, at + 2


def read_binary(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 2 + U16.unpack_from(body, at)[0]
    if end > len(body):
        raise ValueError("it is cut short")
    return body[at + 2 : end], end


def read_text(body: bytes, at: int) -> tuple[str, int]:
    found, at = read_binary(body, at)
    return found.decode(), at


def read_properties(body: bytes, at: int) -> tuple[Properties, int]:
    if not body[at]:
        return NONE, at + 1
    size, at = read_size(body, at)
    end = at + size
    if not at or end > len(body):
        raise ValueError("its properties are cut short")
    found: dict[int, Any] = {}
    while at < end:
        number = body[at]
        value, at = _read_property(number, body, at + 1)
        if number == Property.USER:
            found.setdefault(Property.USER, []).append(value)
        else:
            found[_NAMES[number]] = value
    if at != end:
        raise ValueError("a property is cut short")
    return found, at


def _read_property(number: int, body: bytes, at: int) -> tuple[Any, int]:
    if number in _BYTE:
        return body[at], at + 1
    if number in _TWO:
        return U16.unpack_from(body, at)[0], at + 2
    if number in _FOUR:
        return U32.unpack_from(body, at)[0], at + 4
    if number in _TEXT:
        return read_text(body, at)
    if number in _BINARY:
        return read_binary(body, at)
    if number == Property.SUBSCRIPTION_IDENTIFIER:
        value, end = read_size(body, at)
        if not end:
            raise ValueError("it is cut short")
        return value, end
    if number == Property.USER:
        key, at = read_text(body, at)
        item, at = read_text(body, at)
        return (key, item), at
    raise ValueError(f"there is no property {number}")
