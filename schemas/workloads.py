"""What a node is told to run beside its configuration, and what it says of it. Pure.

The fields `workloads.<name>.spec` and `workloads.<name>.state` of the desired and the reported document hold these.
Types are accepted in either case and kept as `core.edge` declares them, in lower case; `parse_workload` refuses what
cannot be meant, all mistakes in one go, each with its place, its value and what would be right.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any

from schemas.codec import NESTING_MAX, flaw_of
from schemas.messages import Count
from schemas.shape import Limit, ShapeError, fields_of, read, read_what_can_be

WORKLOADS_MAX = 100  # of one node
SPEC_BYTES_MAX = 16 * 1024  # of one spec, as JSON
ENV_MAX = 100
VALUE_LEVELS_MAX = NESTING_MAX - 6  # of arguments and settings: they stand in a spec, in a document, in a message
PRIORITY_MIN, PRIORITY_MAX, PRIORITY = 0, 1000, 5

Positive = Annotated[float, Limit(ge=0)]
Share = Annotated[float, Limit(ge=0, le=1)]
Name = Annotated[str, Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", means="1 to 63 letters, digits, . _ -")]
Text = Annotated[str, Limit(len_max=200)]
Word = Annotated[str, Limit(len_min=1, len_max=4000)]
Port = Annotated[int, Limit(ge=1, le=65535)]

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class WorkloadType(StrEnum):
    """What runs it."""

    AI_INFERENCE = "ai_inference"  # a pipeline of the agent
    DATA_PROCESSING = "data_processing"  # a function of a platform, called again and again
    VIDEO_ANALYTICS = "video_analytics"  # a pipeline of the agent
    CONTAINER = "container"  # podman or docker


class Restart(StrEnum):
    """What follows when it has ended by itself."""

    ALWAYS = "always"
    ON_FAILURE = "on_failure"
    NEVER = "never"


class WorkloadState(StrEnum):
    """What is true of a workload at its node."""

    STARTING = "starting"  # on its way: an image is pulled, a model is loaded, or the wait before another start
    RUNNING = "running"
    FAILED = "failed"  # it is not going to run by itself: a person, or a new generation, has to change something
    STOPPED = "stopped"  # it has ended, as it should, or was stopped by an operator at the node


class Network(StrEnum):
    """What a container can reach."""

    NONE = "none"
    BRIDGE = "bridge"  # its own network behind the host's address
    HOST = "host"  # everything that the host can reach, its loopback included


class Pull(StrEnum):
    """When an image is fetched from its registry."""

    MISSING = "missing"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ResourceRequirements:
    """What a model or a workload needs of its node; for a container its limits too. 0: nothing is asked for."""

    cpu_cores: Positive = 0.0
    memory_mb: Positive = 0.0  # MiB
    storage_mb: Positive = 0.0  # MiB
    gpu_count: Count = 0
    npu_count: Count = 0
    accelerators: tuple[str, ...] = ()  # as in the facts of a node: edgetpu, nvidia


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """A model on a camera of the node.

    `settings` has further keys of a `[[pipelines]]` table of agent.toml; the node checks them.
    """

    camera: Name
    model: Annotated[str, Limit(len_max=500)] = ""  # as in agent.toml, or a model of the registry: finder@1.4.0
    confidence_min: Share | None = None  # None: as the model has it
    classes_ignored: Annotated[tuple[Text, ...], Limit(len_max=100)] = ()
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """A function that the node serves, called now and then `every_s` seconds after the last call began."""

    name: Annotated[str, Limit(pattern=r"[A-Za-z_][A-Za-z0-9_]{0,99}", means="the name of a function")]
    arguments: dict[str, Any] = field(default_factory=dict)
    every_s: Annotated[float, Limit(ge=0.1, le=31 * 86400)] = 60.0
    timeout_s: Annotated[float, Limit(ge=0.001, le=86400)] | None = None  # None: as the function has it


@dataclass(frozen=True, slots=True)
class PortSpec:
    """A port of the node that leads to one of the container; for network `bridge`."""

    host: Port
    container: Port
    protocol: Annotated[str, Limit(pattern="tcp|udp", means="tcp or udp")] = "tcp"


@dataclass(frozen=True, slots=True)
class VolumeSpec:
    """A folder of the node inside of the container."""

    host: Annotated[str, Limit(len_min=1, len_max=500)]
    container: Annotated[str, Limit(len_min=1, len_max=500)]
    read_only: bool = True


@dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container. Its root is read-only, but for /tmp and /run, unless `writable_root`."""

    image: Annotated[str, Limit(pattern=r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,499}", means="the name of an image")]
    command: Annotated[tuple[Word, ...], Limit(len_max=100)] = ()  # empty: as the image has it
    entrypoint: Annotated[tuple[Word, ...], Limit(len_max=100)] = ()  # empty: as the image has it
    ports: Annotated[tuple[PortSpec, ...], Limit(len_max=50)] = ()
    volumes: Annotated[tuple[VolumeSpec, ...], Limit(len_max=50)] = ()
    network: Network = Network.NONE
    pull: Pull = Pull.MISSING
    user: Annotated[str, Limit(pattern=r"[A-Za-z0-9_.:-]{0,100}", means="a user, or user:group")] = ""
    writable_root: bool = False
    pids_max: Annotated[int, Limit(ge=1, le=100_000)] = 256
    stop_grace_s: Annotated[float, Limit(ge=0, le=600)] = 10.0  # between the polite signal and the other one


@dataclass(frozen=True, slots=True)
class WorkloadSpec:
    """What is to run. Another `generation` is another thing: the old one is stopped and the new one started."""

    type: WorkloadType
    generation: Count = 1
    env: dict[str, str] = field(default_factory=dict)
    resources: ResourceRequirements = ResourceRequirements()
    restart: Restart = Restart.ALWAYS
    priority: Annotated[int, Limit(ge=PRIORITY_MIN, le=PRIORITY_MAX)] = PRIORITY  # the greater, the more urgent
    pipeline: PipelineSpec | None = None
    function: FunctionSpec | None = None
    container: ContainerSpec | None = None


@dataclass(frozen=True, slots=True)
class WorkloadReport:
    """What a node says of a workload: `workloads.<name>.state`. `generation` is that of what runs or ran last."""

    state: WorkloadState
    generation: Count = 0
    restarts: Count = 0  # by the restart policy, of this generation since it was told
    reason: Annotated[str, Limit(len_max=500)] = ""  # of the state, for people
    since_utc_ms: Count = 0


@dataclass(frozen=True, slots=True)
class NamedPipeline:
    """A pipeline by its name, in one of its versions: `pipelines.<name>.spec`. One of that name in agent.toml gives
    way to it; its lines, zones and rules hold where `pipeline.settings` has no others."""

    pipeline: PipelineSpec
    version: Count = 1


PARTS = {
    WorkloadType.AI_INFERENCE: "pipeline",
    WorkloadType.VIDEO_ANALYTICS: "pipeline",
    WorkloadType.DATA_PROCESSING: "function",
    WorkloadType.CONTAINER: "container",
}
"""The table of a spec that belongs to each type."""

DEPLOYMENT_STATES = {
    WorkloadState.STARTING: "deploying",
    WorkloadState.RUNNING: "running",
    WorkloadState.FAILED: "failed",
    WorkloadState.STOPPED: "stopped",
}
"""As `Deployment_State` of core.edge; a workload of which a node has said nothing yet is `pending`."""


def parse_workload(raw: object) -> WorkloadSpec:
    """A spec from a mapping. Raises ShapeError with every mistake."""
    if isinstance(raw, Mapping) and isinstance(raw.get("type"), str):
        raw = {**raw, "type": raw["type"].lower()}
    spec, mistakes = read_what_can_be(WorkloadSpec, raw)
    if spec is not None:
        wrong = {text.partition(":")[0].split(".")[0] for text in mistakes}  # a part that is wrong is not missing
        mistakes += [text for text in workload_mistakes(spec) if text.partition(":")[0] not in wrong]
        if not mistakes and (size := len(json.dumps(plain(spec)).encode())) > SPEC_BYTES_MAX:
            mistakes.append(f"{size} bytes in all; at most {SPEC_BYTES_MAX} are allowed")
    if mistakes or spec is None:
        raise ShapeError(mistakes)
    return spec


def parse_named_pipeline(raw: object) -> NamedPipeline:
    """A pipeline from a mapping. Raises ShapeError with every mistake."""
    named, mistakes = read_what_can_be(NamedPipeline, raw)
    if named is not None and named.pipeline is not None and not mistakes:
        mistakes = workload_mistakes(workload_of(named))
        if (size := len(json.dumps(fields_of(named)).encode())) > SPEC_BYTES_MAX:
            mistakes.append(f"{size} bytes in all; at most {SPEC_BYTES_MAX} are allowed")
    if mistakes or named is None:
        raise ShapeError(mistakes)
    return named


def workload_of(named: NamedPipeline) -> WorkloadSpec:
    """What runs it."""
    return WorkloadSpec(WorkloadType.VIDEO_ANALYTICS, named.version, pipeline=named.pipeline)


def parse_report(raw: object) -> WorkloadReport:
    """What a node says, from a mapping; what a later version has beside it is passed over. Raises ShapeError."""
    return read(WorkloadReport, raw, strict=False)


def plain(value: WorkloadSpec | WorkloadReport) -> dict[str, Any]:
    """As a mapping that the parsers read back as the same value: the one form in documents and hashes."""
    return {key: item for key, item in fields_of(value).items() if item is not None}


# ---- what the shape alone does not show -------------------------------------------------------------


def workload_mistakes(spec: WorkloadSpec) -> list[str]:
    """Each as `field: value … what would be right`. Items that stand as None, unreadable, are passed over."""
    needed = PARTS[spec.type]
    found = []
    for part in sorted(set(PARTS.values())):
        given = getattr(spec, part) is not None
        if given and part != needed:
            found.append(f"{part}: does not belong to a workload of type {spec.type}, which needs {needed}")
        if not given and part == needed:
            found.append(f"{part}: is missing; a workload of type {spec.type} needs it")
    if spec.function is not None and (flaw := flaw_of(spec.function.arguments, VALUE_LEVELS_MAX)):
        found.append(f"function.arguments: {flaw}")
    if spec.pipeline is not None and (flaw := flaw_of(spec.pipeline.settings, VALUE_LEVELS_MAX)):
        found.append(f"pipeline.settings: {flaw}")
    found += _env_mistakes(spec.env)
    if spec.container is not None:
        found += [f"container.{text}" for text in _container_mistakes(spec.container)]
    return found


def _env_mistakes(env: Mapping[str, str]) -> list[str]:
    found = [f"env: {name[:60]!r} is no name of a variable" for name in env if not _ENV_NAME.fullmatch(name)]
    found += [f"env.{name}: a text without the character 0" for name, value in env.items() if value and "\0" in value]
    if len(env) > ENV_MAX:
        found.append(f"env: {len(env)} variables; at most {ENV_MAX} are allowed")
    return found


def _container_mistakes(container: ContainerSpec) -> list[str]:
    found = []
    if container.ports and container.network is not Network.BRIDGE:
        found.append(f'ports: need network = "bridge"; with {container.network} there is nothing to lead them to')
    volumes = [(i, volume) for i, volume in enumerate(container.volumes) if volume]
    found += _twice("ports", [f"{port.host}/{port.protocol}" for port in container.ports if port])
    found += _twice("volumes", [str(PurePosixPath(volume.container)) for _, volume in volumes])
    found += [
        f"volumes[{i}].{side}: {path[:60]!r} must be a whole path, without .. and : and comma"
        for i, volume in volumes
        for side, path in (("host", volume.host), ("container", volume.container))
        if not _sound_path(path)
    ]
    found += [
        f"{name}[{i}]: a text without the character 0"
        for name in ("command", "entrypoint")
        for i, word in enumerate(getattr(container, name))
        if word and "\0" in word
    ]
    return found


def _twice(what: str, given: list[str]) -> list[str]:
    return [f"{what}: {one} is given {given.count(one)} times" for one in sorted(set(given)) if given.count(one) > 1]


def _sound_path(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return path.startswith("/") and len(parts) > 1 and ".." not in parts and not set(path) & set(":,\0\n")
