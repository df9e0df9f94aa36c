"""Reads a table of a TOML file key by key and collects every mistake instead of stopping at the first."""

import difflib
import math
from collections.abc import Mapping, Sequence


class Reader:
    """One table. Each method takes a key, notes what is wrong with its value, and returns a usable value anyway.

    `default=None` makes the key required. `finish` notes the keys that nobody asked for.
    """

    def __init__(self, table: Mapping[str, object], where: str, mistakes: list[str]) -> None:
        self._table = table
        self._where = where
        self._asked: set[str] = set()
        self.mistakes = mistakes

    def __contains__(self, key: str) -> bool:
        return key in self._table

    def path(self, key: str) -> str:
        return f"{self._where}.{key}" if self._where else key

    def wrong(self, key: str, what: str) -> None:
        self.mistakes.append(f"{self.path(key)}: {what}")

    def raw(self, key: str) -> object:
        """The value as it stands, or None; marks the key as known."""
        self._asked.add(key)
        return self._table.get(key)

    def text(self, key: str, default: str | None = None) -> str:
        value = self._value(key, default)
        if isinstance(value, str) and (value or default is not None):
            return value
        if value is not None:
            self.wrong(key, f"a text is wanted, not {value!r}")
        return default or ""

    def choice(self, key: str, choices: Sequence[str], default: str | None = None) -> str:
        value = self._value(key, default)
        if isinstance(value, str) and value in choices:
            return value
        if value is not None:
            self.wrong(key, f"{value!r} is none of {', '.join(choices)}")
        return default or choices[0]

    def flag(self, key: str, default: bool) -> bool:
        value = self._value(key, default)
        if isinstance(value, bool):
            return value
        self.wrong(key, f"true or false is wanted, not {value!r}")
        return default

    def number(self, key: str, default: float | None, low: float = -math.inf, high: float = math.inf) -> float:
        value = self._value(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return float(value)
        if value is not None:
            self.wrong(key, f"a number from {low:g} to {high:g} is wanted, not {value!r}")
        return low if default is None else default

    def integer(self, key: str, default: int | None, low: int, high: int) -> int:
        value = self._value(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        if value is not None:
            self.wrong(key, f"a whole number from {low} to {high} is wanted, not {value!r}")
        return low if default is None else default

    def numbers(self, key: str, default: Sequence[float] | None, length: int | None = None) -> tuple[float, ...]:
        """A list of finite numbers, of `length` entries when given."""
        value = self._value(key, default)
        if (
            isinstance(value, list | tuple)
            and (length is None or len(value) == length)
            and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value)
        ):
            return tuple(float(v) for v in value)
        if value is not None:
            self.wrong(key, f"a list of {length or 'some'} numbers is wanted, not {value!r}")
        return tuple(default or ())

    def texts(self, key: str, default: Sequence[str] | None) -> tuple[str, ...]:
        value = self._value(key, default)
        if isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
            return tuple(value)
        if value is not None:
            self.wrong(key, f"a list of texts is wanted, not {value!r}")
        return tuple(default or ())

    def table(self, key: str) -> "Reader":
        """The table at `key`, empty when absent."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.wrong(key, f"a table is wanted, not {value!r}")
            value = None
        return Reader(value or {}, self.path(key), self.mistakes)

    def tables(self, key: str) -> list["Reader"]:
        """The array of tables at `key`, empty when absent."""
        value = self.raw(key)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
            self.wrong(key, f"an array of tables ([[{self.path(key)}]]) is wanted")
            return []
        return [Reader(v, f"{self.path(key)}[{i}]", self.mistakes) for i, v in enumerate(value)]

    def items(self) -> list[str]:
        """All keys of a table whose keys are data; marks them as known."""
        self._asked.update(self._table)
        return list(self._table)

    def finish(self) -> None:
        for key in self._table:
            if key not in self._asked:
                near = difflib.get_close_matches(key, self._asked, 1)
                self.wrong(key, f"unknown key{f', did you mean {near[0]}?' if near else ''}")

    def _value(self, key: str, default: object) -> object:
        self._asked.add(key)
        if key in self._table:
            return self._table[key]
        if default is None:
            self.wrong(key, "is missing")
        return default
