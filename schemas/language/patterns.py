"""A text that matches a pattern, for examples: literals, classes, groups, alternatives and repetitions."""

import re
import string
from collections.abc import Iterator

TRIES = (2, 1, 3, 0, *range(4, 65), 100, 128, 200, 256)
TEXT_CHARS_MAX = 10_000

_SHORT = {"d": "1", "w": "a", "s": " ", "D": "a", "W": "-", "S": "a", "n": "\n", "t": "\t", "r": "\r"}
_NICE = "a1A-_ .,:;/+*" + string.ascii_letters + string.digits + string.punctuation + "é"


class _CannotError(Exception):
    """The pattern uses something that is not known here."""


def matching(pattern: str, least: int = 0, most: int | None = None) -> str | None:
    """A text of `least` to `most` characters that the whole pattern matches; None where none was found."""
    for text in _tried(pattern):
        fits = len(text) >= least and (most is None or len(text) <= most)
        if fits and re.fullmatch(pattern, text):
            return text
    return None


def _tried(pattern: str) -> Iterator[str]:
    for extra in TRIES:
        for digits in ("1234567890", "1"):
            try:
                yield _Maker(pattern, extra, digits).text()
            except (_CannotError, RecursionError, re.error):
                return


class _Maker:
    """Writes one text. `extra`: how often more than it has to be something is repeated, where it may be; a digit
    that is repeated becomes `digits`.
    """

    def __init__(self, pattern: str, extra: int, digits: str) -> None:
        self._pattern = pattern
        self._extra = extra
        self._digits = digits
        self._at = 0

    def text(self) -> str:
        made = self._alternatives()
        if self._at != len(self._pattern):
            raise _CannotError
        return made

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise _CannotError
        self._at += 1
        return char

    def _alternatives(self) -> str:
        """The first of them; the others are read over."""
        first = self._sequence()
        while self._peek() == "|":
            self._take()
            self._sequence()
        return first

    def _sequence(self) -> str:
        made: list[str] = []
        size = 0
        while self._peek() not in ("", "|", ")"):
            made.append(self._repeated(self._atom()))
            size += len(made[-1])
            if size > TEXT_CHARS_MAX:
                raise _CannotError
        return "".join(made)

    def _atom(self) -> str:
        match char := self._take():
            case "^" | "$":
                return ""
            case ".":
                return "a"
            case "\\":
                return self._escape()
            case "[":
                return self._class()
            case "(":
                return self._group()
            case "*" | "+" | "?" | "{":
                raise _CannotError
        return char

    def _escape(self) -> str:
        char = self._take()
        if char in "bB":
            return ""
        if char in "AZ" or char.isdigit():
            raise _CannotError
        if char in "xu":
            digits = "".join(self._take() for _ in range(2 if char == "x" else 4))
            return chr(int(digits, 16))
        return _SHORT.get(char, char)

    def _class(self) -> str:
        start = self._at - 1
        if self._peek() == "^":
            self._take()
        if self._peek() == "]":
            self._take()
        while (char := self._take()) != "]":
            if char == "\\":
                self._take()
        allowed = re.compile(self._pattern[start : self._at])
        low = next((char for char in _NICE if allowed.fullmatch(char)), None)
        if low is None:
            low = next((chr(code) for code in range(0x20, 0x2FFF) if allowed.fullmatch(chr(code))), None)
        if low is None:
            raise _CannotError
        return low

    def _group(self) -> str:
        if self._peek() == "?":
            self._take()
            kind = self._take()
            if kind == "P" and self._take() == "<":
                while self._take() != ">":
                    pass
            elif kind == "!":
                self._alternatives()
                self._close()
                return ""
            elif kind != ":":
                raise _CannotError
        made = self._alternatives()
        self._close()
        return made

    def _close(self) -> None:
        if self._take() != ")":
            raise _CannotError

    def _repeated(self, atom: str) -> str:
        match self._peek():
            case "*":
                count = self._extra
            case "+":
                count = max(1, self._extra)
            case "?":
                count = min(1, self._extra)
            case "{" if found := re.compile(r"\{(\d*)(,?)(\d*)\}").match(self._pattern, self._at):
                self._at += len(found[0]) - 1
                least = int(found[1] or 0)
                most = (int(found[3]) if found[3] else None) if found[2] else least
                count = least + self._extra if most is None else min(most, least + self._extra)
            case _:
                return atom
        self._take()
        if self._peek() in ("?", "+"):
            self._take()
        if count * len(atom) > TEXT_CHARS_MAX:
            raise _CannotError
        if atom == "1":
            return (self._digits * (count // len(self._digits) + 1))[:count]
        return atom * count
