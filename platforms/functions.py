"""`@function("analyzeTrafficFlow")` binds plain Python, sync or async, to a function that a schema declares.

    @function("analyzeTrafficFlow")
    async def analyze_traffic_flow(context: Context, intersection_id: str, time_window: float) -> FlowAnalysis: ...

Parameters bear the declared names, and may be dataclasses of the declared fields; a first parameter `context` is the
call's `Context`. A Duration arrives in seconds, a Timestamp in UTC milliseconds. A declared name that Python cannot
use, which are its keywords and `context`, gets an underscore: `class_`, `context_`.

`@at_start` marks what runs once when a host starts the platform: `async def begin(context: Context) -> None`. It gets
a `Context` of no call and must return: what goes on for ever is no platform's business.

The decorators only mark: nothing is registered, so importing a module does nothing.
"""

import inspect
import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__edge_function__"
_START_MARK = "__edge_at_start__"
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


def at_start(run: F) -> F:
    """Marks what follows as run once when a host starts the platform."""
    setattr(run, _START_MARK, True)
    return run


def python_name(declared: str) -> str:
    """How Python calls what is declared with this name.

    >>> [python_name(name) for name in ("camera_id", "class", "context")]
    ['camera_id', 'class_', 'context_']
    """
    return f"{declared}_" if keyword.iskeyword(declared) or declared == CONTEXT else declared


def bindings_of(module: ModuleType) -> Iterator[Binding]:
    """What a module binds, each function once, in the order of its names; what it only imports included."""
    seen: set[int] = set()
    for value in vars(module).values():
        name = getattr(value, _MARK, None) if callable(value) else None
        if isinstance(name, str) and id(value) not in seen:
            seen.add(id(value))
            yield Binding(name, value)


def hooks_of(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """What a module marks with `@at_start`, in the order of its names' definition, each once."""
    seen: set[int] = set()
    for value in vars(module).values():
        if callable(value) and getattr(value, _START_MARK, None) is True and id(value) not in seen:
            seen.add(id(value))
            yield value
