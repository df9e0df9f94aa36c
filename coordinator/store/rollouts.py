"""The tables of roll-outs. A node is told, or put back, in the transaction that also writes down that it was.

So a kill at any point leaves each node either told, with what it had before at hand, or not told.
"""

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from coordinator.documents.changes import Change, ChangeRefusedError
from coordinator.fleet.registry import FleetEvent
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.state import (
    OVER,
    News,
    NodeRun,
    NodeState,
    NotTold,
    Reported,
    Restored,
    Run,
    State,
    Step,
    Told,
)
from coordinator.store import documents
from runtime.timeline import MachineTime
from schemas.documents import Desired, canonical
from schemas.errors import LocalWireError, RemoteWireError
from schemas.fields import Rule, rule_of
from schemas.resolve import Known, resolve
from schemas.shape import fields_of, read

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
_SAVE_NODE = """
INSERT INTO rollout_nodes (rollout, node, state, wave, epoch, revision, hash, changed, at_utc_ms, reason)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET state = excluded.state, wave = excluded.wave, epoch = excluded.epoch,
    revision = excluded.revision, hash = excluded.hash, changed = excluded.changed, at_utc_ms = excluded.at_utc_ms,
    reason = excluded.reason
"""
_OLD_HISTORY = """
DELETE FROM rollouts WHERE number IN (
    SELECT number FROM rollouts WHERE state IN (?, ?, ?) ORDER BY number DESC LIMIT -1 OFFSET ?)
"""
_NODE_COLUMNS = "node, state, wave, epoch, revision, hash, changed, at_utc_ms, reason"


class IdTakenError(Exception):
    """There is a roll-out of this id."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A roll-out as it is kept."""

    number: int
    id: str
    plan: Plan
    run: Run
    nodes: list[NodeRun] = field(repr=False)


@dataclass(slots=True)
class Done:
    """What came of a step. `due`: the desired documents that are to be published, by node."""

    news: list[News] = field(default_factory=list)
    due: dict[str, Desired] = field(default_factory=dict)
    events: list[FleetEvent] = field(default_factory=list)
    forgotten: bool = False  # there is no such roll-out any more, and nothing was done


def begin(db: sqlite3.Connection, plan: Plan, nodes: Iterable[str], now_utc_ms: int) -> Kept:
    """A new roll-out to these nodes. Raises IdTakenError."""
    run = Run(since_utc_ms=now_utc_ms)
    (last,) = db.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'rollouts'").fetchone()
    key = plan.id or f"r-{last + 1}"
    if db.execute("SELECT 1 FROM rollouts WHERE id = ?", (key,)).fetchone():
        raise IdTakenError(f"there is a roll-out {key} already")
    number = db.execute(
        "INSERT INTO rollouts (id, plan, state, wave, since_utc_ms, reason, forgiven, forgiven_of, started_utc_ms)"
        " VALUES (?, ?, ?, 0, ?, '', 0, 0, ?)",
        (key, json.dumps(fields_of(plan), ensure_ascii=False), run.state, now_utc_ms, now_utc_ms),
    ).lastrowid
    assert number is not None
    runs = [NodeRun(name) for name in nodes]
    _save_nodes(db, number, runs)
    db.execute(_OLD_HISTORY, (*sorted(OVER), State.COMPLETED, HISTORY_MAX))
    return Kept(number, key, plan, run, runs)


def load(db: sqlite3.Connection, key: str = "") -> list[Kept]:
    """The one of this id; without one, all that are not over."""
    where, values = ("id = ?", (key,)) if key else ("state NOT IN (?, ?)", tuple(sorted(OVER)))
    columns = "number, id, plan, state, wave, since_utc_ms, reason, forgiven, forgiven_of"
    found = []
    for number, name, plan, state, *run in db.execute(f"SELECT {columns} FROM rollouts WHERE {where}", values):
        rows = db.execute(f"SELECT {_NODE_COLUMNS} FROM rollout_nodes WHERE rollout = ?", (number,))
        nodes = [_node(row) for row in rows]
        found.append(Kept(number, name, _plan(plan), Run(State(state), *run), nodes))
    return sorted(found, key=lambda one: one.number)


def last_words(db: sqlite3.Connection, nodes: Iterable[str]) -> list[Reported]:
    """What these nodes last reported: it may have come just before we were killed."""
    return [_said(db, node) for node in nodes]


def carry_out(db: sqlite3.Connection, kept: Kept, step: Step, now: MachineTime) -> Done:
    """All of a step."""
    done = Done()
    if db.execute("SELECT 1 FROM rollouts WHERE number = ?", (kept.number,)).fetchone() is None:
        done.forgotten = True
        return done
    now_ms = documents.utc_ms(db, now)
    _save_nodes(db, kept.number, step.nodes.values())
    if (run := step.run) is not None:
        db.execute(
            "UPDATE rollouts SET state = ?, wave = ?, since_utc_ms = ?, reason = ?, forgiven = ?, forgiven_of = ?"
            " WHERE number = ?",
            (run.state, run.wave, run.since_utc_ms, run.reason, run.forgiven, run.forgiven_of, kept.number),
        )
    for node in step.tell:
        _tell(db, kept, node, now, now_ms, done)
    for node in step.restore:
        _restore(db, kept, node, now, now_ms, done)
    done.events = [FleetEvent(kind, kept.id, data, now_ms) for kind, data in step.events]
    return done


# ---- a node is told, or put back ---------------------------------------------------------------


def _tell(db: sqlite3.Connection, kept: Kept, node: str, now: MachineTime, now_ms: int, done: Done) -> None:
    plan = kept.plan
    if later := _later(db, kept, node):
        done.news.append(NotTold(node, f"the later roll-out {later} sets the same fields", excluded=True))
        return
    try:
        before, said = documents.desired(db, node), documents.reported(db, node)
        if elsewhere := _not_placed(plan, before):
            done.news.append(NotTold(node, f"{elsewhere} is not there any more", excluded=True))
            return
        change = Change(plan.set, plan.unset, before.revision, f"roll-out {kept.id}")
        changed = documents.change(db, node, change, now)
    except (ChangeRefusedError, LocalWireError, RemoteWireError) as error:
        done.news.append(NotTold(node, f"not to be told: {error}"[:REASON_CHARS_MAX]))
        return
    after = changed.desired
    held = resolve(Known(before, said.writes())).values
    former = {path: _former(path, value, held) for path, (value, _) in changed.fields.items()}
    db.execute(
        "UPDATE rollout_nodes SET state = ?, epoch = ?, revision = ?, hash = ?, changed = ?, at_utc_ms = ?,"
        " reason = '', former = ?, written = ? WHERE rollout = ? AND node = ?",
        (NodeState.TOLD, after.epoch, after.revision, after.hash, bool(former), now_ms,
         canonical(former), canonical({path: _written(after, path) for path in former}), kept.number, node),
    )  # fmt: skip
    done.news.append(Told(node, after.epoch, after.revision, after.hash, bool(former)))
    if former:
        done.due[node] = after
    elif after.revision:
        done.news.append(_said(db, node))  # no other report will come of what it has


def _restore(db: sqlite3.Connection, kept: Kept, node: str, now: MachineTime, now_ms: int, done: Done) -> None:
    sql = "SELECT former, written FROM rollout_nodes WHERE rollout = ? AND node = ?"
    former, written = map(json.loads, db.execute(sql, (kept.number, node)).fetchone())
    why = ""
    try:
        current = documents.desired(db, node)
        moved = sorted(path for path in written if _written(current, path) != written[path])
        if moved:
            why = f"another hand has changed {', '.join(moved)} since; that stays (revision {current.revision})"
        else:
            back = {path: value for path, value in former.items() if value is not None}
            unset = tuple(path for path in former if path not in back)
            change = Change(back, unset, current.revision, f"roll-out {kept.id}, rolled back")
            changed = documents.change(db, node, change, now)
            if changed.fields:
                done.due[node] = changed.desired
    except (ChangeRefusedError, LocalWireError, RemoteWireError) as error:
        why = f"cannot be put back: {error}"
    why = why[:REASON_CHARS_MAX]
    state = NodeState.KEPT if why else NodeState.ROLLED_BACK
    values = (state, why, now_ms, kept.number, node)
    db.execute("UPDATE rollout_nodes SET state = ?, reason = ?, at_utc_ms = ? WHERE rollout = ? AND node = ?", values)
    done.news.append(Restored(node, why))


def _not_placed(plan: Plan, before: Desired) -> str:
    """A workload of the plan that the node does not have: a roll-out changes workloads, it places none."""
    specs = [path for path in plan.set if path.startswith("workloads.")]
    return next((path.split(".", 1)[1].removesuffix(".spec") for path in specs if not before.fields.get(path)), "")


def _former(path: str, value: Any, held: dict[str, Any]) -> Any:
    """What to put back: the document's own value, but where the last writer holds, what held, whoever wrote it."""
    return held.get(path) if rule_of(path) is Rule.LAST_WRITER else value


def _written(document: Desired, path: str) -> list[Any]:
    stamp = document.stamps.get(path)
    return [document.fields.get(path), stamp.at if stamp else ""]


def _later(db: sqlite3.Connection, kept: Kept, node: str) -> str:
    """The id of a later roll-out that has told this node some of the same fields."""
    sql = """
        SELECT r.id, r.plan FROM rollout_nodes n JOIN rollouts r ON r.number = n.rollout
        WHERE n.node = ? AND n.rollout > ? AND n.state NOT IN (?, ?) ORDER BY n.rollout DESC
    """
    values = (node, kept.number, NodeState.WAITING, NodeState.EXCLUDED)
    for key, plan in db.execute(sql, values):
        if _plan(plan).paths & kept.plan.paths:
            return str(key)
    return ""


def _said(db: sqlite3.Connection, node: str) -> Reported:
    try:
        said = documents.reported(db, node)
    except RemoteWireError:  # damaged on the disk; its next one replaces it
        return Reported(node, 0, 0)
    return Reported(node, said.epoch, said.revision, said.fields, said.refused)


def _save_nodes(db: sqlite3.Connection, number: int, nodes: Iterable[NodeRun]) -> None:
    db.executemany(
        _SAVE_NODE,
        [
            (number, one.name, one.state, one.wave, one.epoch, one.revision, one.hash, one.changed, one.at_utc_ms,
             one.reason)
            for one in nodes
        ],
    )  # fmt: skip


def _plan(text: str) -> Plan:
    return read(Plan, json.loads(text), strict=False)


def _node(row: Any) -> NodeRun:
    name, state, wave, epoch, revision, digest, changed, at_utc_ms, reason = row
    return NodeRun(name, NodeState(state), wave, epoch, revision, digest, bool(changed), at_utc_ms, reason)


# ---- for people --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RolloutView:
    """A roll-out and how far it is. `nodes`: by state how many."""

    id: str
    state: str
    wave: int  # counts from 1
    waves: int
    reason: str
    started_utc_ms: int
    since_utc_ms: int
    nodes: dict[str, int]
    plan: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RolloutNodeView:
    """A node of a roll-out."""

    node: str
    state: str
    wave: int  # counts from 1
    revision: int
    at_utc_ms: int
    reason: str


def views(db: sqlite3.Connection, key: str = "") -> list[RolloutView]:
    """All that are remembered, oldest first; or the one of this id."""
    sql = """
        SELECT number, id, state, wave, reason, started_utc_ms, since_utc_ms, plan FROM rollouts
        WHERE ?1 = '' OR id = ?1 ORDER BY number
    """
    counted = "SELECT state, count(*) FROM rollout_nodes WHERE rollout = ? GROUP BY state ORDER BY state"
    found = []
    for number, name, state, wave, reason, started, since, text in db.execute(sql, (key,)).fetchall():
        counts = dict(db.execute(counted, (number,)).fetchall())
        plan = json.loads(text)
        waves = len(plan["waves"])
        found.append(RolloutView(name, state, wave + 1, waves, reason, started, since, counts, plan))
    return found


def node_views(db: sqlite3.Connection, key: str, state: str, limit: int) -> list[RolloutNodeView]:
    """Its nodes by name; those in this state where one is given."""
    sql = """
        SELECT node, n.state, n.wave + 1, revision, at_utc_ms, n.reason FROM rollout_nodes n
        JOIN rollouts r ON r.number = n.rollout
        WHERE r.id = ?1 AND (?2 = '' OR n.state = ?2) ORDER BY node LIMIT ?3
    """
    return [RolloutNodeView(*row) for row in db.execute(sql, (key, state, limit))]
