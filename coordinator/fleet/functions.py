"""What operators ask of the fleet: deregistration, and maintenance windows."""

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

from coordinator.fleet.draft import Draft
from coordinator.fleet.maintenance import WINDOWS_MAX, Window, window_mistakes
from coordinator.fleet.node import Moment, NodeState
from coordinator.fleet.selector import Selector
from coordinator.fleet.selector_text import SelectorError, parse
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from schemas.messages import Count
from schemas.shape import Limit
from schemas.topics import Kind, check_node_name

RETAINED = (Kind.STATUS, Kind.BIRTH, Kind.DESIRED, Kind.REPORTED)
"""What a broker may keep of a node."""


@dataclass(frozen=True, slots=True)
class Deregister:
    """The arguments of `deregisterNode`."""

    node: str
    force: bool = False
    ban: bool = False
    source: Annotated[str, Limit(len_max=200)] = ""


@dataclass(frozen=True, slots=True)
class Admit:
    """The arguments of `admitNode`."""

    node: str


@dataclass(frozen=True, slots=True)
class AddMaintenance:
    """The arguments of `addMaintenance`. Without `from_utc_ms` it begins now."""

    selector: Annotated[str, Limit(len_max=4000)]
    for_s: Annotated[float, Limit(ge=1)]
    from_utc_ms: Count | None = None
    reason: Annotated[str, Limit(len_max=200)] = ""
    source: Annotated[str, Limit(len_max=200)] = ""


@dataclass(frozen=True, slots=True)
class EndMaintenance:
    """The arguments of `endMaintenance`."""

    id: Annotated[str, Limit(len_min=1, len_max=100)]


class Ask(Protocol):
    """Changes the fleet in its turn, and answers once that is durable."""

    def __call__(self, wish: Callable[[Draft, Moment], Any], /) -> Awaitable[Any]: ...


class FleetFunctions:
    """Served by the coordinator. All of them raise CallRejectedError with the reason."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def served(self) -> list[Served]:
        return [
            plain("deregisterNode", Deregister, self.deregister),
            plain("admitNode", Admit, self.admit),
            plain("addMaintenance", AddMaintenance, self.add_maintenance),
            plain("endMaintenance", EndMaintenance, self.end_maintenance),
        ]

    async def deregister(self, asked: Deregister) -> dict[str, Any]:
        """Takes a node out of the fleet. One that nobody knows may be banned all the same."""
        if wrong := check_node_name(asked.node):
            raise CallRejectedError("bad_arguments", f"node: {wrong}", "node")

        def wish(draft: Draft, now: Moment) -> dict[str, Any]:
            node = draft.node(asked.node)
            if node is None and not asked.ban:
                raise CallRejectedError("unknown_node", f"there is no node {asked.node}; edgectl nodes lists them")
            if node is not None and node.state is not NodeState.OFFLINE and not asked.force:
                why = f"{asked.node} is {node.shown.value}; stop its agent first, or deregister it with force"
                raise CallRejectedError("online", why)
            draft.deregister(asked.node, now, ban=asked.ban, by=asked.source)
            was = NodeState.OFFLINE.value if node is None else node.shown.value
            return {"node": asked.node, "was": was, "banned": asked.ban}

        return await self._grant(wish)

    async def admit(self, asked: Admit) -> dict[str, Any]:
        """Ends a ban."""

        def wish(draft: Draft, now: Moment) -> dict[str, Any]:
            if not draft.admit(asked.node, now):
                raise CallRejectedError("not_banned", f"{asked.node} is not banned")
            return {"node": asked.node}

        return await self._grant(wish)

    async def add_maintenance(self, asked: AddMaintenance) -> dict[str, Any]:
        """A window from now, or from a time on."""
        selector = self._selector(asked.selector)

        def wish(draft: Draft, now: Moment) -> dict[str, Any]:
            begin_ms = now.utc_ms if asked.from_utc_ms is None else asked.from_utc_ms
            until_ms = begin_ms + round(asked.for_s * 1000)
            identifier = f"m-{secrets.token_hex(4)}"
            window = Window(identifier, selector, begin_ms, until_ms, asked.reason, asked.source)
            if mistakes := window_mistakes(window, now.utc_ms):
                raise CallRejectedError("bad_arguments", "; ".join(mistakes))
            if len(draft.fleet.windows) + len(draft.windows) >= WINDOWS_MAX:
                raise CallRejectedError("too_many", f"there are {WINDOWS_MAX} windows already; end some first")
            count = draft.add_window(window, now)
            return {
                "id": identifier,
                "selector": selector.text,
                "from_utc_ms": begin_ms,
                "until_utc_ms": until_ms,
                "reason": asked.reason,
                "by": asked.source,
                "nodes": count,
            }

        return await self._grant(wish)

    async def end_maintenance(self, asked: EndMaintenance) -> dict[str, Any]:
        """Before its time."""

        def wish(draft: Draft, now: Moment) -> dict[str, Any]:
            if asked.id not in draft.fleet.windows or asked.id in draft.windows_over:
                raise CallRejectedError(
                    "unknown_window", f"there is no maintenance {asked.id}; edgectl maintenance ls"
                )
            draft.end_window(asked.id, now)
            return {"id": asked.id}

        return await self._grant(wish)

    async def _grant(self, wish: Callable[[Draft, Moment], dict[str, Any]]) -> dict[str, Any]:
        answer: dict[str, Any] = await self._ask(wish)
        return answer

    @staticmethod
    def _selector(text: str) -> Selector:
        try:
            return parse(text)
        except SelectorError as error:
            raise CallRejectedError("bad_arguments", f"selector: {error}", "selector") from error
