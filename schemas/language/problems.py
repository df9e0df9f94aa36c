"""What is wrong with a schema: each problem with its place, the offending text underlined, what would be right."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.language.tree import Place

LINE_CHARS_MAX = 160  # of a line that is shown
SHOWN_CHARS_MAX = 40  # of a word in a message


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """`hint` says what would be right."""

    file: str
    place: Place
    message: str
    hint: str = ""
    severity: Severity = Severity.ERROR
    line: str = ""  # the text of the line at fault

    def __str__(self) -> str:
        head = f"{self.file}:{self.place.line}:{self.place.column}: {self.severity.value}: {self.message}"
        lines = [head]
        if self.line.strip():
            number = str(self.place.line)
            shown, underline = self._shown()
            lines += [f"{number} | {shown}", f"{' ' * len(number)} | {underline}"]
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    @property
    def is_error(self) -> bool:
        return self.severity is Severity.ERROR

    @property
    def underlined(self) -> str:
        """The text at fault, as far as it stands on its first line."""
        return self.line[self.place.column - 1 : self._end() - 1]

    def _end(self) -> int:
        """The column after the last one at fault on the line."""
        end = self.place.end_column if self.place.end_line == self.place.line else len(self.line) + 1
        return max(end, self.place.column + 1)

    def _shown(self) -> tuple[str, str]:
        """The line, or the part of a long one around the place, and what underlines it."""
        first = self.place.column - 1
        start = 0 if len(self.line) <= LINE_CHARS_MAX else max(0, first - LINE_CHARS_MAX // 2)
        part = self.line[start : start + LINE_CHARS_MAX]
        before, marked = part[: first - start], part[first - start : self._end() - 1 - start]
        blank = "".join("\t" if char == "\t" else " " * _width(char) for char in before)
        return "\t".join(map(_printable, part.split("\t"))), blank + "^" * max(1, sum(map(_width, marked)))


def _width(char: str) -> int:
    """Columns of a terminal."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _printable(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def shortened(text: str) -> str:
    """A word as messages show it: in quotes, cut where it is long, without what a terminal would obey."""
    shown = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[: SHOWN_CHARS_MAX + 1]
    )
    return f"'{shown}'" if len(text) <= SHOWN_CHARS_MAX else f"'{shown[: SHOWN_CHARS_MAX - 1]}…'"


class SchemaError(Exception):
    """A schema that cannot be used. `problems` has all that was found, warnings too, in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = list(problems)
        super().__init__("\n".join(map(str, self.problems)))
