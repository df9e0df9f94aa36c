"""Messages read in one pass by msgspec: for what is plain and right, which is nearly everything.

A reader made here gives the same dataclass as `shape.read` of the decoded bytes, or None: then the slow way decides,
coerces what it coerces, passes over fields of later versions, and says what is wrong. So both refuse the same.
"""

import dataclasses
import enum
import functools
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, Union

import msgspec
from msgspec import Meta

from schemas.shape import Limit, fields_of
from schemas.values import quick_maker

T = TypeVar("T")
Quick = Callable[[bytes], Any]
FLOAT_MOST = 1.7976931348623157e308
_INT = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_FLOAT = Annotated[float, Meta(ge=-FLOAT_MOST, le=FLOAT_MOST)]  # neither NaN nor an infinity
_NAME = Annotated[str, Meta(min_length=1, max_length=200)]
_REFUSED = (msgspec.DecodeError, RecursionError, TypeError, ValueError)  # a ValidationError is a DecodeError


class CloudEvent(msgspec.Struct, forbid_unknown_fields=True):
    """A CloudEvent as agents write it, its data still JSON. Nothing but the types was looked at."""

    specversion: str
    id: _NAME
    source: _NAME
    type: _NAME
    time: _NAME
    edgestream: _NAME
    edgelane: _NAME
    edgeseq: str
    data: msgspec.Raw
    subject: str = ""
    datacontenttype: str = ""
    edgeboot: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    edgeseverity: str | None = None


_cloud_events = msgspec.json.Decoder(CloudEvent)
_packer = msgspec.msgpack.Encoder(enc_hook=fields_of)
_encoder = msgspec.json.Encoder(enc_hook=fields_of)


def read_cloud_event(payload: bytes) -> CloudEvent | None:
    """None where it has to be looked at closely."""
    try:
        return _cloud_events.decode(payload)
    except _REFUSED:
        return None


def json_of(value: object) -> str:
    """A dataclass as JSON: what `shape.fields_of` and `json.dumps` give but for blanks, in a tenth of the time.

    For what was checked: a number that is none becomes null.
    """
    return _encoder.encode(value).decode()


def packed_of(value: object) -> bytes:
    """The same as msgpack."""
    return _packer.encode(value)


def compact(data: bytes | msgspec.Raw) -> str:
    """JSON without the blanks between its parts."""
    return msgspec.json.format(bytes(data), indent=-1).decode()


class NotCompiledError(Exception):
    """A type that has no quick way."""


@functools.cache
def quick_reader(cls: Any, *, packed: bool, is_sound: Callable[[Any], bool]) -> Quick | None:
    """A reader of msgpack (`packed`) or JSON as `cls`, which is a dataclass; None where there can be no quick way.

    `is_sound` is asked of each value that may be anything.
    """
    try:
        struct, finish = _struct(cls, is_sound)
    except NotCompiledError:
        return None
    decoder: Any = msgspec.msgpack.Decoder(struct) if packed else msgspec.json.Decoder(struct)
    decode = decoder.decode

    def read(payload: bytes) -> Any:
        try:
            return finish(decode(payload))
        except _REFUSED:
            return None

    return read


def _struct(cls: Any, is_sound: Callable[[Any], bool]) -> tuple[Any, Callable[[Any], Any]]:
    """A type that msgspec reads, and what makes a `cls` of it. It refuses fields that it does not know."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: list[Any] = []
    converters: dict[int, Callable[[Any], Any]] = {}
    names = [one.name for one in dataclasses.fields(cls)]
    for at, one in enumerate(dataclasses.fields(cls)):
        if not one.init:
            raise NotCompiledError(f"{cls.__name__}.{one.name}")
        type_, convert = _compiled(hints[one.name], is_sound)
        if convert is not None:
            converters[at] = convert
        if one.default is not dataclasses.MISSING:
            fields.append((one.name, type_, msgspec.field(default_factory=_same(one.default))))
        elif one.default_factory is not dataclasses.MISSING:
            fields.append((one.name, type_, msgspec.field(default_factory=one.default_factory)))
        else:
            fields.append((one.name, type_))
    struct = msgspec.defstruct(cls.__name__, fields, forbid_unknown_fields=True, kw_only=True)
    values = operator.attrgetter(*names) if len(names) > 1 else lambda read: (getattr(read, names[0]),)
    make = quick_maker(cls)
    if not converters:
        return struct, lambda read: make(*values(read))

    def finish(read: Any) -> Any:
        found = list(values(read))
        for at, convert in converters.items():
            found[at] = convert(found[at])
        return make(*found)

    return struct, finish


def _same(value: Any) -> Callable[[], Any]:
    return lambda: value


def _compiled(annotation: Any, is_sound: Callable[[Any], bool]) -> tuple[Any, Callable[[Any], Any] | None]:
    """What msgspec reads, and what is to be done with that where it is not all."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return _limited(args[0], [one for one in args[1:] if isinstance(one, Limit)])
    if annotation is int:
        return _INT, None
    if annotation is float:
        return _FLOAT, None
    if annotation in (str, bool):
        return annotation, None
    if annotation is Any:
        return Any, _sound(is_sound)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation, None
    if dataclasses.is_dataclass(annotation):
        return _struct(annotation, is_sound)
    if origin in (Union, types.UnionType):
        others = [one for one in args if one is not type(None)]
        if len(others) != 1:
            raise NotCompiledError(str(annotation))
        type_, convert = _compiled(others[0], is_sound)
        return type_ | None, convert and _unless_none(convert)
    if origin is list:
        type_, convert = _compiled(args[0], is_sound)
        return list[type_], convert and _each(convert)  # type: ignore[valid-type]
    if origin is tuple and args and Ellipsis not in args:
        members = [_compiled(arg, is_sound) for arg in args]
        if all(convert is None for _, convert in members):
            return types.GenericAlias(tuple, tuple(type_ for type_, _ in members)), None
    if origin in (dict, Mapping) and args[0] is str:
        type_, convert = _compiled(args[1], is_sound)
        return dict[str, type_], convert and _each_of(convert)  # type: ignore[valid-type]
    raise NotCompiledError(str(annotation))


def _each(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda items: [convert(item) for item in items]


def _each_of(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda items: {key: convert(item) for key, item in items.items()}


def _unless_none(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else convert(value)


def _limited(inner: Any, limits: list[Limit]) -> tuple[Any, None]:
    """Numbers with bounds, and texts with lengths; others are left to the slow way."""
    if len(limits) != 1 or inner not in (int, float, str):
        raise NotCompiledError(str(inner))
    limit = limits[0]
    if inner is str:
        if limit.pattern is not None:
            raise NotCompiledError(str(inner))
        return Annotated[str, Meta(min_length=limit.len_min, max_length=limit.len_max)], None
    least, most = (-(2**63), 2**63 - 1) if inner is int else (-FLOAT_MOST, FLOAT_MOST)
    bounds: dict[str, Any] = {"ge": least, "le": most}
    if limit.ge is not None:
        bounds["ge"] = inner(max(limit.ge, least))
    if limit.gt is not None:
        bounds = {"gt": inner(limit.gt), **{key: value for key, value in bounds.items() if key != "ge"}}
    if limit.le is not None:
        bounds["le"] = inner(min(limit.le, most))
    if limit.lt is not None and limit.lt <= most:
        bounds = {"lt": inner(limit.lt), **{key: value for key, value in bounds.items() if key != "le"}}
    return Annotated[inner, Meta(**bounds)], None


def _sound(is_sound: Callable[[Any], bool]) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not is_sound(value):
            raise ValueError("left to the slow way")
        return value

    return check
