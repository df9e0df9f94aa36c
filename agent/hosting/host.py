"""The node as a host of platforms' functions."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.results import store
from agent.results.result import Result
from agent.results.store import NoResultsError
from platforms.checking import Here
from platforms.context import BadEventError, KeptResult, ResultQuery
from platforms.host_context import Host
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.language.personal import event_without_personal
from schemas.language.schema import EventType, Placement, Schema
from schemas.state import StateView


def node_host(
    node: str,
    *,
    results_path: Path,
    outbox: Outbox,
    state: StateView,
    settings: Mapping[str, Mapping[str, Any]],
    services: Mapping[type[Any], Any],
    keep: Callable[[Result], None],
    here: Here,
) -> Host:
    """What a `Context` of this node stands on. `keep` takes what happened into the results kept here."""

    async def results(query: ResultQuery) -> Sequence[KeptResult]:
        if query.nodes and node not in query.nodes:
            return []
        return await asyncio.to_thread(_read, results_path, node, query)

    async def tell(
        schema: Schema, event: EventType, data: Mapping[str, Any], subject: str, lane: Lane = Lane.EVENT
    ) -> None:
        now_ms = _now_utc_ms()
        leaving = event_without_personal(schema, event, data)
        if leaving is not None:
            try:
                await outbox.append([Draft(lane, event.name, subject, now_ms, leaving)])
            except LocalWireError as error:
                raise BadEventError(f"{event.name} cannot be sent: {error}") from error
        camera = data.get("camera_id")
        kept = Result(now_ms, camera if isinstance(camera, str) else "", "", event.name, subject, data)
        keep(replace(kept, told=True) if leaving == data else replace(kept, local_only=True))

    async def tell_routine(schema: Schema, event: EventType, data: Mapping[str, Any], subject: str) -> None:
        await tell(schema, event, data, subject, Lane.SAMPLE)

    return Host(node, Placement.EDGE, state, _now_utc_ms, results, tell, settings, services, tell_routine, here=here)


def kept_result(node: str, draft: Draft) -> KeptResult:
    """A fact on its way to the outbox as platforms see it."""
    camera = str(draft.data.get("camera_id") or "")
    return KeptResult(node, camera, draft.type, draft.subject, draft.time_utc_ms, draft.data)


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000


def _read(path: Path, node: str, query: ResultQuery) -> list[KeptResult]:
    until = 2**62 if query.until_utc_ms is None else query.until_utc_ms
    try:
        with store.opened(path) as db:
            found = store.facts(db, query.types, query.cameras, query.since_utc_ms or 0, until, query.limit)
    except NoResultsError:
        return []  # the file is made when the first result comes
    return [KeptResult(node, one.camera, one.type, one.subject, one.time_utc_ms, one.data) for one in found]
