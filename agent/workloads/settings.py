"""The `[workloads]` table of the agent's configuration: what the coordinator may have this node run, and how."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from schemas.shape import Limit
from schemas.workloads import WORKLOADS_MAX, Network


class Limits(StrEnum):
    """What follows where the engine cannot limit what a container takes."""

    REQUIRE = "require"  # the workload is refused
    TRY = "try"  # it runs without the limit, and says so


class OnStop(StrEnum):
    """What becomes of containers when the agent is stopped in order. Pipelines and functions end with it."""

    STOP = "stop"
    LEAVE = "leave"  # they go on, and are found again by the next start


@dataclass(frozen=True, slots=True)
class DeviceArgs:
    """Options of `run` that hand an accelerator to a container; empty: it is handed to none."""

    gpu: tuple[str, ...] = ()
    npu: tuple[str, ...] = ()
    edgetpu: tuple[str, ...] = ()
    nvidia: tuple[str, ...] = ()

    def of(self, kind: str) -> tuple[str, ...]:
        found: tuple[str, ...] = getattr(self, kind, ())
        return found


@dataclass(frozen=True, slots=True)
class WorkloadSettings:
    """Every field has a default; the comment beside it is its line in the sample config."""

    workloads_max: Annotated[int, Limit(ge=0, le=WORKLOADS_MAX)] = 16  # at a time; 0: none
    cores_max: Annotated[float, Limit(ge=0, le=4096)] = 0.0  # for all of them together; 0: what the node has
    memory_mb_max: Annotated[float, Limit(ge=0)] = 0.0  # for all of them together; 0: what the node has
    containers: bool = False  # images are programs: they run only where the node says so
    engine: Annotated[str, Limit(len_min=1, len_max=500)] = "podman"  # or docker, or the path of one of them
    engine_args: Annotated[tuple[str, ...], Limit(len_max=50)] = ()  # before the subcommand
    run_args: Annotated[tuple[str, ...], Limit(len_max=50)] = ()  # further options of `run`, for every container
    device_args: DeviceArgs = DeviceArgs()
    limits: Limits = Limits.REQUIRE  # where the kernel cannot limit memory, cores or processes
    networks: tuple[Network, ...] = (Network.NONE, Network.BRIDGE)  # what a container may ask for
    volumes: Annotated[tuple[Path, ...], Limit(len_max=50)] = ()  # folders beneath which its volumes may be
    log_bytes_max: Annotated[int, Limit(ge=4096, le=2**40)] = 10 * 2**20  # kept of what each container says
    on_stop: OnStop = OnStop.STOP  # leave: containers outlive an orderly stop of the agent
    pull_timeout_s: Annotated[float, Limit(gt=0, le=86400)] = 600.0
    engine_timeout_s: Annotated[float, Limit(gt=0, le=3600)] = 60.0  # of any other command of the engine
    restart_first_s: Annotated[float, Limit(gt=0, le=3600)] = 1.0  # wait before it starts again; doubles each time
    restart_max_s: Annotated[float, Limit(gt=0, le=86400)] = 300.0
    stable_s: Annotated[float, Limit(gt=0, le=86400)] = 60.0  # ran so long: the next wait is the shortest again
    crash_loop_max: Annotated[int, Limit(ge=0, le=1000)] = 10  # ends in a row, none after stable_s; 0: no limit

    def mistakes(self) -> list[str]:
        """What is impossible, one text a mistake, each naming its key."""
        found = []
        if self.restart_max_s < self.restart_first_s:
            found.append("restart_max_s: must not be below restart_first_s")
        return found + [f"volumes: {path} must be a whole path" for path in self.volumes if not path.is_absolute()]
