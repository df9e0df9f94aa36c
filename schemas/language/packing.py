"""Schemas as plain data for JSON, and back: every value comes back equal, and of the same types.

    dataclass [number, its fields in order…]    tuple [number, items…]    enum [number, value]    dict {text: value}
    list      [number, items…]                  None, texts, numbers, true and false stand for themselves

The number says what the list was, by its place in `_MADE`. Nothing but these can come out, whatever is read.
"""

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from operator import attrgetter
from typing import Any

from schemas.fields import Owner, Rule
from schemas.language import schema
from schemas.language.problems import Problem, Severity
from schemas.language.tree import Place

_DATACLASSES = (
    Place,
    Problem,
    schema.Limits,
    schema.Scalar,
    schema.ListOf,
    schema.MapOf,
    schema.Nullable,
    schema.Ref,
    schema.Field,
    schema.RecordType,
    schema.EnumChoice,
    schema.EnumType,
    schema.AliasType,
    schema.OpaqueType,
    schema.FunctionType,
    schema.EventType,
    schema.CollectionType,
    schema.Schema,
)
_ENUMS = (Severity, Owner, Rule, schema.Kind, schema.Placement)
_MADE: tuple[Callable[..., Any], ...] = (
    lambda *items: items,
    lambda *items: list(items),
    *_ENUMS,
    *_DATACLASSES,
)
_TUPLE, _LIST = 0, 1
_NUMBERS = {kind: number for number, kind in enumerate(_MADE)}
_FIELDS = {kind: [attrgetter(one.name) for one in fields(kind)] for kind in _DATACLASSES}


def pack(value: Any) -> Any:
    """Raises TypeError for what is none of the above."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    if kind is dict and all(type(key) is str for key in value):
        return {key: pack(one) for key, one in value.items()}
    if kind is tuple or kind is list:
        return [_TUPLE if kind is tuple else _LIST, *map(pack, value)]
    if kind in _FIELDS:
        return [_NUMBERS[kind], *(pack(get(value)) for get in _FIELDS[kind])]
    if isinstance(value, Enum) and kind in _NUMBERS:
        return [_NUMBERS[kind], value.value]
    raise TypeError(f"{kind.__name__} is no part of a schema")


def unpack(data: Any) -> Any:
    """What `pack` was given. Raises ValueError, TypeError or LookupError for data that it did not make."""
    if type(data) is list:
        number, *rest = data
        return _MADE[number](*map(unpack, rest))
    if type(data) is dict:
        return {key: unpack(one) for key, one in data.items()}
    return data
