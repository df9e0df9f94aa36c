"""A model to every node, while some refuse to run it, some fall silent, and some come and go.

`deploy_ready_s`: from the command until every node that answers has fetched the release. `deploy_active_s`: until
each of them runs it, or was found failing. Both without the nodes that flap, which are counted. A simulated node
needs half to one and a half of `deploy_fetch_s` for the first and of `deploy_activate_s` for the second; no bytes
travel.
"""

import asyncio
import subprocess
import sys
from typing import Any

from benchmarks.fleetlib.rollout import FAILING, FLAPPING, RATE_PER_S, SETTLED, SILENT, rolled_out
from benchmarks.fleetlib.runs import simulated
from benchmarks.fleetlib.world import World
from coordinator.simulate.scenario import ModelsTable
from scripts.stack import ROOT

MODEL = ROOT / "platforms" / "manufacturing" / "models" / "weld_defects"
PIPELINE = "seam=weld_defects@0.9.0"
FETCH_S, ACTIVATE_S = 5.0, 2.0
READY = ("ready", "told", "accepted", *SETTLED)
TELLING = "SELECT count(*) FROM reported WHERE node LIKE 'model-%'"
PLAN = {
    "select": "label.simulated = true", "model": "weld_defects", "rate_per_s": RATE_PER_S, "budget": 0.2,
    "fetch_rate_per_s": RATE_PER_S, "fetch_at_once": 1_000_000, "accept_s": 120.0, "verify_s": 120.0,
}  # fmt: skip


async def measure(world: World, nodes: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "coordinator.edgectl", "--config", str(world.config), "model", "add", str(MODEL)]
    await asyncio.to_thread(subprocess.run, [*words, "--channel", "stable"], check=True, cwd=ROOT, timeout=60.0)
    models = ModelsTable(
        (PIPELINE,), fetch_s=FETCH_S, activate_s=ACTIVATE_S, failing=FAILING, silent=SILENT, flapping=FLAPPING
    )
    async with simulated(world, nodes, prefix="model", models=models) as run:
        await run.until_online()
        await run.until(lambda: world.query(TELLING)[0][0] >= nodes, "all say what they run", 120.0 + nodes / 200)
        found = await rolled_out(world, run, PLAN, {"ready": READY, "active": SETTLED})
    return {
        "deploy_ready_s": found.took_s["ready"],
        "deploy_active_s": found.took_s["active"],
        "deploy_fetch_s": FETCH_S,
        "deploy_activate_s": ACTIVATE_S,
        "deploy_counts": found.counts,
        "deploy_state": found.state,
    }
