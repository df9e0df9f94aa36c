"""Looks at the fleet's deadlines and wakes ingest when one is over; ingest alone changes the fleet."""

import asyncio
import time
from collections.abc import Callable

from coordinator.fleet.registry import Fleet

SWEEP_S = 0.5


async def watch(fleet: Fleet, nudge: Callable[[], None]) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_S)
        if fleet.due(time.monotonic_ns() // 1_000_000):
            nudge()
