"""What a schema's types allow, in words, and which of them a platform uses: for the exporters."""

from collections.abc import Iterator

from schemas.language.json_schema import mentioned
from schemas.language.schema import (
    AliasType,
    Field,
    Kind,
    Limits,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    Ref,
    Scalar,
    Schema,
    Type,
    references,
)

_WORDS = {
    Kind.DURATION: "seconds, or a text such as 5m",
    Kind.TIMESTAMP: "UTC milliseconds, or a text of RFC 3339",
    Kind.BYTES: "base64",
    Kind.JSON: "anything",
}


def spoken_types(schema: Schema) -> Iterator[Type]:
    """The types of what is said and kept: parameters, results, fields of events, keys and values of the state."""
    for function in schema.functions.values():
        yield from (one.type for one in function.parameters)
        if function.returns is not None:
            yield function.returns
    for event in schema.events.values():
        yield from (one.type for one in event.fields)
    for collection in schema.state.values():
        yield from (collection.key, collection.value)


def used_types(schema: Schema) -> dict[str, NamedType]:
    """The platform's own types, and of imported ones those that it mentions, one through another; in their order."""
    waiting = [name for name, one in schema.types.items() if one.module == schema.name]
    waiting += [name for type_ in spoken_types(schema) for name in references(type_)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += mentioned(schema.types[name])
    return {name: one for name, one in schema.types.items() if name in found}


def bare_type(schema: Schema, type_: Type) -> Type:
    """The type behind other names for it and `?`."""
    bare = schema.bare(type_)
    while isinstance(bare, Nullable):
        bare = schema.bare(bare.inner)
    return bare


def unit_of(schema: Schema, field: Field) -> str:
    """The unit of a field, or that of its type."""
    return field.unit or _unit_of_type(schema, field.type)


def _unit_of_type(schema: Schema, type_: Type) -> str:
    match type_:
        case Nullable(inner):
            return _unit_of_type(schema, inner)
        case Ref(name) if isinstance(found := schema.types[name], AliasType):
            return found.unit or _unit_of_type(schema, found.type)
    return ""


def allowed(schema: Schema, type_: Type, unit: str = "") -> str:
    """`0 to 40 kn`, `1 to 3 items`, `at least 60`; empty where everything goes."""
    bare = bare_type(schema, type_)
    if not isinstance(bare, Scalar | ListOf | MapOf):
        return ""
    limits, said = bare.limits, []
    if isinstance(bare, Scalar) and bare.kind is Kind.DURATION and not unit and limits != Limits():
        unit = "s"
    if span := _span(limits.least, limits.most):
        said.append(f"{span} {unit}".rstrip())
    elif unit:
        said.append(unit)
    if span := _span(limits.length_least, limits.length_most):
        said.append(f"{span} {_things(bare)}")
    if limits.pattern:
        said.append(f"matches {limits.pattern}")
    return ", ".join(said)


def meaning(schema: Schema, type_: Type) -> str:
    """What stands on the wire where the name of the type does not say it."""
    bare = bare_type(schema, type_)
    return _WORDS.get(bare.kind, "") if isinstance(bare, Scalar) else ""


def span(seconds: float) -> str:
    """`30s`, `5m`, `2h`, `90d`: a length of time in its largest whole unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def _span(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f"{least:g}" if least == most else f"{least:g} to {most:g}"
    if least is not None:
        return f"at least {least:g}"
    return f"at most {most:g}" if most is not None else ""


def _things(bare: Scalar | ListOf | MapOf) -> str:
    return {ListOf: "items", MapOf: "entries"}.get(type(bare), "characters")
