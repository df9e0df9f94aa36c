"""Nodes that are killed, and links that are half-open: how long until they are suspect, and until they are offline.

The strikes are known from the scenario; the coordinator's store says when each node turned suspect, and its events
when it was told as offline.
"""

import asyncio
from collections.abc import Iterable
from typing import Any

from benchmarks.fleetlib.runs import settle_s, simulated, struck
from benchmarks.fleetlib.world import World, percentile

STEPS = 20
LOOK_S = 0.4
PER_STEP = 0.001  # of the nodes: so few that nobody takes it for an outage
MISSED_AFTER_S = 75.0


async def killed(world: World, nodes: int) -> dict[str, Any]:
    return await _measure(world, nodes, "kill", "detect_killed_s", lasts_s=15.0, step_s=1.0)


async def half_open(world: World, nodes: int) -> dict[str, Any]:
    return await _measure(world, nodes, "half-open", "detect_half_open_s", lasts_s=60.0, step_s=1.5)


async def _measure(world: World, nodes: int, kind: str, key: str, *, lasts_s: float, step_s: float) -> dict[str, Any]:
    calm_s = settle_s(nodes)
    faults = tuple(f"{kind}:{100 * PER_STEP:g}%@{calm_s + n * step_s:g}s+{lasts_s:g}s" for n in range(STEPS))
    async with simulated(world, nodes, prefix=kind.replace("-", ""), faults=faults) as run:
        await run.until_online()
        hit = struck(run)
        suspect: dict[str, int] = {}
        while run.since_s < calm_s + STEPS * step_s + MISSED_AFTER_S and not hit.keys() <= suspect.keys():
            world.stack.check()
            for name, at_utc_ms in _suspects(world, run.prefix):
                suspect.setdefault(name, at_utc_ms)
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(5.0)
        told = {name: at for _, name, at in world.told("NodeOffline", since_utc_ms=run.began_utc_ms)}
    return {
        **_spread(key, hit, suspect.items()),
        **_spread(f"{key.removesuffix('_s')}_offline_s", hit, told.items()),
        f"{key.removesuffix('_s')}_struck": len(hit),
        f"{key.removesuffix('_s')}_missed": len(hit.keys() - suspect.keys()),
        f"{key.removesuffix('_s')}_others": len(told.keys() - hit.keys()),
    }


def _suspects(world: World, prefix: str) -> list[tuple[str, int]]:
    sql = "SELECT node, since_utc_ms FROM nodes WHERE state = 'suspect' AND node LIKE ?"
    return world.query(sql, f"{prefix}-%")


def _spread(key: str, struck: dict[str, int], seen: Iterable[tuple[str, int]]) -> dict[str, float | None]:
    took = [(at - struck[name]) / 1000 for name, at in seen if name in struck]
    return {f"{key}_p50": percentile(took, 50), f"{key}_p99": percentile(took, 99)}
