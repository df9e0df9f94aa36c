"""A model to every node, while some refuse to run it, some fall silent, and some come and go.

`deploy_ready_s`: from the command until every node that answers has fetched the release. `deploy_active_s`: until
each of them runs it, or was found failing. Both without the nodes that flap, which are counted. A simulated node
needs half to one and a half of `deploy_fetch_s` for the first and of `deploy_activate_s` for the second; no bytes
travel.
"""

import asyncio
import subprocess
import sys
import time
from typing import Any

from benchmarks.fleetlib.rollout import FAILING, FLAPPING, LOOK_S, RATE_PER_S, SILENT
from benchmarks.fleetlib.runs import simulated
from benchmarks.fleetlib.world import World
from coordinator.simulate.scenario import ModelsTable
from runtime.calls.client import Client
from runtime.mqtt import BrokerAddress
from schemas.messages import Command
from schemas.topics import COORDINATOR, TopicSpace
from scripts.stack import ROOT

MODEL = ROOT / "platforms" / "manufacturing" / "models" / "weld_defects"
PIPELINE = "seam=weld_defects@0.9.0"
FETCH_S, ACTIVATE_S = 5.0, 2.0
DONE = ("verified", "failed")
READY = ("ready", "told", "accepted", *DONE)
COUNTS = """
SELECT state, count(*) FROM rollout_nodes
WHERE rollout = (SELECT number FROM rollouts WHERE id = ?) AND node LIKE 'model-%' GROUP BY state
"""
TELLING = "SELECT count(*) FROM reported WHERE node LIKE 'model-%'"


async def measure(world: World, nodes: int) -> dict[str, Any]:
    words = [sys.executable, "-m", "coordinator.edgectl", "--config", str(world.config), "model", "add", str(MODEL)]
    await asyncio.to_thread(subprocess.run, [*words, "--channel", "stable"], check=True, cwd=ROOT, timeout=60.0)
    models = ModelsTable(
        (PIPELINE,), fetch_s=FETCH_S, activate_s=ACTIVATE_S, failing=FAILING, silent=SILENT, flapping=FLAPPING
    )
    async with simulated(world, nodes, prefix="model", models=models) as run:
        await run.until_online()
        await run.until(lambda: world.query(TELLING)[0][0] >= nodes, "all say what they run", 120.0 + nodes / 200)
        began_s = time.monotonic()
        name = await _deploy(world)
        answering = 0.999 * nodes * (1 - SILENT - FLAPPING)
        found: dict[str, float | None] = {"ready": None, "active": None}
        counts: dict[str, int] = {}
        while time.monotonic() - began_s < 600.0 and found["active"] is None:
            world.stack.check()
            counts = dict(world.query(COUNTS, name))
            for key, states in (("ready", READY), ("active", DONE)):
                if found[key] is None and sum(counts.get(state, 0) for state in states) >= answering:
                    found[key] = round(time.monotonic() - began_s, 1)
            await asyncio.sleep(LOOK_S)
        state = world.query("SELECT state FROM rollouts WHERE id = ?", name)
    return {
        "deploy_ready_s": found["ready"],
        "deploy_active_s": found["active"],
        "deploy_fetch_s": FETCH_S,
        "deploy_activate_s": ACTIVATE_S,
        "deploy_counts": counts,
        "deploy_state": state[0][0] if state else "",
    }


async def _deploy(world: World) -> str:
    plan = {
        "select": "label.simulated = true", "model": "weld_defects", "rate_per_s": RATE_PER_S, "budget": 0.2,
        "fetch_rate_per_s": RATE_PER_S, "fetch_at_once": 1_000_000, "accept_s": 120.0, "verify_s": 120.0,
    }  # fmt: skip
    async with Client(BrokerAddress(port=world.ports[0]), space=TopicSpace(), name="benchmark") as client:
        result = await client.ask(COORDINATOR, Command("startRollout", plan), timeout_s=120.0)
    if result.error is not None:
        raise RuntimeError(f"startRollout: {result.error.message}")
    return str(result.result["id"])
