"""The annotations: one table says what each may mark and which arguments it takes."""

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Flag, auto

from schemas.fields import Owner, Rule
from schemas.language.tree import Annotation, Range, Span, Value, Word


class Mark(Flag):
    """What an annotation may stand after."""

    FIELD = auto()  # of a record
    PARAMETER = auto()  # of a function or an event
    TYPE = auto()  # `type Name = …`
    RECORD = auto()
    ENUM = auto()
    CHOICE = auto()  # a value of an enum
    WORD = auto()  # in a list of names
    FUNCTION = auto()
    EVENT = auto()
    COLLECTION = auto()
    PLATFORM = auto()


VALUES = Mark.FIELD | Mark.PARAMETER | Mark.TYPE

Check = Callable[[Sequence[Value]], str | None]
"""What the arguments have to be, where they are not; else None."""


@dataclass(frozen=True, slots=True)
class Known:
    """One line of the table."""

    marks: Mark
    check: Check
    meaning: str


def _none(arguments: Sequence[Value]) -> str | None:
    return None if not arguments else "no arguments"


def _range(arguments: Sequence[Value]) -> str | None:
    one = arguments[0] if len(arguments) == 1 else None
    sound = isinstance(one, Range) and not (one.least is not None and one.most is not None and one.least > one.most)
    return None if sound else "one range such as 0..100, 0.. or ..100, the smaller number first"


def _length(arguments: Sequence[Value]) -> str | None:
    one = arguments[0] if len(arguments) == 1 else None
    ends = [end for end in (one.least, one.most) if end is not None] if isinstance(one, Range) else []
    sound = ends and all(isinstance(end, int) and end >= 0 for end in ends) and _range(arguments) is None
    return None if sound else "one range of whole numbers from 0, such as 1..63"


def _text(arguments: Sequence[Value]) -> str | None:
    sound = len(arguments) == 1 and isinstance(arguments[0], str) and 0 < len(arguments[0]) <= 200
    return None if sound else "one text of 1 to 200 characters in quotes"


def _pattern(arguments: Sequence[Value]) -> str | None:
    if wrong := _text(arguments):
        return wrong
    pattern = str(arguments[0])
    if found := _PYTHON_ONLY.search(pattern):
        return f"a regular expression that JSON Schema has too; it does not have {found[0]}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(pattern)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        return f"a regular expression ({error})"
    return None


# What ECMA 262 lacks or means otherwise: named groups, flags, comments and conditions, ends of the text, possessive
# and atomic repetition.
_PYTHON_ONLY = re.compile(r"\(\?P|\(\?[aiLmsux-]|\(\?#|\(\?\(|\(\?>|(?<!\\)(?:\\\\)*\\[AZ]|(?<!\\)[*+?}]\+")


def _time(arguments: Sequence[Value]) -> str | None:
    sound = len(arguments) == 1 and isinstance(arguments[0], Span) and arguments[0].seconds > 0
    return None if sound else "one length of time such as 30s, 5m or 90d"


def _count(least: int, most: int) -> Check:
    def check(arguments: Sequence[Value]) -> str | None:
        one = arguments[0] if len(arguments) == 1 else None
        return None if isinstance(one, int) and least <= one <= most else f"one whole number from {least} to {most}"

    return check


def _choice(*names: str) -> Check:
    def check(arguments: Sequence[Value]) -> str | None:
        one = arguments[0] if len(arguments) == 1 else None
        return None if isinstance(one, Word) and one.text in names else f"one of {', '.join(names)}"

    return check


def _words(arguments: Sequence[Value]) -> str | None:
    return None if arguments and all(isinstance(one, Word) for one in arguments) else "one name or more"


ANNOTATIONS: dict[str, Known] = {
    "range": Known(VALUES, _range, "least and greatest value of a number"),
    "length": Known(VALUES, _length, "characters of a text, items of a list, entries of a map"),
    "pattern": Known(VALUES, _pattern, "a regular expression that the whole text matches"),
    "unit": Known(VALUES, _text, "the unit of a number"),
    "personal": Known(
        VALUES | Mark.RECORD | Mark.FUNCTION | Mark.EVENT | Mark.COLLECTION, _none, "must not leave the node"
    ),
    "deprecated": Known(
        Mark.FIELD | Mark.PARAMETER | Mark.FUNCTION | Mark.EVENT,
        _text,
        "still there; the text says what to use instead",
    ),
    "edge": Known(Mark.FUNCTION, _none, "hosted by nodes"),
    "cloud": Known(Mark.FUNCTION, _none, "hosted by the coordinator"),
    "any": Known(Mark.FUNCTION, _none, "hosted by a node that can, else by the coordinator"),
    "timeout": Known(Mark.FUNCTION, _time, "longest run; 30s where nothing is said"),
    "parallel": Known(Mark.FUNCTION, _count(1, 16), "calls at a time"),
    "source": Known(Mark.EVENT, _words, "who tells it: functions, workloads, node, coordinator"),
    "qos": Known(Mark.EVENT, _count(0, 1), "MQTT quality of service"),
    "keep": Known(Mark.EVENT, _time, "how long the coordinator keeps it"),
    "owner": Known(Mark.COLLECTION, _choice(*Owner), "who writes it"),
    "merge": Known(Mark.COLLECTION, _choice(*Rule), "what holds when several have written a key"),
    "version": Known(Mark.PLATFORM, _text, "the platform's version"),
}

MARK_NAMES = {
    Mark.FIELD: "a field",
    Mark.PARAMETER: "a parameter",
    Mark.TYPE: "a type",
    Mark.RECORD: "a record",
    Mark.ENUM: "an enum",
    Mark.CHOICE: "a value of an enum",
    Mark.WORD: "a name in a list",
    Mark.FUNCTION: "a function",
    Mark.EVENT: "an event",
    Mark.COLLECTION: "a collection of the state",
    Mark.PLATFORM: "a platform",
}


@dataclass(frozen=True, slots=True)
class Notes:
    """The annotations of one thing, each at most once."""

    by_name: dict[str, Annotation]

    def has(self, name: str) -> bool:
        return name in self.by_name

    def without(self, name: str) -> "Notes":
        return Notes({one: note for one, note in self.by_name.items() if one != name})

    def argument(self, name: str) -> Value | None:
        """The only argument of the annotation; None without it."""
        found = self.by_name.get(name)
        return found.arguments[0] if found and found.arguments else None

    def text(self, name: str) -> str:
        value = self.argument(name)
        return value.text if isinstance(value, Word) else value if isinstance(value, str) else ""

    def seconds(self, name: str) -> float | None:
        value = self.argument(name)
        return value.seconds if isinstance(value, Span) else None

    def words(self, name: str) -> tuple[str, ...]:
        found = self.by_name.get(name)
        return tuple(one.text for one in found.arguments if isinstance(one, Word)) if found else ()
