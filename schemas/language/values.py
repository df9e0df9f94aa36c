"""Values as the language writes them, as JSON has them, and whether they fit a type. For checks, not for traffic."""

import math
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
INTEGER_LEAST, INTEGER_MOST = -(2**63), 2**63 - 1
_MATCH_STEPS_MAX = 1_000_000
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


def no_limits_meet(limits: Limits, *, whole: bool) -> bool:
    """True where nothing keeps to them."""
    least, most = limits.least, limits.most
    if least is not None and most is not None and (math.ceil(least) > math.floor(most) if whole else least > most):
        return True
    shortest, longest = limits.length_least, limits.length_most
    return shortest is not None and longest is not None and shortest > longest


def value_mistake(schema: Schema, type_: Type, value: Any) -> str | None:
    """Why `value` is none of `type_`, or None. Goes no deeper than the value does."""
    match schema.bare(type_):
        case Nullable(inner):
            return None if value is None else value_mistake(schema, inner, value)
        case Scalar(kind, limits):
            return _scalar_mistake(kind, limits, value)
        case ListOf(item, limits):
            if not isinstance(value, list):
                return f"{_show(value)} is no list"
            found = (value_mistake(schema, item, one) for one in value)
            return _length_mistake(limits, value) or next((one for one in found if one), None)
        case MapOf(_, inner, limits):
            if not isinstance(value, dict):
                return f"{_show(value)} is no map"
            found = (value_mistake(schema, inner, one) for one in value.values())
            return _length_mistake(limits, value) or next((one for one in found if one), None)
    match schema.named(type_):
        case EnumType() as enum:
            texts = [one.wire for one in enum.choices]
            return None if value in texts else f"{_show(value)} is no value of {enum.name}"
        case RecordType() as record:
            if not isinstance(value, dict):
                return f"{_show(value)} is no {record.name}"
            missing = [one.name for one in record.fields if one.required and one.name not in value]
            return f"{missing[0]} is missing" if missing else None
    return None


def _scalar_mistake(kind: Kind, limits: Limits, value: Any) -> str | None:
    match kind:
        case Kind.JSON:
            return None
        case Kind.STRING | Kind.BYTES:
            if not isinstance(value, str):
                return f"{_show(value)} is no text"
            if limits.pattern and is_quick(limits.pattern, value) and not re.fullmatch(limits.pattern, value):
                return f"{_show(value)} does not match {limits.pattern}"
            return _length_mistake(limits, value)
        case Kind.BOOLEAN:
            return None if isinstance(value, bool) else f"{_show(value)} is neither true nor false"
        case Kind.INTEGER | Kind.TIMESTAMP:
            if not isinstance(value, int) or isinstance(value, bool):
                return f"{_show(value)} is no whole number"
            if not INTEGER_LEAST <= value <= INTEGER_MOST:
                return f"{value} has more than 64 bits"
        case Kind.FLOAT | Kind.DURATION:
            if not isinstance(value, int | float) or isinstance(value, bool):
                return f"{_show(value)} is no {'number' if kind is Kind.FLOAT else 'length of time such as 5m'}"
    if limits.least is not None and value < limits.least:
        return f"{value} is less than {limits.least}"
    if limits.most is not None and value > limits.most:
        return f"{value} is more than {limits.most}"
    return None


def is_quick(pattern: str, text: str) -> bool:
    """Whether a match takes few steps, at the worst that may be thought of: some patterns take for ever."""
    repeats = len(re.findall(r"[*+?{]", pattern))
    doubling = len(text) if re.search(r"\)[*+{]", pattern) else 0
    return repeats * math.log(len(text) + 1) + doubling * math.log(2) <= math.log(_MATCH_STEPS_MAX)


def _length_mistake(limits: Limits, value: Any) -> str | None:
    if limits.length_least is not None and len(value) < limits.length_least:
        return f"{_show(value)} is shorter than {limits.length_least}"
    if limits.length_most is not None and len(value) > limits.length_most:
        return f"{_show(value)} is longer than {limits.length_most}"
    return None


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
