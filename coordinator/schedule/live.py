"""A workload in memory, and a list of things to look at again at a time. Pure; time is an argument."""

import heapq
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from coordinator.schedule.index import Amounts, needs
from coordinator.schedule.scaling import Scaling
from coordinator.schedule.state import Avoided, Kept, Phase, Placement
from coordinator.schedule.workload import EVERYWHERE, Workload, selector_of

K = TypeVar("K", bound=Hashable)
SETTLED = frozenset({Phase.RUNNING, Phase.STOPPED})


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a replica was that has no place just now, and why it went."""

    node: str
    reason: str
    home: str = ""


class Live:
    """One workload with its replicas. `held`: what each takes of its node; `counted`: what the node says it takes."""

    def __init__(self, kept: Kept, placed: Iterable[Placement] = (), avoided: Iterable[Avoided] = ()) -> None:
        self.placed = {one.node: one for one in placed}
        self.avoided = {one.node: one for one in avoided}
        self.held: dict[str, Amounts] = {}
        self.counted: dict[str, Amounts] = {}  # of what its node says is allocated
        self.deploying = {one.node for one in self.placed.values() if one.phase is Phase.DEPLOYING}
        self.origins: deque[Origin] = deque(maxlen=1000)  # replicas that lost their place; the oldest are forgotten
        self.stuck: dict[str, int] = {}  # nodes that cannot be told, until when they are not tried again
        self.look: set[int] | None = None  # EVERYWHERE: slots to look at; None: all of them
        self.tried_ms = 0
        self.define(kept)

    def define(self, kept: Kept) -> None:
        """It is declared so from now on."""
        self.kept = kept
        self.selector = selector_of(kept.workload)
        self.need = needs(kept.workload.resources)
        rule = kept.workload.scale
        self.scaling = None if rule is None else Scaling(rule)
        self.look = None

    @property
    def name(self) -> str:
        return self.kept.name

    @property
    def workload(self) -> Workload:
        return self.kept.workload

    @property
    def priority(self) -> int:
        return self.kept.workload.priority

    @property
    def is_everywhere(self) -> bool:
        return self.kept.replicas == EVERYWHERE

    def reserve(self, other: Workload | None) -> Amounts:
        """What a replica holds while it may become the other one: the greater of both."""
        more = self.need if other is None else needs(other.resources)
        return tuple(map(max, zip(self.need, more, strict=True)))


class Timers(Generic[K]):
    """What is to be looked at again, and when: of each thing the earliest time."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, K]] = []
        self._at: dict[K, int] = {}
        self._count = 0  # keeps things of one time in order

    def remind(self, key: K, at_ms: int) -> None:
        if at_ms < self._at.get(key, at_ms + 1):
            self._at[key] = at_ms
            self._count += 1
            heapq.heappush(self._heap, (at_ms, self._count, key))

    def take(self, now_ms: int) -> list[K]:
        """What is due."""
        found = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, _, key = heapq.heappop(self._heap)
            if self._at.get(key) == at_ms:
                del self._at[key]
                found.append(key)
        return found

    @property
    def next_ms(self) -> int | None:
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None
