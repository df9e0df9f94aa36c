"""The fields that a roll-out wants of a node, and what the node says of them. Pure."""

from collections.abc import Collection, Mapping
from typing import Any

from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.state import NodeRun
from schemas.documents import PATH_CHARS_MAX, canonical
from schemas.fields import Rule, rule_of


def wanted_of(plan: Plan, node: NodeRun) -> Mapping[str, Any]:
    """What the node is to hold now, by field; before its turn only what it fetches."""
    if not node.told:
        return plan.prefetch
    if not node.own and not plan.prefetch:
        return plan.set
    own = {path: value for path, value in node.own.items() if value is not None}
    return {**plan.set, **plan.prefetch, **own}


def paths_of(plan: Plan, node: NodeRun) -> Collection[str]:
    """The fields that were written of it so far."""
    if not node.told:
        return plan.prefetch.keys()
    return plan.paths | node.own.keys() if node.own else plan.paths


def refusal(paths: Collection[str], refused: Mapping[str, str]) -> str:
    """Why a node could not apply some field of ours; "" where it refused none of them."""
    said = [f"{path}: {refused[path]}" for path in sorted(paths) if path in refused] if refused else []
    return ("refused " + "; ".join(said))[:REASON_CHARS_MAX] if said else ""


def still_working(paths: Collection[str], pending: Mapping[str, str]) -> str:
    """How far a node is with the first of our fields that it neither holds nor refuses yet; "" for none."""
    said = next((pending[path] or path for path in sorted(paths) if path in pending), "") if pending else ""
    return said[:REASON_CHARS_MAX]


def missing(wanted_by_path: Mapping[str, Any], holds: Mapping[str, Any]) -> str:
    """Which field does not hold at a node as it was set, by the rule of the field; "" where all do.

    A node leaves a value out of its report where it is long: what is neither told nor refused holds.
    """
    for path, wanted in wanted_by_path.items():
        if path in holds and not _covers(rule_of(path), holds[path], wanted):
            text = f"{path} holds {canonical(holds[path])[:60]}, not {canonical(wanted)[:60]}"
            return text[:REASON_CHARS_MAX]
    return ""


def _covers(rule: Rule | None, found: Any, wanted: Any) -> bool:
    match rule:
        case Rule.MAX:
            return isinstance(found, int | float) and found >= wanted
        case Rule.UNION:
            return isinstance(found, list) and set(wanted) <= set(found)
    return found is not None and canonical(_plain(found)) == canonical(_plain(wanted))


def _plain(value: Any) -> Any:
    """Whole numbers as such, however they are written: 5 and 5.0 are the same setting."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


assert PATH_CHARS_MAX < REASON_CHARS_MAX  # so that a reason names its field
