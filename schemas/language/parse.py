"""Text to tree: the one place that knows Lark. All that is wrong with the syntax is found in one run.

Comments are no part of the grammar. Lines of `///` that end on the line above the first thing of a line document it;
one after something, on its line, documents that. Every comment is kept in `File.comments` for the formatter.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import islice
from typing import Any

from lark import Lark, Transformer, Tree, v_args
from lark import Token as LarkToken
from lark.exceptions import UnexpectedToken
from lark.parsers.lalr_analysis import Shift
from lark.tree import Meta

from schemas.language import tree
from schemas.language.limits import (
    DECLARATIONS_MAX,
    ERRORS_MAX,
    FILE_BYTES_MAX,
    MEMBERS_MAX,
    NESTING_MAX,
    SECONDS_MAX,
)
from schemas.language.problems import Problem, SchemaError, Severity, shortened
from schemas.language.recover import NO_DAMAGE, Action, Damage, Recovery, Table, recover
from schemas.language.tokens import END, Scan, Scanner, Token
from schemas.language.tree import Comment, Place

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DOCUMENTED = (
    "import_",
    "record",
    "enum",
    "enum_value",
    "alias",
    "platform",
    "section",
    "entry",
    "parameter",
    "member",
)
_WRITTEN_BOM = "\N{ZERO WIDTH NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What could be read of a file. `problems` has errors of the syntax, and warnings."""

    file: tree.File
    problems: tuple[Problem, ...] = ()
    damage: Damage = NO_DAMAGE


def parse(text: str, name: str = "<text>") -> tree.File:
    """The tree of a file. Raises SchemaError with every syntax error that was found."""
    parsed = parse_what_can_be(text, name)
    if errors := [problem for problem in parsed.problems if problem.is_error]:
        raise SchemaError(errors)
    return parsed.file


def parse_what_can_be(text: str, name: str = "<text>") -> Parsed:
    """As `parse`, but with what is wrong beside a tree of the rest. Raises SchemaError for what is beyond a limit."""
    if len(text.encode("utf-8", "surrogatepass")) > FILE_BYTES_MAX:
        raise SchemaError([Problem(name, Place(), f"the file has more than {FILE_BYTES_MAX} bytes", "split it up")])
    text = text.removeprefix(_WRITTEN_BOM).replace("\r\n", "\n")
    lines = text.split("\n")
    lark = _lark()
    scan = lark.scanner.scan(text, name, lines)
    found, recovery = _tree(lark, scan)
    docs = _Docs(found, scan.comments)
    build = _Build(name, lines, docs)
    declarations = build.transform(found)
    file = tree.File(name, declarations, tuple(scan.comments), text, docs.owned)
    faults = [Problem(name, f.place, f.message, f.hint, line=lines[f.place.line - 1]) for f in recovery.faults]
    problems = [*scan.problems, *faults, *build.problems]
    if recovery.more or len(problems) > ERRORS_MAX:
        problems = sorted(problems, key=lambda problem: problem.place)[:ERRORS_MAX]
        end = scan.tokens[-1].place
        problems.append(Problem(name, end, "there are more errors than are told", "begin with those"))
    damage = recovery.damage
    if problems:  # a word in place of a wrong one is no word of the author's
        wrong = {one.place.line for one in (*scan.problems, *build.problems)}
        damage = Damage(damage.lines | wrong, damage.names)
    if not problems:
        problems += islice(_undocumented(name, lines, scan.comments, docs), ERRORS_MAX)

    return Parsed(file, tuple(sorted(problems, key=lambda problem: problem.place)), damage)


# ---- Lark ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Tools:
    lark: Lark
    scanner: Scanner
    table: Table


@lru_cache(maxsize=1)
def _lark() -> _Tools:
    grammar = resources.files("schemas.language").joinpath("grammar.lark").read_text(encoding="utf-8")
    lark = Lark(grammar, parser="lalr", lexer="basic", propagate_positions=True, maybe_placeholders=True)
    terminals = {one.name: one.pattern.to_regexp() for one in lark.terminals}
    texts = {one.pattern.value: one.name for one in lark.terminals if one.pattern.type == "str"}
    keywords = {text: name for text, name in texts.items() if text.isidentifier()}
    marks = {text: name for text, name in texts.items() if not text.isidentifier()}
    return _Tools(lark, Scanner(terminals, keywords, marks), _table(lark, set(terminals) - {"WS", "COMMENT"}))


def _table(lark: Lark, terminals: set[str]) -> Table:
    conf = lark.parse_interactive("").parser_state.parse_conf
    rows: dict[int, dict[str, Action]] = {
        state: {
            symbol: arg if action is Shift else (len(arg.expansion), str(arg.origin.name))
            for symbol, (action, arg) in row.items()
        }
        for state, row in conf.states.items()
    }
    return Table(conf.start_state, conf.end_state, rows, [*sorted(terminals), END])


def _tree(tools: _Tools, scan: Scan) -> tuple[Tree[LarkToken], Recovery]:
    """Lark's tree of the tokens, after what was wrong with them is repaired."""
    try:
        return _fed(tools.lark, scan.tokens), Recovery()
    except UnexpectedToken:
        recovery = recover(tools.table, scan.tokens, scan.suspect)
        return _fed(tools.lark, recovery.tokens), recovery


def _fed(lark: Lark, tokens: Sequence[Token]) -> Tree[LarkToken]:
    parser = lark.parse_interactive("")
    for one in tokens:
        place = one.place
        made = LarkToken(one.kind, one.text, 0, place.line, place.column, place.end_line, place.end_column, 0)
        if one.kind == END:
            result: Tree[LarkToken] = parser.feed_token(made)
            return result
        parser.feed_token(made)
    raise AssertionError("END is the last token")


# ---- documentation ------------------------------------------------------------------------------


class _Docs:
    """Which comments document what: `owned` has those of each thing by the place of its name."""

    def __init__(self, root: Tree[LarkToken], comments: Sequence[Comment]) -> None:
        self.owned: dict[Place, tuple[Comment, ...]] = {}
        self.first: Place | None = None  # of all that can be documented
        docs = [one for one in comments if one.is_doc]
        if not docs:
            return
        above = {one.place.line: one for one in docs if one.own_line}
        beside = {one.place.line: one for one in docs if not one.own_line}
        first: dict[int, Place] = {}  # of each line: what begins it
        last: dict[int, tuple[bool, tuple[int, int], int, Place]] = {}  # what a comment at its end is about
        for place, end in _named(root):
            first[place.line] = min(place, first.get(place.line, place))
            comment = beside.get(place.line)
            if comment is not None and place < comment.place:
                is_whole = end <= (comment.place.line, comment.place.column)
                # What ends last, the outermost of it; else what begins last.
                at = end if is_whole else (place.line, place.column)
                candidate = (is_whole, at, -place.column, place)

                last[place.line] = max(candidate, last.get(place.line, candidate))
        self.first = min(first.values(), default=None)
        for place in first.values():
            found: list[Comment] = []
            line = place.line - 1
            while line in above:
                found.append(above[line])
                line -= 1
            if found:
                self.owned[place] = tuple(reversed(found))
        for line, (_, _, _, place) in last.items():
            self.owned.setdefault(place, (beside[line],))

    def of(self, place: Place) -> str:
        return "\n".join(one.text[3:].strip() for one in self.owned.get(place, ()))


def _named(root: Tree[LarkToken]) -> Iterator[tuple[Place, tuple[int, int]]]:
    """The place of the name, and the end, of all that can be documented."""
    subtrees: Iterator[Tree[LarkToken]] = root.iter_subtrees_topdown()  # type: ignore[no-untyped-call]
    for one in subtrees:
        if one.data in _DOCUMENTED:
            name = one.children[0]
            assert isinstance(name, LarkToken)
            yield _of(name), (one.meta.end_line, one.meta.end_column)


def _undocumented(name: str, lines: list[str], comments: Sequence[Comment], docs: _Docs) -> Iterator[Problem]:
    owned = {comment.place for found in docs.owned.values() for comment in found}
    before = 0
    for one in comments:
        if one.is_doc and one.place not in owned:
            is_about_file = one == comments[0] and (docs.first is None or one.place < docs.first)
            if not is_about_file and one.place.line != before + 1:  # of several lines the first is enough
                hint = "put it on the line above what it is about, or write //"
                line = lines[one.place.line - 1]
                yield Problem(name, one.place, "this documents nothing", hint, Severity.WARNING, line)
            before = one.place.line


# ---- the tree -----------------------------------------------------------------------------------

_inline = v_args(inline=True)
_placed = v_args(meta=True)


def _of(token: LarkToken) -> Place:
    assert token.line is not None and token.column is not None
    assert token.end_line is not None and token.end_column is not None
    return Place(token.line, token.column, token.end_line, token.end_column)


def _end(meta: Meta) -> Place:
    """The last character of a rule."""
    return Place(meta.end_line, meta.end_column - 1, meta.end_line, meta.end_column)


@dataclass(frozen=True, slots=True)
class _Group:
    """What stands in brackets, and where they end."""

    items: tuple[Any, ...]
    end: Place
    returns: tree.TypeRef | None = None


class _Build(Transformer[LarkToken, Any]):
    """Lark's tree to ours, from the leaves up. What is beyond a limit is told, and left out."""

    def __init__(self, name: str, lines: list[str], docs: _Docs) -> None:
        super().__init__()
        self.problems: list[Problem] = []
        self._name = name
        self._lines = lines
        self._docs = docs
        self._depths: dict[int, int] = {}

    def _wrong(self, place: Place, message: str, hint: str) -> None:
        if len(self.problems) <= ERRORS_MAX:
            self.problems.append(Problem(self._name, place, message, hint, line=self._lines[place.line - 1]))

    def _doc(self, place: Place) -> str:
        return self._docs.of(place)

    def _text(self, token: LarkToken) -> str:
        try:
            value = str(json.loads(str(token)))
            value.encode()
        except ValueError:
            self._wrong(_of(token), f"{shortened(token)} is no text as JSON writes it", "escape \\ as \\\\")
            return ""
        return value

    def _few(self, items: list[Any], most: int, place: Place, what: str) -> tuple[Any, ...]:
        if len(items) > most:
            self._wrong(place, f"{len(items)} {what}; at most {most} are allowed", "split it up")
        return tuple(items[:most])

    @staticmethod
    def _split(items: list[Any]) -> tuple[list[Any], tuple[tree.Annotation, ...]]:
        notes = tuple(one for one in items if isinstance(one, tree.Annotation))
        return [one for one in items if not isinstance(one, tree.Annotation)], notes

    def start(self, items: list[Any]) -> tuple[tree.Declaration, ...]:
        return self._few(items, DECLARATIONS_MAX, Place(), "declarations")

    @_inline
    def import_(self, target: LarkToken) -> tree.Import:
        place = _of(target)
        if target.type == "STRING":
            return tree.Import(self._text(target), True, self._doc(place), place)
        return tree.Import(str(target), False, self._doc(place), place)

    @_placed
    def record(self, meta: Meta, items: list[Any]) -> tree.Record:
        (name, *members), notes = self._split(items)
        place = _of(name)
        kept = self._few(members, MEMBERS_MAX, place, "fields")
        return tree.Record(str(name), kept, notes, self._doc(place), place, _end(meta))

    @_placed
    def enum(self, meta: Meta, items: list[Any]) -> tree.Enum:
        (name, *values), notes = self._split(items)
        place = _of(name)
        kept = self._few(values, MEMBERS_MAX, place, "values")
        return tree.Enum(str(name), kept, notes, self._doc(place), place, _end(meta))

    def enum_value(self, items: list[Any]) -> tree.EnumValue:
        (name, written), notes = self._split(items)
        place = _of(name)
        text = self._text(written) if written else ""
        if written and not text:
            self._wrong(_of(written), "a value of an enum cannot be an empty text", "write what stands on the wire")
        return tree.EnumValue(str(name), text, notes, self._doc(place), place)

    def alias(self, items: list[Any]) -> tree.Alias:
        (name, kind), notes = self._split(items)
        return tree.Alias(str(name), kind, notes, self._doc(_of(name)), _of(name))

    @_placed
    def platform(self, meta: Meta, items: list[Any]) -> tree.Platform:
        (name, *sections), notes = self._split(items)
        place = _of(name)
        kept = self._few(sections, MEMBERS_MAX, place, "sections")
        return tree.Platform(str(name), kept, notes, self._doc(place), place, _end(meta))

    @_inline
    def section(self, name: LarkToken, value: Any) -> tree.Section:
        place = _of(name)
        if isinstance(value, _Group):
            return tree.Section(str(name), value.items, self._doc(place), place, value.end)
        return tree.Section(str(name), self._text(value), self._doc(place), place, _of(value))

    @_placed
    def entries(self, meta: Meta, items: list[Any]) -> _Group:
        found = [one for one in items if one is not None]
        return _Group(self._few(found, DECLARATIONS_MAX, _end(meta), "entries of a list"), _end(meta))

    def entry(self, items: list[Any]) -> tree.Entry:
        (name, signature), notes = self._split(items)
        place = _of(name)
        if signature is None:
            return tree.Entry(str(name), None, None, notes, self._doc(place), place, place)
        found, returns, end = signature.items, signature.returns, signature.end
        return tree.Entry(str(name), found, returns, notes, self._doc(place), place, end)

    @_placed
    def signature(self, meta: Meta, items: list[Any]) -> _Group:
        *parameters, returns = items
        found = [one for one in parameters if one is not None]
        return _Group(self._few(found, MEMBERS_MAX, _end(meta), "parameters"), _end(meta), returns)

    def parameter(self, items: list[Any]) -> tree.Member:
        (name, kind, default), notes = self._split(items)
        return tree.Member(str(name), kind, default, notes, None, self._doc(_of(name)), _of(name))

    @_placed
    def members(self, meta: Meta, items: list[Any]) -> _Group:
        return _Group(self._few(items, MEMBERS_MAX, _end(meta), "fields"), _end(meta))

    def member(self, items: list[Any]) -> tree.Member:
        (name, kind, body, default), notes = self._split(items)
        place = _of(name)
        fields, end = (body.items, body.end) if body is not None else (None, Place())
        return tree.Member(str(name), kind, default, notes, fields, self._doc(place), place, end)

    def type(self, items: list[Any]) -> tree.TypeRef:
        name, *rest = items
        place = _of(name)
        arguments = tuple(one for one in rest if isinstance(one, tree.TypeRef))
        made = tree.TypeRef(str(name), arguments, False, place)
        depth = 1 + max((self._depths.pop(id(one), 1) for one in arguments), default=0)
        for mark in (one for one in rest if isinstance(one, str) and not isinstance(one, LarkToken)):
            if mark == "array":
                made, depth = tree.TypeRef(tree.ARRAY, (made,), False, place), depth + 1
            elif made.optional:
                self._wrong(place, f"{shortened(str(name))} is marked with ? twice", "leave one out")
            else:
                made = tree.TypeRef(made.name, made.arguments, True, place)
            if depth > NESTING_MAX:
                break
        if depth > NESTING_MAX:
            message = f"a type is nested deeper than {NESTING_MAX} levels"
            self._wrong(place, message, "give the inner part a name")
            made, depth = tree.TypeRef("Json", (), False, place), 1
        self._depths[id(made)] = depth
        return made

    def array(self, _: list[Any]) -> str:
        return "array"

    def optional(self, _: list[Any]) -> str:
        return "optional"

    def annotation(self, items: list[Any]) -> tree.Annotation:
        name, *values = items
        return tree.Annotation(str(name), tuple(one for one in values if one is not None), _of(name))

    @_inline
    def text(self, token: LarkToken) -> str:
        return self._text(token)

    @_inline
    def number(self, token: LarkToken) -> int | float:
        return self._number(token)

    def _number(self, token: LarkToken) -> int | float:
        written = str(token)
        if re.fullmatch(r"-?[0-9]{1,19}", written):
            return int(written)
        value = float(written)
        if not math.isfinite(value):
            self._wrong(_of(token), f"{shortened(written)} is too large a number", "the largest is about 1.8e308")
            return 0
        return value

    @_inline
    def duration(self, token: LarkToken) -> tree.Span:
        number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", str(token)).groups()  # type: ignore[union-attr]
        seconds = float(number) * _SECONDS[unit]
        if seconds > SECONDS_MAX:
            self._wrong(_of(token), f"{shortened(token)} is too long", "the longest is 36600d")
            return tree.Span(1.0, "1s")
        return tree.Span(seconds, str(token))

    @_inline
    def word(self, token: LarkToken) -> tree.Word:
        return tree.Word(str(token))

    def list_value(self, items: list[Any]) -> tuple[Any, ...]:
        return self._few([one for one in items if one is not None], MEMBERS_MAX, Place(), "values of a list")

    def empty_value(self, _: list[Any]) -> tree.Empty:
        return tree.Empty()

    @_inline
    def range(self, least: LarkToken, most: LarkToken) -> tree.Range:
        return tree.Range(self._number(least), self._number(most))

    @_inline
    def range_from(self, least: LarkToken) -> tree.Range:
        return tree.Range(self._number(least), None)

    @_inline
    def range_to(self, most: LarkToken) -> tree.Range:
        return tree.Range(None, self._number(most))
