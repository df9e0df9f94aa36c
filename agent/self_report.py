"""What the node says of itself: its birth, its heartbeats, and everything to whoever asks for its status."""

import time
from dataclasses import asdict
from typing import Any

from agent.evidence import opening as evidence_opening
from agent.health import host
from agent.health.figures import Figures
from agent.wiring.parts import Parts
from agent.workloads.opening import hardware_of
from schemas.messages import Birth, Heartbeat
from schemas.workloads import plain


class SelfReport:
    """Of one start of the agent. All of it on the loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started_mono_s = time.monotonic()
        self._beats = 0

    def birth(self) -> Birth:
        """What the node is."""
        parts = self._parts
        node = parts.config.node
        return Birth(
            name=node.name or node.id,
            node_type=node.node_type,
            site=node.site,
            labels=dict(parts.in_force.labels),
            location=dict(node.location),
            hardware=hardware_of(parts.config),
            resources=host.resources(node.data_dir),
            versions=host.versions(),
            platforms=parts.assembly.names,
            functions=parts.dispatcher.names,
            cameras=sorted(parts.streams),
            stream=parts.file.stream,
            allocated=self._allocated(),
        )

    def _allocated(self) -> dict[str, float]:
        """The threads of inference, where there is a pipeline, and what workloads reserve."""
        config = self._parts.config
        taken = {"cores": float(config.inference.threads)} if config.pipelines else {}
        reserved = self._parts.workloads.allocated()
        return {name: taken.get(name, 0.0) + reserved.get(name, 0.0) for name in sorted({*taken, *reserved})}

    def heartbeat(self) -> Heartbeat:
        """The next one."""
        self._beats += 1
        self._parts.meters.beat()
        return self._as_it_is()

    def _as_it_is(self) -> Heartbeat:
        parts = self._parts
        meters, figures = parts.meters, parts.meters.newest
        now_s = time.monotonic()
        return Heartbeat(
            boot=parts.boot,
            session=parts.link.session,
            seq=self._beats,
            uptime_s=round(now_s - self._started_mono_s, 1),
            time_utc_ms=time.time_ns() // 1_000_000,
            cpu_percent=meters.cpu_percent,
            memory_mb=figures.memory_mb,
            temperature_c=figures.temperature_c,
            disk_free_mb=figures.disk_free_mb,
            loop_stall_ms_p99=round(meters.loop_watch.lateness().p99_ms, 3),
            outbox_pending={account.lane: account.pending for account in figures.accounts if account.pending},
            streams=[report for stream in parts.streams.values() for report in stream.reports()],
            birth_hash=parts.link.birth_hash,
            desired_hash=parts.documents.desired_hash,
            reported_hash=parts.documents.reported.hash,
            sync=self._synced(figures),
            workloads=parts.workloads.states(),
        )

    def _synced(self, figures: Figures) -> dict[str, dict[str, int]]:
        return self._parts.sync.lanes(figures.accounts, self._parts.sender.resent_by_lane)

    async def status(self) -> dict[str, Any]:
        """What `cmd/status` answers."""
        parts = self._parts
        figures = await parts.meters.look()
        beat = self._as_it_is()
        return {
            **self._machine(beat),
            "outbox": [asdict(account) for account in figures.accounts],
            "invalid_total": parts.checked.invalid_total,
            "unchecked_total": parts.checked.unchecked_total,
            "link": parts.sender.state(),
            "sync": {**parts.sync.report(), "lanes": self._synced(figures)},
            "results": parts.recorder.report(),
            "broker": parts.link.state(),
            "identity_conflict": parts.link.twin.report(time.monotonic()),
            "commands_refused_total": parts.dispatcher.refused_total,
            "actions": parts.actions.report(),
            "stages": parts.stages.report(),
            "alerts": parts.alerting.report(),
            "degradation": parts.governor.report(),
            "evidence": await self._evidence(),
            "desired": parts.documents.state(),
            "models": parts.models.report(),
            "platform_state": parts.platform_state.report(),
            "workloads": {name: plain(one) for name, one in parts.workloads.reports().items()},
            "streams": [asdict(report) for report in beat.streams],
            "sensors": parts.sensors.report(),
            "functions": parts.dispatcher.names,
            "platforms": {
                "names": parts.assembly.names,
                "problems": parts.platform_problems,
                "listeners": parts.listening.report(),
            },
        }

    def _machine(self, beat: Heartbeat) -> dict[str, Any]:
        """What a heartbeat says of the process and its machine."""
        return {
            "node": self._parts.config.node.id,
            "boot": beat.boot,
            "session": beat.session,
            "uptime_s": beat.uptime_s,
            "cpu_percent": beat.cpu_percent,
            "memory_mb": beat.memory_mb,
            "temperature_c": beat.temperature_c,
            "disk_free_mb": beat.disk_free_mb,
            "loop_stall_ms_p99": beat.loop_stall_ms_p99,
        }

    async def _evidence(self) -> dict[str, Any] | None:
        evidence, uploader = self._parts.evidence, self._parts.uploader
        if evidence is None or uploader is None:
            return None
        return await evidence_opening.report(evidence, uploader)
