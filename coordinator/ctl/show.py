"""What `edgectl` shows: one function a subject, each from the store's values to text or to plain JSON values."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from coordinator.ctl.tables import age, local_time, pairs, printable, table
from coordinator.fleet.selector import Verdict
from coordinator.store.fleet import FreezeView, WindowView
from coordinator.store.gaps import GapView
from coordinator.store.leases import LeaseView
from coordinator.store.reader import EventView, NodeView, RefusedView, StreamView
from coordinator.store.replicas import ReplicaView

RAW_SHOWN = 60
STALE_AFTER_MS = 30_000
FREEZES_SHOWN = 5
ONE_BROKER = "broker_connected."  # a counter for each, where there are several


TWINS_SHOWN_MS = 2 * 3600_000  # a conflict that lasts is noticed anew every hour


def nodes(found: Sequence[NodeView], now_utc_ms: int, frozen: Sequence[FreezeView] = ()) -> str:
    head = f"{freezes(frozen, now_utc_ms)}\n" if frozen else ""
    return head + table(
        ("NODE", "STATE", "SINCE", "LAST SEEN", "TYPE", "SITE", "CAMERAS", "LABELS"),
        [
            (
                node.node,
                ", ".join([node.state, *_notes(node, now_utc_ms)]),
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
        ("state", _state(found)),
        ("since", f"{local_time(found.since_utc_ms)} ({age(found.since_utc_ms, now_utc_ms)})"),
        ("last seen", f"{local_time(found.last_seen_utc_ms)} ({age(found.last_seen_utc_ms, now_utc_ms)})"),
        ("first seen", local_time(found.first_seen_utc_ms)),
        ("boot, session", f"{found.boot}, {found.session}"),
    ]
    if found.problem:
        rows.append(("problem", found.problem))
    if found.maintenance:
        rows.append(("maintenance", f"{found.maintenance} (edgectl maintenance ls)"))
    if found.flaps:
        rows.append(("flapping", "it keeps going and coming back; that is not told one by one"))
    if found.conflict:
        noticed = f"noticed {age(found.conflict['found_utc_ms'], now_utc_ms)} ago"
        rows.append(("two agents", f"have this name, {noticed}"))
        rows += [("", _agent(found.conflict[which])) for which in ("one", "other")]
    rows += [(key, str(birth[key])) for key in ("name", "node_type", "site") if birth.get(key)]
    rows += [
        (key, _assignments(birth[key]))
        for key in ("labels", "location", "hardware", "resources", "allocated", "versions")
        if birth.get(key)
    ]
    rows += [(key, ", ".join(birth[key])) for key in ("platforms", "functions", "cameras") if birth.get(key)]
    if beat:
        heard = age(found.heartbeat_utc_ms, now_utc_ms)
        load = f"cpu {beat.get('cpu_percent', 0):.0f} %, memory {beat.get('memory_mb', 0):.0f} MB, {heard} ago"
        rows += [("load", load), ("outbox", _assignments(beat.get("outbox_pending", {})) or "empty")]
        rows += [(f"sync {lane}", _assignments(counts)) for lane, counts in beat.get("sync", {}).items()]
    return pairs(rows)


def windows(found: Sequence[WindowView], now_utc_ms: int) -> str:
    return table(
        ("ID", "FROM", "UNTIL", "LEFT", "NODES", "SELECTOR", "REASON", "BY"),
        [
            (
                one.id,
                local_time(one.from_utc_ms),
                local_time(one.until_utc_ms),
                "planned" if one.from_utc_ms > now_utc_ms else age(now_utc_ms, max(now_utc_ms, one.until_utc_ms)),
                str(one.nodes),
                one.selector,
                one.reason,
                one.by,
            )
            for one in found
        ],
    )


def staleness(counters: dict[str, float], now_utc_ms: int) -> str:
    """A line where what follows is not of now: the coordinator does not run, or does not hear the broker."""
    saved = int(counters.get("saved_utc_ms", 0))
    if now_utc_ms - saved > STALE_AFTER_MS:
        when = f"last wrote {age(saved, now_utc_ms)} ago" if saved else "has not run yet"
        return f"STALE: the coordinator {when}; what follows is as of then\n"
    if counters.get("broker_connected", 1):
        return ""
    deaf = [name for name, connected in _brokers(counters) if not connected]
    if not deaf or len(deaf) == len(_brokers(counters)):
        return "STALE: the coordinator does not hear the broker; what follows is as of before\n"
    return f"STALE: the coordinator does not hear the broker {', '.join(deaf)}; of its nodes this is as of before\n"


def _brokers(counters: dict[str, float]) -> list[tuple[str, bool]]:
    """Those of several, by name, with whether the coordinator is connected."""
    return [(n.removeprefix(ONE_BROKER), bool(value)) for n, value in counters.items() if n.startswith(ONE_BROKER)]


def freezes(found: Sequence[FreezeView], now_utc_ms: int) -> str:
    """A line for each; of very many those of more than a site first, and how many more there are."""
    wide_first = sorted(found, key=lambda one: bool(one.scope) and not one.scope.startswith("("))
    lines = [_frozen(one, now_utc_ms) for one in wide_first[:FREEZES_SHOWN]]
    if more := len(found) - len(lines):
        lines.append(f"and {more} sites more: edgectl status --json has all of them")
    return "\n".join(lines)


def leases(found: Sequence[LeaseView], now_utc_ms: int) -> str:
    """A line for each duty; one more for writes that were refused because another had it by then."""
    rows = []
    for one in found:
        held = f"{one.left_ms / 1000:.0f} s more" if one.left_ms > 0 else "free"
        rows.append((one.duty, one.holder, str(one.token), age(one.since_utc_ms, now_utc_ms), held, str(one.writes)))
    lines = [table(("DUTY", "HOLDER", "TOKEN", "SINCE", "HELD", "WRITES"), rows)]
    for one in found:
        if one.refused:
            last = f"the last {age(one.refused_utc_ms, now_utc_ms)} ago, of {printable(one.refused_holder)}"
            lines.append(f"{one.duty}: {one.refused} writes of former holders were refused, {last}")
    return "\n".join(lines)


def replicas(found: Sequence[ReplicaView], now_utc_ms: int) -> str:
    """A line for each coordinator that shares the store."""
    rows = []
    for one in found:
        if one.stopped:
            state = "stopped"
        elif one.seen_ms_ago > STALE_AFTER_MS:
            state = f"SILENT for {one.seen_ms_ago / 1000:.0f} s"
        else:
            state = "leads" if one.leads else "takes rows"
        deaf = "" if one.figures.get("broker_connected", 1) else "not connected"
        counts = [f"{one.figures.get(name, 0):.0f}" for name in ("stored", "duplicates", "refused", "queue_depth")]
        rows.append((one.name, state, age(one.since_utc_ms, now_utc_ms), *counts, deaf))
    return table(("REPLICA", "STATE", "RUNS", "STORED", "DUPLICATES", "REFUSED", "QUEUE", "BROKER"), rows)


def why(verdict: Verdict, depth: int = 0) -> str:
    """A line for each part: yes or no, what is asked, what was found."""
    mark = "yes" if verdict.holds else "no "
    found = f"   ({printable(verdict.found)})" if verdict.found else ""
    line = f"{mark} {'  ' * depth}{printable(verdict.text)}{found}"
    return "\n".join([line, *(why(one, depth + 1) for one in verdict.inner)])


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
    rows += [(f"broker {name}", "connected" if there else "not connected") for name, there in _brokers(counters)]
    rows += [
        (name.replace("_", " "), f"{value:g}" if name.startswith("commit_ms") else f"{value:.0f}")
        for name, value in sorted(counters.items())
        if name not in ("saved_utc_ms", "broker_connected") and not name.startswith(ONE_BROKER)
    ]
    return pairs(rows + [(f"rows of {name}", str(count)) for name, count in totals.items()])


def _payload(payload: bytes) -> dict[str, str]:
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload": payload.decode("utf-8", "replace"), "payload_hex": payload.hex()}


def _state(node: NodeView) -> str:
    beneath = f", {node.liveness}" if node.maintenance else ""
    return node.state + beneath + (f" ({node.reason})" if node.reason else "")


def _notes(node: NodeView, now_utc_ms: int) -> list[str]:
    twins = node.conflict is not None and now_utc_ms - node.conflict["found_utc_ms"] < TWINS_SHOWN_MS
    return [*(["flapping"] if node.flaps else []), *(["two agents"] if twins else [])]


def _agent(seen: dict[str, Any]) -> str:
    return f"instance {seen['instance']}, boot {seen['boot']}, session {seen['session']}, {seen['hardware']}"


def _frozen(one: FreezeView, now_utc_ms: int) -> str:
    if one.scope.startswith("("):  # of no site, or of a broker
        where = printable(one.scope.strip("()"))
    else:
        where = f"site {printable(one.scope)}" if one.scope else "the whole fleet"
    since = age(one.since_utc_ms, now_utc_ms)
    return f"FROZEN for {since}: no node of {where} is taken for lost: {printable(one.reason)}"


def _assignments(values: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" if value != "" else f'{key}=""' for key, value in values.items())
