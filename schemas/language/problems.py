"""What is wrong with a schema: each problem with its place, the offending text underlined, what would be right."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from schemas.language.tree import Place


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
            lines += [f"{number} | {self.line}", f"{' ' * len(number)} | {self._underline()}"]
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    def _underline(self) -> str:
        before = self.line[: self.place.column - 1]
        blank = "".join("\t" if char == "\t" else " " for char in before)
        end = self.place.end_column if self.place.end_line == self.place.line else len(self.line) + 1
        return blank + "^" * max(1, end - self.place.column)


class SchemaError(Exception):
    """A schema that cannot be used. `problems` has all that was found, errors first in the order of the text."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = list(problems)
        super().__init__("\n".join(map(str, self.problems)))
