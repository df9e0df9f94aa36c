"""A platform as it is loaded: what its schema declares, and the Python that is bound to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platforms.finding import Origin
from platforms.functions import Binding, Listener
from schemas.language.problems import Problem
from schemas.language.schema import Schema


@dataclass(frozen=True, slots=True)
class Platform:
    """`bindings` are by declared name; `hooks` are what `@at_start` marks, `checks` what `@check_settings` does.
    `warnings` are the schema's."""

    name: str
    schema: Schema
    bindings: Mapping[str, Binding]
    hooks: Sequence[Callable[..., Any]]
    origin: Origin
    warnings: Sequence[Problem] = ()
    listeners: Sequence[Listener] = ()
    checks: Sequence[Callable[..., Any]] = ()

    @property
    def unbound(self) -> list[str]:
        """What is declared and has no Python here."""
        return [name for name in self.schema.functions if name not in self.bindings]


@dataclass(frozen=True, slots=True)
class Platforms:
    """Those that a host has, together: nothing in them contradicts another."""

    by_name: Mapping[str, Platform] = field(default_factory=dict)

    def owner(self, function: str) -> Platform | None:
        """Who binds the function: the first that does, where several list it; None where nobody does."""
        return next((one for one in self.by_name.values() if function in one.bindings), None)
