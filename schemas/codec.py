"""Messages to bytes and back, with a size cap for each kind.

Documents, events and alerts are JSON, so that every subscriber reads them; events follow CloudEvents 1.0 in JSON
(structured mode). Heartbeats, batches and acknowledgements are msgpack. Unknown fields are tolerated.
A batch may come as a zstd frame.
Decoding raises RemoteWireError, encoding LocalWireError; both say what is wrong and where.
"""

import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar, cast

import msgpack

from schemas.compiled import packed_of, quick_reader, read_cloud_event
from schemas.compress import decompress
from schemas.errors import LocalWireError, RemoteWireError
from schemas.identity import Identity
from schemas.messages import (
    WIRE_VERSION,
    Ack,
    Command,
    Event,
    Gap,
    Heartbeat,
    Refusal,
    Result,
    Severity,
    SyncBatch,
    SyncRow,
)
from schemas.shape import ShapeError, fields_of, items_of, read
from schemas.topics import ROOT, RULES, Kind
from schemas.values import quick_maker

T = TypeVar("T")

NESTING_MAX = 32
_ALERT_TYPES = {"raised": "AlertRaised", "updated": "AlertUpdated", "cleared": "AlertCleared"}
_SECONDS_REMEMBERED = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def _plain(value: object) -> Any:
    """What an encoder does not know by itself, in values that it knows. Raises TypeError."""
    found = fields_of(value)
    if found is value:
        raise TypeError(f"a {type(value).__name__} has no place in a message")
    return found


_encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode


def check_size(kind: Kind, payload: bytes) -> None:
    """Raises RemoteWireError when a payload is larger than its kind allows."""
    limit = RULES[kind].payload_bytes_max
    if len(payload) > limit:
        raise RemoteWireError(f"{kind.value} of {len(payload)} bytes; at most {limit} are allowed")


def encode_document(message: object) -> bytes:
    """A status, birth, desired, reported or result document as JSON. Of what came later to the wire nothing is said
    where there is nothing to say."""
    return _to_json(message, unsaid=("instance", "allocated"))


def decode_document(cls: type[T], kind: Kind, payload: bytes) -> T:
    """A JSON document of `cls`."""
    check_size(kind, payload)
    found = quick_document(cls, payload)
    return _shaped(cls, kind, _from_json(payload)) if found is None else found


def quick_document(cls: type[T], payload: bytes) -> T | None:
    """The same in a fraction of the time; None for one that has to be looked at closely."""
    quick = quick_reader(cast(Any, cls), packed=False, is_sound=_is_plain)
    found: T | None = None if quick is None else quick(payload)
    return found


def decode_object(kind: Kind, payload: bytes) -> dict[str, Any]:
    """The JSON object in `payload` as it came, fields of later versions included."""
    check_size(kind, payload)
    return _from_json(payload)


def document_hash(payload: bytes) -> str:
    """The short hash of a birth as it was published, which heartbeats carry."""
    return hashlib.sha256(payload).hexdigest()[:16]


def encode_packed(message: Heartbeat | SyncBatch | Ack) -> bytes:
    """A heartbeat, batch or acknowledgement as msgpack. Of what came later to the wire nothing is said where there is
    nothing to say: gap records, what was synchronised, and workloads."""
    return _pack(message, unsaid=("gaps", "closed", "sync", "workloads"))


def encode_batch(stream: str, boot: int, rows: Sequence[bytes]) -> bytes:
    """A `SyncBatch` of rows that are packed already: byte for byte what `encode_packed` makes of it."""
    packer = msgpack.Packer()
    parts = [packer.pack_map_header(4), packer.pack("stream"), packer.pack(stream), packer.pack("boot")]
    parts += [packer.pack(boot), packer.pack("rows"), packer.pack_array_header(len(rows)), *rows]
    parts += [packer.pack("v"), packer.pack(WIRE_VERSION)]
    return b"".join(parts)


def decode_packed(cls: type[T], kind: Kind, payload: bytes) -> T:
    """A msgpack message of `cls`."""
    payload = _within_limit(kind, payload)
    quick = quick_reader(cast(Any, cls), packed=True, is_sound=_is_plain)
    found: T | None = None if quick is None else quick(payload)
    return _shaped(cls, kind, _from_msgpack(payload)) if found is None else found


def _within_limit(kind: Kind, payload: bytes) -> bytes:
    """The payload within its limit; of a batch in a zstd frame what it unpacks to, within the same limit."""
    check_size(kind, payload)
    return decompress(payload, RULES[kind].payload_bytes_max) if kind is Kind.SYNC else payload


# ---- events and alerts: CloudEvents 1.0 --------------------------------------------------------


def encode_event(event: Event) -> bytes:
    """A CloudEvent. `source` names the node, whatever root its topics have; `(source, id)` never changes."""
    who = event.identity
    fields: dict[str, Any] = {
        "specversion": "1.0",
        "id": who.id,
        "source": f"/{ROOT}/{who.node}",
        "type": event.type,
        "subject": event.subject,
        "time": _time(event.time_utc_ms),
        "datacontenttype": "application/json",
        "edgestream": who.stream,
        "edgelane": who.lane,
        "edgeseq": str(who.seq),  # text: CloudEvents' integers end at 31 bits, a busy lane does not
        "edgeboot": event.boot,
    }
    if event.severity is not None:
        fields["edgeseverity"] = event.severity.value
    fields["data"] = event.data
    payload = _to_json(fields)
    limit = RULES[Kind.ALERT if event.severity else Kind.EVENT].payload_bytes_max
    if len(payload) > limit:
        raise LocalWireError(f"event {event.type} of {len(payload)} bytes; at most {limit} are allowed")
    return payload


def decode_event(kind: Kind, node: str, payload: bytes) -> Event:
    """The event in `payload`, which came on a topic of `node`; its `source` has to name the same node."""
    check_size(kind, payload)
    raw = _from_json(payload)
    if raw.get("specversion") != "1.0":
        raise RemoteWireError(f"{kind.value}: specversion is {_show(raw.get('specversion'))}, not '1.0'")
    source = _text(raw, "source")
    if source.rsplit("/", 1)[-1] != node:
        raise RemoteWireError(f"{kind.value}: source {source[:100]!r} is not node {node}, on whose topic it came")
    seq = _sequence(raw.get("edgeseq"))
    if seq is None:
        raise RemoteWireError(
            f"{kind.value}: edgeseq is {_show(raw.get('edgeseq'))}, not the text of a positive whole number"
        )
    boot = raw.get("edgeboot", 0)
    data = raw.get("data")
    if type(boot) is not int or not 0 <= boot < 2**63:
        raise RemoteWireError(f"{kind.value}: edgeboot is {boot!r}, not a whole number of at least 0")
    if not isinstance(data, dict):
        raise RemoteWireError(f"{kind.value}: data must be an object")
    identity = Identity(node, _text(raw, "edgestream"), _text(raw, "edgelane"), seq)
    if _text(raw, "id") != identity.id:
        raise RemoteWireError(f"{kind.value}: id {_show(raw['id'])} is not {identity.id}, which the edge fields say")
    severity = raw.get("edgeseverity")
    try:
        return Event(
            identity=identity,
            type=_text(raw, "type"),
            subject=str(raw.get("subject", "")),
            time_utc_ms=parse_utc(_text(raw, "time")),
            data=data,
            boot=boot,
            severity=None if severity is None else Severity(severity),
        )
    except ValueError as error:
        raise RemoteWireError(f"{kind.value}: {error}") from error


@dataclass(frozen=True, slots=True)
class OpenEvent:
    """An event whose data are still JSON, of which nothing is known yet."""

    identity: Identity
    type: str
    subject: str
    time_utc_ms: int
    boot: int
    severity: str | None
    data: bytes


_open_event, _identity_of = quick_maker(OpenEvent), quick_maker(Identity)


def open_event(kind: Kind, node: str, payload: bytes) -> OpenEvent | None:
    """What `decode_event` would make of it, its data left as they are; None where that has to decide."""
    if len(payload) > RULES[kind].payload_bytes_max or (raw := read_cloud_event(payload)) is None:
        return None
    seq = _sequence(raw.edgeseq)
    if seq is None or raw.specversion != "1.0":
        return None
    if raw.source.rsplit("/", 1)[-1] != node or raw.edgeseverity not in _SEVERITIES:
        return None
    identity = _identity_of(node, raw.edgestream, raw.edgelane, seq)
    if raw.id != identity.id:
        return None
    try:
        utc_ms = parse_utc(raw.time)
    except ValueError:
        return None
    return _open_event(identity, raw.type, raw.subject, utc_ms, raw.edgeboot, raw.edgeseverity, bytes(raw.data))


_SEVERITIES = frozenset({None, *(one.value for one in Severity)})


def _sequence(value: object) -> int | None:
    """1 … 2^63 - 1 from its one way to be written; None for everything else."""
    if not isinstance(value, str) or not 0 < len(value) <= 19 or not value.isascii() or not value.isdigit():
        return None
    seq = int(value)
    return seq if 0 < seq < 2**63 and value[0] != "0" else None


def identity_of(node: str, payload: bytes) -> Identity | None:
    """The identity in an event that `decode_event` refuses, as far as it can be read: whom to tell."""
    try:
        raw = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    if not isinstance(raw, dict):
        return None
    return _identity(node, raw.get("edgestream"), raw.get("edgelane"), _sequence(raw.get("edgeseq")))


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A `sync` message with its rows and gap records as they came: each is read, or refused, alone."""

    stream: str
    boot: int
    rows: list[Any]
    gaps: list[Any]


def open_batch(payload: bytes) -> OpenBatch:
    """The frame of a `sync` message. Raises RemoteWireError when the whole is unreadable."""
    raw = _unpacked(_within_limit(Kind.SYNC, payload))
    rows, gaps = raw.pop("rows", None), raw.pop("gaps", [])
    head = _shaped(SyncBatch, Kind.SYNC, _sound(raw))
    for name, items in (("rows", rows), ("gaps", gaps)):
        if not isinstance(items, list):
            raise RemoteWireError(f"sync: {name} must be a list")
    return OpenBatch(head.stream, head.boot, rows, gaps)


def read_row(stream: str, item: Any, place: str = "row") -> SyncRow | Refusal:
    """One row of a batch, or whom to tell why it is none.

    Raises RemoteWireError when it does not even say which one it is.
    """
    try:
        if flaw := _flaw(item, NESTING_MAX - 2):
            raise ShapeError([flaw])
        return read(SyncRow, item, strict=False)
    except ShapeError as error:
        lane, seq = (item.get("lane"), item.get("seq")) if isinstance(item, dict) else (None, None)
        who = _identity("", stream, lane, seq)
        if who is None:
            raise RemoteWireError(f"sync: {place}: {error}") from error
        return Refusal(who.stream, who.lane, who.seq, str(error)[:200])


def read_gap(item: Any) -> Gap:
    """One gap record of a batch. Raises RemoteWireError when it is none."""
    try:
        if flaw := _flaw(item, 2):
            raise ShapeError([flaw])
        gap = read(Gap, item, strict=False)
    except ShapeError as error:
        raise RemoteWireError(f"sync: gap: {error}") from error
    if not 0 < len(gap.stream) <= 200:
        raise RemoteWireError("sync: gap: stream must be a text of 1 to 200 characters")
    if not 1 <= gap.first <= gap.last:
        raise RemoteWireError(f"sync: gap: from {gap.first} to {gap.last} is no range of numbers from 1 on")
    return gap


def decode_batch(payload: bytes) -> tuple[SyncBatch, list[tuple[Refusal, Any]]]:
    """The rows of a `sync` message that can be read; each that cannot as a refusal with the row as it came.

    Raises RemoteWireError when the whole is unreadable, or a row does not even say which one it is.
    """
    batch = open_batch(payload)
    rows: list[SyncRow] = []
    refused: list[tuple[Refusal, Any]] = []
    for i, item in enumerate(batch.rows):
        row = read_row(batch.stream, item, f"rows[{i}]")
        if isinstance(row, Refusal):
            refused.append((row, item))
        else:
            rows.append(row)
    return SyncBatch(batch.stream, batch.boot, rows, [read_gap(item) for item in batch.gaps]), refused


def _identity(node: str, stream: Any, lane: Any, seq: Any) -> Identity | None:
    if not (isinstance(stream, str) and isinstance(lane, str) and type(seq) is int):
        return None
    fits = 0 < len(stream) <= 200 and 0 < len(lane) <= 200 and 0 < seq < 2**63 and (stream + lane).isascii()
    return Identity(node, stream, lane, seq) if fits else None


def alert_type(state: str) -> str:
    """The event type of a step in an alert's life: raised, updated, cleared."""
    return _ALERT_TYPES[state]


def format_utc(utc_ms: int) -> str:
    """RFC 3339 with milliseconds: 2026-11-24T10:00:00.123Z. Raises ValueError outside the years 1 to 9999."""
    return f"{_to_the_second(utc_ms // 1000)}.{utc_ms % 1000:03d}Z"


@functools.lru_cache(_SECONDS_REMEMBERED)
def _to_the_second(utc_s: int) -> str:
    """Remembered: what happens, happens many times a second."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def parse_utc(text: str) -> int:
    """The UTC milliseconds of an RFC 3339 time of 1970 or later. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone")
    utc_ms = round(moment.timestamp() * 1000)
    if utc_ms < 0:
        raise ValueError(f"time {text!r} is before 1970")
    return utc_ms


def _time(utc_ms: int) -> str:
    if utc_ms < 0:
        raise LocalWireError(f"{utc_ms} ms is a time before 1970")
    try:
        return format_utc(utc_ms)
    except (ValueError, OverflowError, OSError) as error:
        raise LocalWireError(f"{utc_ms} ms is no time: {error}") from error


# ---- commands ----------------------------------------------------------------------------------


def decode_command(function: str, payload: bytes) -> Command:
    """A call, typed by hand or sent by a program; an empty payload calls without arguments."""
    check_size(Kind.CMD, payload)
    packed = _is_packed(payload)
    fields = (_from_msgpack(payload) if packed else _from_json(payload)) if payload.strip() else {}
    identifier = fields.pop("_id", "")
    expires_s, deadline_s = _seconds(fields, "_expires_s"), _seconds(fields, "_deadline_s")
    if not isinstance(identifier, str) or len(identifier) > 128:
        raise RemoteWireError("cmd: _id must be a text of at most 128 characters")
    return Command(function, fields, identifier, expires_s, packed, deadline_s)


def _seconds(fields: dict[str, Any], key: str) -> float | None:
    value = fields.pop(key, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise RemoteWireError(f"cmd: {key} is {_show(value)}, not a number of seconds")
    return value


def encode_command(command: Command) -> bytes:
    """A call as `decode_command` reads it."""
    fields = dict(command.arguments)
    if command.id:
        fields["_id"] = command.id
    if command.expires_s is not None:
        fields["_expires_s"] = command.expires_s
    if command.deadline_s is not None:
        fields["_deadline_s"] = command.deadline_s
    return _pack(fields) if command.packed else _to_json(fields)


def encode_result(result: Result, *, packed: bool) -> bytes:
    """The answer to a command, in the caller's own encoding. Of progress nothing is said where there is none."""
    return _pack(result, unsaid=("progress",)) if packed else _to_json(result, unsaid=("progress",))


def decode_result(payload: bytes) -> Result:
    """An answer, JSON or msgpack."""
    check_size(Kind.RESULT, payload)
    raw = _from_msgpack(payload) if _is_packed(payload) else _from_json(payload)
    return _shaped(Result, Kind.RESULT, raw)


# ---- shared ------------------------------------------------------------------------------------


def _shaped(cls: type[T], kind: Kind, raw: Mapping[str, Any]) -> T:
    try:
        return read(cls, raw, strict=False)
    except ShapeError as error:
        raise RemoteWireError(f"{kind.value}: {error}") from error


def _to_json(message: object, *, unsaid: Sequence[str] = ()) -> bytes:
    """`unsaid` names fields that are left out when they are empty."""
    try:
        return _encode_json(_without(fields_of(message), unsaid) if unsaid else message).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise LocalWireError(f"not JSON: {error}") from error


def _pack(message: object, *, unsaid: Sequence[str] = ()) -> bytes:
    """`unsaid` names fields that are left out when they are empty."""
    try:
        if isinstance(message, Heartbeat | Ack):  # nothing in them may be anything
            return packed_of({name: v for name, v in items_of(message) if v or name not in unsaid})
        packed: bytes = msgpack.packb(_without(fields_of(message), unsaid))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise LocalWireError(f"not msgpack: {error}") from error
    return packed


def _without(fields: Any, unsaid: Sequence[str]) -> Any:
    for name in unsaid:
        if not fields.get(name, True):
            del fields[name]
    return fields


def _is_packed(payload: bytes) -> bool:
    """True for a msgpack map; JSON never begins with these bytes."""
    return bool(payload) and (payload[0] in range(0x80, 0x90) or payload[0] in (0xDE, 0xDF))


def _from_json(payload: bytes) -> dict[str, Any]:
    try:
        raw = json.loads(payload.decode(), parse_constant=_no_constant)
        if _SURROGATE.search(payload):
            _encode_json(raw).encode()  # half a character cannot be stored or sent on
    except UnicodeError as error:
        raise RemoteWireError(f"payload is no JSON, no valid Unicode: {error}; it begins {payload[:40]!r}") from error
    except (ValueError, RecursionError) as error:
        raise RemoteWireError(f"payload is no JSON: {error}; it begins {payload[:40]!r}") from error
    return _sound(_mapping(raw, payload))


def _from_msgpack(payload: bytes) -> dict[str, Any]:
    return _sound(_unpacked(payload))


def _unpacked(payload: bytes) -> dict[str, Any]:
    try:
        raw = msgpack.unpackb(payload, strict_map_key=True, max_str_len=len(payload), max_bin_len=len(payload))
    except (ValueError, OverflowError, msgpack.UnpackException, RecursionError) as error:
        raise RemoteWireError(f"payload is no msgpack: {error}; it begins {payload[:40]!r}") from error
    return _mapping(raw, payload)


def _mapping(raw: Any, payload: bytes) -> dict[str, Any]:
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise RemoteWireError(f"payload is no object with named fields; it begins {payload[:40]!r}")
    return raw


def flaw_of(value: Any, levels_max: int = NESTING_MAX) -> str | None:
    """What in a value no message could carry, such as `holds a set, which JSON does not have`; None for nothing."""
    try:
        return _flaw(value, levels_max) or _half_character(value)
    except RecursionError:
        return f"is nested deeper than {levels_max} levels"


def _half_character(value: Any) -> str | None:
    try:
        _encode_json(value).encode()
    except UnicodeEncodeError:
        return "holds half a character"
    return None


def _sound(raw: dict[str, Any]) -> dict[str, Any]:
    for key, item in raw.items():
        if flaw := _flaw(item, NESTING_MAX - 1):
            raise RemoteWireError(f"{key[:40]!r} {flaw}")
    return raw


def _is_plain(value: Any) -> bool:
    """A value that may be anything, and is nothing to look at closely."""
    if value is None or type(value) in (str, bool):
        return True
    return _flaw(value, NESTING_MAX - 3) is None  # it stands in a message, a field and perhaps a list


def _flaw(value: Any, left: int) -> str | None:
    """What in `value` cannot be sent on as JSON and as msgpack, and stored: both carry the same values."""
    if isinstance(value, str | bool | None):
        return None
    if isinstance(value, int):
        return None if -(2**63) <= value < 2**63 else "holds a whole number of more than 64 bits"
    if isinstance(value, float):
        return None if math.isfinite(value) else f"holds {value}, which is no JSON number"
    if left == 0:
        return f"is nested deeper than {NESTING_MAX} levels"
    if isinstance(value, list):
        return next((flaw for item in value if (flaw := _flaw(item, left - 1))), None)
    if not isinstance(value, dict):
        return f"holds a {type(value).__name__}, which JSON does not have"
    if not all(isinstance(key, str) for key in value):
        return "holds a key that is no text"
    return next((flaw for item in value.values() if (flaw := _flaw(item, left - 1))), None)


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise RemoteWireError(f"{key} is {_show(value)}, not a text of 1 to 200 characters")
    return value


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:97] + "..."


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")
