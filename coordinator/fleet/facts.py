"""What is known of a node, flat: the names that selectors ask for. Pure.

name, type, site, boot               as registered
state                                as operators see it: online, busy, error, maintenance, …
liveness                             without condition and maintenance: online, draining, suspect, offline
<label>, label.<label>               labels; the short form where no other name is the same
hardware.<key>                       arch (x86_64, arm64), cpu, …; hardware.accelerators is a list
resources.<key>                      cores, memory_mb, storage_mb, gpu, npu
version.<what>                       version.agent, version.python, …
platform, function, camera           lists
lat, lon                             degrees, where the node says where it is
"""

from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter
from typing import Any

from coordinator.fleet.node import Node
from schemas.messages import Birth

Fact = str | float | tuple[str, ...]
Facts = Mapping[str, Fact]

FIXED = frozenset(
    {"name", "type", "site", "state", "liveness", "boot", "platform", "function", "camera", "lat", "lon"}
)
_OF_NODE: Mapping[str, Callable[[Node], Fact]] = {
    "name": lambda node: node.name,
    "state": lambda node: node.shown.value,
    "liveness": lambda node: node.state.value,
    "boot": lambda node: float(node.boot),
}
_OF_BIRTH: Mapping[str, Callable[[Birth], Fact | None]] = {
    "type": lambda birth: birth.node_type,
    "site": lambda birth: birth.site,
    "platform": lambda birth: tuple(birth.platforms),
    "function": lambda birth: tuple(birth.functions),
    "camera": lambda birth: tuple(birth.cameras),
    "lat": lambda birth: birth.location.get("lat"),
    "lon": lambda birth: birth.location.get("lon"),
}
_TABLES: Mapping[str, Callable[[Birth], Mapping[str, Any]]] = {
    "label": lambda birth: birth.labels,
    "hardware": lambda birth: birth.hardware,
    "resources": lambda birth: birth.resources,
    "version": lambda birth: birth.versions,
}
PREFIXES = ("label.", "hardware.", "resources.", "version.")


def facts_of(node: Node) -> dict[str, Fact]:
    """Every fact of a node. O(size of its birth)."""
    found: dict[str, Fact] = {**{name: fact(node) for name, fact in _OF_NODE.items()}}
    if node.birth is not None:
        found |= facts_of_birth(node.birth)
    return found


def facts_of_birth(birth: Birth) -> dict[str, Fact]:
    """Those that a node says of itself."""
    found: dict[str, Fact] = {
        "type": birth.node_type,
        "site": birth.site,
        "platform": tuple(birth.platforms),
        "function": tuple(birth.functions),
        "camera": tuple(birth.cameras),
    }
    for name in ("lat", "lon"):
        if name in birth.location:
            found[name] = birth.location[name]
    for prefix, values in (
        ("label.", birth.labels),
        ("hardware.", birth.hardware),
        ("resources.", birth.resources),
        ("version.", birth.versions),
    ):
        for key, value in values.items():
            if (fact := fact_from(value)) is not None:
                found[prefix + key] = fact
    return found


_said = attrgetter(
    "node_type",
    "site",
    "platforms",
    "functions",
    "cameras",
    "location",
    "labels",
    "hardware",
    "resources",
    "versions",
)


def says_the_same(one: Birth | None, other: Birth | None) -> bool:
    """True when both lead to the same facts, whatever else is in them: a birth names its connection."""
    return one is other or (one is not None and other is not None and _said(one) == _said(other))


class LazyFacts(Mapping[str, Fact]):
    """The same facts, each made when it is asked for: selectors ask for few."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def __getitem__(self, name: str) -> Fact:
        found = self._find(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(facts_of(self._node))

    def __len__(self) -> int:
        return len(facts_of(self._node))

    def get(self, name: str, default: object = None) -> Fact | None:  # type: ignore[override]
        return self._find(name)

    def _find(self, name: str) -> Fact | None:
        node, birth = self._node, self._node.birth
        if name in _OF_NODE:
            return _OF_NODE[name](node)
        if birth is None:
            return None
        if name in _OF_BIRTH:
            return _OF_BIRTH[name](birth)
        prefix, _, key = name.partition(".")
        values = _TABLES[prefix](birth) if prefix in _TABLES else {}
        return fact_from(values[key]) if key in values else None


def getter(name: str) -> Callable[[Node], Fact | None]:
    """What reads one fact of many nodes."""
    if (of_node := _OF_NODE.get(name)) is not None:
        return of_node
    if (of_birth := _OF_BIRTH.get(name)) is not None:
        return lambda node: None if node.birth is None else of_birth(node.birth)
    prefix, _, key = name.partition(".")
    table = _TABLES.get(prefix)
    if table is None:
        return lambda node: None
    return lambda node: None if node.birth is None else fact_from(table(node.birth).get(key))


_PATHS: Mapping[str, tuple[str, ...]] = {
    "type": ("node_type",),
    "site": ("site",),
    "platform": ("platforms",),
    "function": ("functions",),
    "camera": ("cameras",),
    "lat": ("location", "lat"),
    "lon": ("location", "lon"),
}


def path_of(name: str) -> tuple[str, ...]:
    """Where a fact stands in a birth as JSON, such as (labels, line); empty for one that is not in it."""
    prefix, _, key = name.partition(".")
    table = {"label": "labels", "hardware": "hardware", "resources": "resources", "version": "versions"}.get(prefix)
    return _PATHS.get(name, ()) if table is None else (table, key)


def changed_facts(before: Facts, after: Facts) -> set[str]:
    """The names whose value is another now, or came, or went."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def fact_name(key: str) -> str:
    """What a selector's name means: anything that is not ours is a label."""
    return key if key in FIXED or key.startswith(PREFIXES) else f"label.{key}"


def fact_from(value: Any) -> Fact | None:
    """What stands in a birth, as a fact."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return float(value)
        case list() | tuple():
            return tuple(str(item) for item in value)
    return None
