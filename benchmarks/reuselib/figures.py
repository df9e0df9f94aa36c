"""The share of what can be reached that ran in both processes. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.reuselib.reach import Unit

Lines = Mapping[Path, set[int]]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One code line: a statement from its first line to the last one of its head."""

    file: Path
    first: int
    last: int

    def ran(self, lines: Lines) -> bool:
        return not lines.get(self.file, set()).isdisjoint(range(self.first, self.last + 1))


Places = frozenset[Place]


@dataclass(frozen=True, slots=True)
class Share:
    """Code lines. `missed` are those that did not run in both, as `file:line (agent)` where only one ran them."""

    reachable: int = 0
    agent: int = 0
    coordinator: int = 0
    both: int = 0
    missed: Sequence[str] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return round(self.both / self.reachable, 4) if self.reachable else 0.0


def places(units: Iterable[Unit]) -> Places:
    """Each line once, however many ways lead to it."""
    return frozenset(Place(unit.file, first, last) for unit in units for first, last in unit.lines)


def share(reachable: Places, agent: Lines, coordinator: Lines, root: Path = Path("/")) -> Share:
    """`root` shortens the names of files."""
    at_edge = {place for place in reachable if place.ran(agent)}
    in_cloud = {place for place in reachable if place.ran(coordinator)}
    both = at_edge & in_cloud
    missed = [
        f"{one.file.relative_to(root) if one.file.is_relative_to(root) else one.file}:{one.first}"
        + (" (agent)" if one in at_edge else " (coordinator)" if one in in_cloud else "")
        for one in sorted(reachable - both)
    ]
    return Share(len(reachable), len(at_edge), len(in_cloud), len(both), missed)
