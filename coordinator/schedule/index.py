"""What the nodes of a fleet have, in columns: whom a selector means, who has room, who may be given something. Pure.

A change of one node costs what changed of it. A question over all nodes is a few operations on whole columns: with
50,000 nodes about a millisecond. Nodes stand in slots, which are used again.
"""

from collections.abc import Callable, Iterable
from enum import IntEnum
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from coordinator.fleet.facts import Fact, LazyFacts, fact_name, getter
from coordinator.fleet.node import Node, NodeState
from coordinator.fleet.selection import facts_changed
from coordinator.fleet.selector import All, Both, Compare, In, Near, Not, Selector, number_of
from coordinator.fleet.selector import Node as Tree
from schemas.messages import Birth, Heartbeat
from schemas.workloads import ResourceRequirements

RESOURCES = ("cpu_cores", "memory_mb", "storage_mb", "gpu_count", "npu_count")
"""The order of a node's amounts. It says `cores`, `memory_mb`, `storage_mb`, `gpu`, and `npu` and `tpu` together."""
SPARE = 1e-6  # amounts are sums of floats
LOAD_STEP = 0.1  # a load that differs by less from what is known is no news
FEW = 1000  # values of a column that are looked at one by one

Mask = NDArray[np.bool_]
"""(slots,): which nodes."""
Floats = NDArray[np.float64]
Amounts = tuple[float, ...]
"""In the order of RESOURCES."""


class Standing(IntEnum):
    """Whether a node may be given something new, and why not."""

    OPEN = 0
    NOBODY = 1  # the slot is empty
    UNBORN = 2  # it has not said what it is
    AWAY = 3  # offline, suspect, or stopping
    FLAPS = 4
    MAINTENANCE = 5
    DRAINED = 6


def needs(asked: ResourceRequirements) -> Amounts:
    return tuple(float(getattr(asked, name)) for name in RESOURCES)


class Column:
    """One fact of all nodes: each distinct value once, and of each node the number of its value."""

    def __init__(self, slots: int) -> None:
        self.codes = np.zeros(slots, np.int32)
        self.values: list[Any] = [None]  # 0: the node does not have the fact
        self.has_lists = False
        self._numbers: dict[Any, int] = {None: 0}

    def fill(self, values: Iterable[Any]) -> None:
        """Of the slots from the first on."""
        numbers, found = self._numbers, []
        for value in values:
            number = numbers.get(value)
            if number is None:
                number = numbers[value] = len(self.values)
                self.values.append(value)
                self.has_lists |= isinstance(value, tuple)
            found.append(number)
        self.codes[: len(found)] = found

    def put(self, slot: int, value: Any) -> None:
        number = self._numbers.get(value)
        if number is None:
            number = self._numbers[value] = len(self.values)
            self.values.append(value)
            self.has_lists |= isinstance(value, tuple)
        self.codes[slot] = number

    def where(self, holds: Callable[[Any], bool]) -> Mask:
        table = np.fromiter((holds(value) for value in self.values), bool, len(self.values))
        return table[self.codes]

    def equal(self, wanted: Iterable[str]) -> Mask:
        """Those that are one of these, read as texts or as numbers; not for a column of lists."""
        both = [value for text in wanted for value in (text, number_of(text))]
        numbers = [self._numbers[value] for value in both if value is not None and value in self._numbers]
        return np.isin(self.codes, numbers)


class Index:
    """Of one fleet. `members` is whom each workload's selector means, kept up to date."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.nodes: list[Node | None] = []
        self.slots: dict[str, int] = {}
        self.standing = np.zeros(0, np.int8)
        self.capacity = np.zeros((len(RESOURCES), 0))
        self.used = np.zeros((len(RESOURCES), 0))  # by the node itself and by what is placed there
        self.load = np.zeros(0)  # measured, as a share of all cores
        self.members: dict[str, Mask] = {}
        self.drained: set[str] = set()
        self._placed = np.zeros((len(RESOURCES), 0))
        self._told = np.zeros((len(RESOURCES), 0))  # what the node says is allocated, ours among it
        self._counted = np.zeros((len(RESOURCES), 0))  # what of it is ours
        self._selectors: dict[str, Selector] = {}
        self._columns: dict[str, Column] = {}
        self._empty: list[int] = []

    def __len__(self) -> int:
        return len(self.slots)

    # ---- nodes ----------------------------------------------------------------------------------

    def put(self, node: Node) -> int:
        """A node is new, or is another now. Returns its slot."""
        slot = self.slots.get(node.name)
        if slot is None:
            slot = self._take_slot(node.name)
        before, self.nodes[slot] = self.nodes[slot], node
        if before is None or before.birth is not node.birth:
            self._put_birth(slot, node.birth)
        self._stand(slot)
        changed = None if before is None else facts_changed(before, node)
        for fact, column in self._columns.items():
            if changed is None or fact in changed or (fact == _PLACE and changed & {"lat", "lon"}):
                column.put(slot, _reader(fact)(node))
        facts = LazyFacts(node)
        for name, selector in self._selectors.items():
            if changed is None or not changed.isdisjoint(selector.keys):
                self.members[name][slot] = selector.matches(facts)
        return slot

    def remove(self, name: str) -> None:
        """It is not registered any more. What was placed there is to be taken away by whoever placed it."""
        slot = self.slots.pop(name, None)
        if slot is None:
            return
        self.nodes[slot], self.names[slot] = None, ""
        self.standing[slot] = Standing.NOBODY
        self.drained.discard(name)
        for table in (self.capacity, self.used, self._placed, self._told, self._counted):
            table[:, slot] = 0
        for members in self.members.values():
            members[slot] = False
        for column in self._columns.values():
            column.put(slot, None)
        self._empty.append(slot)

    def drain(self, name: str, *, drained: bool) -> None:
        """It gets nothing new, or again may."""
        (self.drained.add if drained else self.drained.discard)(name)
        if (slot := self.slots.get(name)) is not None:
            self._stand(slot)

    def beat(self, name: str, beat: Heartbeat) -> None:
        """Its load, where that is another than what is known."""
        slot = self.slots.get(name)
        if slot is None:
            return
        load = beat.cpu_percent / 100 / max(1.0, float(self.capacity[0, slot]))
        if abs(load - self.load[slot]) >= LOAD_STEP:
            self.load[slot] = load

    def occupy(self, slot: int, amounts: Amounts, times: int = 1) -> None:
        """Something of these amounts is placed there, or with -1 is there no more."""
        self._placed[:, slot] += [times * amount for amount in amounts]
        self._sum(slot)

    def count(self, slot: int, amounts: Amounts, times: int = 1) -> None:
        """What the node says is allocated has these amounts of ours in it, or with -1 has not."""
        self._counted[:, slot] += [times * amount for amount in amounts]
        self._sum(slot)

    def _sum(self, slot: int) -> None:
        own = np.maximum(self._told[:, slot] - self._counted[:, slot], 0.0)
        self.used[:, slot] = own + self._placed[:, slot]

    def _take_slot(self, name: str) -> int:
        if self._empty:
            slot = self._empty.pop()
        else:
            slot = len(self.names)
            self.names.append("")
            self.nodes.append(None)
            if slot >= len(self.standing):
                self._grow(max(64, 2 * slot))
        self.slots[name], self.names[slot], self.load[slot] = slot, name, 0.0
        return slot

    def _grow(self, size: int) -> None:
        def grown(column: NDArray[Any]) -> NDArray[Any]:
            more = np.zeros((*column.shape[:-1], size), column.dtype)
            more[..., : column.shape[-1]] = column
            return more

        old = len(self.standing)
        self.standing, self.load = grown(self.standing), grown(self.load)
        self.standing[old:] = Standing.NOBODY
        self.capacity, self.used, self._placed = grown(self.capacity), grown(self.used), grown(self._placed)
        self._told, self._counted = grown(self._told), grown(self._counted)
        self.members = {name: grown(mask) for name, mask in self.members.items()}
        for column in self._columns.values():
            column.codes = grown(column.codes)

    def _put_birth(self, slot: int, birth: Birth | None) -> None:
        has = {} if birth is None else birth.resources
        told = {} if birth is None else birth.allocated
        self.capacity[:, slot] = _amounts(has)
        self._told[:, slot] = _amounts(told)
        self._sum(slot)

    def _stand(self, slot: int) -> None:
        node = self.nodes[slot]
        if node is None:
            standing = Standing.NOBODY
        elif node.birth is None:
            standing = Standing.UNBORN
        elif node.name in self.drained:
            standing = Standing.DRAINED
        elif node.window:
            standing = Standing.MAINTENANCE
        elif node.state is not NodeState.ONLINE:
            standing = Standing.AWAY
        elif node.lost or node.flap.flaps:
            standing = Standing.FLAPS
        else:
            standing = Standing.OPEN
        self.standing[slot] = standing

    # ---- selectors ------------------------------------------------------------------------------

    def watch(self, workload: str, selector: Selector) -> None:
        """Keeps whom it means, from now on."""
        self._selectors[workload] = selector
        self.members[workload] = self.where(selector.tree) & (self.standing != Standing.NOBODY)

    def forget(self, workload: str) -> None:
        self._selectors.pop(workload, None)
        self.members.pop(workload, None)

    def selector(self, workload: str) -> Selector:
        return self._selectors[workload]

    def where(self, tree: Tree) -> Mask:
        """Whom a selector means. O(distinct values) and a few operations on columns."""
        match tree:
            case All():
                return np.ones(len(self.standing), bool)
            case Not(inner):
                return ~self.where(inner)
            case Both(parts, any_of_them):
                return reduce(np.logical_or if any_of_them else np.logical_and, map(self.where, parts))
            case Near():
                near = Selector.of("", tree)
                return self.column(_PLACE).where(lambda at: near.matches({} if at is None else at_facts(at)))
        column, fact = self.column(tree.key), fact_name(tree.key)
        if len(column.values) > FEW and not column.has_lists:
            match tree:
                case Compare(_, "=", value):
                    return column.equal([value])
                case In(_, values, False):
                    return column.equal(values)
        leaf = Selector.of("", tree)
        return column.where(lambda value: leaf.matches({} if value is None else {fact: value}))

    def column(self, key: str) -> Column:
        """Of a fact; made when it is asked for first."""
        fact = key if key == _PLACE else fact_name(key)
        found = self._columns.get(fact)
        if found is None or len(found.values) > 2 * len(self.names) + FEW:  # too many of values that nobody has now
            found = self._columns[fact] = Column(len(self.standing))
            read = _reader(fact)
            found.fill(None if node is None else read(node) for node in self.nodes)
        return found

    # ---- room -----------------------------------------------------------------------------------

    def fits(self, need: Amounts) -> Mask:
        """Who has so much left."""
        return self._has(need, lambda at: self.capacity[at] - self.used[at])

    def ever_fits(self, need: Amounts) -> Mask:
        """Who has so much in all."""
        return self._has(need, lambda at: self.capacity[at])

    def _has(self, need: Amounts, there: Callable[[int], Floats]) -> Mask:
        found = np.ones(len(self.standing), bool)
        for at, amount in enumerate(need):
            if amount > 0:
                found &= there(at) >= amount - SPARE
        return found

    def left(self, slot: int) -> Amounts:
        """What a node has left of each."""
        return tuple((self.capacity[:, slot] - self.used[:, slot]).tolist())

    def shares(self) -> Floats:
        """(slots,): how much of a node is given away or in use, of its cores or its memory."""
        found = self.load.copy()
        for at in (0, 1):
            share = np.divide(self.used[at], self.capacity[at], out=np.zeros_like(found), where=self.capacity[at] > 0)
            np.maximum(found, share, out=found)
        return found


def covers(left: Amounts, need: Amounts) -> bool:
    """So much is enough."""
    return all(there >= amount - SPARE for there, amount in zip(left, need, strict=True) if amount > 0)


_PLACE = " place"  # latitude and longitude together; no fact has a space


def at_facts(at: tuple[float, float]) -> dict[str, Fact]:
    return {"lat": at[0], "lon": at[1]}


def _reader(fact: str) -> Callable[[Node], Any]:
    return _place if fact == _PLACE else getter(fact)


def _place(node: Node) -> tuple[float, float] | None:
    at = {} if node.birth is None else node.birth.location
    return (at["lat"], at["lon"]) if "lat" in at and "lon" in at else None


def _amounts(has: "dict[str, float]") -> list[float]:
    npu = has.get("npu", 0) + has.get("tpu", 0)
    return [has.get("cores", 0), has.get("memory_mb", 0), has.get("storage_mb", 0), has.get("gpu", 0), npu]
