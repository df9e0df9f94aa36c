"""The figures of the machine and of this process, measured now and then."""

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import Path

from agent.degrade.policy import Cause
from agent.health import host
from agent.outbox.file import OutboxFile
from agent.outbox.tables import LaneAccount
from runtime.supervision import LoopWatch

LOOK_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The outbox's account and the machine's figures, as last measured."""

    accounts: list[LaneAccount] = field(default_factory=list)
    memory_mb: float = 0.0
    temperature_c: float | None = None
    disk_free_mb: float = 0.0

    @property
    def pending(self) -> int:
        """Rows of all lanes that the coordinator does not have."""
        return sum(account.pending for account in self.accounts)


class Meters:
    """Of one node. What takes a while to read is read in a thread."""

    def __init__(self, file: OutboxFile, data_dir: Path) -> None:
        self._file = file
        self._data_dir = data_dir
        self._cpu = host.CpuMeter()
        self._machine = host.MachineMeter()
        self.loop_watch = LoopWatch()
        self.newest = Figures()
        self.cpu_percent = 0.0  # between the last two heartbeats

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> Figures:
        """The newest, measured now."""
        self.newest = await asyncio.to_thread(self._measure)
        return self.newest

    def beat(self) -> None:
        """A heartbeat is made: the processor's share is counted from one to the next."""
        self.cpu_percent = self._cpu.percent(time.monotonic(), host.children())

    def shortages(self) -> dict[Cause, float | None]:
        """What the machine may be short of, for degradation. Reads files, so never on the loop."""
        lateness = self.loop_watch.lateness()
        return {
            Cause.CPU: self._machine.percent(),
            Cause.LOOP: lateness.p99_ms if lateness.samples else None,
            Cause.HEAT: host.temperature_c(),
            Cause.MEMORY: host.memory_free_mb(),
            Cause.DISK: host.disk_free_mb(self._data_dir),
            Cause.BACKLOG: float(self.newest.pending),
        }

    def _measure(self) -> Figures:
        return Figures(
            self._file.account(),
            host.memory_mb(host.children()),
            host.temperature_c(),
            host.disk_free_mb(self._data_dir),
        )
