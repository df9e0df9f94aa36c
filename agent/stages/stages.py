"""All stages of a node, and their wires: the local broker, input lines, the outbox. Read `place.py` first."""

import asyncio
import functools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from agent.actions.local_broker import LocalBroker
from agent.config import PipelineConfig
from agent.evidence.evidence import Evidence
from agent.outbox.outbox import Outbox
from agent.stages.inputs import open_input
from agent.stages.machine import NodeMachine
from agent.stages.place import NodePlace, Said, Seat
from agent.sync.outlet import Outlet
from platforms.stages import KIND, InputLine, Stage, StageError, StageKinds
from runtime.errors import ConfigError, EdgewrightError, PermanentError
from runtime.mqtt import BrokerAddress, Delivery, Message
from runtime.supervision import RestartPolicy, Supervisor
from schemas.errors import LocalWireError

log = logging.getLogger(__name__)

SAID_MAX = 1000  # sayings on their way to the outbox; the oldest goes
HELD_MAX, HELD_S = 100, 5.0  # messages while the local broker is away; an older one would mislead who acts on it
INPUT_WAIT_S = 0.25
RETRY_S = 5.0
OUTSIDE = "messages and input lines from outside are for stages of agent.toml"


@dataclass(frozen=True, slots=True)
class Hosted:
    """A stage at its place. `config`: the pipeline that its table is of."""

    config: PipelineConfig
    stage: Stage
    place: NodePlace

    @property
    def kind(self) -> str:
        return str((self.config.stage or {}).get(KIND))

    @property
    def pipelines(self) -> tuple[str, ...]:
        """Those that look, the stage's own first."""
        return (self.config.title, *(self.config.stage or {}).get("also", ()))

    def report(self) -> dict[str, Any]:
        """For `status`."""
        place = self.place
        return {
            "kind": self.kind,
            "camera": self.config.camera,
            "pipelines": list(self.pipelines),
            "failures_total": place.failures_total,
            "left_out_total": place.left_out_total,
            **self._own_report(),
        }

    def _own_report(self) -> dict[str, Any]:
        try:
            return dict(self.stage.report())
        except Exception as error:  # noqa: BLE001 - somebody else's code: the node's status does without it
            return {"error": f"report: {error!r}"}


@dataclass(slots=True)
class OutputStats:
    """What stages said since the start."""

    published: int = 0
    dropped: int = 0  # too many, or too old, while the local broker was away
    said_dropped: int = 0  # sayings that the outbox had no room for


@contextmanager
def _told(config: PipelineConfig, what: str) -> Iterator[None]:
    """What a stage raises while it is `what`, as an error that fails its pipeline: it is somebody else's code."""
    try:
        yield
    except StageError as error:
        text = "; ".join(f"stage.{one}" for one in error.mistakes)
        raise ConfigError(f"pipeline {config.title}: {text}") from error
    except Exception as error:
        log.exception("the stage of pipeline %s cannot be %s", config.title, what)
        raise PermanentError(f"pipeline {config.title}: its stage cannot be {what}: {error!r}") from error


class Stages:
    """Made with the configured pipelines; a workload's pipeline may bring one more. Everything is on the loop."""

    def __init__(
        self,
        kinds: StageKinds,
        pipelines: Sequence[PipelineConfig],
        *,
        node: str,
        broker: BrokerAddress,
        outbox: Outbox,
        evidence: Evidence | None,
    ) -> None:
        """Raises ConfigError where a pipeline's stage cannot be made."""
        self.stats = OutputStats()
        self._kinds = kinds
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox
        self._evidence = evidence
        self._said: asyncio.Queue[Said] = asyncio.Queue()
        self._held: deque[tuple[float, Message]] = deque()
        self._threads = ThreadPoolExecutor(1, "stages")
        self._configured = {one.title: self._made(one) for one in pipelines if one.stage is not None}
        self._brought: dict[str, Hosted] = {}  # by workloads
        self._prepared: dict[str, Hosted] = {}  # of them, loaded and not yet begun
        self._topics: dict[str, list[Hosted]] = {}
        self._broker_wanted = asyncio.Event()
        for hosted in self._configured.values():
            self._open(hosted)
            for topic in hosted.stage.wires.topics:
                self._topics.setdefault(topic, []).append(hosted)
        self._broker = LocalBroker(
            broker,
            f"{node}-stages",
            filters=dict.fromkeys(self._topics, 1),
            on_message=self._on_message,
            on_connected=self._on_connected,
        )

    def _made(self, config: PipelineConfig) -> Hosted:
        assert config.stage is not None
        with _told(config, "made"):
            stage = self._kinds.make(config.stage, config.camera, config.title)
        place = NodePlace(
            config.camera,
            config.title,
            say=self._say,
            publish=self._publish,
            threads=self._threads,
            loop=self._loop,
        )
        return Hosted(config, stage, place)

    def _open(self, hosted: Hosted) -> None:
        with _told(hosted.config, "opened"):
            hosted.stage.open(hosted.place)
            if hosted.stage.wires.uses_broker:
                self._broker_wanted.set()

    @property
    def _all(self) -> list[Hosted]:
        """One a pipeline: that which a workload has brought stands in for the configured one."""
        return list({**self._configured, **self._brought}.values())

    # ---- for the streams ------------------------------------------------------------------------

    def load(self, config: PipelineConfig) -> None:
        """The files of the pipeline's stage, read before it starts; for a thread. Raises ConfigError."""
        if config.stage is None:
            return
        known = self._of(config)
        hosted = known or self._made(config)
        if known is None and hosted.stage.wires.come_from_outside:
            raise ConfigError(f"pipeline {config.title}: {OUTSIDE}", hint="leave its topics and lines out")
        with _told(config, "loaded"):
            hosted.stage.load(NodeMachine())
        if known is None:
            self._prepared[config.title] = hosted

    def seat(self, config: PipelineConfig, run: str, outlet: Outlet, *, live: bool) -> Seat | None:
        """The pipeline's seat at its stage, which is loaded and begins, and at those that it looks for; None: it has
        none. Raises EdgewrightError."""
        if (prepared := self._prepared.pop(config.title, None)) is not None:
            self._brought[config.title] = prepared
            self._open(prepared)
        own = self._of(config)
        if own is not None:
            if own is self._configured.get(config.title):
                self._brought.pop(config.title, None)
            own.place.begin(run, outlet, live=live)
            with _told(config, "begun"):
                own.stage.begin()
        others = [one for one in self._all if one.config.title != config.title and one.config.camera == config.camera]
        at = [own] if own is not None else []
        at += [one for one in others if config.title in one.pipelines]
        return Seat(config.title, [(one.stage, one.place) for one in at]) if at else None

    def _of(self, config: PipelineConfig) -> Hosted | None:
        """The stage of a pipeline as it is meant now: a workload of its name may bring another one."""
        if config.stage is None:
            return None
        for known in (self._configured, self._brought):
            hosted = known.get(config.title)
            if hosted is not None and (hosted.config.stage, hosted.config.camera) == (config.stage, config.camera):
                return hosted
        return None

    # ---- life -----------------------------------------------------------------------------------

    def supervise(self, supervisor: Supervisor, stage: int) -> None:
        """Starts what the stages need."""
        for_ever = RestartPolicy(restarts_max=None)
        supervisor.supervise("stages", self.run, for_ever, stage=stage)
        supervisor.supervise("stages-broker", self._connect, for_ever, stage=stage)
        for one in self._configured.values():
            if (line := one.stage.wires.line) is not None:
                watch = functools.partial(self._watch, one, line)
                supervisor.supervise(f"stage-input[{one.config.title}]", watch, for_ever, stage=stage)

    async def run(self) -> None:
        """Puts what is said into the outbox until cancelled, and what is left then."""
        try:
            while True:
                await self._keep(await self._said.get())
        finally:
            while not self._said.empty():
                await self._keep(self._said.get_nowait())

    async def _connect(self) -> None:
        """Keeps the connection to the local broker, once a stage asks for one."""
        await self._broker_wanted.wait()
        await self._broker.run()

    def close(self) -> None:
        self._threads.shutdown(cancel_futures=True)

    # ---- what is said ---------------------------------------------------------------------------

    def _say(self, said: Said) -> None:
        if self._said.qsize() >= SAID_MAX:
            self._said.get_nowait()
            self.stats.said_dropped += 1
        self._said.put_nowait(said)

    async def _keep(self, said: Said) -> None:
        leaving = said.outlet.leaving(said.drafts)
        if not leaving:
            return
        if self._evidence is not None:
            self._evidence.show(leaving, said.frames)
        try:
            await self._outbox.append(leaving)
        except LocalWireError as error:
            log.error("stage of pipeline %s: %d facts not kept: %s", said.pipeline, len(leaving), error)

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
            log.debug("stages: a retained message on %s is of the past: left alone", delivery.topic)
            return
        for hosted in self._topics.get(delivery.topic, []):
            hosted.place.guarded(hosted.stage.heard, delivery.topic, delivery.payload)

    async def _watch(self, hosted: Hosted, wanted: InputLine) -> None:
        """One input line until cancelled; one that cannot be had is tried again."""
        title = hosted.config.title
        while True:
            try:
                line = await asyncio.to_thread(open_input, wanted, title)
            except EdgewrightError as error:
                log.error("stage of pipeline %s: %s", title, error)
                await asyncio.sleep(RETRY_S)
                continue
            try:
                while True:
                    for at_mono_ns in await asyncio.to_thread(line.wait, INPUT_WAIT_S):
                        hosted.place.guarded(hosted.stage.line, at_mono_ns)
            except EdgewrightError as error:
                log.error("stage of pipeline %s: %s", title, error)
                await asyncio.sleep(RETRY_S)
            finally:
                line.release()

    # ---- asked ----------------------------------------------------------------------------------

    def of(self, kind: str, camera_id: str) -> list[Stage]:
        """`platforms.services.Stages`."""
        return [one.stage for one in self._all if (one.kind, one.config.camera) == (kind, camera_id)]

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "stages": [one.report() for one in self._all],
            "output": {
                "published": self.stats.published,
                "waiting": len(self._held),
                "dropped": self.stats.dropped,
                "events_dropped": self.stats.said_dropped,
                "broker": self._broker.error,
            },
        }
