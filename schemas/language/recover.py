"""Syntax errors: where each is, what was expected there, and the smallest change after which the text goes on.

The parser's table is walked with states alone, so that changes can be tried: put a token in, leave one out, replace
one; leave out the item, the declaration. The change that lets the most of what follows be read is made, so that one
mistake is told once, and the rest of the file is still checked. What had to be left out is the *damage*.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from schemas.language.limits import ERRORS_MAX
from schemas.language.tokens import END, Token
from schemas.language.tree import Place

AHEAD = 8  # tokens that a change should let be read
ENOUGH = 4  # tokens that a small change must let be read; else the item around it is left out
_ITEMS_MAX, _SKIPS_MAX = 8, 60

_CLOSERS = {"LBRACE": "RBRACE", "LSQB": "RSQB", "LPAR": "RPAR"}
_DECLARATIONS = frozenset({"IMPORT", "RECORD", "ENUM", "TYPE", "EDGE_COMPUTING"})
_KEYWORDS = [kind.lower() for kind in sorted(_DECLARATIONS)]
_NEVER_MADE = frozenset({END, *_DECLARATIONS})
_NAMES = frozenset({"NAME", *_DECLARATIONS})
_VALUES = frozenset({*_NAMES, "STRING", "NUMBER", "DURATION", "_TO", "LSQB", "LBRACE"})
# A rule of the grammar, what a person calls it, and what it begins with. The first that fits is told.
_PHRASES = (
    ("record", "a declaration (import, record, enum, type, edge_computing)", _DECLARATIONS),
    ("member", "a field", _NAMES),
    ("section", "a section", _NAMES),
    ("parameter", "a parameter", _NAMES),
    ("entry", "a name", _NAMES),
    ("enum_value", "a name", _NAMES),
    ("type", "a type", _NAMES),
    ("value", "a value", _VALUES),
    ("name", "a name", _NAMES),
)
_TEXTS = {
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "DURATION": "a length of time",
    END: "the end of the file",
}
_MARKS = {
    "COMMA": ",", "COLON": ":", "EQUAL": "=", "LBRACE": "{", "RBRACE": "}", "LSQB": "[", "RSQB": "]", "LPAR": "(",
    "RPAR": ")", "QMARK": "?", "AT": "@", "_TO": "..",
}  # fmt: skip
_DECORATIONS = ({"AT"}, {"QMARK", "EQUAL", "LSQB", "LBRACE", "LPAR", "COLON"}, {END})

Stack = tuple[int, "Stack | None"]
"""The state on top, and what is below: sharing makes the stack before each token cost nothing."""

Action = int | tuple[int, str]
"""The state after a shift, or how many symbols a reduction takes and what it makes of them."""


@dataclass(frozen=True, slots=True)
class Table:
    """An LALR table without values."""

    start: int
    end: int
    rows: Mapping[int, Mapping[str, Action]]
    terminals: Sequence[str]

    def advance(self, stack: Stack, kind: str) -> tuple[Stack, Stack] | None:
        """The stack that shifts a token of this kind, and the one after it; None where it cannot stand."""
        while True:
            action = self.rows[stack[0]].get(kind)
            if action is None:
                return None
            if isinstance(action, int):
                return stack, (action, stack)
            size, made = action
            below: Stack | None = stack
            for _ in range(size):
                assert below is not None
                below = below[1]
            assert below is not None
            goto = self.rows[below[0]][made]
            assert isinstance(goto, int)
            stack = (goto, below)
            if kind == END and goto == self.end:
                return stack, stack

    def after(self, stack: Stack, kinds: Sequence[str]) -> Stack | None:
        """The stack after all of these."""
        for kind in kinds:
            moved = self.advance(stack, kind)
            if moved is None:
                return None
            stack = moved[1]
        return stack

    def closers(self, stack: Stack) -> tuple[str, ...]:
        """What would close the brackets that are open, the innermost first."""
        opened = {row.get(kind): close for row in self.rows.values() for kind, close in _CLOSERS.items()}
        found: list[str] = []
        at: Stack | None = stack
        while at is not None:
            if at[0] in opened:
                found.append(opened[at[0]])
            at = at[1]
        return tuple(found)

    def allowed(self, stack: Stack) -> list[str]:
        return [kind for kind in self.terminals if self.advance(stack, kind) is not None]


@dataclass(frozen=True, slots=True)
class Change:
    """Tokens `first` up to `last` are replaced by `inserted`; the error was seen at `at`."""

    first: int
    last: int
    inserted: tuple[str, ...]
    at: int
    small: bool = True


@dataclass(frozen=True, slots=True)
class Fault:
    place: Place
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Damage:
    """What is not known of a file with errors: lines that were changed, words that were left out."""

    lines: frozenset[int] = frozenset()
    names: frozenset[str] = frozenset()
    anything: bool = False  # a name may come from a file that could not be read

    def __bool__(self) -> bool:
        return bool(self.lines or self.anything)

    def has(self, name: str) -> bool:
        """Whether `name` may have been in what was left out."""
        return self.anything or name in self.names


NO_DAMAGE = Damage()


@dataclass(slots=True)
class Recovery:
    """Tokens that the parser takes, what was wrong with those that came, and what was left out."""

    tokens: list[Token] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    damage: Damage = NO_DAMAGE
    more: bool = False  # there are more errors than are told


def recover(table: Table, tokens: Sequence[Token], suspect: set[int]) -> Recovery:
    """`suspect` are tokens at which something is told already: an error there is repaired without a word."""
    return _Walk(table, tokens, suspect).run()


class _Walk:
    def __init__(self, table: Table, tokens: Sequence[Token], suspect: set[int]) -> None:
        self._table = table
        self._tokens = tokens
        self._suspect = suspect
        self._stacks: list[Stack | None] = []  # before each token so far; None before one that is left out
        self._changes: list[Change] = []
        self._done = Recovery()

    def run(self) -> Recovery:
        stack: Stack = (self._table.start, None)
        at, quiet_line = 0, 0
        while at < len(self._tokens):
            self._stacks += [None] * (at - len(self._stacks))
            self._stacks.append(stack)
            moved = self._table.advance(stack, self._tokens[at].kind)
            if moved is not None:
                stack, at = moved[1], at + 1
                continue
            change = self._change(at)
            line = self._tokens[at].place.line
            is_told = line == quiet_line or not self._suspect.isdisjoint(range(change.first - 1, at + 1))
            if not is_told and len(self._done.faults) >= ERRORS_MAX:
                self._done.more = True
            elif not is_told:
                self._done.faults.append(self._fault(change))
            if not change.small:
                quiet_line = self._tokens[max(0, change.last - 1)].place.line
            self._changes.append(change)
            made = self._table.after(self._before(change.first), change.inserted)
            del self._stacks[change.first :]
            assert made is not None
            stack, at = made, change.last
        self._rewrite()
        return self._done

    def _before(self, at: int) -> Stack:
        stack = self._stacks[at]
        assert stack is not None
        return stack

    # ---- choosing a change ----------------------------------------------------------------------

    def _change(self, at: int) -> Change:
        best, best_reach = None, 0
        if len(self._changes) < 2 * ERRORS_MAX:
            for change in self._small_changes(at):
                reach = self._reach(change, at)
                if reach >= AHEAD:
                    return change
                if reach > best_reach:
                    best, best_reach = change, reach
            if best is not None and best_reach >= ENOUGH:
                return best
            for change in self._item_changes(at):
                if self._reach(change, at) >= ENOUGH:
                    return change
        return self._declaration_change(at)

    def _reach(self, change: Change, at: int) -> int:
        """How many tokens, from the error on, can be read after the change."""
        stack = self._table.after(self._before(change.first), change.inserted)
        if stack is None or (not change.inserted and change.first == change.last):
            return 0
        floor = max(at, change.last)
        for i in range(change.last, min(floor + AHEAD, len(self._tokens))):
            moved = self._table.advance(stack, self._tokens[i].kind)
            if moved is None:
                return max(0, i - floor)
            stack = moved[1]
        return AHEAD

    def _small_changes(self, at: int) -> Iterator[Change]:
        floor = self._changes[-1].last if self._changes else 0
        starts = [at]
        if at - 1 >= floor and at > 0 and self._begins_line(at - 1) and not self._begins_line(at):
            starts.insert(0, at - 1)  # what is missing is more likely missing at the end of the line before
        for first in starts:
            token = self._tokens[first]
            closers = self._closers(first)
            if closers and (token.kind == END or (token.kind in _DECLARATIONS and self._begins_line(first))):
                for count in range(1, len(closers) + 1):
                    yield Change(first, first, closers[:count], at)
            allowed = self._table.allowed(self._before(first))
            for kind in sorted(allowed, key=lambda kind: _ORDER.get(kind, 9)):
                if kind not in _NEVER_MADE:
                    yield Change(first, first, (kind,), at)
        token = self._tokens[at]
        if token.kind == END:
            return
        yield Change(at, at + 1, (), at)
        for kind in self._table.allowed(self._before(at)):
            if kind not in _NEVER_MADE:
                yield Change(at, at + 1, (kind,), at)
        line = at - 1
        while line > max(floor, at - AHEAD) and not self._begins_line(line):
            line -= 1
        if line >= floor and self._begins_line(line) and self._stacks[line] is not None:
            closers = self._closers(line)  # what was not closed shows only when this line makes no sense
            for count in range(1, len(closers) + 1):
                yield Change(line, line, closers[:count], at)

    def _item_changes(self, at: int) -> Iterator[Change]:
        """The item around the error is left out, up to what may be the next one at the same depth."""
        floor = self._changes[-1].last if self._changes else 0
        items = 0
        for first in range(at, floor - 1, -1):
            if self._stacks[first] is None or not self._begins_item(first):
                continue
            items += 1
            depth, skips = self._tokens[first].depth, 0
            for last in range(at + 1, len(self._tokens)):
                if self._tokens[last].depth > depth or not self._ends_item(last):
                    continue
                skips += 1
                yield Change(first, last, (), at, small=False)
                if self._tokens[last].depth < depth or skips > _SKIPS_MAX:
                    break
            if items >= _ITEMS_MAX:
                return

    def _declaration_change(self, at: int) -> Change:
        """All from the last place where a declaration could begin is left out, up to the next that does."""
        first = at
        while not self._is_outside(first):
            first -= 1
        last = at if self._tokens[at].kind == END else at + 1
        while self._tokens[last].kind != END and not (
            self._tokens[last].kind in _DECLARATIONS and self._tokens[last].place.column == 1
        ):
            last += 1
        return Change(first, last, (), at, small=False)

    def _is_outside(self, at: int) -> bool:
        """Whether a declaration could begin before this token."""
        stack = self._stacks[at]
        return stack is not None and self._table.advance(stack, END) is not None

    def _begins_line(self, at: int) -> bool:
        return at == 0 or self._tokens[at - 1].place.end_line < self._tokens[at].place.line

    def _begins_item(self, at: int) -> bool:
        before = self._tokens[at - 1].kind if at else ""
        return self._begins_line(at) or before == "COMMA" or before in _CLOSERS

    def _ends_item(self, at: int) -> bool:
        return self._begins_line(at) or self._tokens[at].kind in ("COMMA", "RBRACE", "RSQB", "RPAR", END)

    def _closers(self, at: int) -> tuple[str, ...]:
        """What would close the brackets that are open before a token, the innermost first."""
        return self._table.closers(self._before(at))

    def _opener(self, at: int) -> Token | None:
        """The innermost bracket that is open before a token, as far as what was changed lets it be found."""
        closed, first = 0, at
        while first > 0 and not self._is_outside(first):
            first -= 1
            kind = self._tokens[first].kind
            if kind in _CLOSERS.values():
                closed += 1
            elif kind in _CLOSERS and closed:
                closed -= 1
            elif kind in _CLOSERS:
                return self._tokens[first]
        return None

    # ---- telling --------------------------------------------------------------------------------

    def _fault(self, change: Change) -> Fault:
        at = change.first if change.small else change.at
        token = self._tokens[at]
        closing = self._closers(at)
        if change.small and change.first == change.last and change.inserted == closing[: len(change.inserted)]:
            opener = self._opener(at)
            is_end = token.kind == END or (token.kind in _DECLARATIONS and self._begins_line(at))
            if opener is not None and (is_end or change.first < change.at - 1):
                mark = _MARKS[change.inserted[0]]
                message = f"the {opener.text} in line {opener.place.line} is not closed before {token.shown}"
                return Fault(token.place, message, f"write {mark} where it ends")
        wanted = self._wanted(self._before(at))
        is_missing = change.small and change.first == change.last
        if is_missing and at and self._begins_line(at) and token.kind != END:
            end = self._tokens[at - 1].place
            place = Place(end.end_line, end.end_column, end.end_line, end.end_column + 1)
            return Fault(place, f"expected {wanted} at the end of this line", self._hint(change, token))
        return Fault(token.place, f"expected {wanted}, not {token.shown}", self._hint(change, token))

    @staticmethod
    def _hint(change: Change, token: Token) -> str:
        marks = [_MARKS[kind] for kind in change.inserted if kind in _MARKS]
        near = get_close_matches(token.text, _KEYWORDS, n=1) if token.kind == "NAME" and token.depth == 0 else []
        if near:
            return f"did you mean {near[0]}?"
        if not change.small or token.kind == END:
            return ""
        if not change.inserted:
            return f"leave {token.shown} out"
        if len(marks) != len(change.inserted):
            return ""
        return f"write {' '.join(marks)} {'before' if change.first == change.last else 'instead of'} {token.shown}"

    def _wanted(self, stack: Stack) -> str:
        """What can stand here, in a person's words."""
        found: dict[str, str] = {}  # phrase: a terminal that it stands for
        for kind in self._table.terminals:
            if (moved := self._table.advance(stack, kind)) is not None:
                row = self._table.rows[moved[0][0]]
                phrase = next((text for rule, text, begins in _PHRASES if rule in row and kind in begins), None)
                found.setdefault(phrase or _MARKS.get(kind) or _TEXTS[kind], kind)
        for decorations in () if "entries" in self._table.rows[stack[0]] else _DECORATIONS:
            left = {text: kind for text, kind in found.items() if kind not in decorations}
            found = left or found
        if {"a field", "a name", "a section"} & found.keys() and "}" in found:
            found.pop(",", None)
        texts = sorted(found, key=lambda text: (len(text) == 1, text != ",", text))
        if len(texts) > 2:
            texts = ["a comma" if text == "," else text for text in texts]
        return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"

    # ---- the tokens afterwards ------------------------------------------------------------------

    def _rewrite(self) -> None:
        """Later changes may have undone earlier ones: only those in the end's order count."""
        lines: set[int] = set()
        names: set[str] = set()
        kept: list[Change] = []
        for change in self._changes:
            while kept and kept[-1].last > change.first:
                kept.pop()
            kept.append(change)
            left_out = [token for token in self._tokens[change.first : change.last] if token.kind not in _MARKS]
            names.update(token.text for token in left_out)
            around = self._tokens[max(0, change.first - 1) : change.last + 1]
            if left_out or any(kind not in _MARKS for kind in change.inserted):
                lines.update(range(around[0].place.line, around[-1].place.end_line + 1))
        at = 0
        for change in kept:
            self._done.tokens += self._tokens[at : change.first]
            place = self._tokens[change.first].place
            self._done.tokens += [_made(kind, place) for kind in change.inserted]
            at = change.last
        self._done.tokens += self._tokens[at:]
        self._done.damage = Damage(frozenset(lines), frozenset(names))


# Which of several tokens that would do is put in.
_ORDER = {
    kind: i for i, kind in enumerate(("COMMA", "COLON", "RPAR", "RSQB", "RBRACE", "LPAR", "LBRACE", "LSQB", "NAME"))
}
_STAND_INS = {"NAME": "Json", "STRING": '"?"', "NUMBER": "0", "DURATION": "1s"}


def _made(kind: str, place: Place) -> Token:
    """A token that stands for one that was missing. A type is Json, which fits anything."""
    return Token(kind, _STAND_INS.get(kind, _MARKS.get(kind, kind.lower())), place)
