"""The tables of workloads. A replica is placed, or taken away, in the transaction that also makes the next revision
of its node's desired document: killed at any point, none is placed twice and none is forgotten.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.documents.changes import Change, ChangeRefusedError
from coordinator.fleet.node import FleetEvent
from coordinator.rollout.state import NodeState
from coordinator.rollout.state import State as RolloutState
from coordinator.schedule.state import (
    Avoided,
    Drain,
    Kept,
    NodeChange,
    NotWritten,
    Phase,
    Placement,
    Said,
    Step,
    UpdateOver,
    Written,
)
from coordinator.schedule.workload import REASON_CHARS_MAX, declared, read_workload, spec_path
from coordinator.store import documents
from runtime.database import Database
from runtime.timeline import MachineTime
from schemas.documents import Desired
from schemas.errors import LocalWireError, RemoteWireError
from schemas.shape import ShapeError
from schemas.workloads import WorkloadReport, parse_report

SOURCE = "scheduler"
_STATE = ("workloads.", ".state")
_SPEC = ("workloads.", ".spec")

# Migration 0016.
SCHEMA = """
CREATE TABLE workloads (
    name TEXT PRIMARY KEY,
    document TEXT NOT NULL,                      -- JSON: as it is declared
    generation INTEGER NOT NULL,
    replicas INTEGER NOT NULL,                   -- wanted now; -1: on every node that is meant
    declared_utc_ms INTEGER NOT NULL,
    rollout TEXT NOT NULL DEFAULT '',            -- the last that brought a spec to its nodes
    updating INTEGER NOT NULL DEFAULT 0,
    other TEXT NOT NULL DEFAULT '',              -- JSON: while it is updated what it is to be, afterwards what it was
    other_generation INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    failed_utc_ms INTEGER NOT NULL DEFAULT 0,
    missing INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    scaled_utc_ms INTEGER NOT NULL DEFAULT 0,
    removed INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE placements (
    workload TEXT NOT NULL REFERENCES workloads (name) ON DELETE CASCADE,
    node TEXT NOT NULL,
    generation INTEGER NOT NULL,
    epoch INTEGER NOT NULL,                      -- of the document that told the node
    revision INTEGER NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT NOT NULL,
    restarts INTEGER NOT NULL,
    placed_utc_ms INTEGER NOT NULL,
    since_utc_ms INTEGER NOT NULL,
    leaving TEXT NOT NULL,
    home TEXT NOT NULL,
    PRIMARY KEY (workload, node)
);
CREATE INDEX placements_by_node ON placements (node);
CREATE TABLE drains (
    node TEXT PRIMARY KEY,
    since_utc_ms INTEGER NOT NULL,
    until_utc_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    source TEXT NOT NULL,
    moved INTEGER NOT NULL,
    done INTEGER NOT NULL
);
CREATE TABLE avoided (
    workload TEXT NOT NULL REFERENCES workloads (name) ON DELETE CASCADE,
    node TEXT NOT NULL,
    until_utc_ms INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    reason TEXT NOT NULL,
    PRIMARY KEY (workload, node)
);
CREATE TABLE schedule_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""
WORKLOAD_COLUMNS = (
    "name, document, generation, replicas, declared_utc_ms, rollout, updating, other, other_generation, failures,"
    " failed_utc_ms, missing, reason, scaled_utc_ms, removed"
)
_PLACEMENT = (
    "workload, node, generation, epoch, revision, phase, reason, restarts, placed_utc_ms, since_utc_ms, leaving, home"
)
DRAIN_COLUMNS = "node, since_utc_ms, until_utc_ms, reason, source, moved, done"
_AVOIDED = "workload, node, until_utc_ms, failures, reason"


def _upsert(table: str, columns: str, key: str) -> str:
    names = [name.strip() for name in columns.split(",")]
    marks = ", ".join("?" * len(names))
    rest = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key.split(", "))
    return f"INSERT INTO {table} ({columns}) VALUES ({marks}) ON CONFLICT ({key}) DO UPDATE SET {rest}"


_SAVE_WORKLOAD = _upsert("workloads", WORKLOAD_COLUMNS, "name")
_SAVE_PLACEMENT = _upsert("placements", _PLACEMENT, "workload, node")
_SAVE_DRAIN = _upsert("drains", DRAIN_COLUMNS, "node")
_SAVE_AVOIDED = _upsert("avoided", _AVOIDED, "workload, node")
_SAVE_META = _upsert("schedule_meta", "name, value", "name")
_TAKE = "DELETE FROM placements WHERE workload = ? AND node = ?"


@dataclass(slots=True)
class Loaded:
    """All that is kept. `unread`: workloads that this version cannot read, with the reason; they stay as they are."""

    kept: list[Kept] = field(default_factory=list)
    placements: list[Placement] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    avoided: list[Avoided] = field(default_factory=list)
    generations: int = 0
    unread: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Done:
    """What came of a step. `due`: the desired documents that are to be published, by node."""

    news: list[Written | NotWritten] = field(default_factory=list)
    due: dict[str, Desired] = field(default_factory=dict)
    events: list[FleetEvent] = field(default_factory=list)


# ---- reading -----------------------------------------------------------------------------------


def load(db: Database) -> Loaded:
    """All of it."""
    found = Loaded()
    for row in db.execute(f"SELECT {WORKLOAD_COLUMNS} FROM workloads"):
        try:
            found.kept.append(_kept(row))
        except (ShapeError, ValueError) as error:
            found.unread[row[0]] = str(error)
    rows = db.execute(f"SELECT {_PLACEMENT} FROM placements")
    found.placements = [one for row in rows if (one := _placement(row)).workload not in found.unread]
    found.drains = [_drain(row) for row in db.execute(f"SELECT {DRAIN_COLUMNS} FROM drains")]
    found.avoided = [Avoided(*row) for row in db.execute(f"SELECT {_AVOIDED} FROM avoided")]
    row = db.execute("SELECT value FROM schedule_meta WHERE name = 'generations'").fetchone()
    found.generations = 0 if row is None else row[0]
    return found


def last_words(db: Database, after: str, limit: int) -> list[Said]:
    """What the next so many nodes with replicas last reported: it may have come just before we were killed."""
    sql = """
        SELECT node, document FROM reported WHERE node > ? AND node IN (SELECT node FROM placements)
        ORDER BY node LIMIT ?
    """
    return [said_of(node, json.loads(text)) for node, text in db.execute(sql, (after, limit))]


def said_of(node: str, report: Mapping[str, Any]) -> Said:
    """Of a report what it says of workloads. A state that is none is passed over."""
    states: dict[str, WorkloadReport] = {}
    for path, value in report["fields"].items():
        if path.startswith(_STATE[0]) and path.endswith(_STATE[1]):
            try:
                states[path[len(_STATE[0]) : -len(_STATE[1])]] = parse_report(value)
            except ShapeError:
                continue
    refused = {
        path[len(_SPEC[0]) : -len(_SPEC[1])]: str(why)
        for path, why in report["refused"].items()
        if path.startswith(_SPEC[0]) and path.endswith(_SPEC[1])
    }
    return Said(node, report["epoch"], report["revision"], states, refused)


def update_over(db: Database, rollout: str) -> UpdateOver | None:
    """How the roll-out of a spec has ended; None while it has not. One that is forgotten was over long ago."""
    row = db.execute("SELECT number, state FROM rollouts WHERE id = ?", (rollout,)).fetchone()
    if row is None:
        return None
    number, state = row[0], RolloutState(row[1])
    if state not in (RolloutState.COMPLETED, RolloutState.ABORTED, RolloutState.ROLLED_BACK):
        return None
    rolled_back = state is RolloutState.ROLLED_BACK
    never = (NodeState.WAITING, NodeState.EXCLUDED, NodeState.ROLLED_BACK, NodeState.KEPT)
    sql = "SELECT node, state, epoch, revision FROM rollout_nodes WHERE rollout = ? AND revision > 0"
    reached = {
        node: (epoch, revision)
        for node, node_state, epoch, revision in db.execute(sql, (number,))
        if (node_state == NodeState.ROLLED_BACK if rolled_back else node_state not in never)
    }
    return UpdateOver(rollout, state is RolloutState.COMPLETED, rolled_back, reached)


def is_begun(db: Database, rollout: str) -> bool:
    """The roll-out is there."""
    return db.execute("SELECT 1 FROM rollouts WHERE id = ?", (rollout,)).fetchone() is not None


# ---- writing -----------------------------------------------------------------------------------


def carry_out(db: Database, step: Step, now: MachineTime) -> Done:
    """All of a step; what cannot be changed at a node stays as it was there, and the rest goes on."""
    done = Done()
    now_ms = documents.utc_ms(db, now)
    if step.generations is not None:
        db.execute(_SAVE_META, ("generations", step.generations))
    db.executemany(_SAVE_WORKLOAD, [_workload_row(one) for one in step.workloads.values()])
    for change in step.nodes.values():
        _change(db, change, now, now_ms, done)
    db.executemany(_SAVE_PLACEMENT, [_placement_row(one) for one in step.placements.values()])
    db.executemany(_SAVE_AVOIDED, [_avoided_row(one) for one in step.avoided.values()])
    db.executemany("DELETE FROM avoided WHERE workload = ? AND node = ?", step.forgiven)
    db.executemany("DELETE FROM drains WHERE node = ?", [(node,) for node in step.undrained])
    db.executemany(_SAVE_DRAIN, [_drain_row(one) for one in step.drains.values()])
    db.executemany("DELETE FROM workloads WHERE name = ?", [(name,) for name in step.forgotten])
    done.events += [FleetEvent(kind, _subject(data), data, now_ms) for kind, data in step.events]
    return done


def _change(db: Database, change: NodeChange, now: MachineTime, now_ms: int, done: Done) -> None:
    """One node's document and its rows, or neither."""
    node, taken = change.node, [(name, change.node) for name in change.taken]
    if change.is_gone:
        db.executemany(_TAKE, taken)
        return
    asked = {spec_path(name): spec for name, spec in change.specs.items()}
    gone = tuple(spec_path(name) for name in change.taken if name not in change.specs)
    try:
        changed = documents.change(db, node, Change(asked, gone, source=_source(change)), now)
    except (ChangeRefusedError, LocalWireError, RemoteWireError) as error:
        done.news.append(NotWritten(node, str(error)[:REASON_CHARS_MAX]))
        return
    if changed.fields:
        done.due[node] = changed.desired
    epoch, revision = changed.desired.version
    db.executemany(_TAKE, taken)
    placed = [replace(one, epoch=epoch, revision=revision) for one in change.placed.values()]
    db.executemany(_SAVE_PLACEMENT, [_placement_row(one) for one in placed])
    done.news.append(Written(node, epoch, revision))
    done.events += [FleetEvent(kind, _subject(data), data, now_ms) for kind, data in change.events]


def _source(change: NodeChange) -> str:
    """For the history of the document."""
    said = [f"{name} placed" for name in change.specs] + [f"{name}: {why}" for name, why in change.why.items()]
    return f"{SOURCE}: {', '.join(said)}"[:200]


def _subject(data: Mapping[str, Any]) -> str:
    return str(data.get("workload") or data["node"])


# ---- rows --------------------------------------------------------------------------------------


def _kept(row: Any) -> Kept:
    (_, document, generation, replicas, declared_ms, rollout, updating, other, other_generation, failures, failed_ms,
     missing, reason, scaled_ms, removed) = row  # fmt: skip
    return Kept(
        read_workload(json.loads(document)), generation, replicas, declared_ms, rollout, bool(updating),
        read_workload(json.loads(other)) if other else None, other_generation, failures, failed_ms, missing, reason,
        scaled_ms, bool(removed),
    )  # fmt: skip


def _workload_row(one: Kept) -> tuple[Any, ...]:
    other = "" if one.other is None else json.dumps(declared(one.other), ensure_ascii=False)
    return (
        one.name, json.dumps(declared(one.workload), ensure_ascii=False), one.generation, one.replicas,
        one.declared_utc_ms, one.rollout, int(one.updating), other, one.other_generation, one.failures,
        one.failed_utc_ms, one.missing, one.reason, one.scaled_utc_ms, int(one.removed),
    )  # fmt: skip


def _placement(row: Any) -> Placement:
    workload, node, generation, epoch, revision, phase, *rest = row
    return Placement(workload, node, generation, epoch, revision, Phase(phase), *rest)


def _placement_row(one: Placement) -> tuple[Any, ...]:
    return (
        one.workload, one.node, one.generation, one.epoch, one.revision, one.phase.value, one.reason, one.restarts,
        one.placed_utc_ms, one.since_utc_ms, one.leaving, one.home,
    )  # fmt: skip


def _drain(row: Any) -> Drain:
    node, since, until, reason, source, moved, is_done = row
    return Drain(node, since, until, reason, source, moved, bool(is_done))


def _drain_row(one: Drain) -> tuple[Any, ...]:
    return one.node, one.since_utc_ms, one.until_utc_ms, one.reason, one.source, one.moved, int(one.done)


def _avoided_row(one: Avoided) -> tuple[Any, ...]:
    return one.workload, one.node, one.until_utc_ms, one.failures, one.reason
