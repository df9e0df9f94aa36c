"""Which events of a node are news of the fleet too, and what of them is told to everybody. Pure."""

import json
from collections.abc import Mapping

from coordinator.fleet.registry import FleetEvent
from coordinator.store.store import Row
from schemas.identity import Lane

# Of each such event these fields, and no others: whoever listens to the fleet did not ask for all a node can say.
TOLD: Mapping[str, tuple[str, ...]] = {
    "CloudSyncCompleted": (
        *("sync_id", "outcome", "rows", "bytes", "skipped", "duration_s"),
        *("bytes_synced", "duration_ms"),
    ),
}
TEXT_MAX = 200


def fleet_news(row: Row) -> FleetEvent | None:
    """The fleet's event that a node's event becomes; None for nearly all of them."""
    names = TOLD.get(row.type)
    if names is None or row.lane != Lane.EVENT.value:
        return None
    data = json.loads(row.data)
    plain = {name: data[name] for name in names if isinstance(data.get(name), int | float | str)}
    told = {name: value[:TEXT_MAX] if isinstance(value, str) else value for name, value in plain.items()}
    return FleetEvent(row.type, row.node, {"node": row.node, **told}, row.received_utc_ms)
