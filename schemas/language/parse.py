"""Text to tree: the one place that knows Lark. Syntax errors are found in one run, as far as they can be told apart.

Comments are no part of the grammar. Lines of `///` that end on the line above a declaration, or one after it on its
own line, are its documentation; every comment is kept in `File.comments` for the formatter.
"""

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from typing import Any

from lark import Lark, Token, Transformer, Tree, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError

from schemas.language import tree
from schemas.language.limits import DECLARATIONS_MAX, ERRORS_MAX, FILE_BYTES_MAX, MEMBERS_MAX, NESTING_MAX
from schemas.language.problems import Problem, SchemaError
from schemas.language.tree import Place

_SCAN = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/|[\[\](){}]', re.DOTALL)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_NAMES = {
    "NAME": "a name",
    "STRING": "a text in quotes",
    "NUMBER": "a number",
    "DURATION": "a length of time",
    "$END": "the end of the file",
}


@lru_cache(maxsize=1)
def _lark() -> Lark:
    grammar = resources.files("schemas.language").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", propagate_positions=True, maybe_placeholders=True)


def parse(text: str, name: str = "<text>") -> tree.File:
    """The tree of a file. Raises SchemaError with every syntax error that was found."""
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES_MAX:
        raise SchemaError([Problem(name, Place(), f"the file has more than {FILE_BYTES_MAX} bytes", "split it up")])
    text = text.replace("\r\n", "\n")
    lines = text.split("\n")
    comments = list(_comments(text, name, lines))
    problems: list[Problem] = []

    def on_error(error: UnexpectedInput) -> bool:
        place = _place_of(error, lines)
        seen = problems and place.line <= problems[-1].place.line + 1
        if not seen and len(problems) < ERRORS_MAX:
            problems.append(_problem(error, place, name, lines))
        return isinstance(error, UnexpectedToken) and error.token.type != "$END"

    parsed: Tree[Token] | None = None
    try:
        parsed = _lark().parse(text, on_error=on_error)
    except UnexpectedInput as error:
        if not problems:
            on_error(error)
    if problems or parsed is None:
        raise SchemaError(problems)
    try:
        declarations = _Build(name, lines, comments).transform(parsed)
    except VisitError as error:
        if isinstance(error.orig_exc, SchemaError):
            raise error.orig_exc from None
        raise
    return tree.File(name, declarations, tuple(comments), text)


def _comments(text: str, name: str, lines: list[str]) -> Iterator[tree.Comment]:
    """The comments in order. Raises SchemaError where brackets nest too deep for anybody to mean it."""
    depth, line, start = 0, 1, 0
    counted = 0
    for found in _SCAN.finditer(text):
        piece = found.group()
        if piece[0] in "[({":
            depth += 1
        elif piece[0] in "])}":
            depth -= 1
        line += text.count("\n", counted, found.start())
        counted = found.start()
        start = text.rfind("\n", 0, found.start()) + 1
        place = _place(line, found.start() - start + 1, piece)
        if depth > NESTING_MAX:
            message = f"brackets are nested deeper than {NESTING_MAX} levels"
            raise SchemaError([Problem(name, place, message, "give the inner part a name", line=lines[line - 1])])
        if piece[0] == "/":
            yield tree.Comment(piece, not text[start : found.start()].strip(), place)


def _place(line: int, column: int, piece: str) -> Place:
    inner = piece.split("\n")
    end_column = column + len(piece) if len(inner) == 1 else len(inner[-1]) + 1
    return Place(line, column, line + len(inner) - 1, end_column)


# ---- syntax errors ------------------------------------------------------------------------------


def _place_of(error: UnexpectedInput, lines: list[str]) -> Place:
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        last = max(1, len(lines) - (1 if len(lines) > 1 and not lines[-1] else 0))
        return Place(last, len(lines[last - 1]) + 1, last, len(lines[last - 1]) + 2)
    length = len(error.token) if isinstance(error, UnexpectedToken) else 1
    return Place(error.line, error.column, error.line, error.column + max(1, length))


def _problem(error: UnexpectedInput, place: Place, name: str, lines: list[str]) -> Problem:
    line = lines[place.line - 1] if place.line <= len(lines) else ""
    accepts: set[str] = set()
    if isinstance(error, UnexpectedToken):
        found = "the end of the file" if error.token.type == "$END" else repr(str(error.token))
        accepts = error.accepts or error.expected
    else:
        assert isinstance(error, UnexpectedCharacters)
        found = repr(error.char)
        accepts = set(error.allowed or ())
        if error.char == '"':
            return Problem(name, place, "a text that does not end on its line", 'close it with "', line=line)
        if line[place.column - 1 :].startswith("/*"):
            return Problem(name, place, "a comment that does not end", "close it with */", line=line)
    wanted = ", ".join(sorted({_shown(one) for one in accepts} - {""}))
    return Problem(name, place, f"{found} cannot stand here", f"expected {wanted}" if wanted else "", line=line)


def _shown(terminal: str) -> str:
    if terminal in _NAMES:
        return _NAMES[terminal]
    if terminal in ("WS", "COMMENT"):
        return ""
    for defined in _lark().terminals:
        if defined.name == terminal:
            return repr(str(defined.pattern.value))
    return terminal.lower()


# ---- the tree -----------------------------------------------------------------------------------

_inline = v_args(inline=True)


def _of(token: Token) -> Place:
    assert token.line is not None and token.column is not None
    return Place(token.line, token.column, token.line, token.column + len(token))


class _Build(Transformer[Token, Any]):
    """Lark's tree to ours, from the leaves up."""

    def __init__(self, name: str, lines: list[str], comments: list[tree.Comment]) -> None:
        super().__init__()
        self._name = name
        self._lines = lines
        self._docs = {one.place.line: one for one in comments if one.is_doc and one.own_line}
        self._trailing = {one.place.line: one for one in comments if one.is_doc and not one.own_line}

    def _doc(self, place: Place) -> str:
        found: list[str] = []
        line = place.line - 1
        while line in self._docs:
            found.insert(0, self._docs[line].text[3:].strip())
            line -= 1
        if not found and place.line in self._trailing:
            found = [self._trailing[place.line].text[3:].strip()]
        return "\n".join(found)

    def _text(self, token: Token) -> str:
        try:
            value = json.loads(str(token))
            value.encode()
        except ValueError:
            raise self._wrong(_of(token), f"{token} is no text as JSON writes it", "escape \\ as \\\\") from None
        return str(value)

    def _wrong(self, place: Place, message: str, hint: str) -> SchemaError:
        return SchemaError([Problem(self._name, place, message, hint, line=self._lines[place.line - 1])])

    def _few(self, items: list[Any], most: int, place: Place, what: str) -> tuple[Any, ...]:
        if len(items) > most:
            raise self._wrong(place, f"{len(items)} {what}; at most {most} are allowed", "split it up")
        return tuple(items)

    @staticmethod
    def _split(items: list[Any]) -> tuple[list[Any], tuple[tree.Annotation, ...]]:
        notes = tuple(one for one in items if isinstance(one, tree.Annotation))
        return [one for one in items if not isinstance(one, tree.Annotation)], notes

    def start(self, items: list[Any]) -> tuple[tree.Declaration, ...]:
        return self._few(items, DECLARATIONS_MAX, Place(), "declarations")

    @_inline
    def import_(self, target: Token) -> tree.Import:
        place = _of(target)
        if target.type == "STRING":
            return tree.Import(self._text(target), True, self._doc(place), place)
        return tree.Import(str(target), False, self._doc(place), place)

    def record(self, items: list[Any]) -> tree.Record:
        (name, *members), notes = self._split(items)
        place = _of(name)
        return tree.Record(
            str(name), self._few(members, MEMBERS_MAX, place, "fields"), notes, self._doc(place), place
        )

    def enum(self, items: list[Any]) -> tree.Enum:
        (name, *values), notes = self._split(items)
        place = _of(name)
        return tree.Enum(str(name), self._few(values, MEMBERS_MAX, place, "values"), notes, self._doc(place), place)

    def enum_value(self, items: list[Any]) -> tree.EnumValue:
        (name, written), notes = self._split(items)
        place = _of(name)
        return tree.EnumValue(str(name), self._text(written) if written else "", notes, self._doc(place), place)

    def alias(self, items: list[Any]) -> tree.Alias:
        (name, kind), notes = self._split(items)
        return tree.Alias(str(name), kind, notes, self._doc(_of(name)), _of(name))

    def platform(self, items: list[Any]) -> tree.Platform:
        (name, *sections), notes = self._split(items)
        return tree.Platform(str(name), tuple(sections), notes, self._doc(_of(name)), _of(name))

    @_inline
    def section(self, name: Token, value: Any) -> tree.Section:
        text = self._text(value) if isinstance(value, Token) else value
        return tree.Section(str(name), text, self._doc(_of(name)), _of(name))

    def entries(self, items: list[Any]) -> tuple[Any, ...]:
        return self._few([one for one in items if one is not None], DECLARATIONS_MAX, Place(), "entries of a list")

    def entry(self, items: list[Any]) -> tree.Entry:
        (name, signature), notes = self._split(items)
        parameters, returns = signature if signature is not None else (None, None)
        return tree.Entry(str(name), parameters, returns, notes, self._doc(_of(name)), _of(name))

    def signature(self, items: list[Any]) -> tuple[tuple[tree.Member, ...], tree.TypeRef | None]:
        *parameters, returns = items
        return self._few([one for one in parameters if one], MEMBERS_MAX, Place(), "parameters"), returns

    def parameter(self, items: list[Any]) -> tree.Member:
        (name, kind, default), notes = self._split(items)
        return tree.Member(str(name), kind, default, notes, None, self._doc(_of(name)), _of(name))

    def members(self, items: list[Any]) -> tuple[Any, ...]:
        return self._few(items, MEMBERS_MAX, Place(), "fields")

    def member(self, items: list[Any]) -> tree.Member:
        (name, kind, body, default), notes = self._split(items)
        return tree.Member(str(name), kind, default, notes, body, self._doc(_of(name)), _of(name))

    def type(self, items: list[Any]) -> tree.TypeRef:
        name, *rest = items
        place = _of(name)
        arguments = tuple(one for one in rest if isinstance(one, tree.TypeRef))
        made = tree.TypeRef(str(name), arguments, False, place)
        for mark in (one for one in rest if isinstance(one, str)):
            if mark == "array":
                made = tree.TypeRef(tree.ARRAY, (made,), False, place)
            else:
                made = tree.TypeRef(made.name, made.arguments, True, place)
        return made

    def array(self, _: list[Any]) -> str:
        return "array"

    def optional(self, _: list[Any]) -> str:
        return "optional"

    def annotation(self, items: list[Any]) -> tree.Annotation:
        name, *values = items
        return tree.Annotation(str(name), tuple(one for one in values if one is not None), _of(name))

    @_inline
    def text(self, token: Token) -> str:
        return self._text(token)

    @_inline
    def number(self, token: Token) -> int | float:
        return self._number(token)

    def _number(self, token: Token) -> int | float:
        written = str(token)
        if re.fullmatch(r"-?[0-9]{1,19}", written):
            return int(written)
        value = float(written)
        if value in (float("inf"), float("-inf")):
            raise self._wrong(_of(token), f"{written} is too large a number", "the largest is about 1.8e308")
        return value

    @_inline
    def duration(self, token: Token) -> tree.Span:
        number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", str(token)).groups()  # type: ignore[union-attr]
        return tree.Span(float(number) * _SECONDS[unit], str(token))

    @_inline
    def word(self, token: Token) -> tree.Word:
        return tree.Word(str(token))

    def list_value(self, items: list[Any]) -> tuple[Any, ...]:
        return tuple(one for one in items if one is not None)

    def empty_value(self, _: list[Any]) -> tree.Empty:
        return tree.Empty()

    @_inline
    def range(self, least: Token, most: Token) -> tree.Range:
        return tree.Range(self._number(least), self._number(most))

    @_inline
    def range_from(self, least: Token) -> tree.Range:
        return tree.Range(self._number(least), None)

    @_inline
    def range_to(self, most: Token) -> tree.Range:
        return tree.Range(None, self._number(most))
