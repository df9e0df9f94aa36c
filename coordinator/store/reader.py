"""Queries on the store, for `edgectl` and whoever else asks: read-only, beside a coordinator that writes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.fleet.facts import LazyFacts
from coordinator.fleet.selector import Selector, Verdict
from coordinator.models.release import Release
from coordinator.store import (
    documents,
    evidence,
    fleet,
    gaps,
    leases,
    model_figures,
    models,
    replicas,
    rollouts,
    schedule_views,
    simulated,
    state,
    state_views,
)
from coordinator.store.documents import ConflictView, DesiredView, RevisionView
from coordinator.store.evidence import EvidenceFilter, EvidenceRow
from coordinator.store.fleet import FreezeView, WindowView
from coordinator.store.gaps import GapView
from coordinator.store.leases import LeaseView
from coordinator.store.model_figures import FiguresView
from coordinator.store.models import MeasuredView, ModelView, StepView
from coordinator.store.place import Place, open_reading
from coordinator.store.replicas import ReplicaView
from coordinator.store.rollouts import RolloutNodeView, RolloutView
from coordinator.store.schedule_views import DrainView, PlacementView, WorkloadView
from coordinator.store.settled import Settled
from coordinator.store.simulated import StoredRows
from coordinator.store.state_views import CollectionView, KeyView, Wanted, WriterView

PAGE_MAX = 1000  # rows of one query while following


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node as the coordinator knows it: `state` as operators see it, beside its `liveness`."""

    node: str
    state: str
    since_utc_ms: int
    last_seen_utc_ms: int
    first_seen_utc_ms: int
    boot: int
    session: int
    reason: str
    birth: dict[str, Any]
    heartbeat: dict[str, Any] = field(default_factory=dict)
    heartbeat_utc_ms: int = 0
    liveness: str = ""
    problem: str = ""
    maintenance: str = ""
    flaps: bool = False
    conflict: dict[str, Any] | None = None  # two agents of this name: `one`, `other`, `found_utc_ms`


@dataclass(frozen=True, slots=True)
class EventView:
    """An event or a step of an alert. `row` grows in the order of arrival."""

    row: int
    node: str
    stream: str
    lane: str
    seq: int
    type: str
    subject: str
    severity: str | None
    time_utc_ms: int
    received_utc_ms: int
    boot: int
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StreamView:
    """One camera's pipeline as last reported."""

    node: str
    node_state: str
    camera: str
    pipeline: str
    received_utc_ms: int
    report: dict[str, Any]
    last_sample_utc_ms: int  # of the node, whichever camera


@dataclass(frozen=True, slots=True)
class RefusedView:
    """A refused message. `payload` is what came."""

    id: int
    first_utc_ms: int
    last_utc_ms: int
    times: int
    topic: str
    node: str
    stream: str
    lane: str
    seq: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class EventFilter:
    """What `events` looks for; unset fields ask for nothing."""

    node: str = ""
    type_glob: str = ""  # * and ? as in file names
    since_utc_ms: int = 0
    alerts_only: bool = False
    after_row: int | None = None
    until_row: int | None = None


class Reader:
    """A read-only connection to the store. Raises PermanentError or StorageError when there is none."""

    def __init__(self, place: Place) -> None:
        self._db = open_reading(place)
        self._settled = Settled()

    def close(self) -> None:
        self._db.close()

    def simulated(self, prefix: str, boot: int) -> StoredRows:
        """What arrived of a simulation."""
        return simulated.stored_rows(self._db, prefix, boot)

    def nodes(
        self, *, state: str = "", labels: Mapping[str, str] | None = None, selector: Selector | None = None
    ) -> list[NodeView]:
        """Nodes by name, those with the state and every one of the labels that the selector means."""
        where, values = ["1 = 1"], list[Any]()
        if selector is not None:
            clause, value = self._db.dialect.one_of("n.node", self.select(selector))
            where.append(clause)
            values.append(value)
        if state:
            where.append("n.shown = ?")
            values.append(state)
        for key, value in (labels or {}).items():
            where.append("EXISTS (SELECT 1 FROM node_labels l WHERE l.node = n.node AND l.key = ? AND l.value = ?)")
            values += [key, value]
        return self._nodes(" AND ".join(where), values)

    def node(self, name: str) -> NodeView | None:
        found = self._nodes("n.node = ?", [name])
        return found[0] if found else None

    def select(self, selector: Selector) -> list[str]:
        """The names of the nodes that it means."""
        return fleet.select(self._db, selector)

    def why(self, name: str, selector: Selector) -> Verdict | None:
        """Why it means the node or not, part by part; None: there is no such node."""
        sql = f"SELECT {fleet.NODE_COLUMNS} FROM nodes WHERE node = ?"
        row = self._db.execute(sql, (name,)).fetchone()
        return None if row is None else selector.explain(LazyFacts(fleet.node_of(tuple(row))))

    def freezes(self) -> list[FreezeView]:
        """What is not taken for lost just now."""
        return fleet.freezes(self._db)

    def windows(self) -> list[WindowView]:
        """Maintenance that is planned or under way."""
        return fleet.windows(self._db)

    def is_banned(self, name: str) -> bool:
        """True for a node that was deregistered and is kept out."""
        sql = "SELECT count(*) FROM tombstones WHERE node = ? AND banned = 1"
        return bool(self._db.execute(sql, (name,)).fetchone()[0])

    def events(self, wanted: EventFilter, limit: int) -> list[EventView]:
        """The newest `limit` events, oldest of them first; after a row the next `limit` ones."""
        where, values = ["1 = 1"], list[Any]()
        type_clause, type_value = self._db.dialect.glob("type", wanted.type_glob)
        for clause, value in (
            ("node = ?", wanted.node),
            (type_clause, wanted.type_glob and type_value),
            ("received_utc_ms >= ?", wanted.since_utc_ms),
        ):
            if value:
                where.append(clause)
                values.append(value)
        if wanted.alerts_only:
            where.append("severity IS NOT NULL")
        if wanted.until_row is not None:
            where.append("id <= ?")
            values.append(wanted.until_row)
        order = "DESC"
        if wanted.after_row is not None:
            where.append("id > ?")
            values.append(wanted.after_row)
            order = "ASC"
        sql = f"SELECT {_EVENT} FROM events WHERE {' AND '.join(where)} ORDER BY id {order} LIMIT ?"
        rows = [_event(row) for row in self._db.execute(sql, [*values, limit])]
        return rows if order == "ASC" else rows[::-1]

    def settled_row(self) -> int | None:
        """The row of the events up to which all are there; None where that is not known yet: ask again."""
        return self._settled.look(self._db)

    def streams(self, node: str = "") -> list[StreamView]:
        """Every camera pipeline that a node reported in its newest heartbeat."""
        sql = """
            SELECT r.node, n.state, r.camera, r.pipeline, r.received_utc_ms, r.document,
                (SELECT max(s.received_utc_ms) FROM samples s WHERE s.node = r.node) AS last
            FROM stream_reports r JOIN nodes n ON n.node = r.node WHERE ?1 = '' OR r.node = ?1
            ORDER BY r.node, r.camera, r.pipeline
        """
        return [
            StreamView(name, state, camera, pipeline, received_utc_ms, json.loads(report), last or 0)
            for name, state, camera, pipeline, received_utc_ms, report, last in self._db.execute(sql, (node,))
        ]

    def gaps(self, node: str, limit: int) -> list[GapView]:
        """The newest gap records, oldest of them first; of one node, or of all."""
        return gaps.told(self._db, node, limit)

    def holes(self, node: str, limit: int, until_utc_ms: int) -> list[GapView]:
        """What is missing without a reason and was so at that time already; of one node, or of all."""
        return gaps.open_holes(self._db, node, limit, until_utc_ms)

    def evidence(self, wanted: EvidenceFilter, limit: int) -> list[EvidenceRow]:
        """The newest files of evidence that match, oldest of them first."""
        return evidence.found(self._db, wanted, limit)

    def documents(self, node: str) -> DesiredView:
        """What a node should be and what it reports."""
        return documents.view(self._db, node)

    def history(self, node: str) -> list[RevisionView]:
        """The remembered revisions of a node's desired document, oldest first."""
        return documents.history(self._db, node)

    def conflicts(self, node: str, limit: int) -> list[ConflictView]:
        """The newest conflicts, oldest of them first; of one node, or of all."""
        return documents.found_conflicts(self._db, node, limit)

    def rollouts(self, key: str = "") -> list[RolloutView]:
        """All that are remembered, oldest first; or the one of this id."""
        return rollouts.views(self._db, key)

    def rollout_nodes(self, key: str, state: str, limit: int) -> list[RolloutNodeView]:
        """The nodes of a roll-out by name; those in this state where one is given."""
        return rollouts.node_views(self._db, key, state, limit)

    def workloads(self, name: str = "") -> list[WorkloadView]:
        """All workloads by name, or the one of this name."""
        return schedule_views.views(self._db, name)

    def placements(self, name: str, limit: int) -> list[PlacementView]:
        """The replicas of a workload, by node."""
        return schedule_views.placement_views(self._db, name, limit)

    def drains(self) -> list[DrainView]:
        """Nodes that are drained."""
        return schedule_views.drain_views(self._db)

    def state(self, wanted: Wanted, limit: int) -> list[KeyView]:
        """Keys of platform state with what holds, in order."""
        return state_views.keys(self._db, wanted, limit)

    def state_changes(self, wanted: Wanted, after: int, limit: int) -> tuple[int, list[tuple[str, WriterView]]]:
        """The next writes after a change, with their paths, and the last of them."""
        return state_views.changes(self._db, wanted, after, limit)

    def last_state_change(self) -> int:
        """The newest write to platform state."""
        return state.last_change(self._db)

    def state_collections(self) -> list[CollectionView]:
        """The collections of platform state."""
        return state_views.collections(self._db)

    def models(self, name: str = "", channel: str = "") -> list[ModelView]:
        """Versions of models by name, the newest first; of one model, or those that a channel gives out."""
        return models.listed(self._db, name, channel)

    def release(self, name: str, version: str) -> Release | None:
        """What a version of a model is."""
        return models.release_of(self._db, name, version)

    def model_measured(self, name: str, version: str) -> list[MeasuredView]:
        """What nodes measured of the variants of a version."""
        return models.measured(self._db, name, version)

    def model_figures(self, name: str, version: str) -> list[FiguresView]:
        """The same by hardware, and by what it was measured on."""
        return model_figures.figures(self._db, name, version)

    def model_children(self, name: str, version: str) -> list[str]:
        """What was made from a version, as NAME@VERSION."""
        return models.children(self._db, name, version)

    def model_history(self, name: str, limit: int) -> list[StepView]:
        """The newest steps of a model, oldest of them first."""
        return models.history(self._db, name, limit)

    def model_files(self) -> dict[str, tuple[int | None, str]]:
        """(bytes, a release that needs it) of each file by its hash; of documents the bytes are not known."""
        return models.named_files(self._db)

    def leases(self) -> list[LeaseView]:
        """Who has which duty."""
        return leases.views(self._db)

    def replicas(self) -> list[ReplicaView]:
        """The coordinators that share the store; none where one has it alone."""
        return replicas.views(self._db)

    def refused(self, limit: int) -> list[RefusedView]:
        """The newest refused messages, oldest of them first."""
        sql = """
            SELECT id, first_utc_ms, last_utc_ms, times, topic, node, stream, lane, seq, reason, payload
            FROM refused ORDER BY id DESC LIMIT ?
        """
        return [RefusedView(*row) for row in self._db.execute(sql, (limit,))][::-1]

    def counters(self) -> dict[str, float]:
        """What the coordinator counted, as it last wrote it; `saved_utc_ms` says when."""
        return dict(self._db.execute("SELECT name, value FROM counters"))

    def totals(self) -> dict[str, int]:
        """Rows by table."""
        tables = ("nodes", "events", "samples", "gaps", "evidence", "state", "refused", "results")
        return {table: self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables}

    def _nodes(self, where: str, values: list[str]) -> list[NodeView]:
        sql = f"""
            SELECT n.node, n.shown, n.since_utc_ms, n.last_seen_utc_ms, n.first_seen_utc_ms, n.boot, n.session,
                n.reason, n.birth, h.document, h.received_utc_ms,
                n.state, n.problem, n.maintenance, n.flaps, n.conflict
            FROM nodes n LEFT JOIN heartbeats_latest h ON h.node = n.node WHERE {where} ORDER BY n.node
        """
        return [_node(row) for row in self._db.execute(sql, values)]


_EVENT = "id, node, stream, lane, seq, type, subject, severity, time_utc_ms, received_utc_ms, boot, data"


def _node(row: Sequence[Any]) -> NodeView:
    name, shown, since_ms, last_ms, first_ms, boot, session, reason, birth, heartbeat, heartbeat_ms, *rest = row
    liveness, problem, maintenance, flaps, conflict = rest
    return NodeView(
        name,
        shown,
        since_ms,
        last_ms,
        first_ms,
        boot,
        session,
        reason,
        json.loads(birth or "{}"),
        json.loads(heartbeat or "{}"),
        heartbeat_ms or 0,
        liveness,
        problem,
        maintenance,
        bool(flaps),
        None if conflict is None else json.loads(conflict),
    )


def _event(row: Sequence[Any]) -> EventView:
    """From `_EVENT`."""
    number, node, stream, lane, seq, kind, subject, severity, time_ms, received_ms, boot, data = row
    return EventView(
        number, node, stream, lane, seq, kind, subject, severity, time_ms, received_ms, boot, json.loads(data)
    )
