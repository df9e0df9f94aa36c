"""All inspection stations of a node, and their wires: the local broker, input lines, the outbox."""

import asyncio
import functools
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agent.actions.fake_gpio import FakeInput
from agent.actions.gpio import GpiodInput
from agent.actions.local_broker import LocalBroker
from agent.config import PipelineConfig
from agent.evidence.evidence import Evidence
from agent.inspection.stage import Said, Seat, Stage
from agent.inspection.telling import drafts, messages, plain
from agent.outbox.outbox import Outbox
from agent.sync.outlet import Outlet
from platforms.context import BadArgumentError, FunctionError
from platforms.manufacturing.inspection.outcomes import Judged
from platforms.manufacturing.inspection.settings import SIMULATOR, SignalSettings, Trigger
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Delivery, Message
from runtime.supervision import RestartPolicy, Supervisor
from schemas.errors import LocalWireError

log = logging.getLogger(__name__)

SAID_MAX = 1000  # outcomes on their way to the outbox; the oldest goes
HELD_MAX, HELD_S = 100, 5.0  # messages for a PLC while the broker is away; an older verdict would mislead
INPUT_WAIT_S = 0.25
PAYLOAD_BYTES_MAX = 4096
RETRY_S = 5.0


class InputLine(Protocol):
    """A line that says when it became active."""

    def wait(self, timeout_s: float) -> list[int]: ...

    def release(self) -> None: ...


@dataclass(slots=True)
class OutputStats:
    """Messages for PLCs since the start."""

    published: int = 0
    dropped: int = 0  # too many, or too old, while the local broker was away
    said_dropped: int = 0  # outcomes that the outbox had no room for


class Inspections:
    """Made with the configured pipelines; a workload's pipeline may bring one more. Everything is on the loop."""

    def __init__(
        self,
        pipelines: Sequence[PipelineConfig],
        *,
        node: str,
        broker: BrokerAddress,
        outbox: Outbox,
        evidence: Evidence | None,
    ) -> None:
        self.stages: dict[str, Stage] = {}
        self.stats = OutputStats()
        self._outbox = outbox
        self._evidence = evidence
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        self._held: deque[tuple[float, Message]] = deque()
        self._readers = ThreadPoolExecutor(1, "inspection-codes")
        self._topics: dict[str, list[Callable[[bytes], None]]] = {}
        for config in pipelines:
            self._add(config)
        self._broker = LocalBroker(
            broker,
            f"{node}-inspection",
            filters=dict.fromkeys(self._topics, 1),
            on_message=self._on_message,
            on_connected=self._on_connected,
        )

    def _add(self, config: PipelineConfig) -> Stage | None:
        settings = config.inspection
        if settings is None:
            return None
        stage = Stage(settings, config.camera, config.title, say=self._say, readers=self._readers)
        self.stages[config.title] = stage
        if settings.signal.topic:
            self._topics.setdefault(settings.signal.topic, []).append(lambda payload: self._signal(stage, payload))
        if settings.serial.topic:
            self._topics.setdefault(settings.serial.topic, []).append(lambda payload: self._serial(stage, payload))
        return stage

    # ---- for the streams ------------------------------------------------------------------------

    def load(self, config: PipelineConfig) -> None:
        """The files of the pipeline's station, read before it starts; for a thread. Raises ConfigError."""
        stage = self.stages.get(config.title)
        if stage is not None and stage.settings == config.inspection:
            stage.load()

    def seat(self, config: PipelineConfig, run: str, outlet: Outlet, *, live: bool) -> Seat | None:
        """The pipeline's place at a station; None: it inspects nothing. Raises ConfigError."""
        stage = self.stages.get(config.title)
        if stage is not None and stage.settings != config.inspection:
            stage = None  # a workload of this name had another one
        if stage is None and config.inspection is not None:
            if (
                config.inspection.signal.topic
                or config.inspection.serial.topic
                or config.inspection.signal.line != ""
            ):
                raise EdgewrightError(
                    f"pipeline {config.title}: signals and serials from outside are for pipelines of agent.toml",
                    hint="leave signal.topic, signal.line and serial.topic out",
                )
            stage = self._add(config)
        if stage is not None:
            stage.begin(run, outlet, live=live)
            return Seat(stage, config.title)
        for stage in self.stages.values():
            if stage.camera_id == config.camera and config.title in stage.models:
                return Seat(stage, config.title)
        return None

    # ---- life -----------------------------------------------------------------------------------

    def supervise(self, supervisor: Supervisor, stage: int) -> None:
        """Starts what the stations need; nothing where there are none."""
        for_ever = RestartPolicy(restarts_max=None)
        supervisor.supervise("inspection", self.run, for_ever, stage=stage)
        if self._topics or any(one.settings.output.topic for one in self.stages.values()):
            supervisor.supervise("inspection-broker", self._broker.run, for_ever, stage=stage)
        for one in self.stages.values():
            if one.settings.signal.line != "":
                watch = functools.partial(self._watch, one)
                supervisor.supervise(f"inspection-input[{one.name}]", watch, for_ever, stage=stage)

    async def run(self) -> None:
        """Puts what is said into the outbox until cancelled, and what is left then."""
        try:
            while True:
                await self._keep(await self._said.get())
        finally:
            while not self._said.empty():
                await self._keep(self._said.get_nowait())

    def close(self) -> None:
        self._readers.shutdown(cancel_futures=True)

    # ---- what is said ---------------------------------------------------------------------------

    def _say(self, said: Said) -> None:
        for outcome in said.outcomes:
            if isinstance(outcome, Judged):
                for message in messages(outcome, said.speaker, said.stage.settings.output, said.decision_ms):
                    self._publish(message)
        if self._said.qsize() >= SAID_MAX:
            self._said.get_nowait()
            self.stats.said_dropped += 1
        self._said.put_nowait(said)

    async def _keep(self, said: Said) -> None:
        found = [
            draft
            for outcome in said.outcomes
            for draft in drafts(outcome, said.speaker, said.utc_ms, said.decision_ms)
        ]
        leaving = said.outlet.leaving(found) if said.outlet is not None else []
        if not leaving:
            return
        if self._evidence is not None:
            self._evidence.show(leaving, said.frames.values())
        try:
            await self._outbox.append(leaving)
        except LocalWireError as error:
            log.error("inspection %s: %d facts not kept: %s", said.speaker.station, len(leaving), error)

    def _publish(self, message: Message) -> None:
        if not self._held and self._broker.post(message):
            self.stats.published += 1
            return
        self._held.append((time.monotonic(), message))
        if len(self._held) > HELD_MAX:
            self._held.popleft()
            self.stats.dropped += 1

    def _on_connected(self) -> None:
        while self._held:
            at_s, message = self._held.popleft()
            if time.monotonic() - at_s > HELD_S or not self._broker.post(message):
                self.stats.dropped += 1
            else:
                self.stats.published += 1

    # ---- what is heard --------------------------------------------------------------------------

    def _on_message(self, delivery: Delivery) -> None:
        if delivery.retain:
            log.debug("inspection: a retained message on %s is of the past: left alone", delivery.topic)
            return
        for told in self._topics.get(delivery.topic, []):
            told(delivery.payload)

    def _signal(self, stage: Stage, payload: bytes) -> None:
        stage.signal(time.monotonic_ns(), serial_in(payload))

    def _serial(self, stage: Stage, payload: bytes) -> None:
        if serial := serial_in(payload):
            stage.given(serial)

    async def _watch(self, stage: Stage) -> None:
        """One input line until cancelled; one that cannot be had is tried again."""
        while True:
            try:
                line = await asyncio.to_thread(open_input, stage.settings.signal, stage.name)
            except EdgewrightError as error:
                log.error("inspection %s: %s", stage.name, error)
                await asyncio.sleep(RETRY_S)
                continue
            try:
                while True:
                    for at_mono_ns in await asyncio.to_thread(line.wait, INPUT_WAIT_S):
                        stage.signal(at_mono_ns)
            except EdgewrightError as error:
                log.error("inspection %s: %s", stage.name, error)
                await asyncio.sleep(RETRY_S)
            finally:
                line.release()

    # ---- asked ----------------------------------------------------------------------------------

    async def inspect(self, camera_id: str, station: str, serial: str, wait_s: float) -> Mapping[str, Any]:
        """`platforms.services.Inspections`."""
        stages = [one for one in self.stages.values() if one.camera_id == camera_id]
        names = ", ".join(one.name for one in stages) or "there is none"
        if station:
            stages = [one for one in stages if one.name == station]
        if len(stages) != 1:
            raise BadArgumentError(
                "station" if station else "camera_id", f"not one station of {camera_id!r}: {names}"
            )
        (stage,) = stages
        if stage.settings.trigger is not Trigger.SIGNAL:
            raise FunctionError("no_signals", f"station {stage.name} sees parts by itself: its trigger is motion")
        judged = await stage.answer(time.monotonic_ns(), serial, wait_s)
        if judged is None:
            return {"station": stage.name, "verdict": ""}
        said = plain(judged, stage.speaker, 0.0)
        kept = {name: said[name] for name in ("station", "verdict", "part", "part_id", "serial", "defects")}
        return {**kept, "reasons": judged.reasons}

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "stations": [stage.report() for stage in self.stages.values()],
            "output": {
                "published": self.stats.published,
                "waiting": len(self._held),
                "dropped": self.stats.dropped,
                "events_dropped": self.stats.said_dropped,
                "broker": self._broker.error,
            },
        }


def open_input(settings: SignalSettings, name: str) -> InputLine:
    """Raises ActionError."""
    if settings.chip.startswith(SIMULATOR):
        path = Path(settings.chip.removeprefix(SIMULATOR))
        return FakeInput(path, settings.line, active_low=settings.active_low)
    consumer = f"edge-agent {name}"
    return GpiodInput(settings.chip, settings.line, active_low=settings.active_low, consumer=consumer)


def serial_in(payload: bytes) -> str:
    """A plain text, or `serial` of a JSON object; empty: there is none."""
    text = payload[:PAYLOAD_BYTES_MAX].decode("utf-8", errors="replace").strip()
    if not text.startswith("{"):
        return text
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    serial = found.get("serial", "") if isinstance(found, Mapping) else ""
    return str(serial) if isinstance(serial, str | int) else ""
