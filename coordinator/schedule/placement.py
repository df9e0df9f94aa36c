"""Where replicas go: first the site, then the node. Pure.

- The least loaded site that has a node with room comes first; of an even spread, those with the fewest replicas.
- In it the node that has most left afterwards, by what is given away there and by the load that it tells.
- A node where the workload was before is preferred to others as good.

One question looks at every node once, however many replicas are wanted.
"""

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.fleet.facts import fact_name
from coordinator.schedule.index import RESOURCES, SPARE, Amounts, Floats, Index, Mask, Standing
from coordinator.schedule.workload import CONTAINERS, Spread

HAS_IT, NOT_SELECTED, NO_CONTAINERS = "has it", "is not selected", "runs no containers"
HOME_BONUS = 0.2  # of a share: so much better another node must be than one where the workload was
WORDS = {"cpu_cores": "cores", "memory_mb": "MB of memory", "storage_mb": "MB of storage", "gpu_count": "GPUs",
         "npu_count": "NPUs"}  # fmt: skip
STANDING_WORDS = {
    Standing.UNBORN: "has not said what it is",
    Standing.AWAY: "is away",
    Standing.FLAPS: "comes and goes",
    Standing.MAINTENANCE: "is in maintenance",
    Standing.DRAINED: "is drained",
}


@dataclass(frozen=True, slots=True)
class Ask:
    """What is wanted for a workload. Slots of nodes; `counts` are its replicas by the value that they spread by."""

    workload: str
    need: Amounts
    count: int = 1
    spread: Spread | None = None
    counts: Mapping[Any, int] = field(default_factory=dict)
    has: Collection[int] = ()  # these have a replica
    avoided: Collection[int] = ()  # it failed there a while ago
    homes: Collection[int] = ()  # it was there
    contained: bool = False  # it is a container


def may_have(index: Index, ask: Ask) -> Mask:
    """Who could be given one, were there room."""
    found: Mask = index.members[ask.workload] & (index.standing == Standing.OPEN)
    for slots in (ask.has, ask.avoided):
        if slots:
            found[list(slots)] = False
    if ask.spread is not None and ask.spread.max is not None:
        column, most = index.column(ask.spread.by), ask.spread.max
        found &= column.where(lambda value: ask.counts.get(value, 0) < most)
    return found


def choose(index: Index, ask: Ask, within: Collection[int] | None = None) -> list[int]:
    """At most `count` slots for one more replica each, the best first. `within`: only of these slots."""
    open_to = may_have(index, ask)
    if within is not None:
        near = np.zeros_like(open_to)
        near[list(within)] = True
        open_to &= near
    slots = np.flatnonzero(open_to & index.fits(ask.need))
    if not len(slots) or ask.count <= 0:
        return []
    return list(_Groups(index, ask, slots).take(ask.count))


class _Groups:
    """The candidates by site, and by the value that they spread by."""

    def __init__(self, index: Index, ask: Ask, slots: NDArray[np.intp]) -> None:
        sites = index.column("site").codes
        spread = index.column(ask.spread.by) if ask.spread is not None else None
        self._ask = ask
        self._values = spread.values if spread is not None else [None]
        self._counts = Counter(dict(ask.counts))
        self._scores = _scores(index, ask, slots)
        self._slots = slots
        is_open = index.standing == Standing.OPEN
        self._open = np.maximum(np.bincount(sites, is_open), 1.0)
        self._loads = np.bincount(sites, np.where(is_open, index.shares(), 0.0)) / self._open
        self._step = _step(index, ask, slots)
        codes = spread.codes[slots] if spread is not None else np.zeros(len(slots), np.int64)
        keys = codes.astype(np.int64) * (int(sites.max()) + 1) + sites[slots]
        order = np.argsort(keys, kind="stable")
        bounds = np.flatnonzero(np.diff(keys[order], prepend=-1))
        self._members = np.split(order, bounds[1:])
        self._site = [int(sites[slots[one[0]]]) for one in self._members]
        self._code = [int(codes[one[0]]) for one in self._members]
        self._sorted: dict[int, list[int]] = {}

    def take(self, count: int) -> Iterator[int]:
        """Slots, the best first. Ranks only grow: a group whose rank is old is ranked again when it comes up."""
        heap = [(*self._rank(group), group) for group in range(len(self._members))]
        heapq.heapify(heap)
        while heap and count:
            rank, load, group = heapq.heappop(heap)
            if self._is_full(group):
                continue
            if self._rank(group) > (rank, load):
                heapq.heappush(heap, (*self._rank(group), group))
                continue
            best = self._best(group)
            yield int(self._slots[best.pop()])
            count -= 1
            self._counts[self._values[self._code[group]]] += 1
            self._loads[self._site[group]] += self._step / self._open[self._site[group]]
            if best:
                heapq.heappush(heap, (*self._rank(group), group))

    def _rank(self, group: int) -> tuple[int, float]:
        spread = self._ask.spread
        fewest = self._counts[self._values[self._code[group]]] if spread is not None and spread.even else 0
        return fewest, float(self._loads[self._site[group]])

    def _is_full(self, group: int) -> bool:
        spread = self._ask.spread
        if spread is None or spread.max is None:
            return False
        return self._counts[self._values[self._code[group]]] >= spread.max

    def _best(self, group: int) -> list[int]:
        """Candidates of the group, the best last."""
        found = self._sorted.get(group)
        if found is None:
            members = self._members[group]
            order = np.lexsort((self._slots[members], self._scores[members]))
            found = self._sorted[group] = members[order][::-1].tolist()
        return found


def _scores(index: Index, ask: Ask, slots: NDArray[np.intp]) -> Floats:
    """(candidates,): the share of each that is gone afterwards; less is better."""
    scores = index.shares()[slots]
    for at, amount in enumerate(ask.need):
        if amount > 0:
            capacity = np.maximum(index.capacity[at, slots], 1e-9)
            np.maximum(scores, (index.used[at, slots] + amount) / capacity, out=scores)
            if at == 0:
                np.maximum(scores, index.load[slots] + amount / capacity, out=scores)
    if ask.homes:
        scores -= HOME_BONUS * np.isin(slots, list(ask.homes))
    return scores


def _step(index: Index, ask: Ask, slots: NDArray[np.intp]) -> float:
    """How much of a node one replica takes, on the average; at least so much that sites take turns."""
    shares = [amount / max(1e-9, float(index.capacity[at, slots].mean())) for at, amount in enumerate(ask.need)]
    return max(0.01, *shares)


# ---- why not -----------------------------------------------------------------------------------


def why_not(index: Index, ask: Ask) -> Counter[str]:
    """Of all nodes the first reason why each gets none, with how many; those that could have one are left out."""
    left = index.standing != Standing.NOBODY
    found: Counter[str] = Counter()

    def sort_out(mask: Mask, reason: str) -> None:
        nonlocal left
        if count := int((left & mask).sum()):
            found[reason] = count
        left = left & ~mask

    if ask.has:
        sort_out(_mask(index, ask.has), HAS_IT)
    if ask.contained:
        sort_out(index.column(CONTAINERS).equal([""]), NO_CONTAINERS)
    sort_out(~index.members[ask.workload], NOT_SELECTED)
    for at, name in enumerate(RESOURCES):
        if ask.need[at] > 0:
            sort_out(index.capacity[at] < ask.need[at] - SPARE, f"has less than {ask.need[at]:g} {WORDS[name]}")
    for standing, words in STANDING_WORDS.items():
        sort_out(index.standing == standing, words)
    if ask.avoided:
        sort_out(_mask(index, ask.avoided), "is avoided for a while: it failed there")
    if ask.spread is not None and ask.spread.max is not None:
        column, most = index.column(ask.spread.by), ask.spread.max
        sort_out(column.where(lambda value: ask.counts.get(value, 0) >= most), _spread_words(ask.spread))
    for at, name in enumerate(RESOURCES):
        if ask.need[at] > 0:
            short = index.capacity[at] - index.used[at] < ask.need[at] - SPARE
            sort_out(short, f"has less than {ask.need[at]:g} {WORDS[name]} left")
    return found


def ever(index: Index, ask: Ask) -> int:
    """How many nodes could have it at all, were they there and empty."""
    return int((index.members[ask.workload] & index.ever_fits(ask.need)).sum())


def why_not_at(index: Index, ask: Ask, slot: int) -> list[str]:
    """Every reason why one node gets none; empty where it could."""
    found, standing = [], Standing(int(index.standing[slot]))
    if slot in ask.has:
        found.append("it has it")
    if ask.contained and index.column(CONTAINERS).equal([""])[slot]:
        found.append(f"it {NO_CONTAINERS}")
    elif not index.members[ask.workload][slot]:
        found.append("it is not selected")
    if standing in STANDING_WORDS:
        found.append(f"it {STANDING_WORDS[standing]}")
    if slot in ask.avoided:
        found.append("it is avoided for a while: it failed there")
    if ask.spread is not None and ask.spread.max is not None:
        column = index.column(ask.spread.by)
        if ask.counts.get(column.values[column.codes[slot]], 0) >= ask.spread.max:
            found.append(_spread_words(ask.spread))
    for at, name in enumerate(RESOURCES):
        need, has, used = (float(one) for one in (ask.need[at], index.capacity[at, slot], index.used[at, slot]))
        if need > 0 and has < need - SPARE:
            found.append(f"it has {has:g} {WORDS[name]}, and {need:g} are needed")
        elif need > 0 and has - used < need - SPARE:
            found.append(f"{max(0.0, has - used):g} of its {has:g} {WORDS[name]} are left, and {need:g} are needed")
    return found


def _spread_words(spread: Spread) -> str:
    return f"its {fact_name(spread.by).removeprefix('label.')} has {spread.max} already"


def _mask(index: Index, slots: Collection[int]) -> Mask:
    found = np.zeros(len(index.standing), bool)
    found[list(slots)] = True
    return found
