"""A million rows waited for: how fast they are kept, how fast they reach the coordinator, and what an alert notices.

A real agent process without cameras keeps the rows while no broker is there: 90 % samples, which go in batches,
9 % events and 1 % alerts, each a message of its own. Then mosquitto and a coordinator start, and it drains. Meanwhile
the agent raises an alert four times a second. usage: python -m benchmarks.backlog [--rows N] [--json]

`append_rows_s`: first append to last commit, in the agent. `drain_rows_s`: from the moment the agent is connected to
the moment when the coordinator's store holds every row. `alert_latency_…`: from the call of `append` to the
coordinator's answer at the agent, which comes after its commit. `rss_mb_max`: the agent's, over all of it.
"""

import argparse
import asyncio
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.counters import percentile
from scripts.stack import Stack

GROUP = 100
SIDE_BY_SIDE = 8  # appends under way at the same time, as from so many pipelines
ALERTS_A_GROUP, EVENTS_A_GROUP = 1, 9
ALERT_EVERY_S = 0.25
TIMEOUT_S = 900.0


def measure(rows: int = 1_000_000, folder: Path | None = None) -> dict[str, Any]:
    """The whole of it; the keys of the benchmark."""
    where = folder or Path(tempfile.mkdtemp(prefix="edgewright-backlog-"))
    try:
        with Stack(where) as stack:
            return _measure(stack, rows)
    finally:
        if folder is None:
            shutil.rmtree(where, ignore_errors=True)


def _measure(stack: Stack, rows: int) -> dict[str, Any]:
    config = stack.folder / "gw-1.toml"
    config.write_text(
        f'[node]\nid = "gw-1"\ndata_dir = "{stack.folder}/gw-1"\n[broker]\nport = {stack.port}\n', encoding="utf-8"
    )
    told = stack.folder / "told.json"
    stack.spawn(
        "agent", [sys.executable, "-m", "benchmarks.backlog", "--fill", str(config), str(told), "--rows", str(rows)]
    )
    rss = _Rss(stack)
    _wait(stack, rss, lambda: _read(told).get("filled"))
    stack.start_broker()
    stack.start_coordinator()
    store = stack.folder / "coordinator" / "coordinator.db"
    _wait(stack, rss, lambda: _read(told).get("connected_s"))
    _wait(stack, rss, lambda: _stored(store) >= rows)
    done_s = time.monotonic()
    cpu = {name: _cpu_s(stack.pid(name)) for name in ("agent", "coordinator", "broker")}
    stack.stop_one("agent")
    said = _read(told)
    alerts = said["alert_ms"]
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
        (twice,) = db.execute(
            "SELECT count(*) - count(DISTINCT data) FROM (SELECT data FROM events UNION ALL SELECT data FROM samples)"
            " WHERE data LIKE '%uid%'"
        ).fetchone()
        counters = dict(db.execute("SELECT name, value FROM counters"))
    return {
        "backlog_rows": rows,
        "append_rows_s": round(rows / said["fill_s"]),
        "drain_rows_s": round(rows / (done_s - said["connected_s"])),
        "drain_s": round(done_s - said["connected_s"], 1),
        "alerts_during_drain": len(alerts),
        "alert_latency_during_drain_ms_p50": round(percentile(alerts, 50), 1),
        "alert_latency_during_drain_ms_p99": round(percentile(alerts, 99), 1),
        "alert_append_ms_p99": round(percentile(said["append_ms"], 99), 1),
        "coordinator_commit_ms_p50": round(counters.get("commit_ms_p50", 0.0), 1),
        "coordinator_commit_ms_p99": round(counters.get("commit_ms_p99", 0.0), 1),
        "duplicates_stored": twice,
        "rss_mb_max": round(rss.most["agent"], 1),
        "coordinator_rss_mb_max": round(rss.most["coordinator"], 1),
        "cpu_s": {name: round(value, 1) for name, value in cpu.items()},
    }


class _Rss:
    """The largest resident size of each process, in MiB."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.most = {"agent": 0.0, "coordinator": 0.0}

    def look(self) -> None:
        for name in self.most:
            try:
                text = Path(f"/proc/{self._stack.pid(name)}/status").read_text(encoding="ascii")
            except (KeyError, OSError):
                continue
            kb = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:")), 0)
            self.most[name] = max(self.most[name], kb / 1024)


def _wait(stack: Stack, rss: _Rss, true: Callable[[], object]) -> None:
    until_s = time.monotonic() + TIMEOUT_S
    while not true():
        if time.monotonic() > until_s:
            raise SystemExit(f"waited {TIMEOUT_S:.0f} s in vain\n{stack.log_tail('agent')}")
        stack.check()
        rss.look()
        time.sleep(0.1)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _stored(store: Path) -> int:
    """Rows of the backlog at the coordinator, from the ranges it has received: cheap to ask, whatever the size."""
    try:
        with sqlite3.connect(f"file:{store}?mode=ro", uri=True) as db:
            found = db.execute(
                "SELECT coalesce(sum(last - first + 1), 0) FROM received WHERE lane IN ('sample', 'event')"
            ).fetchone()[0]
            alerts = db.execute(
                "SELECT count(*) FROM events WHERE lane = 'alert' AND type = 'AlertUpdated'"
            ).fetchone()
    except sqlite3.Error:
        return 0
    return int(found) + int(alerts[0])


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


# ---- the agent's side -------------------------------------------------------------------------------


async def fill(config: Path, told: Path, rows: int) -> None:
    """Runs the agent; its source keeps `rows` rows, then raises an alert every now and then."""
    from agent.agent import Agent
    from agent.config import load_config
    from agent.outbox.rows import Draft, Row
    from schemas.identity import Lane
    from schemas.messages import Ack, Severity

    agent = Agent(load_config(config))
    said: dict[str, Any] = {"alert_ms": [], "append_ms": []}
    raised: dict[int, float] = {}
    answer = agent.parts.sender.answer

    async def watched(ack: Ack) -> None:
        now_s = time.monotonic()
        for item in ack.stored:
            for first, last in item.ranges if item.lane == "alert" else ():
                for seq in range(first, last + 1):
                    if (at_s := raised.pop(seq, None)) is not None:
                        said["alert_ms"].append((now_s - at_s) * 1000)
        await answer(ack)

    agent.parts.sender.answer = watched  # type: ignore[method-assign]
    committed = agent.parts.outbox.on_committed
    began_s = [0.0]  # of the alert under way, once the backlog is there

    def noted(found: list[Row]) -> None:
        if said.get("filled"):
            raised.update((row.seq, began_s[0]) for row in found if row.lane is Lane.ALERT)
        committed(found)

    agent.parts.outbox.on_committed = noted

    def tell() -> None:
        fresh = told.with_suffix(".new")
        fresh.write_text(json.dumps(said), encoding="utf-8")
        fresh.rename(told)

    kinds = {Lane.ALERT: "AlertUpdated", Lane.EVENT: "ObjectSeen", Lane.SAMPLE: "CountsChanged"}

    def draft(lane: Lane, n: int) -> Draft:
        data: dict[str, Any] = {"uid": n, "camera_id": "cam1"}
        severity = Severity.WARNING if lane is Lane.ALERT else None
        kind = kinds[lane]
        match kind:
            case "AlertUpdated":
                data |= {"rule": "crowded", "alert_id": f"cam1-{n}", "best_confidence": 0.5 + n % 50 / 100}
            case "ObjectSeen":
                data |= {"object_id": f"cam1-{n}", "box": [n % 7, n % 3, 640, 480], "confidence": 0.5 + n % 50 / 100}
            case _:
                data |= {"pipeline": "lane-1", "counts": {"person": n % 7, "car": n % 3}}
        return Draft(lane, kind, "cam1/lane-1", time.time_ns() // 1_000_000, data, severity)

    async def some(numbers: range) -> None:
        for begin in numbers:
            lanes = [Lane.ALERT] * ALERTS_A_GROUP + [Lane.EVENT] * EVENTS_A_GROUP
            lanes += [Lane.SAMPLE] * (GROUP - len(lanes))
            await agent.parts.outbox.append([draft(lane, begin + i) for i, lane in enumerate(lanes)])

    async def source() -> None:
        fill_s = time.monotonic()
        await asyncio.gather(*(some(range(k * GROUP, rows, SIDE_BY_SIDE * GROUP)) for k in range(SIDE_BY_SIDE)))
        said["fill_s"] = time.monotonic() - fill_s
        said["filled"] = True
        tell()
        while not agent.parts.link.is_connected:
            await asyncio.sleep(0.01)
        said["connected_s"] = time.monotonic()
        await asyncio.sleep(1.0)
        n = 10**12
        while True:
            n += 1
            data = {"uid": n, "rule": "crowded", "alert_id": f"cam1-{n}"}
            alert = Draft(Lane.ALERT, "AlertRaised", "cam1", time.time_ns() // 1_000_000, data, Severity.CRITICAL)
            began_s[0] = time.monotonic()
            await agent.parts.outbox.append([alert])
            said["append_ms"].append((time.monotonic() - began_s[0]) * 1000)
            tell()
            await asyncio.sleep(ALERT_EVERY_S)

    task = asyncio.create_task(source(), name="source")
    try:
        await agent.run()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        tell()


def main(argv: list[str] | None = None) -> int:
    """Prints what was measured; with --json one object on the last line."""
    parser = argparse.ArgumentParser(prog="benchmarks.backlog", description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fill", nargs=2, type=Path, metavar=("CONFIG", "TOLD"), help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.fill:
        config, told = arguments.fill
        asyncio.run(fill(config, told, arguments.rows))
        return 0
    found = measure(arguments.rows)
    if arguments.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:40} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
