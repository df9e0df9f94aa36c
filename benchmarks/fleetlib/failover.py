"""Nodes with workloads are killed: how long from the loss of a node until what it had runs elsewhere.

`failover_s`: from the moment at which a node is told as offline (its detection is measured by `killed`) until the
coordinator has heard that the replica in its place runs. Half to one and a half of `failover_node_s` of it are the
simulated node's own: to apply its document, and to start what it says. `failover_missed`: replicas of lost nodes that
run nowhere in the end.
"""

import asyncio
import json
from typing import Any

from benchmarks.fleetlib.runs import settle_s, simulated, struck
from benchmarks.fleetlib.world import World, ask, percentile
from coordinator.simulate.scenario import DesiredTable, WorkloadsTable

WORKLOADS = 10  # with a replica at every node, all together
APPLY_S, START_S = 1.0, 1.0
STEPS_MAX = 20
PER_STEP, SHARE_MAX = 0.001, 0.04  # of the nodes, one at least: so few that nobody takes it for an outage
STEP_S = 2.0
AWAY_S = 40.0
LATEST_S = 60.0  # after the last strike
LOOK_S = 0.5

RUNNING = "SELECT count(*) FROM placements WHERE phase = 'running' AND leaving = ''"
HELD = "SELECT workload, node, since_utc_ms FROM placements WHERE phase = 'running'"
Replica = tuple[str, str]
"""(workload, node)."""

MOVED = "SELECT data FROM events WHERE node = 'fleet' AND type = 'WorkloadMoved' AND time_utc_ms >= ?"


def steps(nodes: int) -> int:
    """How often nodes are struck."""
    return min(STEPS_MAX, max(1, int(SHARE_MAX * nodes / max(1, round(PER_STEP * nodes)))))


def place_s(nodes: int) -> float:
    """Until a replica runs at every node, with time to spare."""
    return 20.0 + nodes / 100


async def measure(world: World, nodes: int) -> dict[str, Any]:
    begin_s = settle_s(nodes) + place_s(nodes)
    faults = tuple(f"kill:{100 * PER_STEP:g}%@{begin_s + n * STEP_S:g}s+{AWAY_S:g}s" for n in range(steps(nodes)))
    desired, workloads = DesiredTable(delay_s=APPLY_S), WorkloadsTable(start_s=START_S)
    async with simulated(world, nodes, prefix="fail", faults=faults, desired=desired, workloads=workloads) as run:
        await run.until_online()
        wanted = await _apply(world, nodes)
        placed_s = await run.until(lambda: _count(world) >= wanted, f"{wanted} replicas run", place_s(nodes))
        before = {(workload, node) for workload, node, _ in world.query(HELD)}
        hit = struck(run)
        lost = {replica for replica in before if replica[1] in hit}
        found: dict[Replica, float] = {}
        while run.since_s < begin_s + steps(nodes) * STEP_S + LATEST_S and len(found) < len(lost):
            world.stack.check()
            await asyncio.sleep(LOOK_S)
            found = _took(world, lost, run.began_utc_ms) | found  # one that ran may be struck in its turn
        took = list(found.values())
        frozen = world.told("FailoverFrozen", since_utc_ms=run.began_utc_ms)
    return {
        "failover_s_p50": percentile(took, 50),
        "failover_s_p99": percentile(took, 99),
        "failover_node_s": APPLY_S + START_S,
        "failover_replicas": wanted,
        "failover_placed_s": round(placed_s, 1),
        "failover_moved": len(took),
        "failover_missed": len(lost) - len(took),
        "failover_freezes": len(frozen),
    }


async def _apply(world: World, nodes: int) -> int:
    """The workloads are declared; how many replicas they have."""
    each = max(1, nodes // WORKLOADS)
    for number in range(WORKLOADS):
        wish = {
            "name": f"w{number}", "type": "container", "replicas": each, "container": {"image": "simulated"},
            "resources": {"cpu_cores": 0.25, "memory_mb": 16.0}, "selector": "label.simulated = true",
        }  # fmt: skip
        await ask(world, "applyWorkload", wish)
    return each * WORKLOADS


def _count(world: World) -> int:
    found = world.query(RUNNING)
    return int(found[0][0]) if found else 0


def _took(world: World, lost: set[Replica], since_utc_ms: int) -> dict[Replica, float]:
    """Of what lost nodes had and what runs elsewhere by now, the seconds from loss to running."""
    offline = {name: at_ms for _, name, at_ms in world.told("NodeOffline", since_utc_ms=since_utc_ms)}
    running: dict[Replica, int] = {(workload, node): at_ms for workload, node, at_ms in world.query(HELD)}
    told = [json.loads(text) for (text,) in world.query(MOVED, since_utc_ms)]
    moves: dict[Replica, Replica] = {
        (one["workload"], one["from_node"]): (one["workload"], one["to_node"]) for one in told
    }
    took = {}
    for replica in lost & moves.keys():
        there = moves[replica]
        for _ in range(STEPS_MAX):
            if there not in running:  # struck before it ran, perhaps
                there = moves.get(there, there)
        if there in running and replica[1] in offline:
            took[replica] = (running[there] - offline[replica[1]]) / 1000
    return took
