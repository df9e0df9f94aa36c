"""The tables of nodes, their newest heartbeats, maintenance windows, tombstones and freezes."""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from coordinator.fleet.facts import Fact, fact_from, path_of
from coordinator.fleet.flapping import NEVER_LOST, Flap
from coordinator.fleet.guard import Turn
from coordinator.fleet.maintenance import Window
from coordinator.fleet.node import Condition, Conflict, Node, NodeState, Word
from coordinator.fleet.registry import Memory
from coordinator.fleet.selector import Selector
from coordinator.fleet.selector_text import SelectorError, parse
from coordinator.fleet.tombstones import TOMBSTONES_MAX, Tombstone
from coordinator.fleet.twins import Seen
from coordinator.store import state
from coordinator.store.store import Batch, HeartbeatRow
from runtime.database import Database, execute_rows, upsert, upsert_rows
from runtime.garbage import uncollected
from schemas.compiled import json_of
from schemas.messages import Birth

log = logging.getLogger(__name__)

NODE_COLUMNS = """
node, state, boot, session, word, reason, heartbeat_seq, first_seen_utc_ms, last_seen_utc_ms, since_utc_ms, birth,
condition, problem, maintenance, lost, flap_penalty, flaps, flap_losses, conflict
"""
_UPSERT_NODES = """
INSERT INTO nodes (node, state, boot, session, word, reason, heartbeat_seq, first_seen_utc_ms, last_seen_utc_ms,
    since_utc_ms, birth, shown, condition, problem, maintenance, lost, flap_penalty, flaps, flap_losses, conflict)
VALUES {rows}
ON CONFLICT (node) DO UPDATE SET state = excluded.state, boot = excluded.boot, session = excluded.session,
    word = excluded.word, reason = excluded.reason, heartbeat_seq = excluded.heartbeat_seq,
    last_seen_utc_ms = excluded.last_seen_utc_ms, since_utc_ms = excluded.since_utc_ms, birth = excluded.birth,
    shown = excluded.shown, condition = excluded.condition, problem = excluded.problem,
    maintenance = excluded.maintenance, lost = excluded.lost, flap_penalty = excluded.flap_penalty,
    flaps = excluded.flaps, flap_losses = excluded.flap_losses, conflict = excluded.conflict
"""
_UPSERT_WINDOW = upsert("maintenance", ("id",), ("selector", "from_utc_ms", "until_utc_ms", "reason", "source"))
_UPSERT_HEARTBEATS = upsert_rows("heartbeats_latest", ("node",), ("received_utc_ms", "document"))
_UPSERT_REPORTS = upsert_rows("stream_reports", ("node", "camera", "pipeline"), ("received_utc_ms", "document"))
_UPSERT_TOMBSTONE = upsert("tombstones", ("node",), ("boot", "session", "instance", "at_utc_ms", "banned", "source"))
_UPSERT_FREEZE = """
INSERT INTO freezes (scope, since_utc_ms, reason) VALUES (?, ?, ?)
ON CONFLICT (scope) DO UPDATE SET reason = excluded.reason
"""
_SEEN = """
UPDATE nodes SET last_seen_utc_ms = seen.column1, heartbeat_seq = seen.column2
FROM (VALUES {rows}) AS seen WHERE nodes.node = seen.column3
"""
_ONE_SEEN = "(CAST(? AS BIGINT), CAST(? AS BIGINT), CAST(? AS TEXT))"
_OF_A_NODE = (
    *("node_labels", "heartbeats_latest", "stream_reports", "desired", "desired_history", "reported", "conflicts"),
    *("placements", "drains", "avoided"),
    "nodes",
)
_BIRTH_FIELDS = frozenset(one.name for one in fields(Birth))


@dataclass(frozen=True, slots=True)
class FreezeView:
    """A freeze of failover that holds. An empty scope is the whole fleet."""

    scope: str
    since_utc_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class WindowView:
    """A maintenance window; `nodes` are in it now."""

    id: str
    selector: str
    from_utc_ms: int
    until_utc_ms: int
    reason: str
    by: str
    nodes: int


# ---- reading -----------------------------------------------------------------------------------------


def nodes(db: Database) -> list[Node]:
    with uncollected():
        return [node_of(row) for row in db.execute(f"SELECT {NODE_COLUMNS} FROM nodes")]


def memory(db: Database) -> Memory:
    windows = {}
    sql = "SELECT id, selector, from_utc_ms, until_utc_ms, reason, source FROM maintenance"
    for identifier, selector, from_ms, until_ms, reason, by in db.execute(sql):
        try:
            windows[identifier] = Window(identifier, parse(selector), from_ms, until_ms, reason, by)
        except SelectorError as error:  # written by a later version, perhaps
            log.error("maintenance %s is passed over: %s", identifier, error)
    sql = "SELECT node, boot, session, instance, at_utc_ms, banned, source FROM tombstones"
    stones = {row[0]: _tombstone(row) for row in db.execute(sql)}
    return Memory(windows, stones, {one.scope: one.reason for one in freezes(db)})


def freezes(db: Database) -> list[FreezeView]:
    sql = "SELECT scope, since_utc_ms, reason FROM freezes ORDER BY scope"
    return [FreezeView(*row) for row in db.execute(sql)]


def windows(db: Database) -> list[WindowView]:
    sql = """
        SELECT id, selector, from_utc_ms, until_utc_ms, reason, source,
            (SELECT count(*) FROM nodes WHERE maintenance = id) FROM maintenance ORDER BY from_utc_ms, id
    """
    return [WindowView(*row) for row in db.execute(sql)]


def select(db: Database, selector: Selector) -> list[str]:
    """The names of the nodes that it means. The database takes out of the births what is asked for, and no more."""
    columns = ("name", "state", "liveness", "boot")
    asked = [key for key in selector.keys if key not in columns]
    parts = [db.dialect.json_part("birth", path_of(key)) for key in asked]
    taken = "".join(f", {part}" for part, _ in parts)
    rows = db.execute(
        f"SELECT node, shown, state, boot{taken} FROM nodes ORDER BY node", [value for _, value in parts]
    )
    found = []
    for name, shown, liveness, boot, *values in rows:
        facts: dict[str, Fact] = {"name": name, "state": shown, "liveness": liveness, "boot": float(boot)}
        for key, value in zip(asked, values, strict=True):
            if value is not None and (fact := fact_from(json.loads(value))) is not None:
                facts[key] = fact
        if selector.matches(facts):
            found.append(name)
    return found


def node_of(row: Sequence[Any]) -> Node:
    """From `NODE_COLUMNS`."""
    (name, liveness, boot, session, word, reason, heartbeat_seq, first_seen, last_seen, since, birth,
     condition, problem, window, lost, penalty, flaps, losses, conflict) = row  # fmt: skip
    return Node(
        name=name,
        state=NodeState(liveness),
        boot=boot,
        session=session,
        word=Word(word),
        reason=reason,
        heartbeat_seq=heartbeat_seq,
        first_seen_utc_ms=first_seen,
        last_seen_utc_ms=last_seen,
        since_utc_ms=since,
        birth=None if birth is None else birth_of(birth),
        condition=Condition(condition),
        problem=problem,
        window=window,
        lost=bool(lost),
        flap=Flap(penalty, 0, bool(flaps), losses) if penalty else NEVER_LOST,
        conflict=None if conflict is None else _conflict(json.loads(conflict)),
    )


def birth_of(text: str) -> Birth:
    """As this program wrote it: it was checked then. What a later version wrote beside it is left out."""
    document = json.loads(text)
    try:
        return Birth(**document)
    except TypeError:
        return Birth(**{name: value for name, value in document.items() if name in _BIRTH_FIELDS})


def _tombstone(row: Sequence[Any]) -> Tombstone:
    node, boot, session, instance, at_utc_ms, banned, by = row
    return Tombstone(node, boot, session, instance, at_utc_ms, bool(banned), by)


def _conflict(document: dict[str, Any]) -> Conflict:
    one, other = (Seen(**document[name]) for name in ("one", "other"))
    return Conflict(one, other, document["found_utc_ms"])


# ---- writing -----------------------------------------------------------------------------------------


def write(db: Database, batch: Batch) -> None:
    """What a batch says of the fleet."""
    for name in batch.gone:
        _forget(db, name)
    for stone in batch.tombstones:
        _bury(db, stone)
    db.executemany("DELETE FROM tombstones WHERE node = ?", [(name,) for name in batch.lifted])
    _write_nodes(db, batch.nodes)
    seen = [(one.last_seen_utc_ms, one.heartbeat_seq, one.name) for one in batch.seen]
    execute_rows(db, _SEEN, seen, _ONE_SEEN)
    _write_heartbeats(db, batch.heartbeats)
    db.executemany(
        _UPSERT_WINDOW,
        [(one.id, one.selector.text, one.from_utc_ms, one.until_utc_ms, one.reason, one.by) for one in batch.windows],
    )
    db.executemany("DELETE FROM maintenance WHERE id = ?", [(one,) for one in batch.windows_over])
    for turn in batch.turns:
        _turn(db, turn)


def _write_nodes(db: Database, nodes: Sequence[Node]) -> None:
    """However many: a server is asked a few times in all."""
    if not nodes:
        return
    execute_rows(db, _UPSERT_NODES, [_row(node) for node in nodes])
    labels = {node.name: node.birth.labels for node in nodes if node.birth is not None}
    clause, names = db.dialect.one_of("node", list(labels))
    before: dict[str, dict[str, str]] = {name: {} for name in labels}
    for name, key, value in db.execute(f"SELECT node, key, value FROM node_labels WHERE {clause}", (names,)):
        before[name][key] = value
    changed = [name for name in labels if labels[name] != before[name]]
    had = [(name,) for name in changed if before[name]]
    db.executemany("DELETE FROM node_labels WHERE node = ?", had)
    rows = [(name, key, value) for name in changed for key, value in labels[name].items()]
    execute_rows(db, "INSERT INTO node_labels (node, key, value) VALUES {rows}", rows)


def _row(node: Node) -> tuple[Any, ...]:
    birth = None if node.birth is None else json_of(node.birth)
    conflict = None if node.conflict is None else json.dumps(asdict(node.conflict), ensure_ascii=False)
    return (
        node.name, node.state.value, node.boot, node.session, node.word.value, node.reason, node.heartbeat_seq,
        node.first_seen_utc_ms, node.last_seen_utc_ms, node.since_utc_ms, birth, node.shown.value,
        node.condition.value, node.problem, node.window, node.lost, node.flap.penalty, node.flap.flaps,
        node.flap.losses, conflict,
    )  # fmt: skip


def _write_heartbeats(db: Database, beats: Mapping[str, HeartbeatRow]) -> None:
    """Each as a whole, and each of its streams beside it, for questions about streams alone."""
    if not beats:
        return
    latest = [(name, row.received_utc_ms, json_of(row.heartbeat)) for name, row in beats.items()]
    execute_rows(db, _UPSERT_HEARTBEATS, latest)
    reports = [
        (name, one.camera, one.pipeline, row.received_utc_ms, json_of(one))
        for name, row in beats.items()
        for one in row.heartbeat.streams
    ]
    clause, names = db.dialect.one_of("node", list(beats))
    db.execute(f"DELETE FROM stream_reports WHERE {clause}", (names,))
    execute_rows(db, _UPSERT_REPORTS, reports)


def _forget(db: Database, name: str) -> None:
    for table in _OF_A_NODE:
        db.execute(f"DELETE FROM {table} WHERE node = ?", (name,))
    state.forget_node(db, name)


def _bury(db: Database, stone: Tombstone) -> None:
    db.execute(
        _UPSERT_TOMBSTONE,
        (stone.node, stone.boot, stone.session, stone.instance, stone.at_utc_ms, stone.banned, stone.by),
    )
    db.execute(
        "DELETE FROM tombstones WHERE node IN"
        " (SELECT node FROM tombstones ORDER BY banned DESC, at_utc_ms DESC LIMIT 1000000000 OFFSET ?)",
        (TOMBSTONES_MAX,),
    )


def _turn(db: Database, turn: Turn) -> None:
    if turn.frozen:
        row = (turn.scope, time.time_ns() // 1_000_000, turn.reason)
        db.execute(_UPSERT_FREEZE, row)
    else:
        db.execute("DELETE FROM freezes WHERE scope = ?", (turn.scope,))
