"""What is `@personal` stays at the node: how a value looks once it is left out, and the schema of what is left. Pure.

A field is personal when it is marked, or when its type is (a record or another name for a type). It is left out of
the object that has it; a list or a map of personal things becomes empty.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from schemas.language.schema import (
    AliasType,
    EventType,
    Field,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Ref,
    Schema,
    Type,
)


def is_personal(schema: Schema, type_: Type) -> bool:
    """True for a type that is marked, through other names for it and `?`."""
    for _ in range(len(schema.types) + 2):
        if isinstance(type_, Nullable):
            type_ = type_.inner
        elif isinstance(type_, Ref):
            found = schema.types[type_.name]
            if isinstance(found, RecordType | AliasType) and found.personal:
                return True
            if not isinstance(found, AliasType):
                return False
            type_ = found.type
        else:
            return False
    return False


def without_personal(schema: Schema, fields: Iterable[Field], value: Mapping[str, Any]) -> dict[str, Any]:
    """The object without what must not leave; fields that nobody declares are kept."""
    declared = {one.name: one for one in fields}
    found = {}
    for name, inner in value.items():
        one = declared.get(name)
        if one is None:
            found[name] = inner
        elif not one.personal and not is_personal(schema, one.type):
            found[name] = _left(schema, one.type, inner)
    return found


def event_without_personal(schema: Schema, event: EventType, data: Mapping[str, Any]) -> dict[str, Any] | None:
    """What of an event may leave the node; None: nothing, not even that it happened."""
    return None if event.personal else without_personal(schema, event.fields, data)


def value_without_personal(schema: Schema, type_: Type, value: Any) -> Any:
    """What of a value may leave; None where all of it is personal."""
    return None if is_personal(schema, type_) else _left(schema, type_, value)


def outside(schema: Schema) -> Schema:
    """The schema as it holds for what has left a node: personal fields may be missing."""
    types = {
        name: replace(one, fields=_optional(schema, one.fields)) if isinstance(one, RecordType) else one
        for name, one in schema.types.items()
    }
    events = {name: replace(one, fields=_optional(schema, one.fields)) for name, one in schema.events.items()}
    return replace(schema, types=types, events=events)


def _optional(schema: Schema, fields: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(
        replace(one, type=Nullable(one.type), required=False)
        if one.required and (one.personal or is_personal(schema, one.type))
        else one
        for one in fields
    )


def _left(schema: Schema, type_: Type, value: Any) -> Any:
    match schema.bare(type_):
        case Nullable(inner):
            return None if value is None else _left(schema, inner, value)
        case ListOf(item) if isinstance(value, list):
            return [] if is_personal(schema, item) else [_left(schema, item, one) for one in value]
        case MapOf(key, inner) if isinstance(value, dict):
            if is_personal(schema, inner) or is_personal(schema, key):
                return {}
            return {name: _left(schema, inner, one) for name, one in value.items()}
        case Ref(name) if isinstance(value, dict):
            found = schema.types[name]
            return without_personal(schema, found.fields, value) if isinstance(found, RecordType) else value
    return value
