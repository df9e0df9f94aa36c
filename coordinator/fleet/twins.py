"""Two agents with one identity: noticed by what only a twin can do. Pure.

Each start of an agent draws an `instance` and says it in its birth. A process never comes back once another one of
the same node was born, so an instance that is heard after it was replaced belongs to a second agent that lives too: a
cloned disk, or another box with the first one's name. So do two instances with one boot number, which grows by one
with each start. One replacement alone is a restart.
"""

from collections import OrderedDict
from dataclasses import dataclass

INSTANCES_MAX = 8  # of one node
NODES_MAX = 10_000  # nodes with more than one instance within the window
WINDOW_MS = 24 * 3600_000


@dataclass(frozen=True, slots=True)
class Seen:
    """One of the agents, as it last said what it is."""

    instance: str
    boot: int = 0
    session: int = 0
    at_ms: int = 0
    hardware: str = ""


@dataclass(frozen=True, slots=True)
class Twins:
    """Both are reported: which of them is right is for people."""

    node: str
    one: Seen
    other: Seen


class TwinWatch:
    """Births in, twins out, each pair once an hour at most. Remembers only nodes that were started anew."""

    def __init__(self, again_ms: int = 3600_000) -> None:
        self._again_ms = again_ms
        self._replaced: OrderedDict[str, list[Seen]] = OrderedDict()
        self._told_ms: dict[tuple[str, frozenset[str]], int] = {}

    def birth(self, node: str, before: Seen | None, now: Seen) -> Twins | None:
        """A birth that came live, and the one before it of the same node."""
        if before is None or not now.instance or not before.instance or before.instance == now.instance:
            return None
        replaced = [one for one in self._replaced.get(node, []) if now.at_ms - one.at_ms < WINDOW_MS]
        is_back = any(one.instance == now.instance for one in replaced)
        rest = [one for one in replaced if one.instance != before.instance]
        self._replaced[node] = [*rest, before][-INSTANCES_MAX:]
        self._replaced.move_to_end(node)
        if len(self._replaced) > NODES_MAX:
            self._replaced.popitem(last=False)
        return self._told(Twins(node, before, now)) if is_back or before.boot == now.boot else None

    def forget(self, node: str) -> None:
        """The node was taken out of the fleet."""
        self._replaced.pop(node, None)
        for key in [key for key in self._told_ms if key[0] == node]:
            del self._told_ms[key]

    def _told(self, twins: Twins) -> Twins | None:
        now_ms = twins.other.at_ms
        key = twins.node, frozenset((twins.one.instance, twins.other.instance))
        last_ms = self._told_ms.get(key)
        if last_ms is not None and now_ms - last_ms < self._again_ms:
            return None
        for old in [old for old, at_ms in self._told_ms.items() if now_ms - at_ms >= WINDOW_MS]:
            del self._told_ms[old]
        self._told_ms[key] = now_ms
        return twins
