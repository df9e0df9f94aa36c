"""Workloads in containers: images fetched, containers run, watched, found again after the agent was killed.

Containers restart by our policy alone, so that each restart is counted. Each bears our labels: node, workload, and a
mark of its spec. One that bears the right mark and runs is taken as it is; one of this node that nobody wants is
removed.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from agent.workloads.command_line import (
    LABEL_NODE,
    Container,
    container_name,
    containers_of,
    devices,
    end_of,
    limited_by,
    mark_of,
    missing_limits,
    network_refusal,
    run_words,
)
from agent.workloads.engine import Engine, EngineError, wait_for_end
from agent.workloads.errors import NotNowError, WorkloadError
from agent.workloads.machine import Ended
from agent.workloads.runner import Begun
from agent.workloads.settings import Limits, WorkloadSettings
from schemas.workloads import Pull, WorkloadSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0  # beside the kernel's word: one that was removed by hand has no end to wait for
SETTLE_S = 5.0  # what the engine gets to notice an end that the kernel has told us
SETTLE_EVERY_S = 0.1
STOP_MARGIN_S = 20.0  # for the engine, beyond the grace
_GONE = ("no such container", "no such object", "no container with")
_NO_IMAGE = ("no such image", "image not known", "no such object")


class ContainerRunner:
    """A `Runner`."""

    resumes = True

    def __init__(self, node: str, settings: WorkloadSettings) -> None:
        self._node = node
        self._settings = settings
        self._engine = Engine(settings.engine, settings.engine_args, settings.engine_timeout_s)
        self._limited: tuple[str, ...] | None = None  # what the engine can limit, once it was asked

    def refusal(self, name: str, spec: WorkloadSpec) -> str | None:
        if not self._settings.containers:
            return "this node runs no containers: workloads.containers is false in its configuration"
        container = spec.container
        assert container is not None
        if refused := network_refusal(container.network, self._settings.networks):
            return refused
        for kind in devices(spec):
            if not self._settings.device_args.of(kind):
                return f"this node hands no {kind} to containers: workloads.device_args has no {kind}"
        for volume in container.volumes:
            if not any(Path(volume.host).is_relative_to(folder) for folder in self._settings.volumes):
                allowed = ", ".join(map(str, self._settings.volumes)) or "none is allowed"
                return f"container.volumes: {volume.host} is not beneath an allowed folder ({allowed})"
        return None

    async def sweep(self, wanted: Callable[[], Collection[str]]) -> list[str]:
        """Removes what is of this node and belongs to no wanted workload; the names of those. Raises EngineError."""
        if not self._settings.containers:
            return []
        listed = await self._engine.call(
            "ps", "--all", f"--filter=label={LABEL_NODE}={self._node}", "--format={{.Names}}"
        )
        kept = {container_name(self._node, name) for name in wanted()}  # asked last: what began meanwhile is wanted
        strangers = [name for name in listed.decode().split() if name not in kept]
        for name in strangers:
            await self._remove(name)
        return strangers

    async def start(self, name: str, spec: WorkloadSpec, *, resume: bool) -> Begun:
        container = spec.container
        assert container is not None
        there = await self._look(name)
        if there is not None and there.mark == mark_of(spec) and (there.running or resume):
            return Begun("found running", found=True)
        limited = await self._limits()
        missing = missing_limits(spec, limited)
        if missing and self._settings.limits is Limits.REQUIRE:
            raise WorkloadError(
                f"the engine cannot limit {', '.join(missing)} here",
                hint='mend its cgroups, or set workloads.limits = "try"',
            )
        volumes = {volume.host: await asyncio.to_thread(self._real, volume.host) for volume in container.volumes}
        note = await self._fetch(container.image, container.pull)
        if there is not None:
            await self._remove(container_name(self._node, name))
        words = run_words(
            self._node, name, spec, self._settings, limited=limited, volumes=volumes, docker=self._engine.is_docker
        )
        await self._engine.call(*words)
        unlimited = f"runs without a limit of {', '.join(missing)}" if missing else ""
        return Begun("; ".join(text for text in (note, unlimited) if text))

    async def ended(self, name: str, spec: WorkloadSpec) -> Ended:
        while True:
            try:
                there = await self._look(name)
            except EngineError as error:  # the engine is away, the container may well go on
                log.warning("workload %s: %s", name, error)
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            if there is None:
                return Ended(False, "its container was removed by somebody")
            if not there.running:
                return end_of(there, spec)
            if await wait_for_end(there.pid, LOOK_EVERY_S):
                await self._settled(name)

    async def stop(self, name: str, spec: WorkloadSpec, grace_s: float | None = None) -> None:
        assert spec.container is not None
        grace_s = spec.container.stop_grace_s if grace_s is None else min(grace_s, spec.container.stop_grace_s)
        there = await self._look(name)
        if there is None:
            return
        full = container_name(self._node, name)
        if there.running:
            try:
                limit_s = grace_s + STOP_MARGIN_S
                await self._engine.call("stop", "-t", str(round(grace_s)), full, timeout_s=limit_s)
            except EngineError as error:
                log.warning("workload %s: %s: killed", name, error)
        await self._remove(full)

    async def logs(self, name: str, lines: int) -> list[str] | None:
        if await self._look(name) is None:
            return None
        said = await self._engine.call("logs", f"--tail={lines}", container_name(self._node, name), both=True)
        return said.decode("utf-8", "replace").splitlines()[-lines:]

    # ---- one step each ----------------------------------------------------------------------------

    async def _look(self, name: str) -> Container | None:
        full = container_name(self._node, name)
        try:
            said = await self._engine.call("inspect", "--type=container", full)
            found = containers_of(said)
        except EngineError as error:
            if _says(error, _GONE):
                return None
            raise
        except ValueError as error:
            raise EngineError(f"inspect {full}: unexpected answer: {error}") from error
        return next((one for one in found if one.name == full), None)

    async def _settled(self, name: str) -> None:
        """The process is gone: waits until the engine has noticed."""
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SETTLE_S
        while loop.time() < until_s:
            there = await self._look(name)
            if there is None or not there.running:
                return
            await asyncio.sleep(SETTLE_EVERY_S)

    async def _remove(self, full: str) -> None:
        try:
            await self._engine.call("rm", "--force", full)
        except EngineError as error:
            if not _says(error, _GONE):
                raise

    async def _limits(self) -> tuple[str, ...]:
        if self._limited is None:
            try:
                self._limited = limited_by(await self._engine.call("info", "--format={{json .}}"))
            except ValueError as error:
                raise EngineError(f"info: unexpected answer: {error}") from error
        return self._limited

    async def _fetch(self, image: str, pull: Pull) -> str:
        """The image is here when this returns. Raises NotNowError."""
        here = await self._has(image)
        if pull is Pull.NEVER and not here:
            raise NotNowError(f"image {image} is not on this node, and pull is never")
        if pull is Pull.NEVER or (pull is Pull.MISSING and here):
            return ""
        try:
            await self._engine.call("pull", "--quiet", image, timeout_s=self._settings.pull_timeout_s)
        except EngineError as error:
            if not here:
                raise NotNowError(f"image {image} cannot be fetched: {error.what}") from error
            log.warning("image %s cannot be fetched anew, the one that is here is run: %s", image, error)
            return "the image that was here already; its registry did not give it"
        return ""

    async def _has(self, image: str) -> bool:
        try:
            await self._engine.call("image", "inspect", "--format={{.Id}}", image)
        except EngineError as error:
            if _says(error, _NO_IMAGE):
                return False
            raise
        return True

    def _real(self, host: str) -> str:
        """The folder that a volume leads to, all links followed. Raises WorkloadError, and NotNowError."""
        real = Path(host).resolve()
        allowed = [folder.resolve() for folder in self._settings.volumes]
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise WorkloadError(f"volume {host} leads to {real}, which is not beneath an allowed folder")
        if not real.exists():
            raise NotNowError(f"volume {host} is not there")
        return str(real)


def _says(error: EngineError, texts: Collection[str]) -> bool:
    return any(text in str(error).lower() for text in texts)
