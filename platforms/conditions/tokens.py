"""A condition's text as tokens."""

import re
from dataclasses import dataclass
from enum import StrEnum

from platforms.conditions.errors import ConditionError

TEXT_CHARS_MAX = 4000
TOKENS_MAX = 1000
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_TOKEN = re.compile(
    r"\s*(?:(?P<duration>(?:\d+(?:\.\d+)?(?:ms|min|[smhd]))+(?![A-Za-z0-9_.]))"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![A-Za-z0-9_.]))"
    r'|(?P<text>"[^"\n]*")|(?P<name>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*)'
    r"|(?P<op><=|>=|!=|==|=|<|>|\(|\)|,|\+|-|\*|/)|(?P<other>\S))",
    re.ASCII,
)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|min|[smhd])")
WORDS = frozenset({"and", "or", "not", "in", "for", "where", "true", "false"})


class Sort(StrEnum):
    """What a token is. A `name` may have dots: a field of a field."""

    DURATION = "duration"
    NUMBER = "number"
    TEXT = "text"
    NAME = "name"
    WORD = "word"
    OP = "op"
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    """`value`: of a duration in seconds, of a number as it is, else text."""

    sort: Sort
    value: str | float
    column: int


def scan(text: str) -> list[Token]:
    """Raises ConditionError for what cannot stand in a condition."""
    if len(text) > TEXT_CHARS_MAX:
        message = f"a condition of {len(text)} characters; at most {TEXT_CHARS_MAX} are allowed"
        raise ConditionError(text[:60], 1, message)
    found: list[Token] = []
    at = 0
    while (match := _TOKEN.match(text, at)) is not None:
        at = match.end()
        kind = match.lastgroup or ""
        column, value = match.start(kind) + 1, match[kind]
        if kind == "other":
            hint = "a number may have a unit: ms, s, m, h, d" if value.isdigit() else 'texts stand in "quotes"'
            raise ConditionError(text, column, f"{value!r} cannot stand here", hint)
        found.append(_token(kind, value, column))
        if len(found) > TOKENS_MAX:
            raise ConditionError(text, column, f"more than {TOKENS_MAX} words and signs")
    return [*found, Token(Sort.END, "", len(text.rstrip()) + 1)]


def _token(kind: str, value: str, column: int) -> Token:
    match kind:
        case "duration":
            seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(value))
            return Token(Sort.DURATION, seconds, column)
        case "number":
            return Token(Sort.NUMBER, float(value), column)
        case "text":
            return Token(Sort.TEXT, value[1:-1], column)
        case "name" if value in WORDS:
            return Token(Sort.WORD, value, column)
        case "op" if value == "==":
            return Token(Sort.OP, "=", column)
        case _:
            return Token(Sort(kind), value, column)
