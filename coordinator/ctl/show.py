"""What `edgectl` shows: one function a subject, each from the store's values to text or to plain JSON values."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from coordinator.ctl.tables import age, local_time, pairs, printable, table
from coordinator.store.gaps import GapView
from coordinator.store.reader import EventView, NodeView, RefusedView, StreamView

RAW_SHOWN = 60


def nodes(found: Sequence[NodeView], now_utc_ms: int) -> str:
    return table(
        ("NODE", "STATE", "SINCE", "LAST SEEN", "TYPE", "SITE", "CAMERAS", "LABELS"),
        [
            (
                node.node,
                node.state,
                age(node.since_utc_ms, now_utc_ms),
                age(node.last_seen_utc_ms, now_utc_ms),
                str(node.birth.get("node_type", "")),
                str(node.birth.get("site", "")),
                str(len(node.birth.get("cameras", []))),
                _assignments(node.birth.get("labels", {})),
            )
            for node in found
        ],
    )


def node(found: NodeView, now_utc_ms: int) -> str:
    birth, beat = found.birth, found.heartbeat
    rows = [
        ("node", found.node),
        ("state", found.state + (f" ({found.reason})" if found.reason else "")),
        ("since", f"{local_time(found.since_utc_ms)} ({age(found.since_utc_ms, now_utc_ms)})"),
        ("last seen", f"{local_time(found.last_seen_utc_ms)} ({age(found.last_seen_utc_ms, now_utc_ms)})"),
        ("first seen", local_time(found.first_seen_utc_ms)),
        ("boot, session", f"{found.boot}, {found.session}"),
    ]
    rows += [(key, str(birth[key])) for key in ("name", "node_type", "site") if birth.get(key)]
    rows += [
        (key, _assignments(birth[key]))
        for key in ("labels", "location", "hardware", "resources", "versions")
        if birth.get(key)
    ]
    rows += [(key, ", ".join(birth[key])) for key in ("platforms", "functions", "cameras") if birth.get(key)]
    if beat:
        heard = age(found.heartbeat_utc_ms, now_utc_ms)
        load = f"cpu {beat.get('cpu_percent', 0):.0f} %, memory {beat.get('memory_mb', 0):.0f} MB, {heard} ago"
        rows += [("load", load), ("outbox", _assignments(beat.get("outbox_pending", {})) or "empty")]
        rows += [(f"sync {lane}", _assignments(counts)) for lane, counts in beat.get("sync", {}).items()]
    return pairs(rows)


def events(found: Sequence[EventView], *, titles: bool = True) -> str:
    """One line each, so that lines that follow stand beneath the ones before."""
    lines = ["TIME                 NODE              TYPE                SUBJECT       DATA"] if titles else []
    for event in found:
        kind = f"{event.type}!{event.severity}" if event.severity else event.type
        data = json.dumps(event.data, ensure_ascii=False, separators=(",", ":"))
        cells = [printable(cell) for cell in (local_time(event.time_utc_ms), event.node, kind, event.subject, data)]
        lines.append("{:<19}  {:<16}  {:<18}  {:<12}  {}".format(*cells))
    return "\n".join(lines)


def streams(found: Sequence[StreamView], now_utc_ms: int) -> str:
    rows = []
    for stream in found:
        report = stream.report
        rows.append(
            (
                stream.node,
                stream.camera,
                stream.pipeline,
                report.get("state", "") + (f": {report['error']}" if report.get("error") else ""),
                str(report.get("frames_total", 0)),
                f"{report.get('fps', 0):.1f}",
                str(report.get("detections_total", 0)),
                str(report.get("dropped_total", 0)),
                f"{report.get('infer_ms_p50', 0):.1f}",
                report.get("engine", ""),
                age(stream.last_sample_utc_ms, now_utc_ms),
                age(stream.received_utc_ms, now_utc_ms),
            )
        )
    titles = (
        "NODE", "CAMERA", "PIPELINE", "STATE", "FRAMES", "FPS", "DETECTIONS", "DROPPED", "INFER ms", "ENGINE",
        "SYNCED", "AGE",
    )  # fmt: skip
    return table(titles, rows)


def refused(found: Sequence[RefusedView], now_utc_ms: int) -> str:
    return table(
        ("ID", "AGE", "TIMES", "TOPIC", "LANE", "SEQ", "REASON", "BYTES", "BEGINS"),
        [
            (
                str(item.id),
                age(item.last_utc_ms, now_utc_ms),
                str(item.times),
                item.topic,
                item.lane,
                str(item.seq or ""),
                item.reason,
                str(len(item.payload)),
                item.payload[:RAW_SHOWN].decode("utf-8", "replace"),
            )
            for item in found
        ],
    )


def gaps(found: Sequence[GapView], now_utc_ms: int) -> str:
    return table(
        ("NODE", "LANE", "FROM", "TO", "MISSING", "WHY", "AGE", "STREAM"),
        [
            (
                item.node,
                item.lane,
                str(item.first),
                str(item.last),
                str(item.missing),
                f"given up: {item.reason}" if item.told else "not explained",
                age(item.since_utc_ms, now_utc_ms),
                item.stream,
            )
            for item in found
        ],
    )


def refused_json(found: Sequence[RefusedView]) -> list[dict[str, Any]]:
    """With the payload as text where it is text, and as hexadecimal beside it where it is not."""
    return [{**asdict(item), **_payload(item.payload)} for item in found]


def status(counters: dict[str, float], totals: dict[str, int], now_utc_ms: int) -> str:
    saved = int(counters.get("saved_utc_ms", 0))
    rows = [("counters written", f"{age(saved, now_utc_ms)} ago" if saved else "never: it has not run yet")]
    connected = "connected" if counters.get("broker_connected") else "not connected"
    rows += [("broker", connected)] if saved else []
    rows += [
        (name.replace("_", " "), f"{value:g}" if name.startswith("commit_ms") else f"{value:.0f}")
        for name, value in sorted(counters.items())
        if name not in ("saved_utc_ms", "broker_connected")
    ]
    return pairs(rows + [(f"rows of {name}", str(count)) for name, count in totals.items()])


def _payload(payload: bytes) -> dict[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload": payload.decode("utf-8", "replace"), "payload_hex": payload.hex()}


def _assignments(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())
