"""The coordinator as a host of platforms' functions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from coordinator.fleet.registry import FleetEvent
from coordinator.store.facts import facts
from coordinator.store.migrations import FILE_NAME
from coordinator.store.store import Batch, Store
from platforms.context import KeptResult, ResultQuery
from platforms.host_context import Host
from runtime.sqlite import connect
from schemas.language.schema import EventType, Placement, Schema
from schemas.state import StateView
from schemas.topics import COORDINATOR


def coordinator_host(
    store: Store,
    folder: Path,
    *,
    state: StateView,
    settings: Mapping[str, Mapping[str, Any]],
    announce: Callable[[], None],
) -> Host:
    """What a `Context` of the coordinator stands on; `announce` publishes the fleet events that are committed."""

    async def results(query: ResultQuery) -> Sequence[KeptResult]:
        return await asyncio.to_thread(_read, folder / FILE_NAME, query)

    async def tell(schema: Schema, event: EventType, data: Mapping[str, Any], subject: str) -> None:
        await store.commit(Batch(fleet_events=[FleetEvent(event.name, subject, data, _now_utc_ms())]))
        announce()

    return Host(COORDINATOR, Placement.CLOUD, state, _now_utc_ms, results, tell, settings)


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(path: Path, query: ResultQuery) -> list[KeptResult]:
    with closing(connect(path, read_only=True)) as db:
        found = facts(
            db,
            types=query.types,
            cameras=query.cameras,
            nodes=query.nodes,
            since_utc_ms=query.since_utc_ms or 0,
            until_utc_ms=2**62 if query.until_utc_ms is None else query.until_utc_ms,
            limit=query.limit,
        )
    return [
        KeptResult(one.node, str(one.data.get("camera_id", "")), one.type, one.subject, one.time_utc_ms, one.data)
        for one in found
    ]
