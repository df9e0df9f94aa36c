"""Selectors as text: a small recursive descent with stated limits, and errors that show the place."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.fleet.selector import (
    KEYWORDS,
    ORDERED,
    All,
    Both,
    Compare,
    Exists,
    Has,
    In,
    Near,
    Node,
    Not,
    Selector,
    number_of,
)

TEXT_CHARS_MAX = 4000
TERMS_MAX = 200
DEPTH_MAX = 20

_TOKEN = re.compile(
    r'\s*(?:(?P<text>"[^"\n]*")|(?P<op><=|>=|!=|=|<|>|\(|\)|,)|(?P<word>[A-Za-z0-9_.:/+*-]+)|(?P<other>\S))'
)
_UNITS_M = {"m": 1.0, "km": 1000.0, "mi": 1609.344}


class SelectorError(ValueError):
    """A selector that means nothing. `column` counts from 1."""

    def __init__(self, text: str, column: int, message: str, hint: str = "") -> None:
        underline = " " * (column - 1) + "^"
        super().__init__("\n".join(line for line in (f"{message} (column {column})", text, underline, hint) if line))
        self.column = column


def parse(text: str) -> Selector:
    """Raises SelectorError, with the place and what would be right."""
    if len(text) > TEXT_CHARS_MAX:
        message = f"a selector of {len(text)} characters; at most {TEXT_CHARS_MAX} are allowed"
        raise SelectorError(text[:60], 1, message)
    return Selector.of(text, _Parser(text).whole())


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # text, op, word, end
    value: str
    column: int


class _Parser:
    """Recursive descent, to a stated depth."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._scan())
        self._at = 0
        self._terms = 0
        self._depth = 0

    def _scan(self) -> Iterator[_Token]:
        at = 0
        while (found := _TOKEN.match(self._text, at)) is not None:
            at = found.end()
            kind = found.lastgroup or ""
            column = found.start(kind) + 1
            value = found.group(kind)
            if kind == "other":
                hint = 'put a text with other characters in "quotes"'
                raise SelectorError(self._text, column, f"{value!r} cannot stand here", hint)
            yield _Token(kind, value.strip('"') if kind == "text" else value, column)
        yield _Token("end", "", len(self._text.rstrip()) + 1)

    def whole(self) -> Node:
        if self._peek().kind == "end":
            return All()
        tree = self._either()
        if self._peek().kind != "end":
            raise self._wrong("expected and, or, a comma or the end")
        return tree

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(f"nested deeper than {DEPTH_MAX} levels")
        parts = [self._both()]
        while self._take("word", "or"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else Both(tuple(parts), any=True)

    def _both(self) -> Node:
        parts = [self._one()]
        while self._take("word", "and") or self._take("op", ","):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else Both(tuple(parts))

    def _one(self) -> Node:
        negations = 0
        while self._take("word", "not"):
            negations += 1
        node = self._group() if self._take("op", "(") else self._term()
        return Not(node) if negations % 2 else node

    def _group(self) -> Node:
        inner = self._either()
        self._expect(")")
        return inner

    def _term(self) -> Node:
        self._terms += 1
        if self._terms > TERMS_MAX:
            raise self._wrong(f"more than {TERMS_MAX} conditions")
        if self._take("word", "all"):
            return All()
        if self._take("word", "near"):
            return self._near()
        key = self._name()
        token = self._peek()
        if token.kind == "op" and token.value in ("=", "!=", *ORDERED):
            self._at += 1
            return Compare(key, token.value, self._value())
        if self._take("word", "exists"):
            return Exists(key)
        if self._take("word", "has"):
            return Has(key, self._value())
        negated = self._take("word", "not")
        if self._take("word", "in"):
            self._expect("(")
            values = [self._value()]
            while self._take("op", ","):
                values.append(self._value())
            self._expect(")")
            return In(key, tuple(values), negated)
        raise self._wrong("expected =, !=, <, <=, >, >=, in (…), has or exists")

    def _near(self) -> Near:
        self._expect("(")
        at = self._peek().column
        lat = self._float()
        self._expect(",")
        lon = self._float()
        self._expect(",")
        metres = self._metres()
        self._expect(")")
        if not -90 <= lat <= 90 or not -180 <= lon <= 180:
            raise SelectorError(self._text, at, "no place on earth", "latitude -90 to 90, then longitude -180 to 180")
        return Near(round(lat, 9), round(lon, 9), round(metres, 3))

    def _metres(self) -> float:
        token = self._next("word", "a distance such as 5 km")
        number, unit = re.fullmatch(r"([0-9.]*)([a-z]*)", token.value, re.DOTALL).groups() if token else ("", "")  # type: ignore[union-attr]
        if not unit and self._peek().value in _UNITS_M:
            unit = self._next("word", "a unit").value
        value = number_of(number)
        if value is None or unit not in _UNITS_M or value < 0:
            raise SelectorError(self._text, token.column, "no distance", f"write a number and {', '.join(_UNITS_M)}")
        return value * _UNITS_M[unit]

    def _name(self) -> str:
        token = self._next("word", "a name, such as site or a label")
        if token.value in KEYWORDS:
            raise SelectorError(
                self._text, token.column, f"{token.value!r} cannot be a name here", "write label.<name>"
            )
        return token.value

    def _value(self) -> str:
        token = self._peek()
        if token.kind not in ("word", "text"):
            raise self._wrong("expected a value")
        self._at += 1
        return token.value

    def _float(self) -> float:
        token = self._next("word", "a number")
        value = number_of(token.value)
        if value is None:
            raise SelectorError(self._text, token.column, f"{token.value!r} is no number")
        return value

    def _peek(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, kind: str, value: str) -> bool:
        token = self._peek()
        if token.kind == kind and token.value == value:
            self._at += 1
            return True
        return False

    def _next(self, kind: str, wanted: str) -> _Token:
        token = self._peek()
        if token.kind != kind:
            raise self._wrong(f"expected {wanted}")
        self._at += 1
        return token

    def _expect(self, op: str) -> None:
        if not self._take("op", op):
            raise self._wrong(f"expected {op}")

    def _wrong(self, message: str) -> SelectorError:
        token = self._peek()
        found = f", not {token.value!r}" if token.kind != "end" else ", and the text ends"
        return SelectorError(self._text, token.column, message + found)
