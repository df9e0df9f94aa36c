"""What is known of a node, flat: the names that selectors ask for. Pure.

name, type, site, state, boot        as registered, and the state that the coordinator sees
<label>, label.<label>               labels; the short form where no other name is the same
hardware.<key>                       arch (x86_64, arm64), cpu, …; hardware.accelerators is a list
resources.<key>                      cores, memory_mb, storage_mb, gpu, npu
version.<what>                       version.agent, version.python, …
platform, function, camera           lists
lat, lon                             degrees, where the node says where it is
"""

from collections.abc import Mapping
from typing import Any

from coordinator.fleet.registry import Node
from schemas.messages import Birth

Fact = str | float | tuple[str, ...]
Facts = Mapping[str, Fact]

FIXED = frozenset({"name", "type", "site", "state", "boot", "platform", "function", "camera", "lat", "lon"})
PREFIXES = ("label.", "hardware.", "resources.", "version.")


def facts_of(node: Node) -> dict[str, Fact]:
    """Every fact of a node. O(size of its birth)."""
    found: dict[str, Fact] = {"name": node.name, "state": node.state.value, "boot": float(node.boot)}
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
            if (fact := _fact(value)) is not None:
                found[prefix + key] = fact
    return found


def changed_facts(before: Facts, after: Facts) -> set[str]:
    """The names whose value is another now, or came, or went."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def fact_name(key: str) -> str:
    """What a selector's name means: anything that is not ours is a label."""
    return key if key in FIXED or key.startswith(PREFIXES) else f"label.{key}"


def _fact(value: Any) -> Fact | None:
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
