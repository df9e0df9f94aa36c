"""What a condition is made of. A value is a number, a text, true or false, or None: not known.

None comes from a window without values, a field that an event does not have, or a division by nothing. A comparison
with it is false, and arithmetic with it gives None.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Value = float | str | bool | None


@dataclass(frozen=True, slots=True)
class Moment:
    """What a node may look at: the time, and within `where` the event."""

    now_s: float
    event: Mapping[str, Any] | None = None


class Node(ABC):
    """A part of a condition. `kind` is what it gives: number, text, truth, or any where only an event tells."""

    kind: str = "any"

    @abstractmethod
    def value(self, moment: Moment) -> Value: ...

    def parts(self) -> Iterator["Node"]:
        """Those beneath it."""
        return iter(())

    def due_s(self, now_s: float) -> float:
        """When its value may change by time alone."""
        return math.inf


@dataclass(slots=True)
class Literal(Node):
    it: Value
    kind: str

    def value(self, moment: Moment) -> Value:
        return self.it


@dataclass(slots=True)
class Name(Node):
    """A field of the event; dots lead into it."""

    path: tuple[str, ...]
    column: int = 0
    kind: str = "any"

    def value(self, moment: Moment) -> Value:
        found: Any = moment.event
        for name in self.path:
            if not isinstance(found, Mapping):
                return None
            found = found.get(name)
        return plain(found)


@dataclass(slots=True)
class Logic(Node):
    """`and`, or `or`: of truths. What is not known counts as false."""

    any: bool
    of: tuple[Node, ...]
    kind: str = "truth"

    def value(self, moment: Moment) -> Value:
        truths = [part.value(moment) is True for part in self.of]  # all of them: `for` beneath must see each moment
        return any(truths) if self.any else all(truths)

    def parts(self) -> Iterator[Node]:
        return iter(self.of)


@dataclass(slots=True)
class Not(Node):
    of: Node
    kind: str = "truth"

    def value(self, moment: Moment) -> Value:
        return self.of.value(moment) is not True

    def parts(self) -> Iterator[Node]:
        yield self.of


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
}


@dataclass(slots=True)
class Compare(Node):
    """Of two values of one kind; values of different kinds are never equal and in no order."""

    op: str
    left: Node
    right: Node
    kind: str = "truth"

    def value(self, moment: Moment) -> Value:
        left, right = self.left.value(moment), self.right.value(moment)
        if left is None or right is None:
            return False
        if kind_of(left) != kind_of(right):
            return self.op == "!="
        return _COMPARE[self.op](left, right)

    def parts(self) -> Iterator[Node]:
        yield from (self.left, self.right)


@dataclass(slots=True)
class Among(Node):
    """`x in ("a", "b")`."""

    of: Node
    values: tuple[Value, ...]
    kind: str = "truth"

    def value(self, moment: Moment) -> Value:
        found = self.of.value(moment)
        return found is not None and any(found == one and kind_of(found) == kind_of(one) for one in self.values)

    def parts(self) -> Iterator[Node]:
        yield self.of


@dataclass(slots=True)
class Sum(Node):
    """+ - * / of numbers."""

    op: str
    left: Node
    right: Node
    kind: str = "number"

    def value(self, moment: Moment) -> Value:
        left, right = self.left.value(moment), self.right.value(moment)
        if kind_of(left) != "number" or kind_of(right) != "number":
            return None
        assert isinstance(left, float) and isinstance(right, float)
        if self.op == "/":
            return left / right if right else None
        found = {"+": left + right, "-": left - right, "*": left * right}[self.op]
        return found if math.isfinite(found) else None

    def parts(self) -> Iterator[Node]:
        yield from (self.left, self.right)


@dataclass(slots=True)
class Held(Node):
    """`x for 10s`: true once x has been so for that long without a break."""

    of: Node
    for_s: float
    kind: str = "truth"
    since_s: float | None = field(default=None)

    def value(self, moment: Moment) -> Value:
        if self.of.value(moment) is not True:
            self.since_s = None
            return False
        if self.since_s is None:
            self.since_s = moment.now_s
        return moment.now_s - self.since_s >= self.for_s

    def due_s(self, now_s: float) -> float:
        due_s = math.inf if self.since_s is None else self.since_s + self.for_s
        return due_s if due_s > now_s else math.inf

    def parts(self) -> Iterator[Node]:
        yield self.of


def names(node: Node) -> Iterator[Name]:
    """All beneath a node."""
    if isinstance(node, Name):
        yield node
    for part in node.parts():
        yield from names(part)


def kind_of(value: Value) -> str:
    if isinstance(value, bool):
        return "truth"
    if isinstance(value, float):
        return "number"
    return "text" if isinstance(value, str) else "nothing"


def plain(value: Any) -> Value:
    """A field of an event as a value; lists, objects and numbers that are none are not known."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None
