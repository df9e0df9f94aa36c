"""The recovery campaign: real processes, faults on purpose, and how many are mended without a hand.

usage: python -m benchmarks.recovery [--faults N] [--nodes N] [--only KIND ...] [--seed N] [--json]

A plant (`recoverylib.plant`) runs as systemd would run it (`recoverylib.service`). Faults of one node are done to all
nodes side by side, one after the other to each; then those of the whole site. A fault counts as recovered when,
within 120 s of its end and without anything being done about it, every node concerned decides frames, is online at
the coordinator, a heartbeat and a sample made after it are stored there, and it reports that it runs the model and
the container that it is to run.

`auto_recovered`: share of the faults. `causes`: the others by kind, with what was amiss. `availability`: share of
node-seconds in which frames are decided, for nodes that meet each kind `per_year` times: the seconds without frames
that a fault of this kind cost here, on the mean, times how often it comes. `availability_with_camera` counts the
seconds too in which the camera itself was off. A gap of a second and more is an outage.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.recoverylib.faults import FAULTS, Fault
from benchmarks.recoverylib.marks import Span, availability, downs, overlap_s, read_marks
from benchmarks.recoverylib.plant import Machine, Plant

GAP_S = 1.0
SETTLE_S = 1.5  # before the next fault


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one fault came to, at one node."""

    kind: str
    node: str
    over: Span  # from its beginning until all was well again, monotonic seconds
    imposed: Span  # in which there was nothing to decide
    recovery_s: float  # from its end
    amiss: str  # empty: recovered


class Campaign:
    """Does the faults and keeps what came of them."""

    def __init__(self, plant: Plant, seed: int) -> None:
        self.outcomes: list[Outcome] = []
        self._plant = plant
        self._chance = random.Random(seed)
        self._lock = threading.Lock()

    def run(self, faults: list[Fault]) -> None:
        """Those of nodes, spread over the nodes; then those of the site."""
        of_nodes = [fault for fault in faults if not fault.site]
        self._chance.shuffle(of_nodes)
        machines = self._plant.machines
        shares: list[list[Fault]] = [[] for _ in machines]
        for fault in sorted(of_nodes, key=lambda one: one.clock is None):  # the choosy ones first
            able = [n for n, one in enumerate(machines) if fault.clock in (None, one.has_clock)]
            shares[min(able, key=lambda n: len(shares[n]))].append(fault)
        for share in shares:
            self._chance.shuffle(share)
        with ThreadPoolExecutor(len(machines), thread_name_prefix="faults") as pool:
            list(pool.map(self._one_after_another, machines, shares))
        of_site = [fault for fault in faults if fault.site]
        self._chance.shuffle(of_site)
        for fault in of_site:
            self._do(fault, machines)

    def _one_after_another(self, machine: Machine, faults: list[Fault]) -> None:
        for fault in faults:
            self._do(fault, [machine])

    def _do(self, fault: Fault, machines: list[Machine]) -> None:
        time.sleep(SETTLE_S)
        began_s = time.monotonic()
        fault.begin(self._plant, machines[0])
        time.sleep(fault.hold_s)
        fault.end(self._plant, machines[0])
        ended_s, ended_ms = time.monotonic(), time.time_ns() // 1_000_000
        for machine in machines:
            amiss = self._plant.wait_well(machine, ended_s, ended_ms, lambda one: fault.also(self._plant, one))
            now_s = time.monotonic()
            imposed = (began_s, ended_s) if fault.imposed else (began_s, began_s)
            outcome = Outcome(fault.kind, machine.name, (began_s, now_s), imposed, now_s - ended_s, amiss)
            with self._lock:
                self.outcomes.append(outcome)
            told = f"WRONG {amiss}\n{machine.agent.log_tail()}" if amiss else f"{outcome.recovery_s:.1f} s"
            print(f"{fault.kind} {machine.name}: {told}", file=sys.stderr, flush=True)

    def figures(self) -> dict[str, Any]:
        """The keys of the benchmark."""
        outages = {
            machine.name: downs(read_marks(machine.marks), self._span(), GAP_S) for machine in self._plant.machines
        }
        by_kind: dict[str, list[Outcome]] = defaultdict(list)
        for outcome in self.outcomes:
            by_kind[outcome.kind].append(outcome)
        table, cost, whole = {}, {}, {}
        for kind, outcomes in by_kind.items():
            lost = [overlap_s(outages[one.node], one.over) for one in outcomes]
            imposed = [overlap_s(outages[one.node], one.imposed) for one in outcomes]
            whole[kind], cost[kind] = mean(lost), mean(a - b for a, b in zip(lost, imposed, strict=True))
            table[kind] = {
                "faults": len(outcomes),
                "recovered": sum(not one.amiss for one in outcomes),
                "recovery_s_p50": round(median(one.recovery_s for one in outcomes), 2),
                "recovery_s_max": round(max(one.recovery_s for one in outcomes), 2),
                "seconds_without_frames": round(cost[kind], 2),
                "per_year": next(fault.per_year for fault in FAULTS if fault.kind == kind),
            }
        rates = {fault.kind: fault.per_year for fault in FAULTS}
        good = sum(not one.amiss for one in self.outcomes)
        return {
            "faults": len(self.outcomes),
            "kinds": len(by_kind),
            "auto_recovered": round(good / len(self.outcomes), 4),
            "availability": round(availability(cost, rates), 6),
            "availability_with_camera": round(availability(whole, rates), 6),
            "causes": {
                kind: [one.amiss for one in outcomes if one.amiss]
                for kind, outcomes in by_kind.items()
                if any(one.amiss for one in outcomes)
            },
            "by_kind": table,
            "targets": {
                "faults": ">= 200",
                "kinds": ">= 12",
                "auto_recovered": ">= 0.98",
                "availability": ">= 0.9999",
            },
        }

    def _span(self) -> Span:
        return min(one.over[0] for one in self.outcomes), max(one.over[1] for one in self.outcomes)


def chosen(
    count: int, nodes: int, only: list[str], *, volumes: bool, without_pods: str = ""
) -> tuple[list[Fault], dict[str, str]]:
    """About `count` faults by their weights, each kind once at least; and the kinds that cannot be done here.

    A fault of the site counts once for each node.
    """
    wanted = [fault for fault in FAULTS if not only or fault.kind in only]
    skipped = {fault.kind: "no volume can be mounted here" for fault in wanted if fault.volume and not volumes}
    skipped |= {fault.kind: without_pods for fault in wanted if fault.pods and without_pods}
    skipped |= {fault.kind: "wants more than one node" for fault in wanted if fault.clock and nodes == 1}
    able = [fault for fault in wanted if fault.kind not in skipped]
    weights = sum(fault.weight * (nodes if fault.site else 1) for fault in able)
    faults = []
    for fault in able:
        faults += [fault] * max(1, round(count * fault.weight / weights))
    return faults, skipped


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="benchmarks.recovery", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--faults", type=int, default=240)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    kinds = [fault.kind for fault in FAULTS]
    parser.add_argument("--only", nargs="+", choices=kinds, default=[], metavar="KIND", help=", ".join(kinds))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp(prefix="edgewright-recovery-"))
    try:
        with Plant(folder, arguments.nodes) as plant:
            faults, skipped = chosen(
                arguments.faults,
                arguments.nodes,
                arguments.only,
                volumes=plant.volumes,
                without_pods=plant.without_pods,
            )
            campaign = Campaign(plant, arguments.seed)
            campaign.run(faults)
            figures = campaign.figures() | {"skipped": skipped, "nodes": arguments.nodes}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(figures, indent=None if arguments.json else 2))
    return 0 if figures["auto_recovered"] == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
