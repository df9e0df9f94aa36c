"""What a platform's function may use of the process that hosts it: the same at a node and in the coordinator.

A function that takes `context` as its first parameter gets one for each call. What it does not find here it cannot
need: a function that knows where it runs is no function of a platform.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from schemas.language.schema import Placement
from schemas.state import StateView

T = TypeVar("T")


class FunctionError(Exception):
    """The call was acceptable and did not work out; `code` is for programs. The caller is answered `failed`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BadArgumentError(Exception):
    """An argument that the schema allows and that makes no sense here. The caller is answered `rejected`."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class BadEventError(FunctionError):
    """An event that its platform does not declare, or not so."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_event", message)


class NotHereError(FunctionError):
    """The host has no such service: an `@any` function is then tried in the coordinator, an `@edge` one fails."""

    def __init__(self, what: str) -> None:
        super().__init__("not_here", f"this host has no {what}")


@dataclass(frozen=True, slots=True)
class ResultQuery:
    """Which kept results are meant; empty means all. Times are UTC milliseconds, `until` excluded."""

    types: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()  # at a node there is one
    since_utc_ms: int | None = None
    until_utc_ms: int | None = None
    limit: int = 100_000


@dataclass(frozen=True, slots=True)
class KeptResult:
    """An event or a sample, as it is kept at the node or came to the coordinator."""

    node: str
    camera: str
    type: str
    subject: str
    time_utc_ms: int
    data: Mapping[str, Any]


class Context(Protocol):
    """One call's view of its host."""

    @property
    def host(self) -> str:
        """The node's name, or `coordinator`."""

    @property
    def placement(self) -> Placement:
        """EDGE or CLOUD: for messages to people. Decide nothing by it."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """`[platforms.<name>]` of the host's configuration."""

    @property
    def state(self) -> StateView:
        """The state of all platforms here. A collection is named `traffic.intersections`."""

    @property
    def memory(self) -> dict[str, Any]:
        """What the platform remembers between calls, as long as this process lives: `state` is for what must last."""

    def now_utc_ms(self) -> int: ...

    def progress(self, share: float | None, text: str = "") -> None:
        """Tells the caller how far it is, 0 to 1; the newest wins."""

    async def results(self, query: ResultQuery) -> Sequence[KeptResult]:
        """Kept results in the order of their times: the node's own, or what has come to the coordinator. Those of a
        `local_only` pipeline are not among them: the answer to a call leaves the node."""

    async def emit(self, event: str, data: Any, *, subject: str = "", routine: bool = False) -> None:
        """Tells a declared event; `data` is a mapping or a dataclass. Raises BadEventError, and nothing is stored.

        `routine`: a figure that is told again and again; from a node it travels in batches, as samples do.
        """

    def service(self, kind: type[T]) -> T:
        """A service of this host (`platforms/services.py`). Raises NotHereError."""
