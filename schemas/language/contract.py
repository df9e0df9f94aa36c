"""The contract's own messages as a `Schema`, read from the dataclasses of `schemas/`: they are declared once.

status, birth, heartbeat, sync, ack, desired, reported, result, and the envelope of events and alerts
"""

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any, Union

from schemas import documents, messages
from schemas.language.schema import (
    EnumChoice,
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)
from schemas.shape import Limit, fields_of

MESSAGES = (
    messages.Status,
    messages.Birth,
    messages.Heartbeat,
    messages.SyncBatch,
    messages.Ack,
    messages.Result,
    documents.Desired,
    documents.Reported,
)
TIME_UTC_MS = 1_795_521_600_123
_STREAM = "0f1e2d3c4b5a6978"
_HASH = "5d41402abc4b2a76b9719d911017c592"
_STAMP = documents.Written(f"{TIME_UTC_MS}.0.coordinator")

# One of each kind that a node or the coordinator sends, as a reader would see it.
EXAMPLES: tuple[Any, ...] = (
    messages.Status(messages.Presence.ONLINE, boot=3, session=1, time_utc_ms=TIME_UTC_MS),
    messages.Birth(
        boot=3,
        session=1,
        name="Hall 4",
        node_type="Industrial_Gateway",
        site="plant-1",
        labels={"line": "4"},
        location={"lat": 31.23, "lon": 121.47},
        resources={"cores": 4.0, "memory_mb": 8192.0},
        platforms=["manufacturing"],
        functions=["snapshot", "status"],
        cameras=["cam1"],
        stream=_STREAM,
    ),
    messages.Heartbeat(
        boot=3,
        session=1,
        seq=41,
        uptime_s=615.0,
        time_utc_ms=TIME_UTC_MS,
        cpu_percent=38.5,
        memory_mb=96.0,
        temperature_c=51.0,
        disk_free_mb=20_480.0,
        outbox_pending={"event": 0, "sample": 12},
        streams=[messages.StreamReport("cam1", "default", "running", 9_225, 310, fps=15.0, counts={"person": 310})],
        birth_hash=_HASH,
    ),
    messages.SyncBatch(
        _STREAM,
        boot=3,
        rows=[messages.SyncRow("sample", 9, "Rates", "cam1", TIME_UTC_MS, {"frames": 900})],
        gaps=[messages.Gap(_STREAM, "sample", 10, 4000, "bytes")],
    ),
    messages.Ack(
        stored=[messages.LaneAck(_STREAM, "event", [(1, 41)])],
        closed=[messages.Closed(_STREAM, "sample", 10, 4000, [(12, 40)])],
    ),
    documents.Desired(1, 3, {"heartbeat_s": 5, "log.level": "DEBUG"}, {"log.level": _STAMP}, _HASH),
    documents.Reported(3, 7, 1, 3, _HASH, {"heartbeat_s": 5, "log.level": "DEBUG"}, hash=_HASH),
)

_SCALARS = {str: Kind.STRING, int: Kind.INTEGER, float: Kind.FLOAT, bool: Kind.BOOLEAN, bytes: Kind.BYTES}
_TEXT = Scalar(Kind.STRING)

# The attributes of CloudEvents 1.0 and ours, as `codec.encode_event` writes them. `data` is each event's own.
CLOUD_EVENT = RecordType(
    "CloudEvent",
    (
        Field("specversion", Scalar(Kind.STRING, Limits(pattern=r"1\.0"))),
        Field("id", _TEXT, doc="`<edgestream>.<edgelane>.<edgeseq>`; with `source` it never changes"),
        Field("source", _TEXT, doc="`/edge/v1/<node>`, whatever root the topics have"),
        Field("type", _TEXT, doc="the event's name, the last level of its topic"),
        Field("subject", _TEXT, required=False, default="", doc="what it is about, such as a camera and a track"),
        Field("time", _TEXT, doc="when it happened, RFC 3339 in UTC"),
        Field("datacontenttype", _TEXT, required=False, default="application/json"),
        Field("edgestream", _TEXT, doc="the outbox file that it came from"),
        Field("edgelane", _TEXT, doc="life cycle, alert, event, state, sample or evidence"),
        Field("edgeseq", Scalar(Kind.STRING, Limits(pattern="[1-9][0-9]*")), doc="its number in stream and lane"),
        Field("edgeboot", Scalar(Kind.INTEGER, Limits(least=0)), required=False, default=0, doc="the node's start"),
        Field("edgeseverity", Nullable(Ref("Severity")), required=False, doc="of alerts alone"),
        Field("data", Scalar(Kind.JSON)),
    ),
    doc="A fact. Whoever has seen its `source` and `id` has seen it: after an outage it may come again.",
)
ALERT = RecordType(
    "Alert",
    (
        Field("alert_id", _TEXT, doc="the same from raised to cleared"),
        Field("rule", _TEXT),
        Field("state", Ref("AlertState")),
        Field("camera_id", Nullable(_TEXT), required=False),
        Field("zone", Nullable(_TEXT), required=False),
        Field("duration_s", Nullable(Scalar(Kind.FLOAT)), required=False, unit="s"),
    ),
    doc="The data of a step in an alert's life, with whatever else its rule says.",
)
ALERT_STATE = EnumType("AlertState", tuple(EnumChoice(one, one) for one in ("raised", "updated", "cleared")))


def contract() -> Schema:
    """Every message of the contract as a record, and what they are made of."""
    found: dict[str, NamedType] = {one.name: one for one in (CLOUD_EVENT, ALERT, ALERT_STATE)}
    for one in (*MESSAGES, messages.Severity):
        _type(one, found)
    return Schema("contract", types=found)


def _type(annotation: Any, found: dict[str, NamedType]) -> Type:
    """An annotation as a type; the classes that it names are put into `found`."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        (limit,) = (one for one in args[1:] if isinstance(one, Limit))
        return _limited(_type(args[0], found), limit)
    if origin in (Union, types.UnionType):
        (inner,) = (one for one in args if one is not type(None))
        return Nullable(_type(inner, found))
    if origin is list:
        return ListOf(_type(args[0], found))
    if origin is tuple:  # of one kind, such as both ends of a range
        return ListOf(_type(args[0], found), Limits(length_least=len(args), length_most=len(args)))
    if origin in (dict, Mapping):
        return MapOf(_type(args[0], found), _type(args[1], found))
    if annotation is Any:
        return Scalar(Kind.JSON)
    if annotation in _SCALARS:
        return Scalar(_SCALARS[annotation])
    if annotation.__name__ not in found:
        _declare(annotation, found)
    return Ref(annotation.__name__)


def _declare(cls: Any, found: dict[str, NamedType]) -> None:
    doc, name = inspect.cleandoc(cls.__doc__ or ""), cls.__name__
    if issubclass(cls, enum.Enum):
        found[name] = EnumType(name, tuple(EnumChoice(str(one.value), str(one.value)) for one in cls), doc)
        return
    found[name] = RecordType(name, (), doc=doc)  # a record may contain itself
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = [_field(one, hints[one.name], found) for one in dataclasses.fields(cls)]
    found[name] = RecordType(name, tuple(fields), doc=doc)


def _field(one: "dataclasses.Field[Any]", hint: Any, found: dict[str, NamedType]) -> Field:
    type_ = _type(hint, found)
    if one.default is not dataclasses.MISSING:
        return Field(one.name, type_, required=False, default=fields_of(one.default))
    if one.default_factory is not dataclasses.MISSING:
        return Field(one.name, type_, required=False, default=fields_of(one.default_factory()))
    return Field(one.name, type_)


def _limited(type_: Type, limit: Limit) -> Type:
    """The limits that a message can have: bounds of a number (beyond it, of a whole one), the length of a text."""
    if isinstance(type_, Nullable):
        return Nullable(_limited(type_.inner, limit))
    assert isinstance(type_, Scalar), type_
    if type_.kind is Kind.STRING:
        return Scalar(type_.kind, Limits(None, None, limit.len_min, limit.len_max, limit.pattern or ""))
    assert limit.gt is None, "no message has one"
    is_bound = (
        limit.lt is not None and type_.kind is Kind.INTEGER and limit.lt < 2**63
    )  # an Integer ends there anyway
    return Scalar(type_.kind, Limits(limit.ge, limit.lt - 1 if is_bound and limit.lt is not None else limit.le))
