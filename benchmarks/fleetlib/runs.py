"""Simulated nodes for the length of a `with`: `edgectl simulate` in this process, its workers beside it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from benchmarks.fleetlib.world import World
from coordinator.simulate.faults import plan
from coordinator.simulate.fleet import Fleet, Look
from coordinator.simulate.scenario import NODES_PER_PROCESS_MAX, FleetTable, LoadTable, RunTable, Scenario
from scripts.stack import StackError

FOR_EVER_S = 20 * 86_400.0
DRAIN_S = 120.0
SITE_NODES = 50
LOOK_S = 0.25
NICE = 10  # simulated nodes stand for other machines: they give way to the brokers and the coordinator on this one


def settle_s(nodes: int) -> float:
    """From the first connection until every node is registered, with time to spare: faults strike at set times."""
    return 25.0 + nodes / 300


class Run:
    """One run under way: what it looks like, and its report once it has ended."""

    def __init__(self, world: World, fleet: Fleet, scenario: Scenario) -> None:
        self.world = world
        self.scenario = scenario
        self.fleet = fleet
        self.look: Look | None = None
        self.report: dict[str, Any] = {}

    @property
    def nodes(self) -> int:
        return self.scenario.fleet.nodes

    @property
    def prefix(self) -> str:
        return self.scenario.fleet.prefix

    @property
    def began_utc_ms(self) -> int:
        """When the first connection was begun."""
        return int((self.fleet.begin_s + time.time() - time.monotonic()) * 1000)

    @property
    def since_s(self) -> float:
        return time.monotonic() - self.fleet.begin_s

    def online(self) -> int:
        """As the coordinator sees it."""
        return self.world.nodes(self.prefix, "online")

    async def until(self, true: Callable[[], object], what: str, timeout_s: float) -> float:
        """Seconds that it took. Raises StackError."""
        began_s = time.monotonic()
        while not true():
            self.world.stack.check()
            if time.monotonic() - began_s > timeout_s:
                raise StackError(f"waited {timeout_s:g} s in vain: {what}; {self.look and self.look.figures}")
            await asyncio.sleep(LOOK_S)
        return time.monotonic() - began_s

    async def until_online(self) -> float:
        """Seconds from the first connection until the coordinator has all of them as online."""
        timeout_s = 120.0 + self.nodes / 100
        await self.until(lambda: self.online() >= self.nodes, f"{self.nodes} nodes are online", timeout_s)
        return self.since_s


@contextlib.asynccontextmanager
async def simulated(
    world: World,
    nodes: int,
    *,
    prefix: str,
    events_per_node: float = 0.0,
    connects_per_s: float = 2000.0,
    faults: tuple[str, ...] = (),
    for_s: float = FOR_EVER_S,
    **more: Any,
) -> AsyncIterator[Run]:
    """Ends in order at the end of the `with`; its report is there after it. `more` are tables of the scenario."""
    scenario = Scenario(
        FleetTable(nodes=nodes, sites=max(1, nodes // SITE_NODES), prefix=prefix),
        LoadTable(events_per_node=events_per_node),
        run=RunTable(
            brokers=tuple(f"127.0.0.1:{port}" for port in world.ports),
            for_s=for_s,
            drain_s=DRAIN_S,
            processes=max(len(world.ports), -(-nodes // NODES_PER_PROCESS_MAX)) if nodes > 3000 else 1,
            nice=NICE,
            connects_per_s=connects_per_s,
        ),
        faults=faults,
    )
    scenario = replace(scenario, **more)
    run: Run | None = None

    def look(seen: Look) -> None:
        if run is not None:
            run.look = seen

    fleet = Fleet(scenario, look)
    run = Run(world, fleet, scenario)
    task = asyncio.create_task(fleet.run(), name="benchmark.simulate")
    try:
        yield run
        fleet.stop()
        run.report = await task
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def struck(run: Run) -> dict[str, int]:
    """When each node is struck, in UTC milliseconds; the first time counts."""
    scenario = run.scenario
    strikes = plan(scenario.parsed_faults, run.nodes, scenario.run.for_s, scenario.fleet.seed)
    found: dict[str, int] = {}
    for strike in strikes:
        found.setdefault(scenario.node(strike.node), run.began_utc_ms + int(strike.at_s * 1000))
    return found
