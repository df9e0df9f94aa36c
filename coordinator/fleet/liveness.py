"""Looks at the clock for the fleet: sends the probes, tells the guard of it, and wakes ingest, which alone changes
the fleet."""

import asyncio
import time
from collections.abc import Callable, Sequence

from coordinator.fleet.probe import Probe
from coordinator.fleet.registry import Fleet
from schemas.codec import decode_result, encode_result
from schemas.errors import RemoteWireError
from schemas.messages import CommandState, Result
from schemas.topics import COORDINATOR

SWEEP_S = 0.5


class Watch:
    """One coordinator's, with a probe for each broker. `publish` takes the broker and a payload for the probe's
    topic."""

    def __init__(self, fleet: Fleet, probes: Sequence[Probe], boot: int, nudge: Callable[[], None]) -> None:
        self._fleet = fleet
        self._probes = tuple(probes)
        self._boot = boot
        self._nudge = nudge
        self.publish: Callable[[int, bytes], None] = lambda broker, payload: None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            now_ms = time.monotonic_ns() // 1_000_000
            for broker, probe in enumerate(self._probes):
                if (number := probe.send(now_ms)) is not None:
                    self.publish(broker, encode_result(self._message(number), packed=False))
                self._fleet.guard.probe(ok=not probe.is_lost(now_ms), now_ms=now_ms, scope=self._fleet.scope(broker))
            self._nudge()
            await asyncio.sleep(SWEEP_S)

    def link(self, broker: int, *, up: bool) -> None:
        """The connection is there, or gone."""
        now_ms = time.monotonic_ns() // 1_000_000
        self._fleet.broker(heard=up, now_ms=now_ms, index=broker)
        self._probes[broker].link(up=up, now_ms=now_ms)

    def came_back(self, broker: int, payload: bytes) -> None:
        """A message on the probe's topic: ours, or that of another start or of somebody else."""
        try:
            boot, _, number = decode_result(payload).id.partition(".")
            if int(boot) == self._boot:
                self._probes[broker].back(int(number))
        except (RemoteWireError, ValueError):
            return

    def _message(self, number: int) -> Result:
        utc_ms = time.time_ns() // 1_000_000
        return Result("probe", CommandState.SUCCEEDED, f"{self._boot}.{number}", COORDINATOR, utc_ms)
