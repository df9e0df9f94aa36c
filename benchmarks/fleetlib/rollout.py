"""One field to every node, while some refuse it, some never answer, and some come and go.

`rollout_accept_s`: from the command until every node that answers at all has the document. `rollout_active_s`: until
every node that applies it has reported so, or was found failing. Both without the nodes that flap, which are counted.
"""

import asyncio
import time
from typing import Any

from benchmarks.fleetlib.runs import settle_s, simulated
from benchmarks.fleetlib.world import World
from coordinator.simulate.scenario import DesiredTable
from runtime.calls.client import Client
from runtime.mqtt import BrokerAddress
from schemas.messages import Command
from schemas.topics import COORDINATOR, TopicSpace

FAILING, SILENT, FLAPPING = 0.03, 0.02, 0.01
RATE_PER_S = 2000.0
LOOK_S = 0.5
HAS_IT = ("accepted", "verified", "failed")
SETTLED = ("verified", "failed")
COUNTS = """
SELECT state, count(*) FROM rollout_nodes
WHERE rollout = (SELECT number FROM rollouts WHERE id = ?) AND node LIKE 'roll-%' GROUP BY state
"""


async def measure(world: World, nodes: int) -> dict[str, Any]:
    calm_s = settle_s(nodes)
    faults = (f"flap:{100 * FLAPPING:g}%@{calm_s:g}s+120s",)
    desired = DesiredTable(delay_s=1.0, failing=FAILING, silent=SILENT)
    async with simulated(world, nodes, prefix="roll", faults=faults, desired=desired) as run:
        await run.until_online()
        await run.until(lambda: run.since_s > calm_s + 5.0, "some flap", calm_s + 60.0)
        began_s = time.monotonic()
        name = await _start(world)
        answering = nodes * (1 - SILENT - FLAPPING)
        found: dict[str, float | None] = {"accept": None, "active": None}
        counts: dict[str, int] = {}
        while time.monotonic() - began_s < 600.0 and found["active"] is None:
            world.stack.check()
            counts = dict(world.query(COUNTS, name))
            for key, states in (("accept", HAS_IT), ("active", SETTLED)):
                if found[key] is None and sum(counts.get(state, 0) for state in states) >= 0.999 * answering:
                    found[key] = round(time.monotonic() - began_s, 1)
            await asyncio.sleep(LOOK_S)
        await asyncio.sleep(5.0)
        state = world.query("SELECT state FROM rollouts WHERE id = ?", name)
    return {
        "rollout_accept_s": found["accept"],
        "rollout_active_s": found["active"],
        "rollout_counts": counts,
        "rollout_state": state[0][0] if state else "",
        "rollout_refusing": run.report["desired_failed"],
    }


async def _start(world: World) -> str:
    plan = {
        "select": "label.simulated = true", "set": {"log.level": "DEBUG"}, "rate_per_s": RATE_PER_S,
        "budget": 0.2, "accept_s": 120.0, "verify_s": 120.0,
    }  # fmt: skip
    async with Client(BrokerAddress(port=world.ports[0]), space=TopicSpace(), name="benchmark") as client:
        result = await client.ask(COORDINATOR, Command("startRollout", plan), timeout_s=120.0)
    if result.error is not None:
        raise RuntimeError(f"startRollout: {result.error.message}")
    return str(result.result["id"])
