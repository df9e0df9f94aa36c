"""A schema as JSON Schema 2020-12. Pure.

    json_schema(schema, type)         one type; names of the schema become references below `ref_prefix`
    fields_schema(schema, fields)     an object with these fields: arguments, an event's data
    definitions(schema, names)        what stands below `ref_prefix`: these names, and all that they mention
    document(schema, "event.Name")    a document of its own; roots are listed by `roots`

Besides the standard's words: `x-unit`, `x-personal`, and `x-deprecated` with what to use instead. What JSON Schema
cannot say is only checked by our own validation: the range of a time that is given as a text, and the 64 bits.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from schemas.language.schema import (
    AliasType,
    EnumType,
    Field,
    Kind,
    Limits,
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
    references,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"
DEFS = "#/$defs/"
DURATION = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+"
BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
WHOLE = r"-?(?:0|[1-9][0-9]{0,18})"
MOMENT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:[Zz]|[+-][0-9]{2}:[0-9]{2})"

Json = dict[str, Any]


def json_schema(schema: Schema, type_: Type, *, ref_prefix: str = DEFS) -> Json:
    """One type. A name stays a reference, so that records may refer to themselves."""
    match type_:
        case Ref(name):
            return {"$ref": f"{ref_prefix}{name}"}
        case Nullable(inner):
            return _nullable(json_schema(schema, inner, ref_prefix=ref_prefix))
        case ListOf(item, limits):
            return {
                "type": "array",
                "items": json_schema(schema, item, ref_prefix=ref_prefix),
                **_lengths(limits, "minItems", "maxItems"),
            }
        case MapOf(key, value, limits):
            return {
                "type": "object",
                **_keys(schema, key, ref_prefix),
                "additionalProperties": json_schema(schema, value, ref_prefix=ref_prefix),
                **_lengths(limits, "minProperties", "maxProperties"),
            }
        case Scalar(kind, limits):
            return _scalar(kind, limits)


def fields_schema(schema: Schema, fields: Sequence[Field], *, ref_prefix: str = DEFS, closed: bool = False) -> Json:
    """An object with these fields. `closed`: and with no others."""
    found: Json = {
        "type": "object",
        "properties": {one.name: _field(schema, one, ref_prefix) for one in fields},
    }
    if required := [one.name for one in fields if one.required]:
        found["required"] = required
    if closed:
        found["additionalProperties"] = False
    return found


def definitions(
    schema: Schema, names: Iterable[str], *, ref_prefix: str = DEFS, closed: bool = False
) -> dict[str, Json]:
    """By name, sorted: these types and all that they mention, one through another."""
    found: dict[str, Json] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            type_ = schema.types[name]
            found[name] = _named(schema, type_, ref_prefix, closed)
            waiting += mentioned(type_)
    return dict(sorted(found.items()))


def mentioned(type_: NamedType) -> Iterator[str]:
    """The names that a declaration mentions itself."""
    match type_:
        case RecordType(fields=fields):
            for one in fields:
                yield from references(one.type)
        case AliasType(type=inner):
            yield from references(inner)


def roots(schema: Schema) -> Iterator[str]:
    """What `document` can be asked for, beside types by their names and everything (an empty text)."""
    for name, function in schema.functions.items():
        yield f"arguments.{name}"
        if function.returns is not None:
            yield f"result.{name}"
    yield from (f"event.{name}" for name in schema.events)
    yield from (f"state.{name}" for name in schema.state)


def document(schema: Schema, root: str = "") -> Json:
    """A whole document for one of the `roots`, for a type by its name, or for all of them. Raises KeyError."""
    head: Json = {"$schema": DIALECT, "$id": f"urn:edgewright:{schema.name}" + (f":{root}" if root else "")}
    if not root:
        defs = definitions(schema, schema.types)
        for each in roots(schema):
            defs[each] = _root(schema, each)[0]
        described = {"description": schema.doc} if schema.doc else {}
        return {**head, "title": schema.title or schema.name, **described, "$defs": defs}
    body, names, closed = _root(schema, root)
    defs = definitions(schema, names, closed=closed)
    return {**head, **body, **({"$defs": defs} if defs else {})}


def _root(schema: Schema, root: str) -> tuple[Json, list[str], bool]:
    """The schema of a root, the names it mentions, and whether unknown fields are refused in it."""
    section, _, name = root.rpartition(".")
    match section:
        case "arguments":
            function = schema.functions[name]
            body = fields_schema(schema, function.parameters, closed=True) | _deprecated(function.deprecated)
            return _titled(root, function.doc, body), _names(function.parameters), True
        case "result":
            function = schema.functions[name]
            returns = function.returns or Scalar(Kind.JSON)
            body = json_schema(schema, returns) | _personal(function.personal)
            return _titled(root, function.doc, body), list(references(returns)), False
        case "event":
            event = schema.events[name]
            body = fields_schema(schema, event.fields) | _deprecated(event.deprecated) | _personal(event.personal)
            return _titled(root, event.doc, body), _names(event.fields), False
        case "state":
            collection = schema.state[name]
            body = json_schema(schema, collection.value) | _personal(collection.personal)
            return _titled(root, collection.doc, body), list(references(collection.value)), False
    schema.types[root]  # a KeyError for what there is not
    return {"title": root, **json_schema(schema, Ref(root))}, [root], False


def _titled(title: str, doc: str, body: Json) -> Json:
    return {"title": title, **({"description": doc} if doc else {}), **body}


def _names(fields: Iterable[Field]) -> list[str]:
    return [name for one in fields for name in references(one.type)]


# ---- one thing each -----------------------------------------------------------------------------


def _named(schema: Schema, type_: NamedType, ref_prefix: str, closed: bool) -> Json:
    match type_:
        case RecordType(fields=fields, personal=personal):
            found = fields_schema(schema, fields, ref_prefix=ref_prefix, closed=closed)
            return _titled(type_.name, type_.doc, found | _personal(personal))
        case EnumType(choices=choices):
            body: Json = {"enum": [one.wire for one in choices]}
            if any(one.doc for one in choices):
                body["x-choices"] = {one.wire: one.doc for one in choices if one.doc}
            return _titled(type_.name, type_.doc, {"type": "string", **body})
        case AliasType(type=inner, unit=unit, personal=personal):
            found = json_schema(schema, inner, ref_prefix=ref_prefix)
            return _titled(type_.name, type_.doc, found | _unit(unit) | _personal(personal))
        case OpaqueType():
            return _titled(type_.name, type_.doc, {})


def _field(schema: Schema, field: Field, ref_prefix: str) -> Json:
    found: Json = {"description": field.doc} if field.doc else {}
    found |= json_schema(schema, field.type, ref_prefix=ref_prefix)
    if not field.required:
        found["default"] = field.default
    return found | _deprecated(field.deprecated) | _unit(field.unit) | _personal(field.personal)


def _unit(unit: str) -> Json:
    return {"x-unit": unit} if unit else {}


def _deprecated(instead: str) -> Json:
    return {"deprecated": True, "x-deprecated": instead} if instead else {}


def _personal(personal: bool) -> Json:
    return {"x-personal": True} if personal else {}


def _nullable(inner: Json) -> Json:
    if not inner:
        return {}
    if isinstance(kind := inner.get("type"), str) and "enum" not in inner:
        return {**inner, "type": [kind, "null"]}
    if "anyOf" in inner:
        return {**inner, "anyOf": [*inner["anyOf"], {"type": "null"}]}
    return {"anyOf": [inner, {"type": "null"}]}


def _keys(schema: Schema, key: Type, ref_prefix: str) -> Json:
    bare = schema.bare(key)
    if isinstance(bare, Scalar):
        if bare.kind is Kind.INTEGER:
            return {"propertyNames": {"pattern": whole(WHOLE)}}
        if bare.kind is not Kind.STRING or bare.limits == Limits():
            return {}
        return {"propertyNames": _scalar(bare.kind, bare.limits)}
    return {"propertyNames": json_schema(schema, key, ref_prefix=ref_prefix)}


def _scalar(kind: Kind, limits: Limits) -> Json:
    match kind:
        case Kind.STRING:
            pattern = {"pattern": whole(limits.pattern)} if limits.pattern else {}
            return {"type": "string", **pattern, **_lengths(limits, "minLength", "maxLength")}
        case Kind.BYTES:
            lengths = _lengths(limits, "minLength", "maxLength")
            return {"type": "string", "contentEncoding": "base64", "pattern": whole(BASE64), **lengths}
        case Kind.BOOLEAN:
            return {"type": "boolean"}
        case Kind.INTEGER:
            return {"type": "integer", "format": "int64", **_range(limits)}
        case Kind.FLOAT:
            return {"type": "number", **_range(limits)}
        case Kind.DURATION:
            text = {"type": "string", "pattern": whole(DURATION)}
            return {"anyOf": [{"type": "number", **_range(limits)}, text], "x-unit": "s"}
        case Kind.TIMESTAMP:
            least = {"minimum": 0} | _range(limits)
            text = {"type": "string", "format": "date-time", "pattern": whole(MOMENT)}
            return {"anyOf": [{"type": "integer", "format": "int64", **least}, text], "x-unit": "ms"}
        case Kind.JSON:
            return {}


def _range(limits: Limits) -> Json:
    found = {"minimum": limits.least, "maximum": limits.most}
    return {name: _number(value) for name, value in found.items() if value is not None}


def _number(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _lengths(limits: Limits, least: str, most: str) -> Json:
    found = {least: limits.length_least, most: limits.length_most}
    return {name: value for name, value in found.items() if value is not None}


def whole(pattern: str) -> str:
    """A pattern that a whole text has to match."""
    return f"^{pattern}$" if re.fullmatch(r"[^|^$]*", pattern) else f"^(?:{pattern})$"
