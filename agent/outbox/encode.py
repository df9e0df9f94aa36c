"""The bytes of a row: encoded once when it is committed, sent as they are. And back, for people and checks."""

import json
from typing import Any

import msgpack

from agent.outbox.rows import BATCHED_LANES, NAMES, Draft, Row, event_of
from schemas.codec import encode_event, identity_of
from schemas.errors import LocalWireError
from schemas.identity import Identity, Lane
from schemas.messages import SyncRow
from schemas.shape import ShapeError, fields_of, read
from schemas.topics import RULES, Kind

BATCHED_BYTES_MAX = RULES[Kind.SYNC].payload_bytes_max // 2


class Encoder:
    """Rows of one outbox file to bytes. For one thread at a time."""

    def __init__(self, *, node: str, stream: str, boot: int) -> None:
        self._node = node
        self._stream = stream
        self._boot = boot
        self._packer = _packer()

    def encode(self, draft: Draft, seq: int) -> bytes:
        """A CloudEvent for a lane whose rows travel alone, a msgpack SyncRow for a batched one.

        Raises LocalWireError for what cannot travel: too large for its topic, or not of JSON's values.
        """
        lane, data = draft.lane, draft.data
        if lane not in BATCHED_LANES:
            return encode_event(event_of(draft, Identity(self._node, self._stream, NAMES[lane], seq), self._boot))
        try:
            payload: bytes = self._packer.pack(
                {  # a SyncRow, without the way through one: this is done for each sample
                    "lane": NAMES[lane],
                    "seq": seq,
                    "type": draft.type,
                    "subject": draft.subject,
                    "time_utc_ms": draft.time_utc_ms,
                    "data": data if type(data) is dict else dict(data),
                }
            )
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise LocalWireError(f"{lane.value} row {draft.type} is not msgpack: {error}") from error
        if len(payload) > BATCHED_BYTES_MAX:
            self._packer = _packer()  # the old one would keep room for as much again
            raise LocalWireError(f"{lane.value} row {draft.type} of {len(payload)} bytes does not fit a batch")
        return payload


def _packer() -> msgpack.Packer:
    """Made once: that costs as much as a row does."""
    return msgpack.Packer(default=fields_of)


def sync_row(row: Row) -> SyncRow:
    """A batched row as it was appended. Raises LocalWireError when its bytes are damaged."""
    try:
        return read(SyncRow, msgpack.unpackb(row.payload), strict=False)
    except (ValueError, msgpack.UnpackException, ShapeError) as error:
        raise LocalWireError(f"{row.lane.value} row {row.seq} is no row of a batch: {error}") from error


def packed_key(payload: bytes) -> tuple[object, object]:
    """The lane and number that the bytes of a batched row name; (None, None) for bytes that are no such row."""
    try:
        fields = msgpack.unpackb(payload)
        return fields["lane"], fields["seq"]
    except (ValueError, TypeError, KeyError, msgpack.UnpackException):
        return None, None


def is_sound(node: str, lane: Lane, seq: int, payload: bytes) -> bool:
    """True when the bytes are those of this row: they can be read and name it."""
    if lane in BATCHED_LANES:
        try:
            item = sync_row(Row(lane, seq, "", payload))
        except LocalWireError:
            return False
        return item.lane == lane.value and item.seq == seq
    who = identity_of(node, payload)
    return who is not None and who.lane == lane.value and who.seq == seq


def stream_in(node: str, payload: bytes) -> str | None:
    """The stream that a row which travels alone names; None for others."""
    who = identity_of(node, payload)
    return None if who is None else who.stream


def shown(payload: bytes, **beside: object) -> str:
    """A row as one line of JSON for people, whatever its bytes are."""
    try:
        body: Any = json.loads(payload) if payload[:1] == b"{" else fields_of(msgpack.unpackb(payload))
    except (ValueError, msgpack.UnpackException):
        body = {"unreadable_hex": payload[:200].hex()}
    return json.dumps(beside | {"row": body}, ensure_ascii=False, default=str)
