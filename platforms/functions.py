"""`@function("analyzeTrafficFlow")` binds plain Python, sync or async, to a function that a schema declares.

    @function("analyzeTrafficFlow")
    async def analyze_traffic_flow(context: Context, intersection_id: str, time_window: float) -> FlowAnalysis: ...

Parameters bear the declared names, and may be dataclasses of the declared fields; a first parameter `context` is the
call's `Context`. A Duration arrives in seconds, a Timestamp in UTC milliseconds. A declared name that Python cannot
use, which are its keywords and `context`, gets an underscore: `class_`, `context_`.

`@at_start` marks what runs once when a host starts the platform: `async def begin(context: Context) -> None`. It gets
a `Context` of no call and must return: what goes on for ever is no platform's business.

`@check_settings` marks what says which of the platform's settings are wrong (`platforms/checking.py`): when a
configuration is checked, and before `@at_start`.

    @check_settings               def check(settings: Mapping[str, Any], here: Here) -> Iterable[str]: ...

Further marks say what a host calls by itself (`platforms/listening.py`), and what its cameras ask (`watching.py`) and
bring their pictures to (`stages.py`):

    @on_events("LineCrossed")     async def heard(context: Context, event: KeptResult) -> None: ...
    @on_samples                   def measured(context: Context, window: SampleWindow) -> None: ...
    @every(10.0)                  async def look(context: Context) -> None: ...
    @rule_kind("too_close")       def too_close(settings: Mapping[str, Any], labels: Sequence[str]) -> Condition: ...
    @stage("inspection")          def inspection(table: StageTable) -> Stage: ...

`@on_events(…, at="cloud")` and `@every(…, at="cloud")` are called in the coordinator instead, with the events of the
whole fleet, after they are stored; `at="any"` in both. What sensors measure does not leave a node as it is.

An `async def` runs on the host's loop and must not compute for long; a plain `def` of `on_samples` runs in a thread.

The decorators only mark: nothing is registered, so importing a module does nothing.
"""

import inspect
import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from types import ModuleType
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__edge_function__"
_START_MARK = "__edge_at_start__"
_CHECK_MARK = "__edge_check_settings__"
_LISTENER_MARK = "__edge_listener__"
EVERY_S_MIN, EVERY_S_MAX = 0.05, 86400.0
CONTEXT = "context"
EDGE, ANY = "edge", "any"
PLACES = (EDGE, "cloud", ANY)  # as a schema has them


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


def check_settings(run: F) -> F:
    """Marks what follows as what finds every mistake in the platform's settings."""
    setattr(run, _CHECK_MARK, True)
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
    """What a mark says: the events' types of EVENTS, the seconds of TIME, the name of RULE and STAGE; `at`: who calls
    it."""

    on: On
    run: Callable[..., Any]
    types: tuple[str, ...] = ()
    every_s: float = 0.0
    name: str = ""
    at: str = EDGE

    def is_called_at(self, here: str) -> bool:
        """By a host of this placement."""
        return self.at in (here, ANY)

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.run)

    @property
    def title(self) -> str:
        return getattr(self.run, "__name__", repr(self.run))


def on_events(*types: str, at: str = EDGE) -> Callable[[F], F]:
    """Marks what follows as told of each event of these types, one after the other: those of its node, or with
    `at="cloud"` those that came to the coordinator."""
    return _listens(lambda run: Listener(On.EVENTS, run, types=types, at=at))


@overload
def on_samples(run: F) -> F: ...
@overload
def on_samples(*, at: str) -> Callable[[F], F]: ...
def on_samples(run: Any = None, *, at: str = EDGE) -> Any:
    """Marks what follows as given each window of each sensor of the node, those of one sensor in order."""
    mark = _listens(lambda made: Listener(On.SAMPLES, made, at=at))
    return mark if run is None else mark(run)


def every(seconds: float, *, at: str = EDGE) -> Callable[[F], F]:
    """Marks what follows as called so often; a call that takes longer delays the next."""
    return _listens(lambda run: Listener(On.TIME, run, every_s=seconds, at=at))


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
    return _marked(module, _START_MARK)


def checks_of(module: ModuleType) -> Iterator[Callable[..., Any]]:
    """What a module marks with `@check_settings`, in the same way."""
    return _marked(module, _CHECK_MARK)


def _marked(module: ModuleType, mark: str) -> Iterator[Callable[..., Any]]:
    seen: set[int] = set()
    for value in vars(module).values():
        if callable(value) and getattr(value, mark, None) is True and id(value) not in seen:
            seen.add(id(value))
            yield value


def listeners_of(module: ModuleType) -> Iterator[Listener]:
    """What a module marks to be called by a host itself, in the order of its names' definition, each once."""
    seen: set[int] = set()
    for value in vars(module).values():
        found = getattr(value, _LISTENER_MARK, None) if callable(value) else None
        if isinstance(found, Listener) and id(value) not in seen:
            seen.add(id(value))
            yield found
