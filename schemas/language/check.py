"""A value against its type, slowly and completely: every mistake with its place, what can be coerced coerced. Pure.

    Integer    3.0 is 3; at most 64 bits            Duration   "1h30m" is 5400.0 seconds
    Float      3 is 3.0; neither NaN nor infinite    Timestamp  "2026-11-24T12:00:00Z" is UTC milliseconds

`validators.py` asks this where its fast way says no: to be told why, and for what the fast way does not coerce.
"""

import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from schemas.language import scalars
from schemas.language.json_schema import WHOLE
from schemas.language.scalars import (
    INTEGER_LEAST,
    INTEGER_MOST,
    coerced,
    compiled,
    is_unicode,
    is_whole,
    is_within,
    show,
    span,
)
from schemas.language.schema import (
    AliasType,
    EnumType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    OpaqueType,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)

DEPTH_MAX = 32  # objects and lists, one in another
MISTAKES_MAX = 20  # told of one value


class InvalidError(Exception):
    """A value is none of its type. `field` is a path such as `zones[2].name`, empty for the whole.

    The first mistake is `field` and `message`, which says what would be right; `mistakes` has them all, to a limit.
    """

    def __init__(self, field: str, message: str, mistakes: Iterable[tuple[str, str]] = ()) -> None:
        self.field = field
        self.message = message
        self.mistakes: tuple[tuple[str, str], ...] = tuple(mistakes) or ((field, message),)
        super().__init__("; ".join(f"{at}: {text}" if at else text for at, text in self.mistakes))


class Reader:
    """Reads values of one schema. `strict` refuses fields that are not declared; else they are kept as they are."""

    def __init__(self, schema: Schema, *, strict: bool) -> None:
        self._schema = schema
        self._strict = strict

    def fields(self, fields: Sequence[Field], raw: object) -> dict[str, Any]:
        """An object with these fields, defaults filled in. Raises InvalidError."""
        run = _Run(self._schema, self._strict)
        found = run.fields(fields, raw, "", 1, "argument" if self._strict else "field")
        run.finish()
        return found

    def value(self, type_: Type, raw: object) -> Any:
        """A value of this type. Raises InvalidError."""
        run = _Run(self._schema, self._strict)
        found = run.value(type_, raw, "", 1, "")
        run.finish()
        return found


class _Run:
    """One value on its way; what is found wrong is collected."""

    def __init__(self, schema: Schema, strict: bool) -> None:
        self._schema = schema
        self._strict = strict
        self._mistakes: list[tuple[str, str]] = []

    def finish(self) -> None:
        if self._mistakes:
            raise InvalidError(*self._mistakes[0], self._mistakes)

    def _wrong(self, at: str, text: str) -> Any:
        if len(self._mistakes) < MISTAKES_MAX:
            self._mistakes.append((at, text))
        return None

    @property
    def _is_full(self) -> bool:
        return len(self._mistakes) >= MISTAKES_MAX

    def fields(self, fields: Sequence[Field], raw: object, at: str, depth: int, word: str) -> dict[str, Any]:
        if not isinstance(raw, dict):
            self._wrong(at, f"{show(raw)} must be an object")
            return {}
        if depth > DEPTH_MAX:
            self._wrong(at, f"nested deeper than {DEPTH_MAX} levels")
            return {}
        found: dict[str, Any] = {}
        others = self._others(fields, raw, at, depth, word)
        for one in fields:
            place = f"{at}.{one.name}" if at else one.name
            if one.name in raw:
                found[one.name] = self.value(one.type, raw[one.name], place, depth + 1, one.unit)
            elif one.required:
                self._wrong(place, f"is missing; it must be {self.wanted(one.type, one.unit)}")
            elif one.default is not None:
                found[one.name] = self.value(one.type, one.default, place, depth + 1, one.unit)
            else:
                found[one.name] = None
        found.update(others)
        return found

    def _others(self, fields: Sequence[Field], raw: dict[Any, Any], at: str, depth: int, word: str) -> dict[str, Any]:
        """Fields that are not declared, as they are. What is wrong with their names is told before anything else."""
        names = {one.name for one in fields}
        found: dict[str, Any] = {}
        for key, item in raw.items():
            if key in names or self._is_full:
                continue
            place = _within(at, key)
            if not isinstance(key, str):
                self._wrong(place, f"the name {show(key)} must be a text")
            elif self._strict:
                self._wrong(place, f"unknown {word}{_nearest(key, names) or _listed(names)}")
            else:
                found[key] = self._plain(item, place, depth + 1)
        return found

    def value(self, type_: Type, raw: object, at: str, depth: int, unit: str) -> Any:
        if self._is_full:
            return None
        match type_:
            case Nullable(inner):
                return None if raw is None else self.value(inner, raw, at, depth, unit)
            case Scalar(kind, limits):
                return self._scalar(type_, kind, limits, raw, at, depth, unit)
            case ListOf(item, limits):
                if not isinstance(raw, list | tuple):
                    return self._wrong(at, f"{show(raw)} must be {self.wanted(type_)}")
                if depth > DEPTH_MAX:
                    return self._wrong(at, f"nested deeper than {DEPTH_MAX} levels")
                self._length(limits, raw, at, "items")
                return [self.value(item, one, f"{at}[{i}]", depth + 1, unit) for i, one in enumerate(raw)]
            case MapOf(key, inner, limits):
                return self._map(key, inner, limits, raw, at, depth, unit)
            case Ref(name):
                return self._named(name, raw, at, depth, unit)

    def _named(self, name: str, raw: object, at: str, depth: int, unit: str) -> Any:
        match self._schema.types[name]:
            case AliasType(type=inner, unit=own):
                return self.value(inner, raw, at, depth, unit or own)
            case RecordType(fields=fields):
                return self.fields(fields, raw, at, depth, "field")
            case EnumType(choices=choices):
                wires = [one.wire for one in choices]
                if isinstance(raw, str) and raw in wires:
                    return str(raw)
                close = _nearest(raw, wires) if isinstance(raw, str) else ""
                return self._wrong(at, f"{show(raw)} must be one of {', '.join(wires)}{close}")
            case OpaqueType():
                return self._plain(raw, at, depth)

    def _map(self, key: Type, inner: Type, limits: Limits, raw: object, at: str, depth: int, unit: str) -> Any:
        if not isinstance(raw, dict):
            return self._wrong(at, f"{show(raw)} must be an object")
        if depth > DEPTH_MAX:
            return self._wrong(at, f"nested deeper than {DEPTH_MAX} levels")
        self._length(limits, raw, at, "entries")
        found = {}
        for name, item in raw.items():
            if self._is_full:
                break
            place = _within(at, name)
            text = self._key(key, name, place)
            found[text] = self.value(inner, item, place, depth + 1, unit)
        return found

    def _key(self, type_: Type, raw: object, at: str) -> str:
        """As it stands on the wire: a text. msgpack may have the number itself."""
        bare = self._schema.bare(type_)
        if isinstance(bare, Scalar) and bare.kind is Kind.INTEGER:
            text = str(raw) if is_whole(raw) else raw
            if isinstance(text, str) and re.fullmatch(WHOLE, text):
                self._scalar(bare, bare.kind, bare.limits, int(text), at, 1, "")
                return str(int(text))
            return str(self._wrong(at, f"the key {show(raw)} must be a whole number as a text"))
        if not isinstance(raw, str):
            return str(self._wrong(at, f"the key {show(raw)} must be a text"))
        if isinstance(bare, Scalar) and bare.kind is not Kind.STRING:
            return raw
        self.value(type_, raw, at, 1, "")
        return raw

    # ---- scalars --------------------------------------------------------------------------------

    def _scalar(self, type_: Scalar, kind: Kind, limits: Limits, raw: object, at: str, depth: int, unit: str) -> Any:
        if kind is Kind.JSON:
            return self._plain(raw, at, depth)
        value = coerced(kind, raw)
        if value is None:
            return self._wrong(at, f"{show(raw)} must be {self.wanted(type_, unit)}")
        if isinstance(value, str):
            if not is_unicode(value):
                return self._wrong(at, f"{show(value)} holds half a character")
            self._length(limits, value, at, "characters")
            if limits.pattern and not compiled(limits.pattern).fullmatch(value):
                self._wrong(at, f"{show(value)} must match {limits.pattern}")
        elif not isinstance(value, bool) and not is_within(limits, value):
            self._wrong(at, f"{show(raw)} must be {self.wanted(type_, unit)}")
        return value

    def _length(self, limits: Limits, value: Any, at: str, what: str) -> None:
        least, most, count = limits.length_least, limits.length_most, len(value)
        if least is not None and count < least:
            self._wrong(at, f"{count} {what} are too few; at least {least}")
        if most is not None and count > most:
            self._wrong(at, f"{count} {what} are too many; at most {most}")

    def _plain(self, raw: object, at: str, depth: int) -> Any:
        """Any value that JSON and msgpack both have."""
        match raw:
            case None | bool():
                return raw
            case str():
                return str(raw) if is_unicode(raw) else self._wrong(at, f"{show(raw)} holds half a character")
            case int():
                in_range = INTEGER_LEAST <= raw <= INTEGER_MOST
                return raw if in_range else self._wrong(at, "a whole number beyond 64 bits")
            case float():
                return float(raw) if math.isfinite(raw) else self._wrong(at, f"{raw} is no number that JSON has")
        if not isinstance(raw, dict | list | tuple):
            return self._wrong(at, f"{show(raw)} is nothing that JSON has")
        if depth > DEPTH_MAX:
            return self._wrong(at, f"nested deeper than {DEPTH_MAX} levels")
        if not isinstance(raw, dict):
            return [self._plain(item, f"{at}[{i}]", depth + 1) for i, item in enumerate(raw)]
        found = {}
        for key, item in raw.items():
            if not isinstance(key, str):
                self._wrong(_within(at, key), f"the name {show(key)} must be a text")
            else:
                found[key] = self._plain(item, _within(at, key), depth + 1)
        return found

    # ---- words ----------------------------------------------------------------------------------

    def wanted(self, type_: Type, unit: str = "") -> str:
        """What a value has to be, in words."""
        match type_:
            case Nullable(inner):
                return f"{self.wanted(inner, unit)} or null"
            case ListOf(_, limits):
                return f"a list{span(limits.length_least, limits.length_most, 'items')}"
            case MapOf():
                return "an object"
            case Scalar(kind, limits):
                return scalars.wanted(kind, limits, unit)
            case Ref(name):
                match self._schema.types[name]:
                    case AliasType(type=inner, unit=own):
                        return self.wanted(inner, unit or own)
                    case EnumType(choices=choices):
                        return f"one of {', '.join(one.wire for one in choices)}"
                    case RecordType():
                        return f"an object, {name}"
        return "any value"


# ---- places and hints ---------------------------------------------------------------------------


def _within(at: str, key: object) -> str:
    if isinstance(key, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,100}", key):
        return f"{at}.{key}" if at else key
    return f"{at}[{show(key)}]"


def _nearest(name: str, known: Iterable[str]) -> str:
    found = difflib.get_close_matches(name[:200], sorted(known), n=1)
    return f"; did you mean {found[0]}?" if found else ""


def _listed(names: Iterable[str]) -> str:
    found = sorted(names)
    return f"; there are {', '.join(found[:20])}" if found else "; there are none"
