"""The coordinator as a host of platforms' functions."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from coordinator.fleet.registry import FleetEvent
from coordinator.store.facts import Fact, facts
from coordinator.store.sql import SqlStore
from coordinator.store.store import Batch
from platforms.context import KeptResult, ResultQuery
from platforms.host_context import Host
from runtime.database import Database
from schemas.language.schema import EventType, Placement, Schema
from schemas.state import StateView
from schemas.topics import COORDINATOR


def coordinator_host(
    store: SqlStore,
    *,
    state: StateView,
    settings: Mapping[str, Mapping[str, Any]],
    announce: Callable[[], None],
) -> Host:
    """What a `Context` of the coordinator stands on; `announce` publishes the fleet events that are committed."""

    async def results(query: ResultQuery) -> Sequence[KeptResult]:
        return await store.read(lambda db: _read(db, query))

    async def tell(schema: Schema, event: EventType, data: Mapping[str, Any], subject: str) -> None:
        await store.commit(Batch(fleet_events=[FleetEvent(event.name, subject, data, _now_utc_ms())]))
        announce()

    return Host(COORDINATOR, Placement.CLOUD, state, _now_utc_ms, results, tell, settings)


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(db: Database, query: ResultQuery) -> list[KeptResult]:
    found = facts(
        db,
        types=query.types,
        cameras=query.cameras,
        nodes=query.nodes,
        since_utc_ms=query.since_utc_ms or 0,
        until_utc_ms=2**62 if query.until_utc_ms is None else query.until_utc_ms,
        limit=query.limit,
    )
    return [kept(one) for one in found]


def kept(fact: Fact) -> KeptResult:
    """A row of the store as platforms see it."""
    camera = str(fact.data.get("camera_id", ""))
    return KeptResult(fact.node, camera, fact.type, fact.subject, fact.time_utc_ms, fact.data)
