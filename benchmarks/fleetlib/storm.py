"""A broker that is killed and comes back, and a fleet that is cut off as a whole and comes back at once.

`false_offline`: nodes told as offline though nothing was wrong with them but their broker. `storm_converged_s`: from
the end of the cut until every node is online and no row waits but the newest. `false_failovers`: nodes told as
offline meanwhile. `lost`, `duplicates`: rows that were answered and are not in the store, or are there twice.
"""

import asyncio
from typing import Any

from benchmarks.fleetlib.runs import Run, settle_s, simulated
from benchmarks.fleetlib.world import World
from coordinator.store.simulated import stored_rows

AWAY_S = 5.0
EVENTS_PER_NODE = 0.02
FRESH_S = 5.0  # a row that is no older may wait for its answer


async def broker_restart(world: World, nodes: int, window_s: float) -> dict[str, Any]:
    async with simulated(world, nodes, prefix="calm", events_per_node=EVENTS_PER_NODE) as run:
        await run.until_online()
        await asyncio.sleep(window_s / 3)
        world.kill_broker(0)
        await asyncio.sleep(AWAY_S)
        world.start_broker(0)
        back_s = await run.until(lambda: run.look and run.look.figures.connected_now == nodes, "all are back", 600.0)
        await run.until(lambda: run.online() == nodes, "all are online again", 600.0)
        await asyncio.sleep(max(0.0, 2 * window_s / 3 - back_s))
        told = world.told("NodeOffline", since_utc_ms=run.began_utc_ms)
        spent_s = run.since_s
    return {
        "false_offline": len(told),
        "false_offline_window_s": round(spent_s, 1),
        "restart_back_s": round(back_s, 1),
        **{f"restart_{key}": value for key, value in _rows(world, run).items()},
    }


async def storm(world: World, nodes: int, cut_s: float) -> dict[str, Any]:
    calm_s = settle_s(nodes)
    faults = (f"cut:100%@{calm_s:g}s+{cut_s:g}s",)
    async with simulated(world, nodes, prefix="storm", events_per_node=EVENTS_PER_NODE, faults=faults) as run:
        await run.until_online()
        await run.until(lambda: run.since_s > calm_s + cut_s, "the cut ends", calm_s + cut_s + 60.0)

        def waits() -> int:
            return run.look.figures.waiting_now if run.look else nodes

        fresh = max(20.0, FRESH_S * EVENTS_PER_NODE * nodes)
        await run.until(lambda: run.online() == nodes and waits() <= fresh, "all are back and answered", 900.0)
        converged_s = run.since_s - calm_s - cut_s
        asked = world.counters().get("asked_again", 0)
        told = world.told("NodeOffline", since_utc_ms=run.began_utc_ms)
        frozen = world.told("FailoverFrozen", since_utc_ms=run.began_utc_ms)
    return {
        "storm_converged_s": round(converged_s, 1),
        "storm_cut_s": cut_s,
        "false_failovers": len(told),
        "storm_freezes": len(frozen),
        "storm_asked_again": asked,
        "storm_rows": run.report["acked"],
        "storm_unanswered": run.report["unanswered"],
        **_rows(world, run),
    }


def _rows(world: World, run: Run) -> dict[str, int]:
    with world.store() as db:
        kept = stored_rows(db, run.prefix, run.report["boot"])
    return {"lost": max(0, run.report["acked"] - kept.distinct), "duplicates": kept.rows - kept.distinct}
