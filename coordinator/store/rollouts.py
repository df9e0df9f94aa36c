"""The tables of roll-outs. A node is told, or put back, in the transaction that also writes down that it was.

So a kill at any point leaves each node either told, with what it had before at hand, or not told.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coordinator.fleet.registry import FleetEvent
from coordinator.rollout.plan import Plan
from coordinator.rollout.state import (
    OVER,
    NodeRun,
    NodeState,
    Reported,
    Run,
    State,
    Step,
)
from coordinator.store import documents
from coordinator.store.rollout_telling import Done as Done
from coordinator.store.rollout_telling import Kept as Kept
from coordinator.store.rollout_telling import plan_of, restore, said_by, tell
from runtime.database import Database, execute_rows
from runtime.timeline import MachineTime
from schemas.documents import canonical
from schemas.shape import fields_of

HISTORY_MAX = 100  # roll-outs that are over or completed; the oldest beyond are forgotten, with their nodes

# Migration 0011.
SCHEMA = """
CREATE TABLE rollouts (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- order of their beginning
    id TEXT NOT NULL UNIQUE,
    plan TEXT NOT NULL,
    state TEXT NOT NULL,
    wave INTEGER NOT NULL,
    since_utc_ms INTEGER NOT NULL,
    reason TEXT NOT NULL,
    forgiven INTEGER NOT NULL,
    forgiven_of INTEGER NOT NULL,
    started_utc_ms INTEGER NOT NULL
);
CREATE TABLE rollout_nodes (
    rollout INTEGER NOT NULL REFERENCES rollouts (number) ON DELETE CASCADE,
    node TEXT NOT NULL,
    state TEXT NOT NULL,
    wave INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    revision INTEGER NOT NULL DEFAULT 0,
    hash TEXT NOT NULL DEFAULT '',
    changed INTEGER NOT NULL DEFAULT 0,
    at_utc_ms INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    former TEXT NOT NULL DEFAULT '{}',   -- JSON: by field what is to be put back
    written TEXT NOT NULL DEFAULT '{}',  -- JSON: by field the value and the stamp that was written
    PRIMARY KEY (rollout, node)
) WITHOUT ROWID;
CREATE INDEX rollout_nodes_by_node ON rollout_nodes (node);
"""
# Migration 0014: what is fetched first, and fields that differ by node.
STEPS_SCHEMA = """
ALTER TABLE rollouts ADD COLUMN forgiven_fetches INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rollout_nodes ADD COLUMN told INTEGER NOT NULL DEFAULT 0;     -- of the change itself
ALTER TABLE rollout_nodes ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;  -- it says that it still works on a field
ALTER TABLE rollout_nodes ADD COLUMN own TEXT NOT NULL DEFAULT '{}';      -- JSON: its fields beside those of the plan
ALTER TABLE rollout_nodes ADD COLUMN p99_ms TEXT NOT NULL DEFAULT '{}';   -- JSON: by pipeline before it was told
UPDATE rollout_nodes SET told = 1 WHERE state NOT IN ('waiting', 'excluded');
"""
_SAVE_NODE = """
INSERT INTO rollout_nodes (rollout, node, state, wave, epoch, revision, hash, changed, at_utc_ms, reason, told,
    pending, own)
VALUES {rows}
ON CONFLICT (rollout, node) DO UPDATE SET state = excluded.state, wave = excluded.wave, epoch = excluded.epoch,
    revision = excluded.revision, hash = excluded.hash, changed = excluded.changed, at_utc_ms = excluded.at_utc_ms,
    reason = excluded.reason, told = excluded.told, pending = excluded.pending
"""
_OLD_HISTORY = """
DELETE FROM rollouts WHERE number IN (
    SELECT number FROM rollouts WHERE state IN (?, ?, ?) ORDER BY number DESC LIMIT 1000000000 OFFSET ?)
"""
_NODE_COLUMNS = "node, state, wave, epoch, revision, hash, changed, at_utc_ms, reason, told, pending, own, p99_ms"


_NOTHING: Mapping[str, Any] = {}


class IdTakenError(Exception):
    """There is a roll-out of this id."""


def begin(
    db: Database,
    plan: Plan,
    nodes: Iterable[str],
    now_utc_ms: int,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    excluded: Mapping[str, str] | None = None,
) -> Kept:
    """A new roll-out to these nodes; `own`: fields of a node beside those of the plan, `excluded`: why it takes no
    part. Raises IdTakenError."""
    own, excluded = own or {}, excluded or {}
    run = Run(since_utc_ms=now_utc_ms)
    if plan.id:
        _check_free(db, plan.id)
    ((number,),) = db.execute(
        "INSERT INTO rollouts (id, plan, state, wave, since_utc_ms, reason, forgiven, forgiven_of, started_utc_ms)"
        " VALUES ('', ?, ?, 0, ?, '', 0, 0, ?) RETURNING number",
        (json.dumps(fields_of(plan), ensure_ascii=False), run.state, now_utc_ms, now_utc_ms),
    ).fetchall()
    key = plan.id or f"r-{number}"
    _check_free(db, key)
    db.execute("UPDATE rollouts SET id = ? WHERE number = ?", (key, number))
    runs = [NodeRun(name, own=own.get(name, _NOTHING)) for name in nodes if name not in excluded]
    runs += [NodeRun(name, NodeState.EXCLUDED, reason=reason) for name, reason in excluded.items()]
    _save_nodes(db, number, runs)
    db.execute(_OLD_HISTORY, (*sorted(OVER), State.COMPLETED, HISTORY_MAX))
    return Kept(number, key, plan, run, runs)


def _check_free(db: Database, key: str) -> None:
    if db.execute("SELECT 1 FROM rollouts WHERE id = ?", (key,)).fetchone():
        raise IdTakenError(f"there is a roll-out {key} already")


def load(db: Database, key: str = "") -> list[Kept]:
    """The one of this id; without one, all that are not over."""
    where, values = ("id = ?", (key,)) if key else ("state NOT IN (?, ?)", tuple(sorted(OVER)))
    columns = "number, id, plan, state, wave, since_utc_ms, reason, forgiven, forgiven_of, forgiven_fetches"
    found = []
    for number, name, plan, state, *run in db.execute(f"SELECT {columns} FROM rollouts WHERE {where}", values):
        rows = db.execute(f"SELECT {_NODE_COLUMNS} FROM rollout_nodes WHERE rollout = ?", (number,))
        texts: dict[str, Mapping[str, Any]] = {"{}": _NOTHING}  # most nodes have the same: it is held once
        nodes = [_node(row, texts) for row in rows]
        found.append(Kept(number, name, plan_of(plan), Run(State(state), *run), nodes))
    return sorted(found, key=lambda one: one.number)


def last_words(db: Database, nodes: Iterable[str]) -> list[Reported]:
    """What these nodes last reported: it may have come just before we were killed."""
    return [said_by(db, node) for node in nodes]


def carry_out(db: Database, kept: Kept, step: Step, now: MachineTime) -> Done:
    """All of a step."""
    done = Done()
    if db.execute("SELECT 1 FROM rollouts WHERE number = ?", (kept.number,)).fetchone() is None:
        done.forgotten = True
        return done
    now_ms = documents.utc_ms(db, now)
    _save_nodes(db, kept.number, step.nodes.values())
    if (run := step.run) is not None:
        db.execute(
            "UPDATE rollouts SET state = ?, wave = ?, since_utc_ms = ?, reason = ?, forgiven = ?, forgiven_of = ?,"
            " forgiven_fetches = ? WHERE number = ?",
            (run.state, run.wave, run.since_utc_ms, run.reason, run.forgiven, run.forgiven_of, run.forgiven_fetches,
             kept.number),
        )  # fmt: skip
    if step.fetch or step.tell:
        tell(db, kept, step, now, done)
    if step.restore:
        restore(db, kept, step.restore, now, done)
    done.events = [FleetEvent(kind, kept.id, data, now_ms) for kind, data in step.events]
    return done


# ---- rows -------------------------------------------------------------------------------------


def _save_nodes(db: Database, number: int, nodes: Iterable[NodeRun]) -> None:
    execute_rows(
        db,
        _SAVE_NODE,
        [
            (number, one.name, one.state, one.wave, one.epoch, one.revision, one.hash, one.changed, one.at_utc_ms,
             one.reason, one.told, one.pending, canonical(one.own) if one.own else "{}")
            for one in nodes
        ],
    )  # fmt: skip


def _node(row: Any, texts: dict[str, Mapping[str, Any]]) -> NodeRun:
    name, state, wave, epoch, revision, digest, changed, at_utc_ms, reason, told, pending, own, p99_ms = row
    node = NodeRun(name, NodeState(state), wave, epoch, revision, digest, bool(changed), at_utc_ms, reason)
    for text in (own, p99_ms):
        if text not in texts:
            texts[text] = json.loads(text)
    return replace(node, told=bool(told), pending=bool(pending), own=texts[own], p99_ms=texts[p99_ms])


# ---- for people --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A roll-out and how far it is. `nodes`: by state how many; `told`: those that were told the change itself."""

    id: str
    state: str
    wave: int  # counts from 1
    waves: int
    reason: str
    started_utc_ms: int
    since_utc_ms: int
    nodes: dict[str, int]
    plan: dict[str, Any]
    told: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RolloutNodeView:
    """A node of a roll-out."""

    node: str
    state: str
    wave: int  # counts from 1
    revision: int
    at_utc_ms: int
    reason: str


def views(db: Database, key: str = "") -> list[RolloutView]:
    """All that are remembered, oldest first; or the one of this id."""
    sql = """
        SELECT number, id, state, wave, reason, started_utc_ms, since_utc_ms, plan FROM rollouts
        WHERE ?1 = '' OR id = ?1 ORDER BY number
    """
    counted = "SELECT state, told, count(*) FROM rollout_nodes WHERE rollout = ? GROUP BY state, told ORDER BY state"
    found = []
    for number, name, state, wave, reason, started, since, text in db.execute(sql, (key,)).fetchall():
        counts, told = Counter[str](), dict[str, int]()
        for node_state, is_told, count in db.execute(counted, (number,)).fetchall():
            counts[node_state] += count
            if is_told:
                told[node_state] = count
        plan = json.loads(text)
        waves = len(plan["waves"])
        found.append(RolloutView(name, state, wave + 1, waves, reason, started, since, dict(counts), plan, told))
    return found


def node_views(db: Database, key: str, state: str, limit: int) -> list[RolloutNodeView]:
    """Its nodes by name; those in this state where one is given."""
    sql = """
        SELECT node, n.state, n.wave + 1, revision, at_utc_ms, n.reason FROM rollout_nodes n
        JOIN rollouts r ON r.number = n.rollout
        WHERE r.id = ?1 AND (?2 = '' OR n.state = ?2) ORDER BY node LIMIT ?3
    """
    return [RolloutNodeView(*row) for row in db.execute(sql, (key, state, limit))]
