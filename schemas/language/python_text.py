"""Pieces of Python source as `ruff format` leaves them, whether lines may have 88 columns or more."""

import unicodedata
from collections.abc import Iterator, Sequence

COLUMNS = 88


def width(text: str) -> int:
    """Columns on a screen: a Chinese character has two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def clean(text: str) -> str:
    """One line: white space becomes one blank, what cannot be seen a mark."""
    return " ".join("".join(char if char.isprintable() else "\ufffd" for char in word) for word in text.split())


def wrap(text: str, columns: int) -> Iterator[str]:
    """Paragraphs, an empty line between two, in lines of so many columns; long words are broken."""
    line = ""
    for number, paragraph in enumerate(text.split("\n\n")):
        if number:
            yield ""
        for word in _words(clean(paragraph), columns):
            if line and width(line) + 1 + width(word) > columns:
                yield line
                line = word
            else:
                line = f"{line} {word}" if line else word
        if line:
            yield line
        line = ""


def _words(text: str, columns: int) -> Iterator[str]:
    for word in text.split():
        part = ""
        for char in word:
            if width(part + char) > columns:
                yield part
                part = ""
            part += char
        yield part


def docstring(text: str, indent: str) -> list[str]:
    """The lines of a docstring; none for an empty text."""
    lines = list(wrap(text, COLUMNS - len(indent) - 6))
    escaped = [line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"') for line in lines]
    if not escaped:
        return []
    if escaped[0].startswith('"'):
        escaped[0] = f" {escaped[0]}"
    if len(escaped) == 1:
        end = " " if escaped[0].endswith('"') else ""
        return [f'{indent}"""{escaped[0]}{end}"""']
    rest = [f"{indent}{line}".rstrip() for line in escaped[1:]]
    return [f'{indent}"""{escaped[0]}', *rest, f'{indent}"""']


def quoted(text: str) -> str:
    """A text as a literal, in the quotes that need less escaping, double ones if it is the same."""
    quote = "'" if text.count('"') > text.count("'") else '"'
    return quote + "".join(_escaped(char, quote) for char in text) + quote


def _escaped(char: str, quote: str) -> str:
    if char in "'\"":
        return f"\\{char}" if char == quote else char
    return repr(char)[1:-1]


def statement(line: str, note: str = "") -> list[str]:
    """A line with its comment: behind it, or above it where that would be too long."""
    indent = line[: len(line) - len(line.lstrip())]
    too_long = width(line) > COLUMNS
    if not note:
        return [f"{line}  # fmt: skip" if too_long else line]
    if not too_long and width(f"{line}  {comment(note)}") <= COLUMNS:
        return [f"{line}  {comment(note)}"]
    above = [f"{indent}{comment(text)}" for text in wrap(note, COLUMNS - len(indent) - 6)]
    return [*above, f"{line}  # fmt: skip" if too_long else line]


def signature(head: str, parameters: Sequence[str], tail: str, indent: str) -> list[str]:
    """`head(parameters)tail` in one line, or one line a parameter with a comma behind the last."""
    one = f"{indent}{head}({', '.join(parameters)}){tail}"
    if width(one) <= COLUMNS:
        return [one]
    lines = [f"{indent}{head}(", *(f"{indent}    {each}," for each in parameters), f"{indent}){tail}"]
    return lines if max(map(width, lines)) <= COLUMNS else [f"{one}  # fmt: skip"]


def note(*parts: str) -> str:
    """A comment of what there is to say."""
    return "; ".join(clean(part) for part in parts if part)


def comment(text: str) -> str:
    """A comment that no tool takes for a directive, whatever a schema says."""
    safe = clean(text).replace("#", "No. ")
    begins = safe.split(":")[0].strip().lower()
    return (
        f"# in {safe}"
        if begins in ("type", "noqa", "ruff", "fmt", "mypy", "isort", "yapf", "flake8")
        else f"# {safe}"
    )
