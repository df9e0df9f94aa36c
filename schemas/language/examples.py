"""Examples: for each type a value that the type allows, the same one each time, and one that says something.

Ranges, lengths, enums and defaults are kept; patterns as far as `patterns.matching` goes. A value that a person would
type (`spoken`) has `5m` where one on the wire has 300 seconds.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.language.describe import span
from schemas.language.patterns import matching
from schemas.language.schema import (
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
)

TIME_UTC_MS = 1_795_521_600_123
TIME_TEXT = "2026-11-24T12:00:00.123Z"
VALUES_MAX = 10_000  # in one example
TEXT_CHARS_MAX = 10_000
LEVELS_MAX = 12  # of records in one another, where they need not be


class NoExampleError(Exception):
    """No value was found: a pattern that is too clever, or limits that leave nothing."""


def example(schema: Schema, type_: Type, name: str = "", *, spoken: bool = False) -> Any:
    """A value of the type, as JSON has it. `name` is that of its field, and gives texts. Raises NoExampleError."""
    return _Maker(schema, spoken).value(type_, name or _name_of(type_), ())


def example_of(
    schema: Schema, fields: Sequence[Field], *, spoken: bool = False, brief: bool = False
) -> dict[str, Any]:
    """An object with these fields: arguments, the data of an event. `brief`: with what must be there, no more."""
    return _Maker(schema, spoken, brief).fields(fields, ())


def example_key(schema: Schema, key: Type, name: str = "") -> str:
    """A key of a map, as text. Raises NoExampleError."""
    return _Maker(schema, spoken=False).keys(key, name or _name_of(key), 1)[0]


@dataclass(frozen=True, slots=True)
class _Maker:
    schema: Schema
    spoken: bool
    brief: bool = False
    made: list[None] = field(default_factory=list)  # one for each value so far

    def fields(self, fields: Sequence[Field], above: tuple[str, ...]) -> dict[str, Any]:
        return {one.name: self._field(one, above) for one in fields if one.required or not self.brief}

    def _field(self, one: Field, above: tuple[str, ...]) -> Any:
        if one.default is not None and not one.required:
            is_time = self.spoken and self._is_duration(one.type)
            return span(one.default) if is_time else one.default
        return self.value(one.type, one.name, above)

    def value(self, type_: Type, name: str, above: tuple[str, ...]) -> Any:
        """`above` are the records that it stands in."""
        self.made.append(None)
        if len(self.made) > VALUES_MAX:
            raise NoExampleError(f"an example has more than {VALUES_MAX} values")
        match self.schema.bare(type_):
            case Nullable(inner):
                return None if self._goes_on(inner, above) else self.value(inner, name, above)
            case ListOf(item, limits):
                count = self._count(limits, item, above)
                return [self.value(item, _single(name), above) for _ in range(count)]
            case MapOf(key, value, limits):
                keys = self.keys(key, _single(name), self._count(limits, value, above))
                return {each: self.value(value, _single(name), above) for each in keys}
            case Scalar(kind, limits):
                return self._scalar(kind, limits, name)
        match self.schema.named(type_):
            case RecordType() as record:
                if above.count(record.name) > LEVELS_MAX:
                    raise NoExampleError(f"{record.name} contains itself without an end")
                return self.fields(record.fields, (*above, record.name))
            case EnumType() as enum:
                return enum.choices[0].wire
        named = _name_of(type_)
        return _identifier(name or named) if _is_identifier(named) else {}

    def keys(self, key: Type, name: str, count: int) -> list[str]:
        """So many different keys."""
        if isinstance(enum := self.schema.named(key), EnumType):
            if count > len(enum.choices):
                raise NoExampleError(f"{enum.name} has no {count} values")
            return [choice.wire for choice in enum.choices[:count]]
        bare = self.schema.bare(key)
        if isinstance(bare, Scalar) and bare.kind is Kind.INTEGER:
            first = self._scalar(bare.kind, bare.limits, name)
            return [str(first + number) for number in range(count)]
        named = _name_of(key) or name
        limits = bare.limits if isinstance(bare, Scalar) else Limits()
        if count == 1 or limits.pattern:
            return [_text(limits, _identifier(named), named)] if count else []
        return [_text(limits, f"{number}", named) for number in range(1, count + 1)]

    def _count(self, limits: Limits, inner: Type, above: tuple[str, ...]) -> int:
        """One, where that is allowed and ends."""
        least, most = limits.length_least or 0, limits.length_most
        wanted = 0 if self._goes_on(inner, above) else 1
        count = max(least, wanted if most is None else min(wanted, most))
        if count > VALUES_MAX:
            raise NoExampleError(f"an example has more than {VALUES_MAX} values")
        return count

    def _goes_on(self, type_: Type, above: tuple[str, ...]) -> bool:
        """Whether a value of it would contain another value of a record that it stands in, or a name that goes on."""
        match type_:
            case Ref(name):
                if name in above or len(above) > LEVELS_MAX:
                    return True
                named = self.schema.types[name]
                return not isinstance(named, RecordType) and self._loops(type_, ())
            case ListOf(item) | Nullable(item) | MapOf(value=item):
                return self._goes_on(item, above)
        return False

    def _loops(self, type_: Type, seen: tuple[str, ...]) -> bool:
        match type_:
            case Ref(name):
                bare = self.schema.bare(type_)
                return name in seen or (not isinstance(bare, Ref) and self._loops(bare, (*seen, name)))
            case ListOf(item) | Nullable(item) | MapOf(value=item):
                return self._loops(item, seen)
        return False

    def _is_duration(self, type_: Type) -> bool:
        bare = self.schema.bare(type_)
        if isinstance(bare, Nullable):
            return self._is_duration(bare.inner)
        return isinstance(bare, Scalar) and bare.kind is Kind.DURATION

    def _scalar(self, kind: Kind, limits: Limits, name: str) -> Any:
        match kind:
            case Kind.STRING:
                return _text(limits, _identifier(name) if _is_identifier(name) else name.replace("_", " "), name)
            case Kind.BOOLEAN:
                return True
            case Kind.BYTES:
                least, most = limits.length_least or 0, limits.length_most
                if least > TEXT_CHARS_MAX:
                    raise NoExampleError(f"an example has at most {TEXT_CHARS_MAX} characters")
                size = 4 * math.ceil(max(least, 4 if most is None or most >= 4 else 0) / 4)
                if most is not None and size > most:
                    raise NoExampleError(f"no base64 has {least} to {most} characters")
                return "RWRnZXdy"[:size] + "AAAA" * ((size - 8) // 4)
            case Kind.INTEGER:
                return _whole(limits, 3)
            case Kind.FLOAT:
                return _number(limits)
            case Kind.DURATION:
                seconds = _within(limits, 300.0)
                return span(seconds) if self.spoken else seconds
            case Kind.TIMESTAMP:
                utc_ms = _whole(limits, TIME_UTC_MS)
                return TIME_TEXT if self.spoken and utc_ms == TIME_UTC_MS else utc_ms
            case Kind.JSON:
                return {}


def _name_of(type_: Type) -> str:
    match type_:
        case Ref(name):
            return name
        case ListOf(item) | Nullable(item) | MapOf(value=item):
            return _name_of(item)
    return ""


def _single(name: str) -> str:
    """`cameras` has a `camera` in it."""
    return name[:-1] if name.endswith("s") and not name.endswith("ss") else name


def _is_identifier(name: str) -> bool:
    return name.lower().endswith(("_id", "name")) or name.endswith("Id") or name.lower() == "id"


def _identifier(name: str) -> str:
    """`Camera_ID` and `camera_id` give `camera-1`."""
    short = name
    for ending in ("_id", "_name", "id", "name"):
        if name.lower().endswith(ending):
            short = name[: -len(ending)]
            break
    return f"{(short.strip('_') or name.strip('_') or 'id').lower().replace('_', '-')}-1"


def _text(limits: Limits, wanted: str, name: str) -> str:
    least, most = limits.length_least or 0, limits.length_most
    if least > TEXT_CHARS_MAX:
        raise NoExampleError(f"{name}: an example has at most {TEXT_CHARS_MAX} characters")
    if limits.pattern:
        is_one = (
            re.fullmatch(limits.pattern, wanted) and len(wanted) >= least and (most is None or len(wanted) <= most)
        )
        found = wanted if is_one else matching(limits.pattern, least, most)
        if found is None:
            raise NoExampleError(f"{name}: no text was found that matches {limits.pattern}")
        return found
    text = wanted or "text"
    while len(text) < least:
        text += f" {text}"[: least - len(text)]
    return text if most is None else text[:most]


def _whole(limits: Limits, wanted: int) -> int:
    least = None if limits.least is None else math.ceil(limits.least)
    most = None if limits.most is None else math.floor(limits.most)
    if least is not None and most is not None and least > most:
        raise NoExampleError(f"no whole number is from {limits.least:g} to {limits.most:g}")
    if least is not None:
        wanted = max(wanted, least)
    return wanted if most is None else min(wanted, most)


def _number(limits: Limits) -> float:
    """Three quarters of the way where both ends are known, in as few digits as fit between them."""
    least, most = limits.least, limits.most
    if least is None or most is None:
        return _within(limits, 2.5)
    wanted = least + (most - least) * 0.75
    for digits in range(1, 17):
        rounded = float(f"{wanted:.{digits}g}")
        if least <= rounded <= most and abs(rounded - wanted) <= (most - least) / 20:
            return rounded
    return float(min(max(wanted, least), most))


def _within(limits: Limits, wanted: float) -> float:
    low = wanted if limits.least is None else max(wanted, limits.least)
    return float(low if limits.most is None else min(low, limits.most))
