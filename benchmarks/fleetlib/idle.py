"""A fleet that connects, and then has nothing to say: how long it takes, what it costs.

`register_s`: from the first connection until the coordinator has every node as online, in its store.
`heartbeats_s`: heartbeats taken a second, over the window. `lag_s_p99`: of the newest of each node at the end of it,
from the moment it was made until the coordinator had taken it. `heartbeats_missing`: nodes whose newest is older than
it may be. `cpu_cores`, `coordinator_rss_mb`: of the coordinator in the window and at its end.
`idle_bytes_per_node_s`: MQTT bytes of heartbeats, pings and their answers, both ways.
"""

import asyncio
import json
import time
from typing import Any

from benchmarks.fleetlib.runs import simulated
from benchmarks.fleetlib.world import World, percentile, utc_ms

TURN_NODES, TURN_S, TURN_S_MIN = 1000, 0.5, 2.0  # so many newest heartbeats are written at a time, so often
PREFIX = "idle"


async def measure(world: World, nodes: int, window_s: float, settle_s: float) -> dict[str, Any]:
    """`settle_s`: the first heartbeats come early."""
    async with simulated(world, nodes, prefix=PREFIX) as run:
        register_s = await run.until_online()
        await asyncio.sleep(settle_s)
        turn_s = 2 * max(TURN_S_MIN, TURN_S * -(-nodes // TURN_NODES))
        window_s = max(window_s, turn_s)
        before, cpu_s, began_s = await _counted(world), world.cpu_s(), time.monotonic()
        await asyncio.sleep(window_s)
        after, cpu_s = await _counted(world), world.cpu_s() - cpu_s
        wall_s = time.monotonic() - began_s
        rss_mb, lags, now_ms = world.rss_mb(), _lags(world), utc_ms()
        told = world.told("NodeOffline", "FailoverFrozen", since_utc_ms=run.began_utc_ms)
    late = [age for age, _ in lags if now_ms - age > 1000 * (15.0 * 1.1 * 2 + turn_s)]
    beats_s = (after["heartbeats"] - before["heartbeats"]) / (after["uptime_s"] - before["uptime_s"])
    return {
        "nodes": nodes,
        "register_s": round(register_s, 1),
        "heartbeats_s": round(beats_s, 1),
        "heartbeats_expected_s": round(nodes / 15.0, 1),
        "heartbeats_missing": nodes - len(lags) + len(late),
        "lag_s_p99": percentile([lag for _, lag in lags], 99),
        "cpu_cores": round(cpu_s / wall_s, 3),
        "coordinator_rss_mb": round(rss_mb, 1),
        "idle_bytes_per_node_s": run.report["idle_bytes_per_node_s"],
        "idle_window_s": round(wall_s, 1),
        "idle_told": len(told),
        "asked_again": after.get("asked_again", 0) - before.get("asked_again", 0),
        "simulator_lag_ms_p99": run.report["lag_ms_p99"],
        "simulator_cpu_s": run.report["cpu_s"],
    }


async def _counted(world: World) -> dict[str, float]:
    """The next counters that it writes."""
    first = world.counters()
    while (found := world.counters()).get("saved_utc_ms") == first.get("saved_utc_ms"):
        world.stack.check()
        await asyncio.sleep(0.05)
    return found


def _lags(world: World) -> list[tuple[int, float]]:
    """(when it was taken in UTC milliseconds, seconds that it took) of each node's newest heartbeat."""
    rows = world.query("SELECT received_utc_ms, document FROM heartbeats_latest WHERE node LIKE ?", f"{PREFIX}-%")
    return [(taken, max(0.0, (taken - json.loads(text)["time_utc_ms"]) / 1000)) for taken, text in rows]
