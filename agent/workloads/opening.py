"""Puts together what runs workloads on this node, from its configuration."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from agent.config import AgentConfig
from agent.health import host
from agent.stream import Stream
from agent.workloads import engine
from agent.workloads.calls import CallHere, CallRunner
from agent.workloads.containers import ContainerRunner
from agent.workloads.fit import Room
from agent.workloads.models import FindModel, finder
from agent.workloads.pipelines import PipelineRunner
from agent.workloads.record import Announce
from agent.workloads.store import WorkloadsFile
from agent.workloads.workloads import LAST_GRACE_S, Workloads
from platforms.stages import StageKinds
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Served, plain
from schemas.shape import Limit
from schemas.workloads import WorkloadState, WorkloadType

STOP_S = LAST_GRACE_S + 10.0  # until everything has stopped, all at a time; an engine that hangs is not waited for
MODELS = "models"  # in the data folder: bundles that workloads may name
LINES_MAX = 1000
LINE_CHARS_MAX = 2000
LOGS_CHARS_MAX = 200_000


@dataclass(frozen=True, slots=True)
class LogsOf:
    """`{"name": "pump", "lines": 100}`"""

    name: str
    lines: Annotated[int, Limit(ge=1, le=LINES_MAX)] = 100


def open_workloads(
    config: AgentConfig,
    store: WorkloadsFile,
    streams: Mapping[str, Stream],
    announce: Announce,
    resources: Mapping[str, float],
    call: CallHere,
    functions: Callable[[], list[str]],
    in_cache: Callable[[str], str | None],
    stages: StageKinds,
) -> Workloads:
    """Nothing runs yet. `resources`: what the node has in all. `functions`: what it serves. `in_cache`: where a
    release of the registry lies. `stages`: of the node's platforms."""
    private = {pipeline.camera for pipeline in config.pipelines if pipeline.local_only}

    def note(name: str, state: WorkloadState, reason: str) -> None:
        made.noted(name, state, reason)

    containers = ContainerRunner(config.node.id, config.workloads)
    pipelines = PipelineRunner(
        streams,
        model_finder(config, in_cache),
        configured={pipeline.title: pipeline for pipeline in config.pipelines},
        gives_way=lambda name: name in made.named,
        wanted=lambda name: made.wants(name),
        enabled={camera.id for camera in config.cameras if camera.enabled},
        private=private,
        models={pipeline.camera: pipeline.model for pipeline in reversed(config.pipelines)},
        stages=stages,
        note=note,
    )
    made = Workloads(
        config.workloads,
        store,
        {
            WorkloadType.AI_INFERENCE: pipelines,
            WorkloadType.VIDEO_ANALYTICS: pipelines,
            WorkloadType.DATA_PROCESSING: CallRunner(call, functions),
            WorkloadType.CONTAINER: containers,
        },
        containers,
        room=room(config, resources),
        announce=announce,
    )
    return made


def model_finder(config: AgentConfig, in_cache: Callable[[str], str | None]) -> FindModel:
    """Where models lie that workloads and named pipelines may name."""
    folders = {Path(pipeline.model).name: pipeline.model for pipeline in config.pipelines}
    return finder(folders, config.node.data_dir / MODELS, in_cache)


def room(config: AgentConfig, resources: Mapping[str, float]) -> Room:
    """What is left for workloads beside the configured pipelines."""
    free = dict(resources)
    if config.pipelines:
        free["cores"] = max(0.0, free.get("cores", 0.0) - config.inference.threads)
    for name, most in (("cores", config.workloads.cores_max), ("memory_mb", config.workloads.memory_mb_max)):
        if most:
            free[name] = min(most, free.get(name, 0.0))
    return Room(free, frozenset(host.accelerators()), config.workloads.workloads_max)


def hardware_of(config: AgentConfig) -> dict[str, object]:
    """What the machine is, and what runs containers on it."""
    table = config.workloads
    return {**host.hardware(), "containers": engine.said_of(table.containers, table.engine)}


def workload_logs(workloads: Workloads) -> Served:
    """The function `workloadLogs`."""

    async def logs(call: LogsOf) -> dict[str, Any]:
        lines = await workloads.logs(call.name, call.lines)
        if lines is None:
            known = ", ".join(workloads.reports()) or "there is none"
            raise CallRejectedError("unknown_workload", f"no workload {call.name!r} here ({known})", "name")
        kept = bounded(lines)
        return {"name": call.name, "lines": kept, "left_out": len(lines) - len(kept)}

    return plain("workloadLogs", LogsOf, logs)


def bounded(lines: list[str]) -> list[str]:
    """The newest lines, as many as a message takes; long ones are cut."""
    kept: list[str] = []
    size = 0
    for line in reversed(lines):
        cut = line[:LINE_CHARS_MAX]
        size += len(cut) + 1
        if size > LOGS_CHARS_MAX:
            break
        kept.append(cut)
    return kept[::-1]
