"""`@function("analyzeTrafficFlow")` binds plain Python, sync or async, to a function that a schema declares.

    @function("analyzeTrafficFlow")
    async def analyze_traffic_flow(context: Context, intersection_id: str, time_window: float) -> FlowAnalysis: ...

Parameters bear the declared names, and may be dataclasses of the declared fields; a first parameter `context` is the
call's `Context`. A Duration arrives in seconds, a Timestamp in UTC milliseconds. A declared name that Python cannot
use, which are its keywords and `context`, gets an underscore: `class_`, `context_`.

`@at_start` marks what runs once when a host starts the platform: `async def begin(context: Context) -> None`. It gets
a `Context` of no call and must return: what goes on for ever is no platform's business.

Further marks say what a node calls by itself (`platforms/listening.py`), and what its cameras ask (`watching.py`) and
bring their pictures to (`stages.py`):

    @on_events("LineCrossed")     async def heard(context: Context, event: KeptResult) -> None: ...
    @on_samples                   def measured(context: Context, window: SampleWindow) -> None: ...
    @every(10.0)                  async def look(context: Context) -> None: ...
    @rule_kind("too_close")       def too_close(settings: Mapping[str, Any], labels: Sequence[str]) -> Condition: ...
    @stage("inspection")          def inspection(table: StageTable) -> Stage: ...

An `async def` runs on the host's loop and must not compute for long; a plain `def` of `on_samples` runs in a thread.

The decorators only mark: nothing is registered, so importing a module does nothing.
"""

import inspect
import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__edge_function__"
_START_MARK = "__edge_at_start__"
_LISTENER_MARK = "__edge_listener__"
EVERY_S_MIN, EVERY_S_MAX = 0.05, 86400.0
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


class On(StrEnum):
    """What a listener is called for."""

    EVENTS = "on_events"
    SAMPLES = "on_samples"
    TIME = "every"
    RULE = "rule_kind"
    STAGE = "stage"


@dataclass(frozen=True, slots=True)
class Listener:
    """What a mark says: the events' types of EVENTS, the seconds of TIME, the name of RULE and STAGE."""

    on: On
    run: Callable[..., Any]
    types: tuple[str, ...] = ()
    every_s: float = 0.0
    name: str = ""

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.run)

    @property
    def title(self) -> str:
        return getattr(self.run, "__name__", repr(self.run))


def on_events(*types: str) -> Callable[[F], F]:
    """Marks what follows as told of each event of these types that happens at the node, one after the other."""
    return _listens(lambda run: Listener(On.EVENTS, run, types=types))


def on_samples(run: F) -> F:
    """Marks what follows as given each window of each sensor of the node, those of one sensor in order."""
    return _listens(lambda made: Listener(On.SAMPLES, made))(run)


def every(seconds: float) -> Callable[[F], F]:
    """Marks what follows as called at the node every so often; a call that takes longer delays the next."""
    return _listens(lambda run: Listener(On.TIME, run, every_s=seconds))


def rule_kind(name: str) -> Callable[[F], F]:
    """Marks what follows as what makes the condition of alert rules of `kind = "<platform>.<name>"`."""
    return _listens(lambda run: Listener(On.RULE, run, name=name))


def stage(name: str) -> Callable[[F], F]:
    """Marks what follows as what makes the stages of `kind = "<platform>.<name>"`."""
    return _listens(lambda run: Listener(On.STAGE, run, name=name))


def _listens(listener: Callable[[Callable[..., Any]], Listener]) -> Callable[[F], F]:
    def mark(run: F) -> F:
        setattr(run, _LISTENER_MARK, listener(run))
        return run

    return mark


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


def listeners_of(module: ModuleType) -> Iterator[Listener]:
    """What a module marks to be called by a node itself, in the order of its names' definition, each once."""
    seen: set[int] = set()
    for value in vars(module).values():
        found = getattr(value, _LISTENER_MARK, None) if callable(value) else None
        if isinstance(found, Listener) and id(value) not in seen:
            seen.add(id(value))
            yield found
