"""The functions a node serves: a name, the arguments as a dataclass, and what runs it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.shape import ShapeError, read


class CommandRejectedError(Exception):
    """The call is not acceptable; `code` is for programs, `field` names the argument at fault."""

    def __init__(self, code: str, message: str, field: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.field = field


class CommandFailedError(Exception):
    """The call was acceptable and did not work out."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Function:
    """`run` gets an `arguments` and returns what JSON can say."""

    name: str
    arguments: type[Any]
    run: Callable[[Any], Awaitable[Any]]
    timeout_s: float = 30.0

    def parse(self, raw: Mapping[str, Any]) -> Any:
        """The validated arguments. Raises CommandRejectedError naming the field."""
        try:
            return read(self.arguments, raw, strict=True)
        except ShapeError as error:
            field = error.mistakes[0].partition(":")[0] if ":" in error.mistakes[0] else ""
            raise CommandRejectedError("bad_arguments", str(error), field) from error


@dataclass(frozen=True, slots=True)
class Nothing:
    """No arguments."""


class Functions:
    """The functions by name, as announced in the birth."""

    def __init__(self, functions: list[Function]) -> None:
        self._by_name = {function.name: function for function in functions}

    @property
    def names(self) -> list[str]:
        return sorted(self._by_name)

    def get(self, name: str) -> Function:
        """Raises CommandRejectedError for a name nobody serves here."""
        function = self._by_name.get(name)
        if function is None:
            raise CommandRejectedError(
                "unknown_function", f"this node does not serve {name!r}; it serves {', '.join(self.names)}"
            )
        return function
