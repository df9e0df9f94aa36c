"""Whether an annotation of Python fits a type of the language. Pure; no value is looked at.

IN, of a parameter   every value of the type is one of the annotation
OUT, of a result     every value of the annotation is one of the type

String str · Integer int · Float, Duration float · Timestamp int · Boolean bool · Json anything
    Bytes bytes, or str for the base64 text
enum str, an Enum or a Literal of its texts · record a dataclass of its fields, or a mapping
array list, tuple[T, ...] or Sequence · Map dict or Mapping · T? T | None
"""

import collections.abc
import dataclasses
import difflib
import enum
import keyword
import types
import typing
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

from schemas.language.schema import (
    EnumType,
    Kind,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Scalar,
    Schema,
    Type,
    written,
)

_SCALARS: dict[Kind, type] = {
    Kind.STRING: str,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.BOOLEAN: bool,
    Kind.BYTES: bytes,
    Kind.DURATION: float,
    Kind.TIMESTAMP: int,
}
_MEANS = {Kind.DURATION: ", the seconds", Kind.TIMESTAMP: ", UTC milliseconds"}
_NUMBERS = (Kind.INTEGER, Kind.FLOAT, Kind.DURATION, Kind.TIMESTAMP)
_LISTS = (list, tuple, collections.abc.Sequence, collections.abc.Collection)
_MAPS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_AWAITABLES = (collections.abc.Awaitable, collections.abc.Coroutine)


class Way(StrEnum):
    IN = "in"
    OUT = "out"


class Fitting:
    """One annotation against one type. `path` says in messages what is annotated: `zone`, its field `points`."""

    def __init__(self, schema: Schema, way: Way) -> None:
        self._schema = schema
        self._way = way
        self._seen: set[tuple[str, int]] = set()

    def mistakes(self, type_: Type, annotation: Any, path: str) -> Iterator[str]:
        annotation = _bare(annotation)
        if annotation in (Any, object) or isinstance(annotation, typing.TypeVar):
            return
        type_ = self._schema.bare(type_)
        if isinstance(type_, Nullable):
            yield from self._nullable(type_, annotation, path)
            return
        members = _members(annotation)
        if self._way is Way.OUT:
            if types.NoneType in members and not self._is_open(type_):
                yield f"{path} may be None, and the schema declares {written(type_)}, never null"
            for member in members:
                if member is not types.NoneType:
                    yield from self._one(type_, member, path)
            return
        # One member that takes every value is enough.
        tried = [list(self._one(type_, member, path)) for member in members if member is not types.NoneType]
        if all(tried) or not tried:
            yield from tried[0] if tried else [self._says(type_, annotation, path)]

    def _nullable(self, type_: Nullable, annotation: Any, path: str) -> Iterator[str]:
        members = _members(annotation)
        if self._way is Way.IN and types.NoneType not in members:
            yield f"{path} is {shown(annotation)}, and the schema declares {written(type_)}: null comes as None; " + (
                f"write {shown(annotation)} | None"
            )
        rest = [member for member in members if member is not types.NoneType]
        if rest:
            inner = rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007 - of as many as there are
            yield from self.mistakes(type_.inner, inner, path)

    def _one(self, type_: Type, annotation: Any, path: str) -> Iterator[str]:
        """Of a type that is no alias and not nullable, and an annotation that is no union."""
        match type_:
            case Scalar(kind):
                if not self._scalar_fits(kind, annotation):
                    yield self._says(type_, annotation, path)
            case ListOf():
                yield from self._list(type_, annotation, path)
            case MapOf():
                yield from self._map(type_, annotation, path)
            case _:
                match self._schema.named(type_):
                    case RecordType() as record:
                        yield from self._record(record, annotation, path)
                    case EnumType() as enum_type:
                        yield from self._enum(enum_type, annotation, path)

    def _is_open(self, type_: Type) -> bool:
        """Any value will do, null too."""
        if isinstance(type_, Scalar):
            return type_.kind is Kind.JSON
        named = self._schema.named(type_)
        return not isinstance(type_, ListOf | MapOf) and not isinstance(named, RecordType | EnumType)

    def _scalar_fits(self, kind: Kind, annotation: Any) -> bool:
        if kind is Kind.JSON or annotation is _SCALARS[kind] or (kind is Kind.BYTES and annotation is str):
            return True
        if kind in _NUMBERS:  # a whole number is a number too, not the other way round
            wider, narrower = (annotation, _SCALARS[kind]) if self._way is Way.IN else (_SCALARS[kind], annotation)
            return wider is float and narrower is int
        if kind is Kind.STRING and self._way is Way.OUT:
            texts = typing.get_args(annotation) if typing.get_origin(annotation) is typing.Literal else ()
            return _is_class(annotation, str) or bool(texts and all(isinstance(text, str) for text in texts))
        return False

    def _list(self, type_: ListOf, annotation: Any, path: str) -> Iterator[str]:
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if origin not in _LISTS:
            yield self._says(type_, annotation, path)
        elif origin is tuple and arguments and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            hint = f"write {self._right(type_)}"
            yield f"{path} is {shown(annotation)}, and the schema declares a list of any length; {hint}"
        elif arguments:
            yield from self.mistakes(type_.item, arguments[0], f"each of {path}")

    def _map(self, type_: MapOf, annotation: Any, path: str) -> Iterator[str]:
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if origin not in _MAPS:
            yield self._says(type_, annotation, path)
        elif len(arguments) == 2:
            yield from self.mistakes(type_.key, arguments[0], f"each key of {path}")
            yield from self.mistakes(type_.value, arguments[1], f"each value of {path}")

    def _record(self, record: RecordType, annotation: Any, path: str) -> Iterator[str]:
        if (typing.get_origin(annotation) or annotation) in _MAPS or typing.is_typeddict(annotation):
            return
        if not (isinstance(annotation, type) and dataclasses.is_dataclass(annotation)):
            hint = f"write a dataclass with the fields of {record.name}, or Mapping[str, Any]"
            yield f"{path} is {shown(annotation)}, and the schema declares {record.name}; {hint}"
            return
        if (record.name, id(annotation)) in self._seen:
            return
        self._seen.add((record.name, id(annotation)))
        try:
            hints = typing.get_type_hints(annotation)
        except Exception as error:  # noqa: BLE001 - annotations are somebody else's code, and run here
            yield f"{path}: the annotations of {shown(annotation)} cannot be read: {type(error).__name__}: {error}"
            return
        given = {one.name: one for one in dataclasses.fields(annotation)}
        wanted = {one.name: one for one in record.fields}
        if words := [name for name in wanted if keyword.iskeyword(name)]:
            why = f"{record.name} has a field `{words[0]}`, a word of Python"
            yield f"{path} is {shown(annotation)}, and {why}; write Mapping[str, Any]"
            return
        where = f"{path}, {shown(annotation)}"
        missing = [name for name in wanted if name not in given]
        for name in [name for name in given if name not in wanted]:
            near = difflib.get_close_matches(name, missing, n=1, cutoff=0.5)
            if near:
                missing.remove(near[0])
            hint = f"did you mean {near[0]}?" if near else f"{record.name} has {', '.join(wanted)}"
            yield f"{where}: field `{name}` is not declared; {hint}"
        for name in missing:
            # A result may leave out what a call may leave out; a record that came has every field.
            if self._way is Way.IN or wanted[name].required:
                yield f"{where}: field `{name}` of {record.name} is missing"
        for name, field in wanted.items():
            if name in given and given[name].init is False and self._way is Way.IN:
                yield f"{where}: field `{name}` cannot be given (init=False)"
            elif name in given:
                yield from self.mistakes(field.type, hints[name], f"{where}: field `{name}`")

    def _enum(self, declared: EnumType, annotation: Any, path: str) -> Iterator[str]:
        texts = {choice.wire for choice in declared.choices}
        if annotation is str:
            return
        if _is_class(annotation, enum.Enum):
            given = {member.value for member in annotation}
        elif typing.get_origin(annotation) is typing.Literal:
            given = set(typing.get_args(annotation))
        else:
            hint = f"write str, or an Enum with {', '.join(sorted(texts))}"
            yield f"{path} is {shown(annotation)}, and the schema declares {declared.name}; {hint}"
            return
        where = f"{path}, {shown(annotation)}"
        lacking, extra = sorted(texts - given), sorted(map(repr, given - texts))
        if lacking and self._way is Way.IN:
            yield f"{where}: the values {', '.join(lacking)} of {declared.name} are missing"
        if extra:
            has = ", ".join(sorted(texts))
            yield f"{where}: {', '.join(extra)} are no values of {declared.name}, which has {has}"

    def _says(self, type_: Type, annotation: Any, path: str) -> str:
        means = _MEANS.get(type_.kind, "") if isinstance(type_, Scalar) else ""
        declares = f"the schema declares {written(type_)}"
        return f"{path} is {shown(annotation)}, and {declares}; write {self._right(type_)}{means}"

    def _right(self, type_: Type) -> str:
        """An annotation that fits."""
        type_ = self._schema.bare(type_)
        match type_:
            case Scalar(kind):
                return "Any" if kind is Kind.JSON else _SCALARS[kind].__name__
            case ListOf(item):
                return f"list[{self._right(item)}]"
            case MapOf(key, value):
                return f"dict[{self._right(key)}, {self._right(value)}]"
            case Nullable(inner):
                return f"{self._right(inner)} | None"
        match self._schema.named(type_):
            case RecordType(name) | EnumType(name):
                return name
        return "Any"


def shown(annotation: Any) -> str:
    """An annotation as people write it."""
    if annotation is None or annotation is types.NoneType:
        return "None"
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("collections.abc.", "")


def _bare(annotation: Any) -> Any:
    """Without `Annotated`, `NewType`, and what an `async` function's result is wrapped in."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in _AWAITABLES:
            annotation = typing.get_args(annotation)[-1]
        else:
            return annotation


def _members(annotation: Any) -> list[Any]:
    """Of a union; else the annotation alone. None is NoneType."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [_bare(member) for member in typing.get_args(annotation)]
    return [types.NoneType if annotation is None else annotation]


def _is_class(annotation: Any, base: type) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, base)
