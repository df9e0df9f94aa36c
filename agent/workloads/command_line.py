"""From a container's spec to the words for podman or docker, and from their JSON to what is so. Pure.

Each option is one word (`--name=value`), so that nothing in a spec can become an option of its own; the image and the
command come last.
"""

import hashlib
import json
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.workloads.machine import Ended
from agent.workloads.settings import WorkloadSettings
from schemas.documents import canonical
from schemas.workloads import ContainerSpec, Network, WorkloadSpec, plain

LABEL_NODE, LABEL_WORKLOAD, LABEL_MARK = "edgewright.node", "edgewright.workload", "edgewright.mark"
TMPFS = ("/tmp:rw,mode=1777,size=64m", "/run:rw,mode=0755,size=16m")
LIMITED = ("memory", "cpu", "pids")
"""What an engine may be able to limit."""


@dataclass(frozen=True, slots=True)
class Container:
    """What the engine says of one."""

    name: str
    workload: str
    mark: str
    running: bool
    pid: int = 0  # of its first process, as the host sees it
    exit_code: int = 0
    out_of_memory: bool = False
    error: str = ""


def mark_of(spec: WorkloadSpec) -> str:
    """16 hexadecimal digits that stand for a spec."""
    return hashlib.sha256(canonical(plain(spec)).encode()).hexdigest()[:16]


def container_name(node: str, workload: str) -> str:
    return f"edgewright-{node}-{workload}"


def run_words(
    node: str, workload: str, spec: WorkloadSpec, settings: WorkloadSettings, *, limited: Sequence[str],
    volumes: Mapping[str, str], docker: bool,
) -> list[str]:  # fmt: skip
    """The words of `run`, from `run` on. `limited`: what the engine can limit. `volumes`: the real path of each."""
    container = spec.container
    assert container is not None
    words = [
        "run", "--detach", f"--name={container_name(node, workload)}", "--pull=never", "--restart=no",
        f"--label={LABEL_NODE}={node}", f"--label={LABEL_WORKLOAD}={workload}",
        f"--label={LABEL_MARK}={mark_of(spec)}", "--security-opt=no-new-privileges", f"--network={container.network}",
    ]  # fmt: skip
    words += _log_words(settings.log_bytes_max, docker=docker)
    if not docker:
        words.append("--sdnotify=ignore")  # else it could tell systemd things in our name
    if not container.writable_root:
        words += ["--read-only", *(f"--tmpfs={place}" for place in TMPFS)]
    words += _limit_words(spec, container, limited)
    words += [f"--env={name}={value}" for name, value in spec.env.items()]
    words += [f"--publish={port.host}:{port.container}/{port.protocol}" for port in container.ports]
    for volume in container.volumes:
        words.append(f"--volume={volumes[volume.host]}:{volume.container}:{'ro' if volume.read_only else 'rw'}")
    if container.user:
        words.append(f"--user={container.user}")
    for kind in devices(spec):
        words += settings.device_args.of(kind)
    if container.entrypoint:
        words.append(f"--entrypoint={container.entrypoint[0]}")
    return [*words, *settings.run_args, container.image, *container.entrypoint[1:], *container.command]


def devices(spec: WorkloadSpec) -> list[str]:
    """The accelerators that it asks for, by their names in `device_args`."""
    asked = [kind for kind, count in (("gpu", spec.resources.gpu_count), ("npu", spec.resources.npu_count)) if count]
    return list(dict.fromkeys([*asked, *spec.resources.accelerators]))


def missing_limits(spec: WorkloadSpec, limited: Sequence[str]) -> list[str]:
    """What the spec wants limited and the engine cannot limit."""
    wanted = {"memory": spec.resources.memory_mb > 0, "cpu": spec.resources.cpu_cores > 0, "pids": True}
    return [kind for kind in LIMITED if wanted[kind] and kind not in limited]


def _limit_words(spec: WorkloadSpec, container: ContainerSpec, limited: Sequence[str]) -> list[str]:
    words = []
    if spec.resources.memory_mb and "memory" in limited:
        size = f"{max(6, round(spec.resources.memory_mb))}m"  # no engine takes less than 6 MiB
        words += [f"--memory={size}", f"--memory-swap={size}"]
    if spec.resources.cpu_cores and "cpu" in limited:
        words.append(f"--cpus={max(0.01, spec.resources.cpu_cores):.2f}")
    if "pids" in limited:
        words.append(f"--pids-limit={container.pids_max}")
    return words


def _log_words(bytes_max: int, *, docker: bool) -> list[str]:
    if docker:
        return ["--log-driver=json-file", f"--log-opt=max-size={bytes_max}", "--log-opt=max-file=1"]
    return ["--log-driver=k8s-file", f"--log-opt=max-size={bytes_max}"]


# ---- what the engine answers ------------------------------------------------------------------------


def containers_of(text: bytes) -> list[Container]:
    """From the JSON of `inspect`. Raises ValueError where it is something else."""
    raw = json.loads(text or b"[]")
    if not isinstance(raw, list):
        raise ValueError("no list")
    return [_container(one) for one in raw]


def _container(raw: Any) -> Container:
    try:
        state, labels = raw["State"], (raw.get("Config") or {}).get("Labels") or {}
        return Container(
            str(raw["Name"]).lstrip("/"),
            str(labels.get(LABEL_WORKLOAD, "")),
            str(labels.get(LABEL_MARK, "")),
            bool(state.get("Running")),
            int(state.get("Pid") or 0),
            int(state.get("ExitCode") or 0),
            bool(state.get("OOMKilled")),
            str(state.get("Error") or ""),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not the description of a container: {error!r}") from error


def limited_by(text: bytes) -> tuple[str, ...]:
    """What the engine can limit, from the JSON of `info`: of podman the controllers, of docker its own flags."""
    raw = json.loads(text)
    host = raw.get("host") if isinstance(raw, dict) else None
    if isinstance(host, dict):
        controllers = host.get("cgroupControllers") or []
        return tuple(kind for kind in LIMITED if kind in controllers)
    if isinstance(raw, dict) and "MemoryLimit" in raw:
        flags = {"memory": raw.get("MemoryLimit"), "cpu": raw.get("CpuCfsQuota"), "pids": raw.get("PidsLimit")}
        return tuple(kind for kind in LIMITED if flags[kind])
    raise ValueError("no information about an engine")


def end_of(container: Container, spec: WorkloadSpec) -> Ended:
    """How it has ended."""
    code, memory_mb = container.exit_code, spec.resources.memory_mb
    if container.out_of_memory:
        return Ended(False, f"killed: it needed more than its {memory_mb:g} MiB of memory")
    if code == 0:
        return Ended(True, "ended with status 0")
    said = f"; {container.error}" if container.error else ""
    if code > 128 and (name := _signal(code - 128)):
        perhaps = f"; perhaps for its limit of {memory_mb:g} MiB" if name == "SIGKILL" and memory_mb else ""
        return Ended(False, f"ended by {name} (status {code}){perhaps}{said}")
    return Ended(False, f"ended with status {code}{said}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def network_refusal(network: Network, allowed: Sequence[Network]) -> str | None:
    if network in allowed:
        return None
    return f"container.network: {network} is not allowed here ({', '.join(allowed) or 'none at all'})"
