"""Where anything at all may stand in a value, and whether what stands there is what JSON and msgpack have. Pure.

A compiled type does not look into a value of `Json`, nor counts how deep a record is nested in itself: that is looked
at here, there alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from schemas.language.check import DEPTH_MAX
from schemas.language.scalars import INTEGER_LEAST, INTEGER_MOST, is_unicode
from schemas.language.schema import (
    AliasType,
    EnumType,
    Field,
    Kind,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    OpaqueType,
    RecordType,
    Ref,
    Scalar,
    Schema,
    Type,
)

Look = Callable[[Any, int], bool]
"""Whether a value of the type, so many levels deep, has nothing in its open parts that would be refused."""


def is_plain(value: Any, depth: int = 1) -> bool:
    """Whether it is what JSON and msgpack both have, by the types themselves. False is not yet a no."""
    kind = type(value)
    if kind is str:
        return is_unicode(value)
    if kind is dict:
        if depth > DEPTH_MAX:
            return False
        for key, item in value.items():
            if type(key) is not str or not is_unicode(key) or not is_plain(item, depth + 1):
                return False
        return True
    if kind is list:
        return depth <= DEPTH_MAX and all(is_plain(item, depth + 1) for item in value)
    if kind is float:
        return bool(math.isfinite(value))
    if kind is int:
        return bool(INTEGER_LEAST <= value <= INTEGER_MOST)
    return value is None or kind is bool


class Openness:
    """Looks for the types of one schema, made once each; None for a type that is closed all through."""

    def __init__(self, schema: Schema) -> None:
        self._types = schema.types
        self._named: dict[str, Look | None] = {}

    def of(self, type_: Type) -> Look | None:
        """For values of a type that have passed its compiled form."""
        match type_:
            case Scalar(kind):
                return is_plain if kind is Kind.JSON else None
            case Nullable(inner):
                return self.of(inner)  # for null too, which is plain
            case ListOf(item):
                return None if (look := self.of(item)) is None else _of_list(look)
            case MapOf(value=inner):
                return None if (look := self.of(inner)) is None else _of_map(look)
            case Ref(name):
                if name not in self._named:
                    self._named[name] = is_plain  # for what is met while it is made: there it is nested in itself
                    self._named[name] = self._declared(self._types[name])
                return self._named[name]

    def of_fields(self, fields: Sequence[Field]) -> Look | None:
        """For objects with these fields."""
        looks = [(one.name, look) for one in fields if (look := self.of(one.type)) is not None]
        return _of_object(looks) if looks else None

    def _declared(self, type_: NamedType) -> Look | None:
        match type_:
            case RecordType(fields=fields):
                return self.of_fields(fields)
            case AliasType(type=inner):
                return self.of(inner)
            case EnumType():
                return None
            case OpaqueType():
                return is_plain


def _of_list(look: Look) -> Look:
    return lambda value, depth: value is None or all(look(item, depth + 1) for item in value)


def _of_map(look: Look) -> Look:
    return lambda value, depth: value is None or all(look(item, depth + 1) for item in value.values())


def _of_object(looks: Sequence[tuple[str, Look]]) -> Look:
    def look_at(value: Any, depth: int) -> bool:
        if value is None:
            return True
        return all(look(value[name], depth + 1) for name, look in looks if name in value)

    return look_at
