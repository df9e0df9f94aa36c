"""The life of the gateway's process: what runs, in which stages, and how it ends."""

import asyncio
import gc
import logging
import sys

from agent.capture.malloc import keep_freed_memory
from agent.config import AgentConfig
from agent.evidence import opening as evidence_opening
from agent.streams import run_streams
from agent.wiring.wire import wire
from agent.workloads.opening import STOP_S
from platforms.assembly import Assembly, assemble
from platforms.settings import PlatformsTable
from runtime.sdnotify import Notifier
from runtime.supervision import RestartPolicy, Supervisor, feed_watchdog, run_until_signalled

log = logging.getLogger(__name__)

# Python hands the interpreter lock on every 5 ms by default: too late for a loop that promises 2 ms.
SWITCH_INTERVAL_S = 0.0005
FOR_EVER = RestartPolicy(restarts_max=None)


class Agent:
    """One gateway. `run` until a signal, then stop in path order: cameras, pipelines, outbox, link."""

    def __init__(self, config: AgentConfig, assembly: Assembly | None = None) -> None:
        """Opens the files and wires the parts; nothing runs yet. Raises ConfigError or a storage error.

        Without an `assembly` the node has the base platform alone.
        """
        self.parts = wire(config, assembly or assemble(PlatformsTable()))

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT. Raises TaskGaveUpError when a part cannot be kept alive."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        keep_freed_memory()
        parts = self.parts
        notifier = Notifier.from_environment()
        supervisor = Supervisor()
        parts.worker.start()
        try:
            parts.models.begin()
            parts.documents.begin()
            self._supervise(supervisor, notifier)
            # What was made so far stays: the collector need not look through it again, 3 ms each time.
            gc.collect()
            gc.freeze()
            node = parts.config.node.id
            notifier.ready(f"node {node}, boot {parts.boot}")
            log.info("node %s runs, boot %d, %d cameras", node, parts.boot, len(parts.streams))
            await run_until_signalled(supervisor)
        finally:
            parts.actions.close()
            await asyncio.to_thread(self._close)
            notifier.close()

    def _supervise(self, supervisor: Supervisor, notifier: Notifier) -> None:
        """Everything that runs, by the stage in which it is stopped."""
        parts = self.parts
        supervise = supervisor.supervise
        workloads, state = parts.workloads, parts.platform_state
        supervise("systemd", lambda: _until_stopped(notifier), stage=-1)
        supervise("workloads", workloads.run, stage=-1, stop=workloads.stop, stop_timeout_s=STOP_S)

        supervise("models", parts.models.run, FOR_EVER, stage=0, stop_timeout_s=20.0)
        supervise("models-fetch", parts.models.fetcher.run, FOR_EVER, stage=0)
        supervise("streams", self._run_streams, stage=0, stop_timeout_s=20.0)
        parts.sensors.supervise(supervisor, stage=0)

        supervise("notes", parts.notes.run, stage=1)
        parts.alerting.supervise(supervisor, stage=1)
        supervise("platform-state", state.run, FOR_EVER, stage=1, stop=state.stop)
        supervise("platforms", self._start_platforms, stage=1)
        for name, task in parts.listening.tasks():
            supervise(f"platform[{name}]", task, FOR_EVER, stage=1)
        parts.actions.supervise(supervisor, stage=2)
        parts.stages.supervise(supervisor, stage=1)
        parts.alerting.begin_actions()

        supervise("degradation", parts.governor.run, stage=2)
        if parts.evidence is not None and parts.uploader is not None:
            evidence_opening.supervise(supervisor, parts.evidence, parts.uploader, stage=2)
        supervise("figures", parts.meters.run, stage=2)
        supervise("documents", parts.documents.run, stage=2)
        supervise("results", parts.recorder.run, FOR_EVER, stage=2)
        supervise("sync", parts.sync.run, stage=2)
        supervise("cloud-sync", parts.sync.cloud.run, stage=2)
        supervise("outbox-limits", parts.outbox.keep_limits, stage=2)

        supervise("link", parts.link.run, stage=3, stop=self._stop_link, stop_timeout_s=10.0)
        supervise("loop-watch", parts.meters.loop_watch.run, stage=4)
        supervise("watchdog", lambda: feed_watchdog(notifier, lambda: parts.worker.is_alive), stage=4)

    async def _run_streams(self) -> None:
        enabled = {table.id for table in self.parts.config.cameras if table.enabled}
        await run_streams(self.parts.streams, enabled, self.parts.notes.announce)

    async def _start_platforms(self) -> None:
        """What platforms do at the start of their host; one that fails holds back nobody."""
        parts = self.parts
        problems = await parts.assembly.start(parts.host)
        parts.platform_problems = [str(one) for one in problems]
        for problem in problems:
            log.error("%s", problem, exc_info=problem.__cause__)  # somebody else's code: where it went wrong
        parts.listening.started()
        await asyncio.Event().wait()

    # ---- the end --------------------------------------------------------------------------------

    def _stop_link(self) -> None:
        self._stopping = asyncio.create_task(self._stop_talking(), name="link.stop")

    async def _stop_talking(self) -> None:
        await self.parts.notes.finish()
        await self.parts.dispatcher.stop()
        await self.parts.link.stop()

    def _close(self) -> None:
        """The files last; in a thread."""
        parts = self.parts
        parts.slots.close()
        parts.worker.stop(5.0)
        parts.stages.close()
        parts.recorder.close()
        if parts.evidence is not None:
            parts.evidence.close()
        parts.platform_state.close()
        parts.alerting.close()
        parts.file.close()
        parts.state.close()
        parts.journal.close()
        parts.workloads_file.close()
        parts.models.stopped()
        parts.lock.close()


async def _until_stopped(notifier: Notifier) -> None:
    """The first to be stopped: tells the service manager that the others follow."""
    try:
        await asyncio.Event().wait()
    finally:
        notifier.stopping()
