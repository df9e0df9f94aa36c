"""Values as the language writes them, as JSON has them, and whether they fit a type. For checks, not for traffic."""

import re
from typing import Any

from schemas.language import tree
from schemas.language.schema import (
    EnumType,
    Kind,
    Limits,
    ListOf,
    MapOf,
    Nullable,
    RecordType,
    Scalar,
    Schema,
    Type,
)

DURATION = r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+"
_WORDS: dict[str, Any] = {"true": True, "false": False, "null": None}


def plain(value: tree.Value) -> Any:
    """As JSON has it. A length of time is its seconds, a bare name its text."""
    match value:
        case tree.Word(text):
            return _WORDS.get(text, text)
        case tree.Span(seconds):
            return seconds
        case tree.Empty():
            return {}
        case tree.Range(least, most):
            return [least, most]
        case tuple():
            return [plain(one) for one in value]
    return value


def value_mistake(schema: Schema, type_: Type, value: Any) -> str | None:
    """Why `value` is none of `type_`, or None."""
    match schema.bare(type_):
        case Nullable(inner):
            return None if value is None else value_mistake(schema, inner, value)
        case Scalar(kind, limits):
            return _scalar_mistake(kind, limits, value)
        case ListOf(item, limits):
            if not isinstance(value, list):
                return f"{value!r} is no list"
            found = (value_mistake(schema, item, one) for one in value)
            return _length_mistake(limits, value) or next((one for one in found if one), None)
        case MapOf(_, inner, limits):
            if not isinstance(value, dict):
                return f"{value!r} is no map"
            found = (value_mistake(schema, inner, one) for one in value.values())
            return _length_mistake(limits, value) or next((one for one in found if one), None)
    match schema.named(type_):
        case EnumType() as enum:
            texts = [one.wire for one in enum.choices]
            return None if value in texts else f"{value!r} is none of {', '.join(texts)}"
        case RecordType() as record:
            if not isinstance(value, dict):
                return f"{value!r} is no {record.name}"
            missing = [one.name for one in record.fields if one.required and one.name not in value]
            return f"{missing[0]} is missing" if missing else None
    return None


def _scalar_mistake(kind: Kind, limits: Limits, value: Any) -> str | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case Kind.JSON:
            return None
        case Kind.STRING | Kind.BYTES:
            if not isinstance(value, str):
                return f"{value!r} is no text"
            if limits.pattern and not re.fullmatch(limits.pattern, value):
                return f"{value!r} does not match {limits.pattern}"
            return _length_mistake(limits, value)
        case Kind.BOOLEAN:
            return None if isinstance(value, bool) else f"{value!r} is neither true nor false"
        case Kind.INTEGER | Kind.TIMESTAMP:
            if not isinstance(value, int) or isinstance(value, bool):
                return f"{value!r} is no whole number"
        case Kind.FLOAT | Kind.DURATION:
            if not is_number:
                return f"{value!r} is no {'number' if kind is Kind.FLOAT else 'length of time such as 5m'}"
    if limits.least is not None and value < limits.least:
        return f"{value} is less than {limits.least}"
    if limits.most is not None and value > limits.most:
        return f"{value} is more than {limits.most}"
    return None


def _length_mistake(limits: Limits, value: Any) -> str | None:
    if limits.length_least is not None and len(value) < limits.length_least:
        return f"{len(value)} is shorter than {limits.length_least}"
    if limits.length_most is not None and len(value) > limits.length_most:
        return f"{len(value)} is longer than {limits.length_most}"
    return None
