"""`@function("analyzeTrafficFlow")` binds plain Python, sync or async, to a function that a schema declares.

    @function("analyzeTrafficFlow")
    async def analyze_traffic_flow(context: Context, intersection_id: str, time_window: float) -> FlowAnalysis: ...

Parameters bear the declared names, and may be dataclasses of the declared fields; a first parameter `context` is the
call's `Context`. A Duration arrives in seconds, a Timestamp in UTC milliseconds. The decorators only mark: nothing is
registered, so importing a module does nothing.

    @at_start
    async def publish_intersections(context: Context) -> None: ...

runs once when a host starts the platform, before its functions are served.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
StartHook = Callable[[Any], Awaitable[None]]
"""Gets the platform's `Context`. A host may be started again and again: a second run must change nothing."""

H = TypeVar("H", bound=StartHook)
_MARK = "__edge_function__"
_START = "__edge_at_start__"
CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class Binding:
    """A function of a schema and the Python that does it."""

    name: str
    run: Callable[..., Any]

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.run)

    @property
    def takes_context(self) -> bool:
        return next(iter(inspect.signature(self.run).parameters), "") == CONTEXT

    @property
    def place(self) -> str:
        """File and line, for messages."""
        code = self.run.__code__ if inspect.isfunction(self.run) else None
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.run)


def function(name: str) -> Callable[[F], F]:
    """Marks what follows as the declared function `name`."""

    def mark(run: F) -> F:
        setattr(run, _MARK, name)
        return run

    return mark


def bindings_of(module: ModuleType) -> Iterator[Binding]:
    """What a module binds, in the order of its names' definition; names that it only imports included."""
    for value in vars(module).values():
        name = getattr(value, _MARK, None) if callable(value) else None
        if isinstance(name, str):
            yield Binding(name, value)


def at_start(run: H) -> H:
    """Marks what follows as to be run when a host starts the platform."""
    setattr(run, _START, True)
    return run


def start_hooks_of(module: ModuleType) -> Iterator[StartHook]:
    """What a module wants to be run at the start, in the order of its names' definition."""
    for value in vars(module).values():
        if callable(value) and getattr(value, _START, False) is True:
            yield value
