"""A coordinator process and what can be looked up of its fleet."""

import asyncio
import json
import subprocess
from typing import Any

from tests.coordinator.process import Process, edgectl

FAST = "heartbeat_s = 1.0\nheartbeats_missed_max = 3\nwill_hold_s = 1.0"
LONG_S = 90.0


def told(process: Process, *types: str) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(types))
    sql = f"SELECT data FROM events WHERE node = 'fleet' AND type IN ({marks}) ORDER BY id"
    return [json.loads(data) for (data,) in process.query(sql, *types)]


def shown(process: Process, name: str) -> str:
    rows = process.query("SELECT shown FROM nodes WHERE node = ?", name)
    return str(rows[0][0]) if rows else ""


def count(process: Process, state: str) -> int:
    return int(process.query("SELECT count(*) FROM nodes WHERE shown = ?", state)[0][0])


async def ctl(process: Process, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(edgectl, ["--config", str(process.config), *arguments])


def retained(port: int, node: str) -> str:
    """What `mosquitto_sub` finds kept of a node."""
    command = ["mosquitto_sub", "-p", str(port), "-t", f"edge/v1/{node}/#", "--retained-only", "-W", "2", "-v"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout
