"""Conditions as text: a recursive descent with stated limits, errors that show the place, and kinds that are checked.

    condition   = both { "or" both }                    both = one { "and" one }
    one         = "not" one | comparison [ "for" DURATION ]
    comparison  = sum [ ("=" | "!=" | "<" | "<=" | ">" | ">=") sum | ["not"] "in" "(" value { "," value } ")" ]
    sum         = product { ("+" | "-") product }       product = atom { ("*" | "/") atom }
    atom        = NUMBER | DURATION | TEXT | true | false | "-" atom | "(" condition ")" | NAME | call
    call        = FUNCTION "(" EVENT [ "where" condition ] [ "," DURATION ] ")"

A duration is a number of seconds. A NAME stands within `where` only, for a field of the event. EVENT is a type, with
`.field` where the function looks at one. `rate` is a second: write `rate(PartInspected, 10m) < 30 / 1min`.
"""

from collections.abc import Callable
from difflib import get_close_matches

from platforms.conditions.condition import Condition
from platforms.conditions.errors import ConditionError
from platforms.conditions.nodes import Among, Compare, Held, Literal, Logic, Name, Node, Not, Sum, Value
from platforms.conditions.tokens import Sort, Token, scan
from platforms.conditions.windows import Call, Count, Distinct, Figure, Since

DEPTH_MAX = 30
CALLS_MAX = 32
WINDOW_S_MAX = 7 * 86_400.0
FIELD_FUNCTIONS = {"sum": Figure, "avg": Figure, "min": Figure, "max": Figure, "last": Figure, "distinct": Distinct}
EVENT_FUNCTIONS: dict[str, type[Call]] = {"count": Count, "rate": Count, "since": Since}
FUNCTIONS: dict[str, type[Call]] = EVENT_FUNCTIONS | FIELD_FUNCTIONS
_Each = Callable[[], Node]
_COMPARISONS = ("=", "!=", "<", "<=", ">", ">=")


def parse(text: str) -> Condition:
    """Raises ConditionError, with the place and what would be right."""
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = scan(text)
        self._at = 0
        self._depth = 0
        self._calls: list[Call] = []
        self._held: list[Held] = []
        self._inside = False  # a `where`

    def whole(self) -> Condition:
        begin = self._peek()
        if begin.sort is Sort.END:
            raise self._wrong(begin, "an empty condition", "such as count(DefectDetected, 5m) >= 3")
        tree = self._truth(self._either, begin)
        if (rest := self._peek()).sort is not Sort.END:
            raise self._wrong(rest, "expected and, or, a comparison, for or the end")
        return Condition(self._text, tree, tuple(self._calls), tuple(self._held))

    # ---- truths ---------------------------------------------------------------------------------

    def _either(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise self._wrong(self._peek(), f"nested deeper than {DEPTH_MAX} levels")
        node = self._joined("or", lambda: self._joined("and", self._one))
        self._depth -= 1
        return node

    def _joined(self, word: str, each: _Each) -> Node:
        begin = self._peek()
        first = each()
        if not self._is(Sort.WORD, word):
            return first
        parts = [self._checked(first, "truth", begin)]
        while self._take(Sort.WORD, word):
            begin = self._peek()
            parts.append(self._checked(each(), "truth", begin))
        return Logic(word == "or", tuple(parts))

    def _one(self) -> Node:
        if self._take(Sort.WORD, "not"):
            self._depth += 1
            if self._depth > DEPTH_MAX:
                raise self._wrong(self._peek(), f"nested deeper than {DEPTH_MAX} levels")
            begin = self._peek()
            node = Not(self._checked(self._one(), "truth", begin))
            self._depth -= 1
            return node
        begin = self._peek()
        found = self._comparison()
        while self._is(Sort.WORD, "for"):
            word = self._next()
            if self._inside:
                raise self._wrong(word, "an event lasts no time: for cannot stand within where")
            found = Held(self._checked(found, "truth", begin), self._duration("how long it must be so, such as 10s"))
            self._held.append(found)
        return found

    def _comparison(self) -> Node:
        begin = self._peek()
        left = self._sum()
        token = self._peek()
        if token.sort is Sort.OP and token.value in _COMPARISONS:
            self._next()
            right = self._sum()
            self._comparable(left, str(token.value), right, token)
            return Compare(str(token.value), left, right)
        negated = self._is(Sort.WORD, "not") and self._tokens[self._at + 1].value == "in"
        if negated:
            self._next()
        if self._take(Sort.WORD, "in"):
            if left.kind == "truth":
                raise self._wrong(begin, "a truth is in no list")
            found = Among(left, self._listed(left))
            return Not(found) if negated else found
        return left

    def _listed(self, left: Node) -> tuple[Value, ...]:
        self._expect("(")
        values: list[Value] = []
        while True:
            token = self._peek()
            node = self._atom()
            if not isinstance(node, Literal):
                raise self._wrong(token, "a list holds numbers and texts")
            if "any" not in (left.kind, node.kind) and left.kind != node.kind:
                raise self._wrong(token, f"a {node.kind} is never among {left.kind}s")
            values.append(node.it)
            if not self._take(Sort.OP, ","):
                self._expect(")")
                return tuple(values)

    # ---- values ---------------------------------------------------------------------------------

    def _sum(self) -> Node:
        return self._arithmetic(("+", "-"), lambda: self._arithmetic(("*", "/"), self._atom))

    def _arithmetic(self, signs: tuple[str, ...], each: _Each) -> Node:
        begin = self._peek()
        node = each()
        while self._peek().sort is Sort.OP and self._peek().value in signs:
            sign = str(self._next().value)
            left = self._checked(node, "number", begin)
            begin = self._peek()
            node = Sum(sign, left, self._checked(each(), "number", begin))
        return node

    def _atom(self) -> Node:
        token = self._next()
        match token.sort:
            case Sort.NUMBER | Sort.DURATION:
                return Literal(token.value, "number")
            case Sort.TEXT:
                return Literal(token.value, "text")
            case Sort.WORD if token.value in ("true", "false"):
                return Literal(token.value == "true", "truth")
            case Sort.OP if token.value == "-":
                begin = self._peek()
                inner = self._checked(self._atom(), "number", begin)
                negative = isinstance(inner, Literal) and isinstance(inner.it, float)
                return Literal(-inner.it, "number") if negative else Sum("-", Literal(0.0, "number"), inner)  # type: ignore[attr-defined]
            case Sort.OP if token.value == "(":
                inner = self._either()
                self._expect(")")
                return inner
            case Sort.NAME:
                return self._call(token) if self._is(Sort.OP, "(") else self._name(token)
            case _:
                raise self._wrong(token, "expected a value", "a number, a duration, a text, a field, or a function")

    def _name(self, token: Token) -> Node:
        if self._inside:
            return Name(tuple(str(token.value).split(".")), token.column)
        name = str(token.value)
        hint = f"a function of events, such as last({name}.value, 1m) or count({name}, 5m)"
        raise self._wrong(token, f"{name} says nothing by itself", hint)

    def _call(self, token: Token) -> Node:
        name = str(token.value)
        kind = FUNCTIONS.get(name)
        if kind is None:
            near = get_close_matches(name, FUNCTIONS, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(FUNCTIONS)}"
            raise self._wrong(token, f"there is no function {name}", hint)
        if self._inside:
            raise self._wrong(token, "where looks at one event: no function can stand in it")
        if len(self._calls) >= CALLS_MAX:
            raise self._wrong(token, f"more than {CALLS_MAX} functions")
        self._expect("(")
        of = self._peek()
        if of.sort is not Sort.NAME:
            raise self._wrong(of, "expected the type of an event", f"such as {name}({_example(name)})")
        self._next()
        event, _, path = str(of.value).partition(".")
        if bool(path) is not (name in FIELD_FUNCTIONS):
            message = f"{name} looks at a field" if not path else f"{name} looks at whole events, not at a field"
            raise self._wrong(of, message, f"such as {name}({_example(name)})")
        where = self._where()
        window_s = 0.0
        if kind is not Since:
            self._expect(",", f"{name} needs a window: {name}({_example(name)})")
            window_s = self._duration("a window, such as 5m")
            if not 0 < window_s <= WINDOW_S_MAX:
                raise self._wrong(self._tokens[self._at - 1], "a window is longer than 0 and at most 7 days")
        self._expect(")")
        call = kind(name, event, tuple(path.split(".")) if path else (), window_s, where, of.column)
        self._calls.append(call)
        return call

    def _where(self) -> Node | None:
        if not self._take(Sort.WORD, "where"):
            return None
        self._inside = True
        begin = self._peek()
        node = self._truth(self._either, begin)
        self._inside = False
        return node

    def _duration(self, what: str) -> float:
        token = self._next()
        if token.sort is not Sort.DURATION:
            raise self._wrong(token, f"expected {what}", "units: ms, s, m, h, d")
        assert isinstance(token.value, float)
        return token.value

    # ---- kinds ----------------------------------------------------------------------------------

    def _truth(self, part: _Each, begin: Token) -> Node:
        return self._checked(part(), "truth", begin)

    def _checked(self, node: Node, kind: str, token: Token) -> Node:
        if node.kind not in (kind, "any"):
            hint = "compare it, such as … >= 3" if kind == "truth" else ""
            raise self._wrong(token, f"this is a {node.kind}, a {kind} is wanted", hint)
        return node

    def _comparable(self, left: Node, op: str, right: Node, token: Token) -> None:
        kinds = {left.kind, right.kind} - {"any"}
        if len(kinds) == 2:
            raise self._wrong(token, f"a {left.kind} is compared with a {right.kind}")
        if op not in ("=", "!=") and "truth" in kinds:
            raise self._wrong(token, "truths have no order")

    # ---- tokens ---------------------------------------------------------------------------------

    def _peek(self) -> Token:
        return self._tokens[self._at]

    def _next(self) -> Token:
        token = self._tokens[self._at]
        if token.sort is not Sort.END:
            self._at += 1
        return token

    def _is(self, sort: Sort, value: str) -> bool:
        return self._peek().sort is sort and self._peek().value == value

    def _take(self, sort: Sort, value: str) -> bool:
        if self._is(sort, value):
            self._at += 1
            return True
        return False

    def _expect(self, sign: str, hint: str = "") -> None:
        if not self._take(Sort.OP, sign):
            raise self._wrong(self._peek(), f"expected {sign!r}", hint)

    def _wrong(self, token: Token, message: str, hint: str = "") -> ConditionError:
        return ConditionError(self._text, token.column, message, hint)


def _example(name: str) -> str:
    if name == "since":
        return "PartInspected"
    return "Vibration.rms, 30s" if name in FIELD_FUNCTIONS else "DefectDetected, 5m"
