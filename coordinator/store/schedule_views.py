"""Workloads as people see them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.schedule.state import Phase
from coordinator.store.schedule import DRAIN_COLUMNS, WORKLOAD_COLUMNS
from runtime.database import Database


@dataclass(frozen=True, slots=True)
class WorkloadView:
    """A workload and how it stands. `placed`: its replicas by phase, and those that are `leaving`."""

    name: str
    type: str
    generation: int
    replicas: int  # -1: on every node that is meant
    placed: dict[str, int]
    missing: int
    reason: str
    state: str  # as Deployment_State of core.edge
    rollout: str
    updating: bool
    removed: bool
    declared_utc_ms: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class PlacementView:
    """A replica. `node_state`: as operators see the node; empty where it is not registered."""

    workload: str
    node: str
    node_state: str
    phase: str
    generation: int
    restarts: int
    placed_utc_ms: int
    since_utc_ms: int
    reason: str
    leaving: str


@dataclass(frozen=True, slots=True)
class DrainView:
    """A node that is drained; `left`: replicas that are there."""

    node: str
    since_utc_ms: int
    until_utc_ms: int
    reason: str
    source: str
    moved: int
    done: bool
    left: int


def views(db: Database, name: str = "") -> list[WorkloadView]:
    """All by name, or the one of this name."""
    sql = f"SELECT {WORKLOAD_COLUMNS} FROM workloads WHERE ? = '' OR name = ? ORDER BY name"
    counted = """
        SELECT CASE WHEN leaving = '' THEN phase ELSE 'leaving' END, count(*) FROM placements WHERE workload = ?
        GROUP BY 1 ORDER BY 1
    """
    found = []
    for row in db.execute(sql, (name, name)).fetchall():
        key, text, generation, replicas, declared_ms, rollout, updating, _, _, _, _, missing, reason, _, removed = row
        placed = {str(phase): count for phase, count in db.execute(counted, (key,)).fetchall()}
        document = json.loads(text)
        state = _state(placed, missing, replicas)
        how = (placed, missing, reason, state, rollout, bool(updating), bool(removed), declared_ms, document)
        found.append(WorkloadView(key, document["type"], generation, replicas, *how))
    return found


def placement_views(db: Database, name: str, limit: int) -> list[PlacementView]:
    """Of a workload, by node."""
    sql = """
        SELECT p.workload, p.node, coalesce(n.shown, ''), p.phase, p.generation, p.restarts, p.placed_utc_ms,
            p.since_utc_ms, p.reason, p.leaving
        FROM placements p LEFT JOIN nodes n ON n.node = p.node WHERE p.workload = ? ORDER BY p.node LIMIT ?
    """
    return [PlacementView(*row) for row in db.execute(sql, (name, limit))]


def drain_views(db: Database) -> list[DrainView]:
    """Nodes that are drained."""
    left = "SELECT count(*) FROM placements p WHERE p.node = d.node"
    sql = f"SELECT {DRAIN_COLUMNS}, ({left}) FROM drains d ORDER BY node"
    return [
        DrainView(node, since, until, reason, source, moved, bool(is_done), there)
        for node, since, until, reason, source, moved, is_done, there in db.execute(sql)
    ]


def _state(placed: Mapping[str, int], missing: int, replicas: int) -> str:
    """The worst of it: what has no place, what failed, what is on its way."""
    if missing:
        return "pending"
    for phase in (Phase.FAILED, Phase.DEPLOYING, Phase.RUNNING, Phase.STOPPED):
        if placed.get(phase):
            return phase.value
    return Phase.STOPPED.value if replicas == 0 else "pending"
