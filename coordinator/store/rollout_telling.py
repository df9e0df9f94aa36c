"""Nodes of a roll-out are told, or put back: their documents and their rows, in one transaction.

The documents and rows of a step's nodes are read together and written together: a node costs a tenth of what it costs
alone.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.documents.changes import Change, ChangeRefusedError
from coordinator.fleet.registry import FleetEvent
from coordinator.rollout import follow
from coordinator.rollout.plan import REASON_CHARS_MAX, Plan
from coordinator.rollout.state import (
    News,
    NodeRun,
    NodeState,
    Notified,
    NotTold,
    Reported,
    Restored,
    Run,
    Step,
    Told,
)
from coordinator.store import documents
from coordinator.store.many_documents import ManyDocuments, rows_of
from runtime.database import Database, execute_rows
from runtime.timeline import MachineTime
from schemas import documents as wire
from schemas.documents import Desired, canonical
from schemas.errors import LocalWireError, RemoteWireError
from schemas.fields import Rule, rule_of
from schemas.messages import Heartbeat
from schemas.resolve import Known, resolve
from schemas.shape import read

_TELL_NODE = """
UPDATE rollout_nodes SET state = new.column1, wave = new.column2, epoch = new.column3, revision = new.column4,
    hash = new.column5, changed = new.column6, at_utc_ms = new.column7, reason = '', told = new.column8, pending = 0,
    former = new.column9, written = new.column10, p99_ms = new.column11
FROM (VALUES {rows}) AS new WHERE rollout_nodes.rollout = new.column12 AND rollout_nodes.node = new.column13
"""
_KINDS = ("TEXT", *("BIGINT",) * 3, "TEXT", *("BIGINT",) * 3, *("TEXT",) * 3, "BIGINT", "TEXT")
_ONE_TOLD = f"({', '.join(f'CAST(? AS {kind})' for kind in _KINDS)})"
_RESTORE_NODE = """
UPDATE rollout_nodes SET state = ?, reason = ?, at_utc_ms = ?, pending = 0 WHERE rollout = ? AND node = ?
"""


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


def tell(db: Database, kept: Kept, step: Step, now: MachineTime, done: Done) -> None:
    """The documents and the rows of all of them, each read and written once."""
    plan, names = kept.plan, [*step.fetch, *step.tell]
    many, before = ManyDocuments(db, names, now), _before(db, kept, names)
    later = _later(db, kept, {node: kept.plan.paths | own.keys() for node, (_, _, own) in before.items()})
    beats = _beats(db, step.tell) if plan.judges_latency else {}
    fetches, rows = frozenset(step.fetch), []
    for node in names:
        fetch = node in fetches
        if node in later:
            reason = f"the later roll-out {later[node]} sets the same fields"
            done.news.append(NotTold(node, reason, excluded=True, fetch=fetch))
            continue
        former, written, own = before[node]
        try:
            said = many.reported(node)
            if elsewhere := _not_placed(plan, many.desired(node)):
                done.news.append(NotTold(node, f"{elsewhere} is not there any more", excluded=True, fetch=fetch))
                continue
            asked = _asked_of(kept, own, fetch=fetch, revision=many.desired(node).revision)
            held = _held(many.desired(node), said, asked)
            changed = many.change(node, asked, said)
        except (ChangeRefusedError, LocalWireError, RemoteWireError) as error:
            done.news.append(NotTold(node, f"not to be told: {error}"[:REASON_CHARS_MAX], fetch=fetch))
            continue
        after, is_changed = changed.desired, bool(changed.fields)
        former = {**{path: _former(path, value, held) for path, (value, _) in changed.fields.items()}, **former}
        written |= {path: _written(after, path) for path in changed.fields}
        state = NodeState.NOTIFIED if fetch else NodeState.TOLD if after.revision else NodeState.VERIFIED
        rows.append(
            (state, step.wave, after.epoch, after.revision, after.hash, bool(former), many.now_ms, not fetch,
             canonical(former), canonical(written), canonical(beats.get(node, {})), kept.number, node)
        )  # fmt: skip
        document = node, after.epoch, after.revision, after.hash, is_changed
        done.news.append(Notified(*document) if fetch else Told(*document, beats.get(node, {})))
        if is_changed:
            done.due[node] = after
        elif after.revision:
            done.news.append(_words(node, said))  # no other report will come of what it has
    many.write()
    execute_rows(db, _TELL_NODE, rows, _ONE_TOLD)


def _not_placed(plan: Plan, before: Desired) -> str:
    """A workload of the plan that the node does not have: a roll-out changes workloads, it places none."""
    specs = [path for path in plan.set if path.startswith("workloads.")]
    return next((path.split(".", 1)[1].removesuffix(".spec") for path in specs if not before.fields.get(path)), "")


def _asked_of(kept: Kept, own: Mapping[str, Any], *, fetch: bool, revision: int) -> Change:
    plan, source = kept.plan, f"roll-out {kept.id}"
    if fetch:
        return Change(dict(plan.prefetch), (), revision, source)
    taken_back = tuple(path for path, value in own.items() if value is None)
    given = {path: value for path, value in own.items() if value is not None}
    return Change({**plan.set, **plan.prefetch, **given}, (*plan.unset, *taken_back), revision, source)


def _held(desired: Desired, said: wire.Reported, asked: Change) -> dict[str, Any]:
    """What holds at the node, where a field is such that it may be other than what the document says."""
    if not any(rule_of(path) is Rule.LAST_WRITER for path in (*asked.set, *asked.unset)):
        return {}
    return resolve(Known(desired, said.writes())).values


def restore(db: Database, kept: Kept, nodes: Sequence[str], now: MachineTime, done: Done) -> None:
    many, before, rows = ManyDocuments(db, nodes, now), _before(db, kept, nodes), []
    for node in nodes:
        former, written, _ = before[node]
        why = ""
        try:
            current = many.desired(node)
            moved = sorted(path for path in written if _written(current, path) != written[path])
            if moved:
                why = f"another hand has changed {', '.join(moved)} since; that stays (revision {current.revision})"
            else:
                back = {path: value for path, value in former.items() if value is not None}
                unset = tuple(path for path in former if path not in back)
                change = Change(back, unset, current.revision, f"roll-out {kept.id}, rolled back")
                changed = many.change(node, change, many.reported(node))
                if changed.fields:
                    done.due[node] = changed.desired
        except (ChangeRefusedError, LocalWireError, RemoteWireError) as error:
            why = f"cannot be put back: {error}"
        why = why[:REASON_CHARS_MAX]
        rows.append((NodeState.KEPT if why else NodeState.ROLLED_BACK, why, many.now_ms, kept.number, node))
        done.news.append(Restored(node, why))
    many.write()
    db.executemany(_RESTORE_NODE, rows)


def _before(
    db: Database, kept: Kept, nodes: Sequence[str]
) -> dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]]:
    """By node what is to be put back, what we wrote, and what its own fields are."""
    question = "SELECT node, former, written, own FROM rollout_nodes WHERE rollout = ? AND node"
    found: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {}
    for node, former, written, own in rows_of(db, question, nodes, kept.number):
        found[node] = json.loads(former), json.loads(written), json.loads(own)
    return found


def _beats(db: Database, nodes: Sequence[str]) -> dict[str, dict[str, float]]:
    """By node the p99 of its pipelines in the newest heartbeat that is kept."""
    found = {}
    for node, text in rows_of(db, "SELECT node, document FROM heartbeats_latest WHERE node", nodes):
        found[node] = follow.p99_ms(read(Heartbeat, json.loads(text), strict=False))
    return found


def _former(path: str, value: Any, held: dict[str, Any]) -> Any:
    """What to put back: the document's own value, but where the last writer holds, what held, whoever wrote it."""
    return held.get(path) if rule_of(path) is Rule.LAST_WRITER else value


def _written(document: Desired, path: str) -> list[Any]:
    stamp = document.stamps.get(path)
    return [document.fields.get(path), stamp.at if stamp else ""]


def _later(db: Database, kept: Kept, ours: Mapping[str, frozenset[str]]) -> dict[str, str]:
    """By node the id of a later roll-out that has told it some of the same fields, those of `ours`."""
    plans = {
        number: (key, plan_of(plan))
        for number, key, plan in db.execute("SELECT number, id, plan FROM rollouts WHERE number > ?", (kept.number,))
    }
    if not plans:
        return {}
    question = "SELECT node, rollout, own FROM rollout_nodes WHERE rollout > ? AND state NOT IN (?, ?) AND node"
    values, found = (kept.number, NodeState.WAITING, NodeState.EXCLUDED), dict[str, str]()
    for node, number, own in rows_of(db, question, list(ours), *values, rest=" ORDER BY rollout"):
        key, plan = plans[number]
        if (plan.paths | json.loads(own).keys()) & ours[node]:
            found[node] = key
    return found


def said_by(db: Database, node: str) -> Reported:
    try:
        return _words(node, documents.reported(db, node))
    except RemoteWireError:  # damaged on the disk; its next one replaces it
        return Reported(node, 0, 0)


def _words(node: str, said: wire.Reported) -> Reported:
    return Reported(node, said.epoch, said.revision, said.fields, said.refused, said.pending)


def plan_of(text: str) -> Plan:
    return read(Plan, json.loads(text), strict=False)
