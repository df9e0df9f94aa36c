"""What `edgectl` shows of desired and reported documents: from the store's values to text."""

import json
from collections.abc import Sequence
from typing import Any

from coordinator.ctl.tables import age, local_time, pairs, table
from coordinator.store.documents import ConflictView, DesiredView, RevisionView
from schemas.documents import Desired, Reported
from schemas.hlc import Stamp
from schemas.resolve import Known, resolve


def desired(found: DesiredView, now_utc_ms: int) -> str:
    """Each field: what the coordinator wants, what the node wrote, what holds there, and why not."""
    document, reported = found.desired, found.reported
    head = [
        ("node", found.node),
        ("desired", _version(document, found.updated_utc_ms, now_utc_ms)),
        ("reported for", _version(reported, found.received_utc_ms, now_utc_ms)),
    ]
    notes = {**resolve(Known(document, reported.writes())).refused, **reported.refused}
    rows = [
        (
            path,
            value(document.fields.get(path)),
            value(reported.local.get(path)),
            value(reported.fields.get(path)),
            notes.get(path, ""),
        )
        for path in sorted({*document.fields, *reported.local, *reported.fields})
    ]
    return pairs(head) + "\n" + table(("FIELD", "DESIRED", "AT THE NODE", "HOLDS", "REFUSED"), rows)


def reported(found: DesiredView, now_utc_ms: int) -> str:
    """What a node said of itself."""
    document = found.reported
    head = [
        ("node", found.node),
        ("reported for", _version(document, found.received_utc_ms, now_utc_ms)),
        ("boot, serial", f"{document.boot}, {document.serial}"),
    ]
    if document.clock_ahead_ms:
        head.append(("our clock", f"is {document.clock_ahead_ms / 1000:.0f} s ahead of the node's"))
    rows = [
        (path, value(document.fields.get(path)), _written(document, path), document.refused.get(path, ""))
        for path in sorted({*document.fields, *document.local, *document.refused})
    ]
    return pairs(head) + "\n" + table(("FIELD", "HOLDS", "WRITTEN AT THE NODE", "REFUSED"), rows)


def history(found: Sequence[RevisionView], now_utc_ms: int) -> str:
    """A line for each field that a revision changed."""
    rows = []
    for step in found:
        changes: list[tuple[str, list[Any]]] = list(step.changes.items()) or [("", [None, None])]
        rows += [
            (
                f"{step.epoch}.{step.revision}",
                age(step.time_utc_ms, now_utc_ms),
                path,
                value(before),
                value(after),
                step.source,
            )
            for path, (before, after) in changes
        ]
    return table(("REVISION", "AGE", "FIELD", "BEFORE", "AFTER", "BY"), rows)


def conflicts(found: Sequence[ConflictView], now_utc_ms: int) -> str:
    """Both values of each, and what holds."""
    return table(
        ("NODE", "AGE", "FIELD", "COORDINATOR", "WRITTEN", "NODE SAYS", "WRITTEN", "RULE", "HOLDS", "WINNER"),
        [
            (
                item.node,
                age(item.found_utc_ms, now_utc_ms),
                item.conflict["path"],
                value(item.conflict["coordinator_value"]),
                _time(item.conflict["coordinator_at"]),
                value(item.conflict["node_value"]),
                _time(item.conflict["node_at"]),
                item.conflict["rule"],
                value(item.conflict["value"]),
                item.conflict["winner"],
            )
            for item in found
        ],
    )


def value(item: Any) -> str:
    """As it is typed on a command line."""
    if item is None:
        return "-"
    return item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, separators=(",", ":"))


def _version(document: Desired | Reported, utc_ms: int, now_utc_ms: int) -> str:
    if not utc_ms:
        return "nothing yet"
    return f"epoch {document.epoch}, revision {document.revision}, {age(utc_ms, now_utc_ms)} ago"


def _written(document: Reported, path: str) -> str:
    if path not in document.stamps:
        return ""
    return f"{value(document.local.get(path))} at {_time(document.stamps[path].at)}"


def _time(stamp: str) -> str:
    try:
        return local_time(Stamp.parse(stamp).wall_ms)
    except (ValueError, OverflowError, OSError):
        return stamp  # a clock that was off by ages
