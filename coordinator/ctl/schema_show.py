"""A schema as tables for people, and as JSON. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.ctl.tables import pairs, table
from schemas.language.schema import (
    AliasType,
    CollectionType,
    EnumType,
    EventType,
    Field,
    FunctionType,
    Limits,
    ListOf,
    MapOf,
    NamedType,
    Nullable,
    OpaqueType,
    RecordType,
    Scalar,
    Schema,
    Type,
    written,
)

Shown = FunctionType | EventType | CollectionType | NamedType


def as_text(schema: Schema, name: str = "") -> str | None:
    """Everything, or all that is called `name`; None if nothing is."""
    if name:
        found = _named(schema, name)
        return "\n\n".join(_one(schema, one) for one in found) if found else None
    parts = [_head(schema)]
    if schema.functions:
        parts.append(_functions(schema.functions))
    if schema.events:
        parts.append(_events(schema.events))
    if schema.state:
        parts.append(_state(schema.state))
    if own := _own(schema):
        parts.append(_types(own))
    return "\n\n".join(parts)


def as_json(schema: Schema, name: str = "") -> Any:
    """The same as values of JSON; a list of what is called `name`, or None."""
    if name:
        found = _named(schema, name)
        return [_as_json(one) for one in found] if found else None
    return {
        "name": schema.name,
        "platform": schema.platform,
        "title": schema.title,
        "version": schema.version,
        "doc": schema.doc,
        "imports": list(schema.imports),
        "edge_node_types": list(schema.node_types),
        **{group: list(words) for group, words in schema.groups.items()},
        "functions": [_as_json(one) for one in schema.functions.values()],
        "events": [_as_json(one) for one in schema.events.values()],
        "state": [_as_json(one) for one in schema.state.values()],
        "types": [_as_json(one) for one in _own(schema)],
    }


def _named(schema: Schema, name: str) -> list[Shown]:
    places: tuple[Mapping[str, Shown], ...] = (schema.functions, schema.events, schema.state, schema.types)
    return [place[name] for place in places if name in place]


def _own(schema: Schema) -> list[NamedType]:
    return [one for one in schema.types.values() if one.module == schema.name]


# ---- text ---------------------------------------------------------------------------------------


def _head(schema: Schema) -> str:
    rows = [
        ("schema", schema.name),
        ("platform", schema.platform),
        ("title", schema.title),
        ("version", schema.version),
        ("about", _line(schema.doc)),
        ("imports", ", ".join(schema.imports)),
        ("edge_node_types", ", ".join(schema.node_types)),
        *((group, ", ".join(words)) for group, words in schema.groups.items()),
    ]
    return pairs([row for row in rows if row[1]])


def _functions(functions: Mapping[str, FunctionType]) -> str:
    rows = [
        (
            one.name,
            f"@{one.placement}",
            ", ".join(_brief(field) for field in one.parameters),
            written(one.returns) if one.returns is not None else "",
            _line(one.doc),
        )
        for one in functions.values()
    ]
    return table(("FUNCTION", "WHERE", "PARAMETERS", "RESULT", "ABOUT"), rows)


def _events(events: Mapping[str, EventType]) -> str:
    rows = [
        (
            one.name,
            ", ".join(one.sources),
            ", ".join(_brief(field) for field in one.fields),
            str(one.qos),
            _line(one.doc),
        )
        for one in events.values()
    ]
    return table(("EVENT", "TOLD BY", "FIELDS", "QOS", "ABOUT"), rows)


def _state(state: Mapping[str, CollectionType]) -> str:
    rows = [
        (one.name, written(one.key), written(one.value), one.owner.value, one.rule.value, _line(one.doc))
        for one in state.values()
    ]
    return table(("STATE", "KEY", "VALUE", "WRITTEN BY", "MERGES BY", "ABOUT"), rows)


def _types(types: Sequence[NamedType]) -> str:
    return table(("TYPE", "KIND", "OF", "ABOUT"), [(one.name, *_kind(one), _line(one.doc)) for one in types])


def _kind(one: NamedType) -> tuple[str, str]:
    match one:
        case RecordType(fields=fields):
            return "record", ", ".join(_brief(field) for field in fields)
        case EnumType(choices=choices):
            return "enum", ", ".join(choice.wire for choice in choices)
        case AliasType(type=type_, unit=unit):
            return "type", " ".join(part for part in (written(type_), limits_text(type_), unit) if part)
        case OpaqueType():
            return "open", "any value"


def _one(schema: Schema, one: Shown) -> str:
    match one:
        case FunctionType():
            head = [
                ("function", one.name),
                ("where", f"@{one.placement}"),
                ("result", written(one.returns) if one.returns is not None else "none"),
                ("longest run", f"{one.timeout_s:g} s"),
                ("at a time", str(one.parallel) if one.parallel else "no limit of its own"),
                ("deprecated", one.deprecated),
            ]
            fields = one.parameters
        case EventType():
            head = [
                ("event", one.name),
                ("told by", ", ".join(one.sources)),
                ("QoS", str(one.qos)),
                ("kept for", f"{one.keep_s:g} s" if one.keep_s is not None else ""),
                ("deprecated", one.deprecated),
            ]
            fields = one.fields
        case CollectionType():
            head = [
                ("state", one.name),
                ("key", written(one.key)),
                ("value", written(one.value)),
                ("written by", one.owner.value),
                ("merges by", one.rule.value),
            ]
            value = schema.named(one.value)
            fields = value.fields if isinstance(value, RecordType) else ()
        case EnumType():
            rows = [(choice.name, choice.wire, choice.doc) for choice in one.choices]
            return "\n".join(
                [pairs(_about([("enum", one.name)], one)), table(("VALUE", "ON THE WIRE", "ABOUT"), rows)]
            )
        case _:
            kind, of = _kind(one)
            head = [(kind, one.name), ("of", "" if isinstance(one, RecordType) else of)]
            fields = one.fields if isinstance(one, RecordType) else ()
    text = pairs(_about(head, one))
    return f"{text}\n{fields_table(schema, fields)}" if fields else text


def _about(rows: Sequence[tuple[str, str]], one: Shown) -> list[tuple[str, str]]:
    personal = "yes: it does not leave the node" if getattr(one, "personal", False) else ""
    rows = [*rows, ("personal", personal), ("declared in", one.module), ("about", _line(one.doc))]
    return [row for row in rows if row[1]]


def fields_table(schema: Schema, fields: Sequence[Field]) -> str:
    """Fields or parameters, one a line."""
    rows = [
        (
            one.name,
            written(one.type),
            "required" if one.required else _default(one),
            limits_text(_plain(schema, one.type)),
            one.unit,
            " ".join(part for part in ("personal." if one.personal else "", _line(one.doc)) if part),
        )
        for one in fields
    ]
    return table(("NAME", "TYPE", "LEFT OUT", "LIMITS", "UNIT", "ABOUT"), rows)


def _plain(schema: Schema, type_: Type) -> Type:
    """The type without names for it, and without whether it may be null."""
    bare = schema.bare(type_)
    return schema.bare(bare.inner) if isinstance(bare, Nullable) else bare


def _default(one: Field) -> str:
    return "nothing" if one.default is None else _value(one.default)


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def limits_text(type_: Type) -> str:
    """`0..100`, `1..63 long`, `like …`: what a value must keep to, of the type itself."""
    match type_:
        case Nullable(inner):
            return limits_text(inner)
        case Scalar(_, limits) | ListOf(_, limits) | MapOf(_, _, limits):
            return _limits(limits)
    return ""


def _limits(limits: Limits) -> str:
    parts = []
    if limits.least is not None or limits.most is not None:
        parts.append(_range(limits.least, limits.most))
    if limits.length_least is not None or limits.length_most is not None:
        parts.append(f"{_range(limits.length_least, limits.length_most)} long")
    if limits.pattern:
        parts.append(f"like {limits.pattern}")
    return ", ".join(parts)


def _range(least: float | None, most: float | None) -> str:
    return f"{'' if least is None else least}..{'' if most is None else most}"


def _brief(one: Field) -> str:
    return one.name if one.required else f"{one.name}?"


def _line(doc: str) -> str:
    return " ".join(doc.split())


# ---- JSON ---------------------------------------------------------------------------------------


def _as_json(one: Shown) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": "", "name": one.name, "doc": one.doc, "module": one.module}
    match one:
        case FunctionType():
            found |= {
                "kind": "function",
                "placement": one.placement.value,
                "parameters": [_field(field) for field in one.parameters],
                "returns": written(one.returns) if one.returns is not None else None,
                "timeout_s": one.timeout_s,
                "parallel": one.parallel,
            }
        case EventType():
            found |= {
                "kind": "event",
                "sources": list(one.sources),
                "fields": [_field(field) for field in one.fields],
                "qos": one.qos,
                "keep_s": one.keep_s,
            }
        case CollectionType():
            found |= {
                "kind": "state",
                "key": written(one.key),
                "value": written(one.value),
                "owner": one.owner.value,
                "merge": one.rule.value,
            }
        case RecordType():
            found |= {"kind": "record", "fields": [_field(field) for field in one.fields]}
        case EnumType():
            values = [{"name": choice.name, "wire": choice.wire, "doc": choice.doc} for choice in one.choices]
            found |= {"kind": "enum", "values": values}
        case AliasType():
            found |= {"kind": "type", "type": written(one.type), "limits": limits_text(one.type), "unit": one.unit}
        case OpaqueType():
            found |= {"kind": "open"}
    return found | {"personal": getattr(one, "personal", False), "deprecated": getattr(one, "deprecated", "")}


def _field(one: Field) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": written(one.type),
        "required": one.required,
        "default": one.default,
        "limits": limits_text(one.type),
        "unit": one.unit,
        "personal": one.personal,
        "deprecated": one.deprecated,
        "doc": one.doc,
    }
