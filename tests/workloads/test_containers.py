"""Containers on a real podman, and on a real docker: started, limited, watched, restarted, found again, removed."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.workloads.calls import CallRunner
from agent.workloads.containers import ContainerRunner
from agent.workloads.fit import Room
from agent.workloads.machine import Order
from agent.workloads.settings import Limits, OnStop, WorkloadSettings
from agent.workloads.store import FILE_NAME, WorkloadsFile
from agent.workloads.workloads import Workloads
from schemas.workloads import (
    ContainerSpec,
    Network,
    Pull,
    ResourceRequirements,
    Restart,
    VolumeSpec,
    WorkloadReport,
    WorkloadSpec,
    WorkloadType,
)
from tests.workloads.pods import IMAGE, WAIT_S, Pods, on_loop

NODE = "gw-1"
PUMP = f"edgewright-{NODE}-pump"
FOR_EVER = ("/bin/sh", "-c", "trap 'echo stopped; exit 0' TERM; echo up; while true; do sleep 0.1; done")


class Node:
    """The driver on the loop, with a real engine and a file, and what it tells."""

    def __init__(self, folder: Path, settings: WorkloadSettings) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.file = WorkloadsFile(folder / FILE_NAME)
        self._folder = folder
        containers = ContainerRunner(NODE, settings)

        async def nothing(*call: Any) -> None:
            raise AssertionError("no function is called here")

        calls = CallRunner(nothing, list)
        runners = dict.fromkeys(WorkloadType, calls) | {WorkloadType.CONTAINER: containers}
        self.workloads = Workloads(
            settings, self.file, runners, containers, room=Room({"cores": 4.0, "memory_mb": 4096.0}),
            announce=lambda kind, subject, data: self.events.append((kind, data)),
        )  # fmt: skip

    def report(self, name: str = "pump") -> WorkloadReport:
        return self.workloads.reports()[name]

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.events]

    def order(self, name: str, order: Order) -> None:
        """As another process does."""
        file = WorkloadsFile(self._folder / FILE_NAME)
        file.order(name, order)
        file.close()

    async def wait(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.02)

    async def told(self, kinds: list[str]) -> None:
        """Exactly these events, in this order."""
        await self.wait(lambda: len(self.events) >= len(kinds))
        assert self.kinds() == kinds

    async def running(self, generation: int = 1) -> None:
        """And that is told."""
        await self.wait(lambda: (self.report().state, self.report().generation) == ("running", generation))
        await self.wait(lambda: self.events and self.events[-1][0] == "WorkloadStarted")


@asynccontextmanager
async def node(folder: Path, settings: WorkloadSettings, specs: dict[str, WorkloadSpec]) -> AsyncIterator[Node]:
    """Stopped in order at the end."""
    one = Node(folder, settings)
    one.workloads.follow(specs)
    task = asyncio.create_task(one.workloads.run())
    try:
        yield one
    finally:
        one.workloads.stop()
        await task
        one.file.close()


def pump(command: tuple[str, ...] = FOR_EVER, generation: int = 1, **more: Any) -> dict[str, WorkloadSpec]:
    container = ContainerSpec(IMAGE, command, stop_grace_s=2.0, **more)
    return {"pump": WorkloadSpec(WorkloadType.CONTAINER, generation, container=container)}


def changed(specs: dict[str, WorkloadSpec], **more: Any) -> dict[str, WorkloadSpec]:
    return {name: replace(spec, **more) for name, spec in specs.items()}


@on_loop
async def test_it_runs_as_it_is_specified_and_is_gone_when_nobody_wants_it(tmp_path: Path, pods: Pods) -> None:
    given = tmp_path / "given"
    given.mkdir()
    (given / "greeting").write_text("hello from the node\n")
    command = ("-c", "cat /data/greeting; echo $COLOUR; touch /x; touch /data/x; touch /tmp/ok && echo tmp; sleep 99")
    specs = changed(
        pump(command, entrypoint=("/bin/sh",), volumes=(VolumeSpec(str(given), "/data"),)),
        env={"COLOUR": "blue = not red"},
        resources=ResourceRequirements(cpu_cores=0.5, memory_mb=64),
    )
    async with node(tmp_path, pods.settings(volumes=(tmp_path,)), specs) as one:
        await one.running()
        async with asyncio.timeout(WAIT_S):
            while "tmp" not in (said := await one.workloads.logs("pump", 10) or []):
                await asyncio.sleep(0.05)
        assert "hello from the node" in "".join(said) and any("blue = not red" in line for line in said)
        assert sum("Read-only file system" in line for line in said) == 2
        assert await one.workloads.logs("pump", 1) == said[-1:]
        host = pods.inspect(PUMP)["HostConfig"]
        assert (host["RestartPolicy"]["Name"], host["Privileged"], host["NetworkMode"]) == ("no", False, "none")
        if pods.limits is Limits.REQUIRE:
            assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (64 * 2**20, 64 * 2**20, 256)
            cores = host["NanoCpus"] / 1e9 if pods.engine == "docker" else host["CpuQuota"] / host["CpuPeriod"]
            assert cores == 0.5
        assert one.workloads.allocated() == {"cores": 0.5, "memory_mb": 64}
        one.workloads.follow({})
        await one.wait(lambda: "WorkloadStopped" in one.kinds())
        await one.wait(lambda: not pods.ids(NODE))
        assert one.workloads.reports() == {} and one.workloads.allocated() == {}


@on_loop
async def test_a_container_that_is_killed_is_restarted_and_counted(tmp_path: Path, pods: Pods) -> None:
    async with node(tmp_path, pods.settings(), pump()) as one:
        await one.running()
        first = pods.ids(NODE, running=True)
        await asyncio.to_thread(pods.call, "kill", PUMP)
        await one.wait(lambda: one.report().restarts == 1 and one.report().state == "running")
        assert pods.ids(NODE) != first and len(pods.ids(NODE)) == 1
        await one.told(["WorkloadStarted", "WorkloadFailed", "WorkloadStarted"])
        assert one.events[1][1]["reason"].startswith("ended by SIGKILL (status 137)")


@on_loop
async def test_a_crash_loop_ends_as_failed_with_the_reason_and_its_last_words(tmp_path: Path, pods: Pods) -> None:
    async with node(tmp_path, pods.settings(), pump(("/bin/sh", "-c", "echo so sorry >&2; exit 7"))) as one:
        await one.wait(lambda: "given up" in one.report().reason)
        assert (one.report().state, one.report().restarts) == ("failed", 2)
        assert one.report().reason == "ended 3 times in a row, given up; the last time: ended with status 7"
        assert await one.workloads.logs("pump", 10) == ["so sorry"]
        one.order("pump", Order.RESTART)
        await one.wait(lambda: one.report().restarts > 2)


@pytest.mark.parametrize(
    ("restart", "command", "state", "reason"),
    [
        (Restart.ON_FAILURE, ("/bin/true",), "stopped", "ended with status 0"),
        (Restart.NEVER, ("/bin/nosuch",), "failed", "its command cannot be run"),
    ],
)
@on_loop
async def test_what_has_ended_stays_down_where_the_policy_says_so(
    tmp_path: Path, pods: Pods, restart: Restart, command: tuple[str, ...], state: str, reason: str
) -> None:
    async with node(tmp_path, pods.settings(), changed(pump(command), restart=restart)) as one:
        await one.wait(lambda: one.report().state == state)
        assert one.report().reason.startswith(reason) and one.report().restarts == 0


@on_loop
async def test_a_missing_image_is_a_reason_and_not_an_end(tmp_path: Path, pods: Pods) -> None:
    pods.forget_image()
    try:
        async with node(tmp_path, pods.settings(), pump(pull=Pull.NEVER)) as one:
            await one.wait(lambda: one.report().state == "failed")
            assert f"image {IMAGE} is not on this node" in one.report().reason
            assert "tried again in" in one.report().reason
            pods.bring_image()
            await one.running()
            assert set(one.kinds()[:-1]) == {"WorkloadFailed"} and one.kinds()[-1] == "WorkloadStarted"
    finally:
        pods.bring_image()


@pytest.mark.slow
@on_loop
async def test_another_generation_replaces_the_one_before(tmp_path: Path, pods: Pods) -> None:
    async with node(tmp_path, pods.settings(), pump()) as one:
        await one.running(1)
        seen = []
        one.workloads.follow(pump(generation=2))
        async with asyncio.timeout(WAIT_S):
            while (one.report().state, one.report().generation) != ("running", 2):
                seen.append(len(await asyncio.to_thread(pods.ids, NODE, running=True)))
        assert max(seen, default=0) <= 1
        assert pods.inspect(PUMP)["State"]["Running"]
        await one.told(["WorkloadStarted", "WorkloadStopped", "WorkloadStarted"])


@on_loop
async def test_what_was_left_running_is_found_again_and_strangers_are_removed(tmp_path: Path, pods: Pods) -> None:
    settings = pods.settings(on_stop=OnStop.LEAVE)
    async with node(tmp_path, settings, pump() | {"fan": pump()["pump"]}) as one:
        await one.wait(lambda: set(one.workloads.states().values()) == {"running"} and len(one.events) == 2)
    left = pods.inspect(PUMP)["Id"]
    assert len(pods.ids(NODE, running=True)) == 2
    async with node(tmp_path, settings, pump()) as one:
        await one.wait(lambda: pods.ids(NODE) == [left])
        await one.wait(lambda: one.report().state == "running" and one.workloads._ones["pump"].machine.active)
        assert one.events == []
        await asyncio.to_thread(pods.call, "kill", PUMP)
        await one.wait(lambda: one.report().restarts == 1 and one.report().state == "running")
    pods.call("kill", PUMP)  # while no agent is there
    async with node(tmp_path, pods.settings(), pump()) as one:
        await one.wait(lambda: one.report().restarts == 2 and one.report().state == "running")
    assert pods.ids(NODE) == []  # on_stop = "stop"


@on_loop
async def test_more_memory_than_its_limit_ends_it(tmp_path: Path, pods: Pods) -> None:
    if pods.limits is not Limits.REQUIRE:
        pytest.skip("the cgroups of this machine limit nothing")
    greedy = changed(
        pump(("/bin/sh", "-c", "x=abcdefgh; while true; do x=$x$x; done")),
        restart=Restart.NEVER, resources=ResourceRequirements(memory_mb=16),
    )  # fmt: skip
    async with node(tmp_path, pods.settings(), greedy) as one:
        await one.wait(lambda: one.report().state == "failed")
        assert "16 MiB" in one.report().reason


@pytest.mark.slow
@on_loop
async def test_it_is_stopped_and_restarted_by_orders_at_the_node(tmp_path: Path, pods: Pods) -> None:
    async with node(tmp_path, pods.settings(), pump()) as one:
        await one.running()
        one.order("pump", Order.STOP)
        one.order("nobody", Order.STOP)
        await one.wait(lambda: one.report().state == "stopped")
        assert pods.ids(NODE) == [] and one.report().reason == "stopped at the node"
        one.workloads.follow(pump())  # the same once more is no reason to start
        one.order("pump", Order.RESTART)
        await one.running()


@on_loop
async def test_an_engine_that_is_not_there_is_a_reason(tmp_path: Path) -> None:
    settings = WorkloadSettings(containers=True, engine=str(tmp_path / "podman"), restart_first_s=0.1)
    async with node(tmp_path, settings, pump()) as one:
        await one.wait(lambda: one.report().state == "failed")
        assert "cannot be started" in one.report().reason and "workloads.engine" in one.report().reason
        one.workloads.follow({})
        await one.wait(lambda: not one.workloads._wanted)


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (pump(network=Network.BRIDGE), "bridge is not allowed here (none, host)"),
        (pump(volumes=(VolumeSpec("/etc", "/etc"),)), "/etc is not beneath an allowed folder"),
        (changed(pump(), resources=ResourceRequirements(gpu_count=1)), "hands no gpu to containers"),
        (changed(pump(), resources=ResourceRequirements(memory_mb=5000)), "memory_mb: needs 5000, 4096 of 4096 free"),
    ],
)
def test_what_the_node_does_not_allow_is_refused_with_the_reason(
    tmp_path: Path, specs: dict[str, WorkloadSpec], said: str
) -> None:
    settings = WorkloadSettings(containers=True, networks=(Network.NONE, Network.HOST), volumes=(tmp_path,))
    one = Node(tmp_path, settings)
    assert said in one.workloads.follow(specs)["pump"]
    assert (one.report().state, one.kinds()) == ("failed", ["WorkloadFailed"])
    one.workloads.follow(specs)
    assert one.kinds() == ["WorkloadFailed"]
    assert "containers is false" in Node(tmp_path / "off", WorkloadSettings()).workloads.follow(pump())["pump"]


@on_loop
async def test_a_volume_that_leads_out_of_the_allowed_folder_is_refused(tmp_path: Path, pods: Pods) -> None:
    (tmp_path / "inside").symlink_to("/etc")
    specs = changed(pump(volumes=(VolumeSpec(str(tmp_path / "inside"), "/data"),)), restart=Restart.NEVER)
    async with node(tmp_path, pods.settings(volumes=(tmp_path,)), specs) as one:
        await one.wait(lambda: one.report().state == "failed")
        assert "leads to /etc" in one.report().reason


@pytest.mark.slow
@on_loop
async def test_it_runs_through_the_socket_of_podmans_own_service(tmp_path: Path, pods: Pods) -> None:
    """As under systemd, where the agent itself may make no namespaces."""
    if pods.engine != "podman":
        pytest.skip("docker has a service only")
    with tempfile.TemporaryDirectory(prefix="ew-") as folder:  # the path of a socket is short
        url = f"unix://{folder}/podman.sock"
        service = await asyncio.create_subprocess_exec(
            "podman", *pods.args, "system", "service", "--time=0", url, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            settings = replace(pods.settings(), engine_args=("--remote", f"--url={url}"))
            async with node(tmp_path, settings, pump()) as one:
                await one.running()
                assert len(pods.ids(NODE, running=True)) == 1
                await asyncio.to_thread(pods.call, "kill", PUMP)
                await one.wait(lambda: (one.report().restarts, one.report().state) == (1, "running"))
                async with asyncio.timeout(WAIT_S):
                    while await one.workloads.logs("pump", 5) != ["up"]:
                        await asyncio.sleep(0.05)
            assert pods.ids(NODE) == []
        finally:
            service.kill()
            await service.wait()
