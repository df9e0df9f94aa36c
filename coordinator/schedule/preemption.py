"""Room for what is more important: who has to give way. Pure.

Only what has a lower priority gives way, the least important first, then as few as possible; nobody does where it
would not help.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np

from coordinator.schedule.index import SPARE, Amounts, Index, covers
from coordinator.schedule.placement import Ask, may_have

LOOKED_AT_MAX = 256  # nodes
TRIED_MAX = 2_000  # sets of victims of one node


@dataclass(frozen=True, slots=True)
class Lower:
    """A workload that may have to give way, and the slots where it is."""

    workload: str
    priority: int
    need: Amounts
    slots: Collection[int]


@dataclass(frozen=True, slots=True)
class Eviction:
    """A place for one replica, once these workloads have left it."""

    slot: int
    victims: tuple[str, ...]


def make_room(
    index: Index, ask: Ask, lower: Sequence[Lower], within: Collection[int] | None = None
) -> Eviction | None:
    """The place where the least is lost; None where nothing helps. O(nodes and what stands below)."""
    open_to = may_have(index, ask) & index.ever_fits(ask.need)
    if within is not None:
        near = np.zeros_like(open_to)
        near[list(within)] = True
        open_to &= near
    if not open_to.any():
        return None
    free = index.capacity - index.used
    tried: list[Lower] = []
    for priority in sorted({one.priority for one in lower}):
        these = [one for one in lower if one.priority == priority and one.slots]
        for one in these:
            free[:, list(one.slots)] += np.array(one.need)[:, None]
        tried += these
        fits = open_to.copy()
        for at, amount in enumerate(ask.need):
            if amount > 0:
                fits &= free[at] >= amount - SPARE
        if these and fits.any():
            return _least(index, ask, tried, np.flatnonzero(fits).tolist())
    return None


def _least(index: Index, ask: Ask, lower: Sequence[Lower], slots: list[int]) -> Eviction | None:
    by_slot: dict[int, list[Lower]] = {slot: [] for slot in slots}
    for one in lower:
        for slot in one.slots:
            if slot in by_slot:
                by_slot[slot].append(one)
    few = sorted(by_slot, key=lambda slot: (len(by_slot[slot]), slot))[:LOOKED_AT_MAX]
    best: tuple[tuple[int, int, float], Eviction] | None = None
    for slot in few:
        victims = _victims(index, ask, slot, by_slot[slot])
        if victims is None:
            continue
        rank = (len(victims), sum(one.priority for one in victims), float(index.load[slot]))
        if best is None or rank < best[0]:
            best = rank, Eviction(slot, tuple(one.workload for one in victims))
    return None if best is None else best[1]


def _victims(index: Index, ask: Ask, slot: int, lower: Sequence[Lower]) -> tuple[Lower, ...] | None:
    """The fewest of those at one node, the least important of them; None where not even all would do."""
    free = index.left(slot)
    ordered = sorted(lower, key=lambda one: (one.priority, one.workload))

    def helps(found: Sequence[Lower]) -> bool:
        return covers(tuple(map(sum, zip(free, *(one.need for one in found), strict=True))), ask.need)

    if not ordered or not helps(ordered):
        return None
    for found in islice(_sets(ordered), TRIED_MAX):
        if helps(found):
            return found
    needed = list(ordered)  # too many to try all: leave out whoever is not needed, the most important first
    for one in reversed(ordered):
        if helps(rest := [other for other in needed if other is not one]):
            needed = rest
    return tuple(needed)


def _sets(ordered: Sequence[Lower]) -> Iterator[tuple[Lower, ...]]:
    for size in range(1, len(ordered) + 1):
        yield from combinations(ordered, size)
