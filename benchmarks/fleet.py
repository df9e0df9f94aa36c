"""What one coordinator carries: nodes, heartbeats, messages, faults, a storm, roll-outs, failover.

Real brokers (18,000 nodes each), a real coordinator, simulated nodes with real connections. Each part is a run of its
own on one system; `--only PART` names one, or several: register, ingest, killed, half_open, restart, storm, rollout,
deploy, failover, catalogue, schedule.
usage: python -m benchmarks.fleet [--json] [--nodes N] [--only PART ...] [--full]

The default, 2,000 nodes, takes some minutes on two cores; `--full` has the times of the issue (54,000 nodes, a cut of
5 minutes, a calm of 10). What a key means says the part in `benchmarks/fleetlib/`. `targets` has what is aimed at
beside each value, for 54,000 nodes; `left_out` names parts that are not there.
"""

import argparse
import asyncio
import importlib
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fleetlib import deploying, detection, failover, idle, receiving, rollout, storm
from benchmarks.fleetlib.world import World

NODES_PER_BROKER = 18_000
TARGETS: dict[str, float] = {
    "nodes": 54_000,
    "register_s": 180.0,
    "lag_s_p99": 2.0,
    "coordinator_rss_mb": 600.0,
    "ratio_vs_paho": 0.8,
    "detect_killed_s_p50": 2.0,
    "detect_killed_s_p99": 10.0,
    "detect_half_open_s_p50": 30.0,
    "detect_half_open_s_p99": 40.0,
    "false_offline": 0,
    "storm_converged_s": 120.0,
    "false_failovers": 0,
    "lost": 0,
    "duplicates": 0,
    "rollout_accept_s": 60.0,
    "rollout_active_s": 300.0,
    "deploy_active_s": 300.0,
    "schedule_ms_p99": 50.0,
    "failover_s_p99": 5.0,
}


@dataclass(frozen=True, slots=True)
class Times:
    """How long the parts take that have a length of their own."""

    settle_s: float = 20.0
    idle_s: float = 30.0
    calm_s: float = 60.0
    cut_s: float = 30.0
    messages: int = 40_000


TINY = Times(settle_s=1.0, idle_s=2.0, calm_s=4.0, cut_s=3.0, messages=2000)
FULL = Times(idle_s=120.0, calm_s=600.0, cut_s=300.0, messages=100_000)
Part = Callable[[World, int, Times], Coroutine[Any, Any, dict[str, Any]]]
PARTS: dict[str, Part] = {
    "register": lambda world, nodes, times: idle.measure(world, nodes, times.idle_s, times.settle_s),
    "killed": lambda world, nodes, times: detection.killed(world, nodes),
    "half_open": lambda world, nodes, times: detection.half_open(world, nodes),
    "restart": lambda world, nodes, times: storm.broker_restart(world, nodes, times.calm_s),
    "storm": lambda world, nodes, times: storm.storm(world, nodes, times.cut_s),
    "rollout": lambda world, nodes, times: rollout.measure(world, nodes),
    "deploy": lambda world, nodes, times: deploying.measure(world, nodes),
    "failover": lambda world, nodes, times: failover.measure(world, nodes),
}
# Parts with a store of their own: a module, and its function that gives the keys. One may not be there yet.
OTHERS = {"catalogue": ("catalogue", "catalogue"), "schedule": ("scheduling", "scheduling")}
INGEST = "ingest"
NAMES = (INGEST, *PARTS, *OTHERS)


def measure(nodes: int, only: tuple[str, ...], times: Times, say: Callable[[str], None]) -> dict[str, Any]:
    """The keys of the parts that are asked for."""
    found: dict[str, Any] = {"nodes": nodes, "brokers": max(1, -(-nodes // NODES_PER_BROKER))}
    with tempfile.TemporaryDirectory(prefix="edgewright-fleet-") as folder:
        if INGEST in only:
            with World(Path(folder) / INGEST, 1, coordinator=False) as world:
                found |= _timed(INGEST, receiving.measure(world, times.messages), say)
        for name in [one for one in PARTS if one in only]:
            with World(Path(folder) / name, found["brokers"]) as world:
                found |= _timed(name, PARTS[name](world, nodes, times), say)
    left_out = []
    for name in [one for one in OTHERS if one in only]:
        module, function = OTHERS[name]
        try:
            part = getattr(importlib.import_module(f"benchmarks.fleetlib.{module}"), function)
        except (ModuleNotFoundError, AttributeError):
            left_out.append(name)
        else:
            say(f"{name} …")
            found |= part()
    found["targets"] = {key: value for key, value in TARGETS.items() if key in found}
    found["left_out"] = left_out
    return found


def _timed(name: str, part: Coroutine[Any, Any, dict[str, Any]], say: Callable[[str], None]) -> dict[str, Any]:
    say(f"{name} …")
    began_s = time.monotonic()
    found = asyncio.run(part)
    say(f"{name}: {time.monotonic() - began_s:.0f} s  {json.dumps(found)}")
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints what was measured; with --json one object on the last line."""
    parser = argparse.ArgumentParser(prog="benchmarks.fleet", description=__doc__)
    parser.add_argument("--nodes", type=int, default=2000)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES), metavar="PART")
    parser.add_argument("--full", action="store_true", help="the lengths of the issue")
    parser.add_argument("--tiny", action="store_true", help="so short that the figures mean nothing: for the tests")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)  # what was started is stopped, also from a background
    times = FULL if arguments.full else TINY if arguments.tiny else Times()
    found = measure(
        arguments.nodes, tuple(arguments.only), times, lambda text: print(text, file=sys.stderr, flush=True)
    )
    if arguments.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            target = TARGETS.get(key)
            print(f"{key:28} {value}" + ("" if target is None else f"   (target {target:g})"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
