"""The node as a host of platforms' functions."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.results import store
from agent.results.store import NoResultsError
from platforms.context import FunctionError, KeptResult, ResultQuery
from platforms.host_context import Host
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.language.schema import EventType, Placement
from schemas.state import StateView


def node_host(
    node: str,
    *,
    results_path: Path,
    outbox: Outbox,
    state: StateView,
    settings: Mapping[str, Mapping[str, Any]],
    services: Mapping[type[Any], Any],
) -> Host:
    """What a `Context` of this node stands on."""

    async def results(query: ResultQuery) -> Sequence[KeptResult]:
        if query.nodes and node not in query.nodes:
            return []
        return await asyncio.to_thread(_read, results_path, node, query)

    async def tell(event: EventType, data: Mapping[str, Any], subject: str) -> None:
        now_ms = time.time_ns() // 1_000_000
        try:
            await outbox.append([Draft(Lane.EVENT, event.name, subject, now_ms, data)])
        except LocalWireError as error:
            raise FunctionError("bad_event", f"{event.name} cannot be sent: {error}") from error

    return Host(node, Placement.EDGE, state, lambda: time.time_ns() // 1_000_000, results, tell, settings, services)


def _read(path: Path, node: str, query: ResultQuery) -> list[KeptResult]:
    until = 2**62 if query.until_utc_ms is None else query.until_utc_ms
    try:
        with store.opened(path) as db:
            found = store.facts(db, query.types, query.cameras, query.since_utc_ms or 0, until, query.limit)
    except NoResultsError:
        return []  # the file is made when the first result comes
    return [KeptResult(node, one.camera, one.type, one.subject, one.time_utc_ms, one.data) for one in found]
