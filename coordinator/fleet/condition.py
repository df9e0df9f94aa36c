"""How a node is doing, from its heartbeat: busy, failing, or fine. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from coordinator.fleet.node import Condition
from schemas.messages import Heartbeat

PROBLEM_CHARS_MAX = 200
# States of cameras and pipelines in which somebody or something has to act; one that only reconnects is none.
FAILING = frozenset({"auth_failed", "lost", "frozen", "failed"})


@dataclass(frozen=True, slots=True)
class ConditionRules:
    """Shares of all of a node's cores, used by the agent and its children."""

    busy_above: float = 0.85
    busy_below: float = 0.70  # a busy node is so until it is below this


def condition_of(
    beat: Heartbeat, resources: Mapping[str, float], before: Condition, rules: ConditionRules
) -> tuple[Condition, str]:
    """The condition, and what is failing. An error overrules that the node is busy."""
    failing = [
        f"{one.camera}: {one.state}{f', {one.error}' if one.error else ''}"
        for one in beat.streams
        if one.state in FAILING
    ]
    if failing:
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        return Condition.ERROR, f"{failing[0][: PROBLEM_CHARS_MAX - 20]}{more}"
    share = beat.cpu_percent / 100 / max(1.0, resources.get("cores", 1.0))
    bound = rules.busy_below if before is Condition.BUSY else rules.busy_above
    return (Condition.BUSY if share >= bound else Condition.FINE), ""
