"""The sensors of a node: each is read by a task of its own, and its windows are handed on by another.

    reader (mqtt, modbus, opcua, serial, file) ─► scaled ─► assembled ─► queue of windows ─► whoever measures

A source that is lost is tried again, ever more slowly. A queue that is full loses its oldest window, which is
counted; a replay waits instead, and loses none.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any

from agent.sensors.assemble import Assembler, Made
from agent.sensors.health import Change, Health, SensorState
from agent.sensors.make import reader_of
from agent.sensors.parse import Block, scaled
from agent.sensors.reader import Reader, SensorError
from agent.sensors.settings import SensorConfig
from platforms.samples import SampleWindow, Trouble
from runtime.backoff import Backoff
from runtime.errors import PermanentError
from runtime.mqtt import BrokerAddress
from runtime.supervision import RestartPolicy, Supervisor

log = logging.getLogger(__name__)

CHANGED = "SensorStateChanged"
REFUSED_SAID_EVERY_S = 60.0
TICK_S = 1.0
THREAD_SAMPLES = 20_000  # a block of so many values is scaled and looked at in a thread
Announce = Callable[[str, str, dict[str, Any]], None]
Measured = Callable[[SampleWindow], Awaitable[None]]


class Sensor:
    """One sensor. Everything is on the loop."""

    def __init__(
        self, config: SensorConfig, make: Callable[[], Reader], announce: Announce, measured: Measured
    ) -> None:
        self.config = config
        self._make, self._announce, self._measured = make, announce, measured
        names = [channel.name for channel in config.channels]
        self._names = names
        self._assembler = Assembler(len(names), config.rate_hz, config.window, config.gap_after_s)
        self._health = Health(names, config.stuck_samples)
        self._windows: deque[SampleWindow] = deque()
        self._changed = asyncio.Condition()
        self._lossless = False
        self._heard_s = time.monotonic()
        self._said_s: float | None = None
        self._jumps = 0
        self.dropped_total = self.refused_total = self.failures_total = 0
        self.last_error = ""

    # ---- the tasks ------------------------------------------------------------------------------

    async def read(self) -> None:
        """Until cancelled, or until a recording has ended or its settings cannot work."""
        pause, attempt = Backoff(first_s=0.5, max_s=self.config.retry_max_s), 0
        while True:
            before = self._assembler.tally.samples
            try:
                reader = self._make()
                self._lossless = reader.lossless
                await reader.run(self)
                self._tell(self._health.becomes(SensorState.ENDED))
                return
            except PermanentError as error:
                self._lost(SensorState.FAILED, str(error))
                return
            except SensorError as error:
                self._lost(SensorState.UNREACHABLE, str(error))
            attempt = 0 if self._assembler.tally.samples > before else attempt + 1
            await asyncio.sleep(pause.delay_s(attempt, random.random()))

    async def hand_on(self) -> None:
        """Until cancelled: the oldest window to whoever measures, one after the other."""
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: self._windows)
                window = self._windows.popleft()
                self._changed.notify_all()
            await self._measured(window)

    async def watch(self) -> None:
        """Until cancelled: tells that it has become silent."""
        while True:
            await asyncio.sleep(TICK_S)
            state = self._health.state
            silent_s = time.monotonic() - self._heard_s
            if state in (SensorState.LIVE, SensorState.TROUBLED) and silent_s > self.config.silent_after_s:
                self._tell(self._health.becomes(SensorState.SILENT, f"no value for {self.config.silent_after_s:g} s"))

    # ---- what readers say -----------------------------------------------------------------------

    def connected(self) -> None:
        self._heard_s = time.monotonic()
        if self._health.state in (SensorState.UNREACHABLE, SensorState.STARTING):
            self._tell(self._health.becomes(SensorState.LIVE, ""))

    def break_off(self) -> None:
        self._assembler.break_off()

    def refused(self, reason: str) -> None:
        self.refused_total += 1
        self.last_error = reason
        now_s = time.monotonic()
        if self._said_s is None or now_s - self._said_s >= REFUSED_SAID_EVERY_S:
            self._said_s = now_s
            log.warning(
                "sensor %s: not as its settings say (%d so far): %s", self.config.id, self.refused_total, reason
            )

    async def take(self, block: Block, *, at_s: float | None = None, source_s: float | None = None) -> None:
        now_s = self._heard_s = time.monotonic()
        self._tell(self._health.values())
        at_s = now_s if at_s is None else at_s
        if block.size > THREAD_SAMPLES:
            found = await asyncio.to_thread(self._look, block, at_s, source_s)
        else:
            found = self._look(block, at_s, source_s)
        if self._assembler.tally.clock_jumps > self._jumps:
            self._jumps = self._assembler.tally.clock_jumps
            self._tell(
                Change(self._health.state, "its clock has jumped: what comes from now on goes by the new time")
            )
        for made, troubles in found:
            self._tell(self._health.window(troubles))
            await self._put(self._window(made, troubles))

    def _look(self, block: Block, at_s: float, source_s: float | None) -> list[tuple[Made, list[Trouble]]]:
        samples, outside = scaled(block, self.config.channels)
        made = self._assembler.add(samples, at_s, source_s, outside)
        return [(one, self._health.troubles(one.samples, one.outside)) for one in made]

    def _window(self, made: Made, troubles: Sequence[Trouble]) -> SampleWindow:
        ago_s = max(0.0, time.monotonic() - made.ended_s)
        return SampleWindow(
            self.config.id,
            made.number,
            self.config.unit,
            self.config.rate_hz,
            {name: made.samples[:, n] for n, name in enumerate(self._names)},
            made.ended_s,
            time.time_ns() // 1_000_000 - round(ago_s * 1000),
            {name: one for name, one in zip(self._names, troubles, strict=True) if one},
        )

    async def _put(self, window: SampleWindow) -> None:
        async with self._changed:
            if self._lossless:
                await self._changed.wait_for(lambda: len(self._windows) < self.config.queue_max)
            elif len(self._windows) >= self.config.queue_max:
                self._windows.popleft()
                self.dropped_total += 1
            self._windows.append(window)
            self._changed.notify_all()

    # ---- what is told ---------------------------------------------------------------------------

    def _lost(self, state: SensorState, reason: str) -> None:
        self.failures_total += 1
        self.last_error = reason
        self._assembler.break_off()
        self._tell(self._health.becomes(state, reason))

    def _tell(self, change: Change | None) -> None:
        if change is None:
            return
        is_well = change.state in (SensorState.LIVE, SensorState.ENDED) and not change.reason
        log.log(
            logging.INFO if is_well else logging.WARNING,
            "sensor %s: %s %s",
            self.config.id,
            change.state,
            change.reason,
        )
        data = {"sensor_id": self.config.id, "state": change.state.value, "reason": change.reason}
        self._announce(CHANGED, self.config.id, data)

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "id": self.config.id,
            "kind": self.config.kind.value,
            "state": self._health.state.value,
            "reason": self._health.reason,
            **asdict(self._assembler.tally),
            "waiting": len(self._windows),
            "dropped": self.dropped_total,
            "refused": self.refused_total,
            "failures": self.failures_total,
            "last_error": self.last_error,
        }


class Sensors:
    """All sensors of the node."""

    def __init__(
        self,
        configs: Sequence[SensorConfig],
        *,
        node: str,
        local: BrokerAddress,
        fleet: BrokerAddress,
        announce: Announce,
        measured: Measured,
    ) -> None:
        def made(config: SensorConfig) -> Sensor:
            return Sensor(config, lambda: reader_of(config, node, local, fleet), announce, measured)

        self._ids = sorted(config.id for config in configs)
        self._sensors = [made(config) for config in configs if config.enabled]

    def ids(self) -> Sequence[str]:
        """Those that are configured, switched off or not."""
        return self._ids

    def supervise(self, supervisor: Supervisor, stage: int) -> None:
        """Starts their tasks. One that fails by a defect is started again, and holds back nobody."""
        for_ever = RestartPolicy(restarts_max=None)
        for one in self._sensors:
            name = one.config.id
            supervisor.supervise(f"sensor[{name}]", one.read, for_ever, stage=stage)
            supervisor.supervise(f"sensor[{name}].windows", one.hand_on, for_ever, stage=stage)
            supervisor.supervise(f"sensor[{name}].watch", one.watch, for_ever, stage=stage)

    def report(self) -> list[dict[str, Any]]:
        """For `status`."""
        return [one.report() for one in self._sensors]
