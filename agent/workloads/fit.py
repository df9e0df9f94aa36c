"""Which workloads there is room for. Pure."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from schemas.workloads import WorkloadSpec

# The names of a node's resources, as its birth has them, and the fields of ResourceRequirements.
NEEDS = {
    "cores": "cpu_cores",
    "memory_mb": "memory_mb",
    "storage_mb": "storage_mb",
    "gpu": "gpu_count",
    "npu": "npu_count",
}
_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Room:
    """What there is for workloads: `free` by resource, without what the configuration takes; and how many of them."""

    free: Mapping[str, float]
    accelerators: AbstractSet[str] = frozenset()
    workloads_max: int = 16


def needs(spec: WorkloadSpec) -> dict[str, float]:
    """What it reserves, by the names of a birth; without what it does not ask for."""
    found = {name: float(getattr(spec.resources, field)) for name, field in NEEDS.items()}
    return {name: amount for name, amount in found.items() if amount}


def allocated(specs: Mapping[str, WorkloadSpec]) -> dict[str, float]:
    """What they reserve together."""
    total: dict[str, float] = {}
    for spec in specs.values():
        for name, amount in needs(spec).items():
            total[name] = total.get(name, 0.0) + amount
    return total


def too_much(specs: Mapping[str, WorkloadSpec], room: Room, active: AbstractSet[str]) -> dict[str, str]:
    """Those that there is no room for, with what is missing.

    The more urgent goes first; among equals what is `active` already, then by name.
    """
    left = dict(room.free)
    refused: dict[str, str] = {}
    taken = 0
    for name in sorted(specs, key=lambda name: (-specs[name].priority, name not in active, name)):
        spec = specs[name]
        missing = _missing(spec, left, room)
        if taken >= room.workloads_max:
            missing.insert(0, f"this node runs {room.workloads_max} workloads at most")
        if missing:
            refused[name] = "no room: " + "; ".join(missing)
            continue
        taken += 1
        for resource, amount in needs(spec).items():
            left[resource] = left.get(resource, 0.0) - amount
    return refused


def _missing(spec: WorkloadSpec, left: Mapping[str, float], room: Room) -> list[str]:
    found = [
        f"{name}: needs {amount:g}, {max(0.0, left.get(name, 0.0)):g} of {room.free.get(name, 0.0):g} free"
        for name, amount in needs(spec).items()
        if amount > left.get(name, 0.0) + _ROUNDING
    ]
    return found + [f"there is no {one} here" for one in spec.resources.accelerators if one not in room.accelerators]
