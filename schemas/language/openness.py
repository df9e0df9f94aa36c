"""Where anything at all may stand in a value, and whether what stands there is what JSON and msgpack have. Pure."""

import math
from typing import Any

from schemas.language.check import DEPTH_MAX
from schemas.language.scalars import INTEGER_LEAST, INTEGER_MOST, is_unicode
from schemas.language.schema import (
    AliasType,
    EnumType,
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


class Openness:
    """Which types can hold anything at all somewhere, or be nested without an end."""

    def __init__(self, schema: Schema) -> None:
        self._types = schema.types
        self._named: dict[str, bool] = {}

    def __call__(self, type_: Type) -> bool:
        match type_:
            case Scalar(kind):
                return kind is Kind.JSON
            case Nullable(inner) | ListOf(inner) | MapOf(value=inner):
                return self(inner)
            case Ref(name):
                if name not in self._named:
                    self._named[name] = True  # who comes back here while it is looked at is nested in itself
                    self._named[name] = self._is_open(self._types[name])
                return self._named[name]

    def _is_open(self, type_: NamedType) -> bool:
        match type_:
            case RecordType(fields=fields):
                return any(self(one.type) for one in fields)
            case AliasType(type=inner):
                return self(inner)
            case EnumType():
                return False
            case OpaqueType():
                return True


def is_plain(value: Any, depth: int = 1) -> bool:
    """Whether it is what JSON and msgpack both have, by the types themselves. False is not yet a no."""
    kind = type(value)
    if kind is str:
        return is_unicode(value)
    if kind is dict:
        return depth <= DEPTH_MAX and all(
            type(key) is str and is_unicode(key) and is_plain(item, depth + 1) for key, item in value.items()
        )
    if kind is list:
        return depth <= DEPTH_MAX and all(is_plain(item, depth + 1) for item in value)
    if kind is float:
        return bool(math.isfinite(value))
    if kind is int:
        return bool(INTEGER_LEAST <= value <= INTEGER_MOST)
    return value is None or isinstance(value, bool)
