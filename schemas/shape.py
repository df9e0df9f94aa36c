"""Mappings to dataclasses and back, driven by the annotations alone: for messages and for configuration.

`read` names every mistake at once, each with its place (`cameras[1].fps_target: …`). Messages ignore fields they do
not know, so that old and new versions understand each other; configuration refuses them, so that a typing error is
not silently a default.

An annotation may carry a `Limit`:  `fps: Annotated[float, Limit(gt=0, le=240)] = 10.0`
A dataclass may say what is written instead of a key that was there:  `RENAMED: ClassVar[...] = {"rate": "fps"}`
"""

import dataclasses
import difflib
import enum
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union

MISTAKES_MAX = 1000  # collected: a small message can hold very many
TOLD_MAX = 50  # of them in the text of an error

T = TypeVar("T")
Reader = Callable[[Any, str, list[str], bool], Any]


class ShapeError(Exception):
    """A mapping does not have the shape of the dataclass; `mistakes` lists all of them, up to MISTAKES_MAX."""

    def __init__(self, mistakes: list[str]) -> None:
        more = [f"and {len(mistakes) - TOLD_MAX} more"] if len(mistakes) > TOLD_MAX else []
        super().__init__("; ".join([*mistakes[:TOLD_MAX], *more]))
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Limit:
    """Bounds on a number, or on the length or form of a text or list."""

    gt: float | None = None
    ge: float | None = None
    lt: float | None = None
    le: float | None = None
    len_min: int | None = None
    len_max: int | None = None
    pattern: str | None = None
    means: str = ""  # the pattern in words

    def mistake(self, value: Any) -> str | None:
        """What is wrong with `value`, or None."""
        if isinstance(value, int | float):
            shown = _show(value)
            if self.gt is not None and not value > self.gt:
                return f"{shown} must be more than {self.gt:g}"
            if self.ge is not None and not value >= self.ge:
                return f"{shown} must be at least {self.ge:g}"
            if self.lt is not None and not value < self.lt:
                return f"{shown} must be less than {self.lt:g}"
            if self.le is not None and not value <= self.le:
                return f"{shown} must be at most {self.le:g}"
            return None
        if self.len_min is not None and len(value) < self.len_min:
            return f"too short: {len(value)}, at least {self.len_min}"
        if self.len_max is not None and len(value) > self.len_max:
            return f"too long: {len(value)}, at most {self.len_max}"
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            return f"{_show(value)} must be {self.means or 'like ' + self.pattern}"
        return None


def read(cls: type[T], raw: object, *, strict: bool) -> T:
    """`raw`, a mapping, as a `cls`. `strict` refuses unknown keys. Raises ShapeError with every mistake."""
    mistakes: list[str] = []
    reader: Reader = _reader(typing.cast(Any, cls))
    value = reader(raw, "", mistakes, strict)
    if mistakes:
        raise ShapeError(mistakes)
    return typing.cast(T, value)


def read_what_can_be(cls: type[T], raw: object) -> tuple[T | None, list[str]]:
    """As `read(..., strict=True)`, but with the mistakes beside a value in which defaults stand in for what is wrong.

    For further checks only. None stands where even that cannot be: for the whole, or for an item of a list.
    """
    mistakes: list[str] = []
    reader: Reader = _reader(typing.cast(Any, cls))
    try:
        return typing.cast(T | None, reader(raw, "", mistakes, True)), mistakes
    except ShapeError as error:  # there are too many to go on
        return None, error.mistakes


def fields_of(value: object) -> Any:
    """A dataclass as plain dicts, lists, strings and numbers. Empty tuples and None stay: the wire shows them."""
    cls: Any = type(value)
    if cls in _PLAIN:
        return value
    if cls in (list, tuple):
        return [item if type(item) in _PLAIN else fields_of(item) for item in typing.cast(list[Any], value)]
    if cls is dict:
        items = typing.cast(dict[Any, Any], value).items()
        return {key: item if type(item) in _PLAIN else fields_of(item) for key, item in items}
    if (names := _names(cls)) is not None:
        return {name: item if type(item := getattr(value, name)) in _PLAIN else fields_of(item) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return {key: fields_of(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [fields_of(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    return value


def items_of(value: object) -> list[tuple[str, Any]]:
    """The fields of a dataclass with their values, as they are."""
    cls: Any = type(value)
    return [(name, getattr(value, name)) for name in _names(cls) or ()]


_PLAIN = frozenset({str, int, float, bool, type(None)})


@functools.cache
def _names(cls: Any) -> tuple[str, ...] | None:
    """The fields of a dataclass; None for another class."""
    return tuple(one.name for one in dataclasses.fields(cls)) if dataclasses.is_dataclass(cls) else None


def _fail(where: str, mistakes: list[str], text: str) -> None:
    if len(mistakes) >= MISTAKES_MAX:
        raise ShapeError(mistakes)
    mistakes.append(f"{where}: {text}" if where else text)


@functools.cache
def _reader(annotation: Any) -> Reader:
    """The reader of one annotation, built once."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _limited(_reader(args[0]), [item for item in args[1:] if isinstance(item, Limit)])
    if annotation is Any or annotation is object:
        return lambda raw, where, mistakes, strict: raw
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return _dataclass_reader(annotation)
    if origin in (Union, types.UnionType):
        return _union_reader(args)
    if origin in (list, tuple, frozenset):
        return _sequence_reader(origin, args)
    if origin in (dict, Mapping) or getattr(origin, "__name__", "") == "Mapping":
        return _mapping_reader(args)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum_reader(annotation)
    if annotation in _SCALARS:
        return _scalar_reader(annotation)
    raise TypeError(f"shape.read cannot read {annotation!r}")


_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((float, int), "a number"),
    str: ((str,), "a text"),
    bytes: ((bytes,), "bytes"),
    Path: ((str, Path), "a path"),
    dict: ((dict,), "a table"),
    list: ((list,), "a list"),
    type(None): ((type(None),), "nothing"),
}


def _scalar_reader(annotation: Any) -> Reader:
    accepted, wanted = _SCALARS[annotation]

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        if not isinstance(raw, accepted) or (isinstance(raw, bool) and annotation is not bool):
            return _fail(where, mistakes, f"{_show(raw)} must be {wanted}")
        if annotation is float:
            try:
                number = float(typing.cast(float, raw))
            except OverflowError:
                number = math.inf
            if not math.isfinite(number):
                return _fail(where, mistakes, f"{_show(raw)} must be a finite number")
            return number
        return Path(str(raw)) if annotation is Path else raw

    return reader


def _limited(inner: Reader, limits: list[Limit]) -> Reader:
    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        before = len(mistakes)
        value = inner(raw, where, mistakes, strict)
        if len(mistakes) == before and value is not None:
            for limit in limits:
                text = limit.mistake(value)
                if text:
                    _fail(where, mistakes, text)
        return value

    return reader


def _union_reader(args: tuple[Any, ...]) -> Reader:
    readers = [_reader(arg) for arg in args]

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        first: list[str] | None = None
        for one in readers:
            found: list[str] = []
            try:
                value = one(raw, where, found, strict)
            except ShapeError as error:
                value, found = None, error.mistakes
            if not found:
                return value
            first = first or found
        mistakes.extend(first or [])
        return None

    return reader


def _sequence_reader(origin: Any, args: tuple[Any, ...]) -> Reader:
    fixed = origin is tuple and not (len(args) == 2 and args[1] is Ellipsis)
    readers = [_reader(arg) for arg in args if arg is not Ellipsis]

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        if not isinstance(raw, list | tuple):
            return _fail(where, mistakes, f"{_show(raw)} must be a list")
        if fixed and len(raw) != len(readers):
            return _fail(where, mistakes, f"needs {len(readers)} items, has {len(raw)}")
        items = [
            (readers[i] if fixed else readers[0])(item, f"{where}[{i}]", mistakes, strict)
            for i, item in enumerate(raw)
        ]
        return origin(items)

    return reader


def _mapping_reader(args: tuple[Any, ...]) -> Reader:
    inner = _reader(args[1])

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        if not isinstance(raw, Mapping):
            return _fail(where, mistakes, f"{_show(raw)} must be a table")
        if not all(isinstance(key, str) for key in raw):
            return _fail(where, mistakes, "keys must be texts")
        return {key: inner(item, f"{where}.{key}".lstrip("."), mistakes, strict) for key, item in raw.items()}

    return reader


def _enum_reader(annotation: type[enum.Enum]) -> Reader:
    by_value = {member.value: member for member in annotation}

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        try:
            return by_value[raw]
        except (KeyError, TypeError):
            return _fail(where, mistakes, f"{_show(raw)} must be one of {', '.join(map(str, by_value))}")

    return reader


def _dataclass_reader(cls: Any) -> Reader:
    hints = typing.get_type_hints(cls, include_extras=True)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    renamed: Mapping[str, str] = getattr(cls, "RENAMED", {})
    required = {
        name
        for name, f in known.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }

    def reader(raw: Any, where: str, mistakes: list[str], strict: bool) -> Any:
        if not isinstance(raw, Mapping):
            return _fail(where, mistakes, f"{_show(raw)} must be a table")
        prefix = f"{where}." if where else ""
        values: dict[str, Any] = {}
        for key, item in raw.items():
            if key in known:
                so_far = len(mistakes)
                value = _reader(hints[key])(item, prefix + key, mistakes, strict)
                if len(mistakes) == so_far or (value is not None and isinstance(item, list | Mapping)):
                    values[key] = value
            elif strict and key in renamed:
                _fail(f"{prefix}{key}", mistakes, f"is no key any more; write {renamed[key]}")
            elif strict:
                near = difflib.get_close_matches(str(key), known, n=1)
                _fail(f"{prefix}{key}", mistakes, "unknown key" + (f"; did you mean {near[0]}?" if near else ""))
        for key in sorted(required - raw.keys()):
            _fail(prefix + key, mistakes, "is missing")
        if required - values.keys():
            return None
        try:
            return cls(**values)
        except ValueError as error:
            return _fail(where, mistakes, str(error))

    return reader


def _show(raw: Any) -> str:
    try:
        text = repr(raw)
    except ValueError:  # Python refuses to write out integers of thousands of digits
        return f"a {type(raw).__name__} of extreme size"
    return text if len(text) <= 60 else text[:57] + "..."
