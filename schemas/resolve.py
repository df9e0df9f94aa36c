"""What holds where coordinator and node may both write a field. Pure, and the same at both sides.

Each side writes its own register of a shared field, with a stamp and with the other side's write that it knew. So
"later" means "knew of the other": no clock has a say in that. Only two writes that did not know of each other are
put in order by their stamps. `merge` joins what two places know, in whatever order and however often it is told;
`resolve` then says what holds, which each place finds alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from schemas.documents import Conflict, Desired, Write, canonical
from schemas.fields import Owner, Rule, mistake, rule_of


class Side(StrEnum):
    """Whose write holds."""

    COORDINATOR = "coordinator"
    NODE = "node"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Known:
    """What a place knows of one node: the newest desired document, and the node's own writes."""

    desired: Desired = Desired()
    local: Mapping[str, Write] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What holds for one field, and whose write it is."""

    value: Any
    winner: Side


@dataclass(frozen=True, slots=True)
class Resolution:
    """What holds for every field that somebody wrote, the conflicts behind it, and what nobody may write so."""

    outcomes: dict[str, Outcome]
    conflicts: list[Conflict]
    refused: dict[str, str]  # path: why its value counts for nothing

    @property
    def values(self) -> dict[str, Any]:
        return {path: outcome.value for path, outcome in self.outcomes.items()}


def merge(a: Known, b: Known) -> Known:
    """What is known to both together: commutative, associative, idempotent."""
    desired = max(a.desired, b.desired, key=lambda one: (one.version, one.hash, canonical(one)))
    local = dict(a.local)
    for path, write in b.local.items():
        local[path] = max(local.get(path, write), write, key=_order)
    return Known(desired, local)


def _order(write: Write) -> tuple[Any, ...]:
    """By stamp. Two writes of one stamp come only from a copied file; then too everybody takes the same one."""
    return write.at, write.over, canonical(write.value)


def resolve(known: Known) -> Resolution:
    """What holds now. What is no value of its field, or not its writer's to write, counts as not written."""
    written, local = known.desired.fields, {path: write.value for path, write in known.local.items()}
    ours, theirs = _mistakes(written, Owner.COORDINATOR), _mistakes(local, Owner.NODE)
    shared = {path: write for path, write in known.desired.writes().items() if path not in ours}
    edge = {path: write for path, write in known.local.items() if path not in theirs}
    outcomes: dict[str, Outcome] = {}
    conflicts = []
    for path in sorted({*written, *edge}):
        rule = rule_of(path)
        if rule is None:
            if path not in ours and written[path] is not None:
                outcomes[path] = Outcome(written[path], Side.COORDINATOR)
            continue
        outcome, conflict = settle(path, rule, shared.get(path), edge.get(path))
        if outcome is not None:
            outcomes[path] = outcome
        if conflict is not None:
            conflicts.append(conflict)
    return Resolution(outcomes, conflicts, {**theirs, **ours})


def _mistakes(values: Mapping[str, Any], writer: Owner) -> dict[str, str]:
    return {path: text for path, value in values.items() if (text := mistake(path, value, writer))}


def settle(path: str, rule: Rule, cloud: Write | None, edge: Write | None) -> tuple[Outcome | None, Conflict | None]:
    """What holds for a shared field (None: nobody says anything), and the conflict where a write came to nothing."""
    if cloud is None or edge is None:
        only, side = (cloud, Side.COORDINATOR) if cloud else (edge, Side.NODE)
        return (None if only is None or only.value is None else Outcome(only.value, side)), None
    later, knew = _later(cloud, edge)
    outcome = _outcome(rule, cloud, edge, later)
    alike = canonical(cloud.value) == canonical(edge.value)
    one_silent = rule is not Rule.LAST_WRITER and (cloud.value is None or edge.value is None)
    overruled = outcome is not None and outcome.winner not in (later, Side.BOTH)
    if alike or one_silent or (knew and not overruled):
        return outcome, None
    value, winner = (outcome.value, outcome.winner) if outcome else (None, later)
    conflict = Conflict(path, rule, cloud.value, str(cloud.at), edge.value, str(edge.at), value, winner.value)
    return outcome, conflict


def _later(cloud: Write, edge: Write) -> tuple[Side, bool]:
    """Whose write is the later one, and whether that is known: it was made with knowledge of the other."""
    cloud_knew, edge_knew = cloud.over >= edge.at, edge.over >= cloud.at
    if cloud_knew != edge_knew:
        return (Side.COORDINATOR if cloud_knew else Side.NODE), True
    return (Side.COORDINATOR if cloud.at >= edge.at else Side.NODE), False


def _outcome(rule: Rule, cloud: Write, edge: Write, later: Side) -> Outcome | None:
    ours, theirs = Outcome(cloud.value, Side.COORDINATOR), Outcome(edge.value, Side.NODE)
    if rule is Rule.LAST_WRITER:
        last = ours if later is Side.COORDINATOR else theirs
        return None if last.value is None else last
    if cloud.value is None or edge.value is None:
        only = theirs if cloud.value is None else ours
        return None if only.value is None else only
    match rule:
        case Rule.EDGE_WINS:
            return theirs
        case Rule.CLOUD_WINS:
            return ours
        case Rule.MAX:
            return ours if cloud.value >= edge.value else theirs
        case Rule.UNION:
            return Outcome(sorted({*cloud.value, *edge.value}), Side.BOTH)
