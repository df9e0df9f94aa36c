"""One field to every node, while some refuse it, some never answer, and some come and go.

`rollout_accept_s`: from the command until every node that answers at all has the document. `rollout_active_s`: until
every node that applies it has reported so, or was found failing. Both without the nodes that flap, which are counted.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.fleetlib.runs import Run, settle_s, simulated
from benchmarks.fleetlib.world import World, ask
from coordinator.simulate.scenario import DesiredTable

FAILING, SILENT, FLAPPING = 0.03, 0.02, 0.01
RATE_PER_S = 2000.0
LOOK_S, FOLLOWED_S = 0.5, 600.0
PLAN = {
    "select": "label.simulated = true", "set": {"log.level": "DEBUG"}, "rate_per_s": RATE_PER_S,
    "budget": 0.2, "accept_s": 120.0, "verify_s": 120.0,
}  # fmt: skip
HAS_IT = ("accepted", "verified", "failed")
SETTLED = ("verified", "failed")
COUNTS = """
SELECT state, count(*) FROM rollout_nodes
WHERE rollout = (SELECT number FROM rollouts WHERE id = ?) AND node LIKE ? GROUP BY state
"""


async def measure(world: World, nodes: int) -> dict[str, Any]:
    calm_s = settle_s(nodes)
    faults = (f"flap:{100 * FLAPPING:g}%@{calm_s:g}s+120s",)
    desired = DesiredTable(delay_s=1.0, failing=FAILING, silent=SILENT)
    async with simulated(world, nodes, prefix="roll", faults=faults, desired=desired) as run:
        await run.until_online()
        await run.until(lambda: run.since_s > calm_s + 5.0, "some flap", calm_s + 60.0)
        found = await rolled_out(world, run, PLAN, {"accept": HAS_IT, "active": SETTLED})
        await asyncio.sleep(5.0)
    return {
        "rollout_accept_s": found.took_s["accept"],
        "rollout_active_s": found.took_s["active"],
        "rollout_counts": found.counts,
        "rollout_state": found.state,
        "rollout_refusing": run.report["desired_failed"],
    }


@dataclass(frozen=True, slots=True)
class RolledOut:
    """`took_s`: by mark, from the command until all that answer were in one of its states; None: they never were."""

    took_s: dict[str, float | None]
    counts: dict[str, int]
    state: str


async def rolled_out(world: World, run: Run, plan: dict[str, Any], marks: Mapping[str, Sequence[str]]) -> RolledOut:
    """Begins a roll-out to all nodes and follows it to the last mark; who is silent or flaps is not waited for."""
    began_s = time.monotonic()
    name = str((await ask(world, "startRollout", plan))["id"])
    answering = 0.999 * run.nodes * (1 - SILENT - FLAPPING)
    took_s: dict[str, float | None] = dict.fromkeys(marks)
    counts: dict[str, int] = {}
    while time.monotonic() - began_s < FOLLOWED_S and None in took_s.values():
        world.stack.check()
        counts = dict(world.query(COUNTS, name, f"{run.prefix}-%"))
        for mark, states in marks.items():
            if took_s[mark] is None and sum(counts.get(state, 0) for state in states) >= answering:
                took_s[mark] = round(time.monotonic() - began_s, 1)
        await asyncio.sleep(LOOK_S)
    state = world.query("SELECT state FROM rollouts WHERE id = ?", name)
    return RolledOut(took_s, counts, state[0][0] if state else "")
