"""Validation, compiled: a schema's types become msgspec's. The one file that knows msgspec.

A value in its plain form, which is nearly every one, is checked by msgspec in a microsecond or two. Whatever msgspec
does not take goes to `check.py`, which coerces ("5m", 3.0 as a whole number), keeps fields of later versions, or says
all that is wrong: so both agree on what is right, and only the second has to explain.

    validators = Validators(schema)
    validators.arguments("snapshot")({"camera_id": "cam1"})   # {"camera_id": "cam1", "width_max": 1280, …}
    validators.event("LineCrossed").check(data)               # raises InvalidError, or nothing

Arguments refuse fields that are not declared, also within records; events, state and results keep them.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ForwardRef, Literal, TypeVar

import msgspec
from msgspec import Meta

from schemas.language.check import DEPTH_MAX, InvalidError, Reader
from schemas.language.json_schema import BASE64, mentioned
from schemas.language.openness import Look, Openness
from schemas.language.scalars import INTEGER_LEAST, INTEGER_MOST
from schemas.language.schema import (
    AliasType,
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
    references,
)

__all__ = ["InvalidError", "Validator", "Validators", "into", "plain"]

T = TypeVar("T")
_FLOAT_MOST = 1.7976931348623157e308
_WHOLE_KEY = r"^(?:0|-?[1-9][0-9]{0,17})\Z"  # longer ones are looked at slowly
_RECORDS = "__records__"  # in each compiled record: all of them by name, for those that mention each other
_ITEM = "item"
_KEPT = (bytes, bytearray, datetime)  # not turned into texts: JSON has none of them, so they are refused
_REFUSED = (msgspec.DecodeError, RecursionError, TypeError, ValueError)  # a ValidationError is a DecodeError


@dataclass(frozen=True, slots=True)
class _Quick:
    """What msgspec is asked. `closed` knows the declared fields only, `tolerant` passes over others."""

    closed: Any
    tolerant: Any
    closed_wire: Any  # the same two for bytes
    tolerant_wire: Any
    is_wrapped: bool  # the first two have the value as their only field
    look: Look | None  # at the places where anything may stand, or where it may be nested in itself


class Validator:
    """Checks values of one type. Raises InvalidError for what is none."""

    def __init__(self, quick: _Quick | None, slow: Callable[[object], Any]) -> None:
        self._quick = quick
        self._slow = slow
        self._json: msgspec.json.Decoder[Any] | None = None
        self._msgpack: msgspec.msgpack.Decoder[Any] | None = None
        self._tolerant_json: msgspec.json.Decoder[Any] | None = None

    def __call__(self, raw: object) -> Any:
        """The value as plain JSON data, coerced, its defaults filled in."""
        quick = self._quick
        if quick is not None:
            try:
                value = msgspec.convert({_ITEM: raw} if quick.is_wrapped else raw, quick.closed)
                found = msgspec.to_builtins(value, builtin_types=_KEPT)
            except _REFUSED:
                pass  # told below, or taken after all
            else:
                if quick.is_wrapped:
                    found = found[_ITEM]
                if quick.look is None or quick.look(found, 1):
                    return found
        return self._slow(raw)

    def check(self, raw: object) -> None:
        """The same without making the value: for data that stays as it is."""
        quick = self._quick
        if quick is not None:
            try:
                msgspec.convert({_ITEM: raw} if quick.is_wrapped else raw, quick.tolerant)
            except _REFUSED:
                pass
            else:
                if quick.look is None or quick.look(raw, 1):
                    return
        self._slow(raw)

    def check_json(self, payload: bytes | str) -> None:
        """As `check`, for data that is still JSON."""
        quick = self._quick
        if quick is not None and quick.look is None:
            if self._tolerant_json is None:
                self._tolerant_json = msgspec.json.Decoder(quick.tolerant_wire)
            try:
                self._tolerant_json.decode(payload)
            except _REFUSED:
                pass
            else:
                return
        self._slow(_decoded(msgspec.json.decode, payload, "JSON"))

    def is_plain_json(self, payload: bytes) -> bool:
        """True for JSON that is right and has declared fields only; False: it may be right all the same."""
        quick = self._quick
        if quick is None or quick.look is not None:
            return False
        if self._json is None:
            self._json = msgspec.json.Decoder(quick.closed_wire)
        try:
            self._json.decode(payload)
        except _REFUSED:
            return False
        return True

    def decode_json(self, payload: bytes | str) -> Any:
        """Bytes of JSON to the checked value."""
        if self._json is None and self._quick is not None:
            self._json = msgspec.json.Decoder(self._quick.closed_wire)
        return self._decoded(self._json, msgspec.json.decode, payload, "JSON")

    def decode_msgpack(self, payload: bytes) -> Any:
        """Bytes of msgpack to the checked value."""
        if self._msgpack is None and self._quick is not None:
            self._msgpack = msgspec.msgpack.Decoder(self._quick.closed_wire)
        return self._decoded(self._msgpack, msgspec.msgpack.decode, payload, "msgpack")

    def encode(self, value: object) -> bytes:
        """A value as JSON. Raises InvalidError for one that is none of the type."""
        return msgspec.json.encode(self(value))

    def encode_msgpack(self, value: object) -> bytes:
        """A value as msgpack. Raises InvalidError as `encode`."""
        return msgspec.msgpack.encode(self(value))

    def _decoded(self, decoder: Any, decode: Callable[[Any], Any], payload: bytes | str, name: str) -> Any:
        quick = self._quick
        if quick is not None:
            try:
                found = msgspec.to_builtins(decoder.decode(payload), builtin_types=_KEPT)
            except _REFUSED:
                pass  # told below, or taken after all
            else:
                if quick.look is None or quick.look(found, 1):
                    return found
        return self._slow(_decoded(decode, payload, name))


def _decoded(decode: Callable[[Any], Any], payload: bytes | str, name: str) -> Any:
    try:
        return decode(payload)
    except RecursionError as error:
        raise InvalidError("", f"nested deeper than {DEPTH_MAX} levels") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise InvalidError("", f"no {name}: {error}") from error


class Validators:
    """Those of one schema, each built when it is first asked for. Raises KeyError for names that it does not have."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self._closed = _Compiler(schema, closed=True)
        self._tolerant = _Compiler(schema, closed=False)
        self._open = Openness(schema)
        self._built: dict[tuple[str, str], Validator] = {}
        self._by_type: dict[Type, Validator] = {}

    def arguments(self, function: str) -> Validator:
        """Of a function; refuses fields that it does not declare."""
        return self._of_fields("arguments", function, lambda: self.schema.functions[function].parameters)

    def result(self, function: str) -> Validator:
        """Of a function; one that declares none may return anything."""
        return self.type(self.schema.functions[function].returns or Scalar(Kind.JSON))

    def event(self, name: str) -> Validator:
        """Of an event's data."""
        return self._of_fields("event", name, lambda: self.schema.events[name].fields)

    def state(self, collection: str) -> tuple[Validator, Validator]:
        """Of a collection's keys and values."""
        found = self.schema.state[collection]
        return self.type(found.key), self.type(found.value)

    def type(self, type_: Type) -> Validator:
        """Of any type of the schema; keeps fields that are not declared."""
        built = self._by_type.get(type_)
        if built is None:
            reader = Reader(self.schema, strict=False)
            built = Validator(self._quick(type_), lambda raw: reader.value(type_, raw))
            self._by_type[type_] = built
        return built

    def _of_fields(self, what: str, name: str, fields: Callable[[], Sequence[Field]]) -> Validator:
        built = self._built.get((what, name))
        if built is None:
            declared = fields()
            reader = Reader(self.schema, strict=what == "arguments")
            quick = self._quick_fields(f"{what}_{name}", declared, strict=what == "arguments")
            built = self._built[what, name] = Validator(quick, lambda raw: reader.fields(declared, raw))
        return built

    def _quick_fields(self, name: str, fields: Sequence[Field], *, strict: bool) -> _Quick | None:
        try:
            closed = self._closed.fields(name, fields)
            tolerant = closed if strict else self._tolerant.fields(name, fields)
        except _NoQuickWayError:
            return None
        return _Quick(closed, tolerant, closed, tolerant, False, self._open.of_fields(fields))

    def _quick(self, type_: Type) -> _Quick | None:
        item = [Field(_ITEM, type_)]
        try:
            closed, tolerant = self._closed.fields(_ITEM, item), self._tolerant.fields(_ITEM, item)
            wires = self._closed.root(type_), self._tolerant.root(type_)
        except _NoQuickWayError:
            return None
        return _Quick(closed, tolerant, *wires, True, self._open.of(type_))


# ---- types to msgspec's -------------------------------------------------------------------------


class _NoQuickWayError(Exception):
    """msgspec has no type for this one: its values are always read slowly."""


class _Compiler:
    """The records of one schema. `closed` ones refuse fields that are not declared."""

    def __init__(self, schema: Schema, *, closed: bool) -> None:
        self._schema = schema
        self._closed = closed
        self._reader = Reader(schema, strict=False)
        self._records: dict[str, Any] = {}
        self._aliases: list[str] = []  # under way

    def fields(self, name: str, fields: Sequence[Field]) -> Any:
        """A struct with these fields."""
        self._compile(name for one in fields for name in references(one.type))
        return self._struct(name, fields)

    def root(self, type_: Type) -> Any:
        """An annotation that stands alone: records in it are there, not to be looked up."""
        self._compile(references(type_))
        return self._annotation(type_, by_name=False)

    def _compile(self, names: Iterable[str]) -> None:
        waiting, seen = list(names), set[str]()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            type_ = self._schema.types[name]
            waiting += mentioned(type_)
            if isinstance(type_, RecordType) and name not in self._records:
                self._records[name] = self._struct(name, type_.fields)

    def _struct(self, name: str, fields: Sequence[Field]) -> Any:
        """Its Python names are f0, f1 …: a field may be called `class`, or as a method of a struct."""
        members: list[Any] = []
        for i, one in enumerate(fields):
            annotation = self._annotation(one.type)
            if one.required:
                members.append((f"f{i}", annotation))
            else:
                members.append((f"f{i}", annotation, self._default(one)))
        return msgspec.defstruct(
            name,
            members,
            rename={f"f{i}": one.name for i, one in enumerate(fields)},
            namespace={_RECORDS: self._records},
            kw_only=True,
            gc=False,
            forbid_unknown_fields=self._closed,
        )

    def _default(self, field: Field) -> Any:
        value = None if field.default is None else self._reader.value(field.type, field.default)
        if isinstance(value, dict | list):
            return msgspec.field(default_factory=lambda: value)  # shared: what is handed out is a copy
        return msgspec.field(default=value)

    def _annotation(self, type_: Type, *, by_name: bool = True) -> Any:
        match type_:
            case Nullable(inner):
                return _or_null(self._annotation(inner, by_name=by_name))
            case Scalar(kind, limits):
                return _scalar(kind, limits)
            case ListOf(item, limits):
                items: Any = list[self._annotation(item, by_name=by_name)]  # type: ignore[misc]
                return _with_lengths(items, limits)
            case MapOf(key, value, limits):
                entries: Any = dict[self._key(key), self._annotation(value, by_name=by_name)]  # type: ignore[misc]
                return _with_lengths(entries, limits)
            case Ref(name):
                return self._named(name, by_name)

    def _named(self, name: str, by_name: bool) -> Any:
        match self._schema.types[name]:
            case RecordType():
                return ForwardRef(f"{_RECORDS}[{name!r}]") if by_name else self._records[name]
            case EnumType(choices=choices):
                return Literal.__getitem__(tuple(one.wire for one in choices))
            case AliasType(type=inner):
                if name in self._aliases:
                    raise _NoQuickWayError(name)
                self._aliases.append(name)
                try:
                    return self._annotation(inner, by_name=by_name)
                finally:
                    self._aliases.pop()
        return Any

    def _key(self, key: Type) -> Any:
        bare = self._schema.bare(key)
        if isinstance(bare, Scalar):
            if bare.kind is Kind.INTEGER and bare.limits == Limits():
                return Annotated[str, Meta(pattern=_WHOLE_KEY)]
            if bare.kind is Kind.INTEGER:
                raise _NoQuickWayError("keys that are numbers within limits")
            return _scalar(bare.kind, bare.limits) if bare.kind is Kind.STRING else str
        return self._annotation(key) if isinstance(self._schema.named(key), EnumType) else str


def _or_null(annotation: Any) -> Any:
    if annotation is Any:
        return Any
    if isinstance(annotation, ForwardRef):
        return ForwardRef(f"{annotation.__forward_arg__} | None")
    return annotation | None


def _scalar(kind: Kind, limits: Limits) -> Any:
    match kind:
        case Kind.STRING:
            pattern = f"^(?:{limits.pattern})\\Z" if limits.pattern else None
            return _with_lengths(str, limits, pattern)
        case Kind.BYTES:
            return _with_lengths(str, limits, f"^{BASE64}\\Z")
        case Kind.BOOLEAN:
            return bool
        case Kind.INTEGER:
            return _whole(limits, INTEGER_LEAST)
        case Kind.TIMESTAMP:
            return _whole(limits, 0)
        case Kind.FLOAT | Kind.DURATION:
            # Both ends, always: neither infinity nor NaN is within them.
            least = -_FLOAT_MOST if limits.least is None else float(limits.least)
            most = _FLOAT_MOST if limits.most is None else float(limits.most)
            return Annotated[float, Meta(ge=least, le=most)]
        case Kind.JSON:
            return Any


def _whole(limits: Limits, least: int) -> Any:
    low = least if limits.least is None else max(least, math.ceil(limits.least))
    high = INTEGER_MOST if limits.most is None else min(INTEGER_MOST, math.floor(limits.most))
    if low > high:
        raise _NoQuickWayError(f"no whole number from {low} to {high}")
    return Annotated[int, Meta(ge=low, le=high)]


def _with_lengths(annotation: Any, limits: Limits, pattern: str | None = None) -> Any:
    least, most = limits.length_least, limits.length_most
    if least is None and most is None and pattern is None:
        return annotation
    return Annotated[annotation, Meta(min_length=least, max_length=most, pattern=pattern)]


# ---- plain data and Python's own types ----------------------------------------------------------


def into(annotation: Any, value: object) -> Any:
    """Checked data as what a function's annotation names: a dataclass, an enum, a list of them.

    Raises InvalidError."""
    try:
        return msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        text, _, at = str(error).partition(" - at `")
        raise InvalidError(re.sub(r"^\$\.?", "", at.rstrip("`")), text) from error


def plain(value: object) -> Any:
    """What a function returns as JSON data: dataclasses, enums and tuples in it become objects, texts and lists."""
    return _listed(msgspec.to_builtins(value))


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(item) for item in value]
    return value
