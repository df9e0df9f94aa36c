"""Whether two schemas mean the same by one name: functions and events are known by their names alone on the wire."""

from collections.abc import Iterator, Sequence

from schemas.language.schema import (
    EnumType,
    Field,
    ListOf,
    MapOf,
    Nullable,
    OpaqueType,
    RecordType,
    Scalar,
    Schema,
    Type,
    written,
)

Seen = set[tuple[str, str]]


def different_functions(one: Schema, other: Schema) -> dict[str, str]:
    """The functions that both declare, and not alike: each with the first difference."""
    found = {}
    for name in one.functions:
        if name in other.functions:
            mine, theirs = one.functions[name], other.functions[name]
            whys = _fields(one, mine.parameters, other, theirs.parameters, "", set())
            related = one.name in other.imports or other.name in one.imports  # then it is listed again, for people
            if mine.placement is not theirs.placement and not related:
                found[name] = f"@{mine.placement.value} and @{theirs.placement.value}"
            elif why := next(whys, None):
                found[name] = why
            elif (mine.returns is None) != (theirs.returns is None):
                found[name] = "one has a result and one has none"
            elif mine.returns is not None and theirs.returns is not None:
                why = next(_types(one, mine.returns, other, theirs.returns, "its result", set()), None)
                if why:
                    found[name] = why
    return found


def different_events(one: Schema, other: Schema) -> dict[str, str]:
    """The same of events."""
    found = {}
    for name in one.events:
        if name in other.events:
            fields = one.events[name].fields, other.events[name].fields
            if why := next(_fields(one, fields[0], other, fields[1], "", set()), None):
                found[name] = why
    return found


def _fields(
    one: Schema, mine: Sequence[Field], other: Schema, theirs: Sequence[Field], path: str, seen: Seen
) -> Iterator[str]:
    by_name = {field.name: field for field in theirs}
    for field in mine:
        where = f"{path}.{field.name}" if path else field.name
        other_field = by_name.pop(field.name, None)
        if other_field is None:
            yield f"only one has {where}"
            continue
        if (field.required, field.default) != (other_field.required, other_field.default):
            yield f"{where} is optional in one, or has another default"
        if field.unit != other_field.unit:
            yield f"{where} is in {field.unit or 'no unit'} and in {other_field.unit or 'no unit'}"
        yield from _types(one, field.type, other, other_field.type, where, seen)
    for name in by_name:
        yield f"only one has {path}.{name}" if path else f"only one has {name}"


def _types(one: Schema, mine: Type, other: Schema, theirs: Type, path: str, seen: Seen) -> Iterator[str]:
    mine, theirs = one.bare(mine), other.bare(theirs)
    match mine, theirs:
        case Scalar(), Scalar():
            if mine.kind is not theirs.kind:
                yield f"{path} is {written(mine)} and {written(theirs)}"
            elif mine.limits != theirs.limits:
                yield f"{path} has other limits"
        case (ListOf(), ListOf()):
            if mine.limits != theirs.limits:
                yield f"{path} has other limits"
            yield from _types(one, mine.item, other, theirs.item, f"{path}[]", seen)
        case (MapOf(), MapOf()):
            if mine.limits != theirs.limits:
                yield f"{path} has other limits"
            yield from _types(one, mine.key, other, theirs.key, f"a key of {path}", seen)
            yield from _types(one, mine.value, other, theirs.value, f"a value of {path}", seen)
        case (Nullable(), Nullable()):
            yield from _types(one, mine.inner, other, theirs.inner, path, seen)
        case _:
            yield from _named(one, mine, other, theirs, path, seen)


def _named(one: Schema, mine: Type, other: Schema, theirs: Type, path: str, seen: Seen) -> Iterator[str]:
    match one.named(mine), other.named(theirs):
        case RecordType() as record, RecordType() as record_too:
            if (record.name, record_too.name) not in seen:
                seen.add((record.name, record_too.name))
                yield from _fields(one, record.fields, other, record_too.fields, path, seen)
        case EnumType() as enum, EnumType() as enum_too:
            wires = {choice.wire for choice in enum.choices} ^ {choice.wire for choice in enum_too.choices}
            if wires:
                yield f"{path} has other values: {', '.join(sorted(wires))}"
        case OpaqueType(), OpaqueType():
            return
        case _:
            yield f"{path} is {written(mine)} and {written(theirs)}"
