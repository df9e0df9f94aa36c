"""The functions that a process serves: a name, what makes its arguments of a call, what runs, what makes the answer.

No I/O here: a `Served` is a value, `Call` is told the time, and what a function says of its progress goes to whoever
made the `Call`.
"""

import difflib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from runtime.calls.errors import CallFailedError as CallFailedError
from runtime.calls.errors import CallRejectedError as CallRejectedError
from schemas.messages import CallProgress
from schemas.shape import ShapeError, read

T = TypeVar("T")
CANCEL = "cancel"  # the function that every responder has; nobody else may serve it
PROGRESS_CHARS_MAX = 500
Parse = Callable[[Mapping[str, Any]], Any]


class Call:
    """What a running function may use of its call. One made without anything has all the time and tells nobody.

    A call that is cancelled, or whose time is over, ends an `async` function by `asyncio.CancelledError`; a function
    in a thread of its own looks at `is_over` now and then.
    """

    __slots__ = ("_ends_s", "_now_s", "_report", "caller", "function", "id", "is_over")

    def __init__(
        self,
        id: str = "",  # noqa: A002 - as it is called on the wire
        function: str = "",
        caller: str = "",
        *,
        ends_s: float = math.inf,
        now_s: Callable[[], float] = lambda: 0.0,
        report: Callable[[CallProgress], None] = lambda progress: None,
    ) -> None:
        """`caller`: what the response topic says beneath our `result/`, or "". `ends_s` by the clock of `now_s`."""
        self.id = id
        self.function = function
        self.caller = caller
        self.is_over = False  # nobody waits for what comes of it any more: said by whoever cut it off
        self._ends_s = ends_s
        self._now_s = now_s
        self._report = report

    @property
    def deadline_s(self) -> float:
        """The seconds left, 0 when none are."""
        return max(0.0, self._ends_s - self._now_s())

    def progress(self, share: float | None = None, text: str = "") -> None:
        """Tells the caller how far it is, `share` from 0 to 1. From any thread, as often as you like: the newest wins
        and goes out twice a second at most."""
        if share is not None:
            share = min(1.0, max(0.0, share)) if math.isfinite(share) else None
        self._report(CallProgress(share, text[:PROGRESS_CHARS_MAX]))


@dataclass(frozen=True, slots=True)
class Served:
    """One function. `parse` makes its arguments or raises CallRejectedError naming the field; `run` gets them, may
    raise CallRejectedError and CallFailedError; `encode` makes of what it returned what JSON can say, or raises
    CallFailedError where that is not what was declared.

    `timeout_s` is the longest it may run, `parallel` how often at a time (0: as often as there is room). One that is
    not `journalled` changes nothing: a command that is repeated runs again, and its answers are kept nowhere.
    """

    name: str
    parse: Parse
    run: Callable[[Call, Any], Awaitable[Any]]
    encode: Callable[[Any], Any] = lambda value: value
    timeout_s: float = 30.0
    parallel: int = 0
    journalled: bool = True


@dataclass(frozen=True, slots=True)
class Nothing:
    """No arguments."""


def arguments(cls: type[Any]) -> Parse:
    """The `parse` for arguments in a dataclass, by schemas.shape."""

    def parse(raw: Mapping[str, Any]) -> Any:
        try:
            return read(cls, raw, strict=True)
        except ShapeError as error:
            field = error.mistakes[0].partition(":")[0] if ":" in error.mistakes[0] else ""
            raise CallRejectedError("bad_arguments", str(error), field) from error

    return parse


def plain(
    name: str,
    cls: type[T],
    run: Callable[[T], Awaitable[Any]],
    *,
    timeout_s: float = 30.0,
    parallel: int = 0,
    journalled: bool = True,
) -> Served:
    """A function of a dataclass that needs nothing of its call."""

    async def run_plain(call: Call, given: T) -> Any:
        return await run(given)

    return Served(name, arguments(cls), run_plain, timeout_s=timeout_s, parallel=parallel, journalled=journalled)


class Table:
    """The functions by name, and the declared ones that nobody serves here, each with the reason."""

    def __init__(self, served: Iterable[Served], unbound: Mapping[str, str] = MappingProxyType({})) -> None:
        """Raises ValueError for a name twice, which is a defect of ours."""
        self._by_name: dict[str, Served] = {}
        for one in served:
            if one.name in self._by_name or one.name == CANCEL:
                raise ValueError(f"the function {one.name} is served twice")
            self._by_name[one.name] = one
        self._unbound = {name: why for name, why in unbound.items() if name not in self._by_name}

    @property
    def names(self) -> list[str]:
        """As announced in a birth: `cancel` is there wherever anything can be called."""
        return sorted([*self._by_name, CANCEL])

    def limit(self, name: str) -> int:
        """How often it may run at a time, 0 for no limit of its own."""
        found = self._by_name.get(name)
        return 0 if found is None else found.parallel

    def is_journalled(self, name: str) -> bool:
        """False for a function that changes nothing."""
        found = self._by_name.get(name)
        return found is None or found.journalled

    def get(self, name: str) -> Served:
        """Raises CallRejectedError: `not_bound` for a declared function, `unknown_function` for any other name."""
        if (found := self._by_name.get(name)) is not None:
            return found
        if (why := self._unbound.get(name)) is not None:
            raise CallRejectedError("not_bound", f"{name} is declared and not served here: {why}")
        near = difflib.get_close_matches(name, self.names, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise CallRejectedError(
            "unknown_function", f"there is no function {name!r} here; {meant}There are: {', '.join(self.names)}"
        )
