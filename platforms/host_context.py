"""The `Context` of both hosts: what differs between a node and the coordinator comes in as functions."""

import difflib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from platforms.checking import Here
from platforms.context import BadEventError, KeptResult, NotHereError, ResultQuery
from platforms.hosting import Rules
from platforms.platform import Platform
from schemas.language.schema import EventType, Placement, Schema
from schemas.state import StateView

T = TypeVar("T")

Results = Callable[[ResultQuery], Awaitable[Sequence[KeptResult]]]
Tell = Callable[[Schema, EventType, Mapping[str, Any], str], Awaitable[None]]
"""Commits a checked event: its platform, its declaration, its data, its subject."""


@dataclass(frozen=True, slots=True)
class Host:
    """One process. `settings` by platform; `services` by the interface of `platforms/services.py`."""

    name: str
    placement: Placement
    state: StateView
    now_utc_ms: Callable[[], int]
    results: Results
    tell: Tell
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    services: Mapping[type[Any], Any] = field(default_factory=dict)
    tell_routine: Tell | None = None  # None: as any event
    memories: dict[str, dict[str, Any]] = field(default_factory=dict)  # by platform
    here: Here = Here()


class HostContext:
    """One call's view of its host; without a call, a start hook's."""

    __slots__ = ("_call", "_host", "_platform", "_rules")

    def __init__(self, host: Host, platform: Platform, rules: Rules, call: Any = None) -> None:
        self._host = host
        self._platform = platform
        self._rules = rules
        self._call = call

    @property
    def host(self) -> str:
        return self._host.name

    @property
    def placement(self) -> Placement:
        return self._host.placement

    @property
    def settings(self) -> Mapping[str, Any]:
        return self._host.settings.get(self._platform.name, {})

    @property
    def state(self) -> StateView:
        return self._host.state

    @property
    def memory(self) -> dict[str, Any]:
        return self._host.memories.setdefault(self._platform.name, {})

    def now_utc_ms(self) -> int:
        return self._host.now_utc_ms()

    def progress(self, share: float | None, text: str = "") -> None:
        if self._call is not None:
            self._call.progress(share, text)

    async def results(self, query: ResultQuery) -> Sequence[KeptResult]:
        return await self._host.results(query)

    async def emit(self, event: str, data: Any, *, subject: str = "", routine: bool = False) -> None:
        declared = self._platform.schema.events.get(event)
        if declared is None:
            known = ", ".join(self._platform.schema.events) or "there is none"
            raise BadEventError(f"{self._platform.name} declares no event {event!r} ({known})")
        if declared.placement not in (self._host.placement, Placement.ANY):
            raise BadEventError(f"{event} is told by {declared.placement}, not by {self._host.name}")
        try:
            plain = self._rules.plain(data)
            if wrong := _undeclared(declared, plain):
                raise BadEventError(f"{event} has no field {wrong}")
            checked = self._rules.checks.event(event)(plain)
        except self._rules.invalid as error:
            raise BadEventError(f"{event} is not as {self._platform.name} declares it: {error}") from error
        tell = (self._host.tell_routine if routine else None) or self._host.tell
        await tell(self._platform.schema, declared, checked, subject or self._host.name)

    def service(self, kind: type[T]) -> T:
        found = self._host.services.get(kind)
        if found is None:
            raise NotHereError(kind.__name__.lower())
        return found  # type: ignore[no-any-return]


def _undeclared(event: EventType, data: Any) -> str:
    """A field that the event does not declare. Readers let it pass, as of a later version; who writes it is told."""
    names = [one.name for one in event.fields]
    unknown = next((name for name in data if name not in names), "") if isinstance(data, Mapping) else ""
    near = difflib.get_close_matches(unknown, names, n=1) if unknown else []
    return f"{unknown!r}; did you mean {near[0]}?" if near else repr(unknown) if unknown else ""
