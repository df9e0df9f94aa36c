"""The demo's driver: starts the stack, shows it live, stops it, and says whether the numbers add up."""

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agent.infer.bundle_maker import make_bundle
from agent.outbox.inspect import account
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery
from schemas.codec import decode_event, decode_packed
from schemas.errors import RemoteWireError
from schemas.messages import Heartbeat, StreamReport
from schemas.topics import Kind, TopicSpace
from scripts import demo_line
from scripts.stack import Stack, StackError

LATENCIES_MAX = 100_000
REFRESH_S = 1.0
STALE_S = 5.0  # a total that stands still for this long has no rate
START_S = 60.0  # the time asked for begins with the first event, and at the latest then
# Events that are decided on the very frame whose capture time they carry.
TIMED_EVENTS = frozenset({"ObjectSeen", "ObjectUpdated", "FrameAnalyzed"})


@dataclass(slots=True)
class Summary:
    """The demo's last line with --json."""

    frames: int = 0
    detections: int = 0
    events_published: int = 0
    rows_stored: int = 0
    lost: int = 0
    duplicated: int = 0
    latency_ms_p50: float = 0.0  # frame captured to event at a subscriber
    latency_ms_p99: float = 0.0
    inspection: dict[str, Any] | None = None  # with --platform manufacturing

    def adds_up(self) -> bool:
        """Everything that was produced is stored, each row once, and something was seen."""
        stored = self.rows_stored == self.events_published and not self.lost and not self.duplicated
        return stored and self.frames > 0 and self.detections > 0


@dataclass(slots=True)
class Watcher:
    """A subscriber like any other: what it sees on the broker is what the view shows."""

    space: TopicSpace = field(default_factory=TopicSpace)
    reports: dict[str, list[StreamReport]] = field(default_factory=dict)
    beats: dict[str, Heartbeat] = field(default_factory=dict)
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=LATENCIES_MAX))
    latest: deque[str] = field(default_factory=lambda: deque(maxlen=6))
    events_total: int = 0
    ended: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def take(self, delivery: Delivery) -> None:
        """One message; what cannot be read is somebody else's and left alone."""
        with contextlib.suppress(RemoteWireError):
            topic = self.space.parse(delivery.topic)
            if topic.kind is Kind.HEARTBEAT:
                beat = decode_packed(Heartbeat, Kind.HEARTBEAT, delivery.payload)
                self.beats[topic.node] = beat
                self.reports[topic.node] = beat.streams
            elif topic.kind in (Kind.EVENT, Kind.ALERT):
                self._event(topic.kind, topic.node, delivery.payload)

    def _event(self, kind: Kind, node: str, payload: bytes) -> None:
        event = decode_event(kind, node, payload)
        self.events_total += 1
        if event.type in TIMED_EVENTS:
            self.latencies_ms.append(max(0.0, time.time_ns() / 1e6 - event.time_utc_ms))
        if event.type == "CameraStateChanged" and event.data.get("state") in ("ended", "failed"):
            self.ended.add(node)
        if event.data.get("state") == "failed":
            self.problems.append(f"{node}: {event.type} {event.subject}: {event.data.get('reason')}")
        if event.type in ("FrameAnalyzed", "ObjectUpdated"):
            return
        what = (
            event.data.get("class")
            or event.data.get("verdict")
            or event.data.get("state")
            or event.data.get("rule")
            or ""
        )
        confidence = event.data.get("confidence")
        sure = f" {confidence:.2f}" if isinstance(confidence, float) else ""
        self.latest.append(f"{node:8} {event.type:20} {event.subject:16} {what}{sure}")

    def percentiles(self) -> tuple[float, float]:
        """p50 and p99 in milliseconds, nearest rank."""
        ranked = sorted(self.latencies_ms)
        if not ranked:
            return 0.0, 0.0
        return round(ranked[len(ranked) // 2], 2), round(ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)], 2)


def main() -> int:
    """0: the numbers add up; 1: they do not, or something did not start; 2: wrong arguments."""
    arguments = _arguments()
    folder = Path(tempfile.mkdtemp(prefix="edgewright-demo-"))
    try:
        summary = asyncio.run(_demo(folder, arguments))
    except (StackError, EdgewrightError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(_verdict(summary), file=sys.stderr if arguments.json else sys.stdout)
    if arguments.json:
        print(json.dumps(asdict(summary)))
    return 0 if summary.adds_up() else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=0.0, metavar="N", help="stop N seconds after the first event (0: Ctrl-C)"
    )
    text = "inspection stations on the rendered lines, and their verdicts against the truth"
    parser.add_argument("--platform", choices=["manufacturing"], help=text)
    parser.add_argument("--video", metavar="FILE", help="your own clip instead of the rendered lines")
    parser.add_argument("--model", metavar="BUNDLE", help="a model bundle, or a .tflite file to make one of")
    parser.add_argument("--json", action="store_true", help="print a summary object as the last line")
    arguments = parser.parse_args()
    if bool(arguments.video) != bool(arguments.model):
        parser.error("--video and --model go together")
    if arguments.platform and arguments.video:
        parser.error("--platform has its own rendered lines: leave --video out")
    return arguments


def _nodes(arguments: argparse.Namespace, folder: Path, port: int) -> dict[str, str]:
    """Each node's cameras and pipelines as TOML."""
    if arguments.platform:
        return demo_line.bodies(folder, port)
    if not arguments.video:
        return {
            "weld-1": _body("scene:weld?seed=1&fps=30", "weld_defects", rule="crack"),
            "weld-2": _body("scene:weld?seed=7&fps=30&line=stainless", "weld_defects", rule="crack"),
        }
    here = Path(os.environ.get("EDGEWRIGHT_CALLED_FROM", "."))
    video, model = (here / arguments.video).resolve(), (here / arguments.model).resolve()
    if not video.exists():
        raise EdgewrightError(f"there is no video {video}")
    if model.suffix == ".tflite":
        made = make_bundle(model, folder / "model")
        print(f"demo: made a bundle of {model.name}: " + "; ".join(made.notes), file=sys.stderr)
        model = folder / "model"
    return {"clip-1": _body(str(video), str(model))}


def _body(source: str, model: str, *, rule: str = "") -> str:
    text = (
        f'[[cameras]]\nid = "cam1"\nsource = {json.dumps(source)}\n'
        f'[[pipelines]]\ncamera = "cam1"\nmodel = {json.dumps(model)}\nsample_interval_s = 2.0\n'
    )
    return text + (f'rules = [{{ name = "{rule}", classes = ["{rule}"], for_s = 0.2 }}]\n' if rule else "")


async def _demo(folder: Path, arguments: argparse.Namespace) -> Summary:
    watcher = Watcher()
    with Stack(folder) as stack:
        nodes = _nodes(arguments, folder, stack.port)
        stack.start_broker()
        stack.start_coordinator()
        connection = Connection(
            BrokerAddress(port=stack.port), client_id="demo", on_message=lambda delivery: _receive(delivery)
        )

        def _receive(delivery: Delivery) -> None:
            watcher.take(delivery)
            connection.acknowledge(delivery)

        await connection.connect()
        space = watcher.space
        await connection.subscribe(
            {space.filter(Kind.HEARTBEAT): 0, space.filter(Kind.EVENT): 1, space.filter(Kind.ALERT): 1}
        )
        for node, body in nodes.items():
            stack.start_agent(node, body)
        print(f"demo: broker on port {stack.port}, everything in {folder}; Ctrl-C stops", file=sys.stderr)
        await _show(stack, watcher, nodes, arguments.seconds)
        print("demo: stopping", file=sys.stderr)
        for node in nodes:
            await asyncio.to_thread(stack.stop_one, node)
        await _settled(stack, nodes)
        summary = _summary(stack, watcher, nodes)
        if arguments.platform:
            matrix, summary.inspection = demo_line.inspected(lambda sql: _query(stack, sql))
            print(matrix.text(), file=sys.stderr)
        await connection.close()
        await asyncio.to_thread(stack.stop)
    for problem in dict.fromkeys(watcher.problems):
        print(f"demo: {problem}", file=sys.stderr)
    return summary


async def _show(stack: Stack, watcher: Watcher, nodes: dict[str, str], seconds: float) -> None:
    """Until the time is over, a signal comes or every clip has ended."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    view, begun_s = View(sys.stderr.isatty()), time.monotonic()
    until_s = begun_s + seconds + START_S if seconds > 0 else float("inf")
    while not stop.is_set() and time.monotonic() < until_s and not watcher.ended >= set(nodes):
        stack.check()
        view.draw(watcher, _stored(stack))
        if watcher.events_total and seconds > 0:
            until_s, seconds = time.monotonic() + seconds, 0.0
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), min(REFRESH_S, max(0.05, until_s - time.monotonic())))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)


class View:
    """On a terminal one picture drawn over and over; elsewhere a line now and then."""

    def __init__(self, terminal: bool) -> None:
        self._terminal = terminal
        self._lines = 0
        self._drawn = 0
        self._before: dict[str, tuple[float, int, float]] = {}

    def draw(self, watcher: Watcher, rows_stored: int) -> None:
        """Rates are since the last picture."""
        self._drawn += 1
        lines = [
            f"{'node':8} {'camera':8} {'state':9} {'frames':>8} {'fps':>6} {'infer ms':>9} "
            f"{'detections':>10} {'dropped':>8}  what"
        ]
        for node, reports in sorted(watcher.reports.items()):
            for report in reports:
                counts = ", ".join(f"{name} {count}" for name, count in sorted(report.counts.items()))
                rate = self._rate(f"{node}/{report.pipeline}", report.frames_total)
                lines.append(
                    f"{node:8} {report.camera:8} {report.state:9} {report.frames_total:8} {rate:6.1f} "
                    f"{report.infer_ms_p50:9.2f} {report.detections_total:10} {report.dropped_total:8}  {counts}"
                )
        p50_ms, p99_ms = watcher.percentiles()
        lines.append(
            f"events on the broker {watcher.events_total} ({self._rate('events', watcher.events_total):.0f}/s), "
            f"rows at the coordinator {rows_stored} ({self._rate('rows', rows_stored):.0f}/s), "
            f"frame to subscriber p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
        )
        if self._terminal:
            lines += ["", *watcher.latest]
            back = f"\033[{self._lines}A\033[J" if self._lines else ""
            print(back + "\n".join(line[: _width()] for line in lines), file=sys.stderr, flush=True)
            self._lines = len(lines)
        elif self._drawn % 2 == 0:
            print("\n".join(lines[1:]), file=sys.stderr, flush=True)

    def _rate(self, key: str, total: int) -> float:
        """A second's worth of `total`, since it last changed: heartbeats come more rarely than pictures are drawn."""
        now_s = time.monotonic()
        then_s, before, rate = self._before.get(key, (now_s, total, 0.0))
        if total != before and now_s > then_s:
            rate = (total - before) / (now_s - then_s)
        elif now_s - then_s > STALE_S:
            rate = 0.0
        if total != before or key not in self._before or now_s - then_s > STALE_S:
            self._before[key] = (now_s, total, rate)
        return rate


def _width() -> int:
    return shutil.get_terminal_size((160, 40)).columns


# ---- adding up -----------------------------------------------------------------------------------


def _query(stack: Stack, sql: str) -> list[tuple[Any, ...]]:
    path = stack.folder / "coordinator" / "coordinator.db"
    if not path.exists():
        return []
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(sql).fetchall()
    except sqlite3.OperationalError:
        return []  # the coordinator has not made its tables yet
    finally:
        db.close()


def _stored(stack: Stack) -> int:
    """Rows of agents at the coordinator."""
    found = _query(stack, "SELECT count(*) FROM events WHERE node != 'fleet' UNION ALL SELECT count(*) FROM samples")
    return sum(count for (count,) in found)


async def _settled(stack: Stack, nodes: dict[str, str]) -> None:
    """Gives the coordinator a moment to commit what the agents had sent."""
    until_s = time.monotonic() + 10.0
    while time.monotonic() < until_s:
        produced = sum(lane.produced for node in nodes for lane in account(stack.folder / node / "outbox.db"))
        if _stored(stack) >= produced:
            return
        await asyncio.sleep(0.1)


def _summary(stack: Stack, watcher: Watcher, nodes: dict[str, str]) -> Summary:
    """From the agents' own accounts on one side and the coordinator's store on the other."""
    produced = sum(lane.produced for node in nodes for lane in account(stack.folder / node / "outbox.db"))
    key = "SELECT node, stream, lane, seq FROM"
    keys = f"{key} events WHERE node != 'fleet' UNION ALL {key} samples"
    stored = _stored(stack)
    distinct = sum(n for (n,) in _query(stack, f"SELECT count(*) FROM (SELECT DISTINCT * FROM ({keys}))"))
    ended = _query(
        stack,
        "SELECT coalesce(sum(json_extract(data, '$.frames_total')), 0),"
        " coalesce(sum(json_extract(data, '$.detections_total')), 0) FROM events WHERE type = 'PipelineStopped'",
    )
    frames, detections = ended[0] if ended else (0, 0)
    p50_ms, p99_ms = watcher.percentiles()
    return Summary(frames, detections, produced, stored, produced - distinct, stored - distinct, p50_ms, p99_ms)


def _verdict(summary: Summary) -> str:
    inspected = "" if summary.inspection is None else f"; inspection: {_shares(summary.inspection)}"
    head = "the numbers add up" if summary.adds_up() else "THE NUMBERS DO NOT ADD UP"
    return (
        f"demo: {head}: {summary.frames} frames, {summary.detections} detections, "
        f"{summary.events_published} rows committed at the edge, {summary.rows_stored} stored by the coordinator, "
        f"{summary.lost} lost, {summary.duplicated} doubled; frame to subscriber "
        f"p50 {summary.latency_ms_p50} ms, p99 {summary.latency_ms_p99} ms{inspected}"
    )


def _shares(inspection: dict[str, Any]) -> str:
    names = ("parts", "right", "escaped", "false_rejects", "doubled", "decision_ms_p50")
    return ", ".join(f"{name} {inspection[name]}" for name in names)


if __name__ == "__main__":
    sys.exit(main())
