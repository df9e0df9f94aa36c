"""Files in pieces over MQTT: `blob/up/<sha256>` from a node, answered on `blob/down/<sha256>`.

A message is two bytes (length of the head, most significant first), the head as a msgpack map, and for a chunk its
bytes. `kind` says which one it is; unknown fields are ignored, unknown kinds refused.

    node                         coordinator
    offer  size, chunks of …  ─►
                              ◄─ held   which bytes are durable (also: all of them, verified)
    chunk  at, bytes          ─►
                              ◄─ held   … after a durable write
                              ◄─ refused  quota, too_large, bad_hash, … and when to try again

Ranges are half-open: [[0, 65536]] is the first 64 KiB. Decoding raises RemoteWireError, encoding LocalWireError.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import msgpack

from schemas.errors import LocalWireError, RemoteWireError
from schemas.messages import WIRE_VERSION, Count
from schemas.shape import Limit, ShapeError, fields_of, read
from schemas.topics import RULES, Kind

HEAD_BYTES_MAX = 16 * 1024
BLOB_BYTES_MAX = 2**40
RANGES_MAX = 512  # in one answer; of more pieces the first are told, and the others sent once more
CHUNK_BYTES_MAX = RULES[Kind.BLOB_UP].payload_bytes_max - HEAD_BYTES_MAX - 2

T = TypeVar("T")
Text = Annotated[str, Limit(len_max=300)]
Spans = list[tuple[int, int]]
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Reason(StrEnum):
    """Why a file, or a chunk of it, is not taken."""

    TOO_LARGE = "too_large"  # larger than any file may be here
    QUOTA = "quota"  # the node, or all together, have no room left
    NO_ROOM = "no_room"  # the coordinator's own disk or spool is full just now
    BAD_HASH = "bad_hash"  # all bytes came, and are not what the name says: begin again
    BAD_CHUNK = "bad_chunk"  # beyond the end, empty, too long
    NOT_OFFERED = "not_offered"  # a chunk of a file that was not offered: offer it (again)
    OFF = "off"  # evidence is not taken here


@dataclass(frozen=True, slots=True)
class Offer:
    """A node has this file and what it is about."""

    size: Annotated[int, Limit(ge=1, lt=BLOB_BYTES_MAX)]
    content_type: Text = "application/octet-stream"
    camera_id: Text = ""
    from_utc_ms: Count = 0
    to_utc_ms: Count = 0
    blurred: bool = False
    events: Annotated[list[Text], Limit(len_max=32)] = field(default_factory=list)  # ids of CloudEvents
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes from `at` on."""

    at: Annotated[int, Limit(ge=0, lt=BLOB_BYTES_MAX)]
    data: bytes = field(repr=False, default=b"")
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Held:
    """What is durable at the coordinator. `complete`: all of it, and its hash is right."""

    size: Annotated[int, Limit(ge=1, lt=BLOB_BYTES_MAX)]
    ranges: Annotated[list[tuple[int, int]], Limit(len_max=RANGES_MAX)] = field(default_factory=list)
    complete: bool = False
    v: int = WIRE_VERSION


@dataclass(frozen=True, slots=True)
class Refused:
    """Not taken. `retry_after_s` 0: not at all, as far as anybody can say."""

    reason: Reason
    detail: Annotated[str, Limit(len_max=500)] = ""
    retry_after_s: Annotated[float, Limit(ge=0, le=10**7)] = 0.0
    v: int = WIRE_VERSION


_UP: dict[str, type[Offer] | type[Chunk]] = {"offer": Offer, "chunk": Chunk}
_DOWN: dict[str, type[Held] | type[Refused]] = {"held": Held, "refused": Refused}
_NAMES: dict[type[Any], str] = {cls: name for name, cls in (*_UP.items(), *_DOWN.items())}


def encode_blob(message: Offer | Chunk | Held | Refused) -> bytes:
    """The bytes of any of the four."""
    fields = fields_of(message)
    data = fields.pop("data", b"") if isinstance(message, Chunk) else b""
    head: bytes = msgpack.packb({"kind": _NAMES[type(message)], **fields})
    if len(head) > HEAD_BYTES_MAX:
        raise LocalWireError(f"the head of a blob message has {len(head)} bytes; at most {HEAD_BYTES_MAX}")
    if len(data) > CHUNK_BYTES_MAX:
        raise LocalWireError(f"a chunk of {len(data)} bytes; at most {CHUNK_BYTES_MAX}")
    return len(head).to_bytes(2, "big") + head + data


def decode_up(payload: bytes) -> Offer | Chunk:
    """What a node says."""
    kind, head, data = _opened(Kind.BLOB_UP, payload)
    if kind == "chunk":
        return _read(Chunk, head | {"data": data})
    if kind == "offer":
        return _read(Offer, head)
    raise RemoteWireError(f"blob: {str(kind)[:40]!r} is no message of a node")


def decode_down(payload: bytes) -> Held | Refused:
    """What the coordinator answers; its ranges are in order and within the file."""
    kind, head, _ = _opened(Kind.BLOB_DOWN, payload)
    if kind == "refused":
        return _read(Refused, head)
    if kind != "held":
        raise RemoteWireError(f"blob: {str(kind)[:40]!r} is no answer")
    held = _read(Held, head)
    end = -1
    for first, last in held.ranges:
        if not (end < first < last <= held.size):
            raise RemoteWireError(f"blob: held: [{first}, {last}] is no range of a file of {held.size} bytes")
        end = last
    return held


def is_digest(text: str) -> bool:
    """Whether it is a SHA-256 as the topics write it."""
    return _DIGEST.fullmatch(text) is not None


def _opened(kind: Kind, payload: bytes) -> tuple[Any, dict[str, Any], bytes]:
    limit = RULES[kind].payload_bytes_max
    if len(payload) > limit:
        raise RemoteWireError(f"{kind.value} of {len(payload)} bytes; at most {limit} are allowed")
    length = int.from_bytes(payload[:2], "big")
    if not 0 < length <= min(HEAD_BYTES_MAX, len(payload) - 2):
        raise RemoteWireError(f"{kind.value}: a head of {length} bytes in a message of {len(payload)}")
    try:
        head = msgpack.unpackb(payload[2 : 2 + length], strict_map_key=True)
    except (ValueError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteWireError(f"{kind.value}: the head is no msgpack: {error}") from error
    if not isinstance(head, dict) or not all(isinstance(key, str) for key in head):
        raise RemoteWireError(f"{kind.value}: the head is no object with named fields")
    return head.pop("kind", None), head, payload[2 + length :]


def _read(cls: type[T], head: dict[str, Any]) -> T:
    try:
        return read(cls, head, strict=False)
    except ShapeError as error:
        raise RemoteWireError(f"blob: {_NAMES[cls]}: {error}") from error


# ---- ranges -------------------------------------------------------------------------------------


def with_span(spans: Iterable[tuple[int, int]], first: int, last: int) -> Spans:
    """Half-open ranges, ascending and disjoint, with one more; those that touch become one."""
    found: Spans = []
    for a, b in sorted([*spans, (first, last)]):
        if found and a <= found[-1][1]:
            found[-1] = found[-1][0], max(b, found[-1][1])
        elif a < b:
            found.append((a, b))
    return found


def missing(spans: Iterable[tuple[int, int]], size: int) -> Spans:
    """What ascending, disjoint ranges leave of `0 … size`."""
    found, at = Spans(), 0
    for first, last in spans:
        if first > at:
            found.append((at, first))
        at = max(at, last)
    if at < size:
        found.append((at, size))
    return found
