"""A podman or a docker of the tests' own: its images and containers lie in a folder of its own, and nothing else is
touched. Docker is a daemon of its own too, without a bridge and without iptables.

The image is busybox alone. Where the engine is missing, or can run nothing on this machine, tests are skipped with
the reason that it gives.
"""

import asyncio
import functools
import json
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ParamSpec

import pytest

from agent.workloads.command_line import LIMITED, limited_by
from agent.workloads.settings import Limits, WorkloadSettings
from schemas.workloads import Network

P = ParamSpec("P")
IMAGE = "localhost/edgewright-test:1"
ULIMITS = ("--ulimit=nofile=4096:4096", "--ulimit=nproc=1000:1000")
TOOLS = ("sh", "sleep", "cat", "echo", "touch", "true", "dd", "id", "kill", "wget")
WAIT_S = 60.0


@dataclass(frozen=True)
class Pods:
    """Calls of the engine for the tests, and what an agent needs to use the same one."""

    args: tuple[str, ...]
    run_args: tuple[str, ...] = ULIMITS
    limits: Limits = Limits.REQUIRE
    archive: Path = field(default_factory=Path)
    engine: str = "podman"

    def call(self, *words: str) -> str:
        done = subprocess.run([self.engine, *self.args, *words], capture_output=True, text=True, timeout=WAIT_S)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def settings(self, **more: Any) -> WorkloadSettings:
        """Quick where the product is patient."""
        quick = {"restart_first_s": 0.1, "restart_max_s": 0.4, "stable_s": 30.0, "crash_loop_max": 2}
        networks = (Network.NONE, Network.HOST)
        return WorkloadSettings(
            containers=True, engine=self.engine, engine_args=self.args, run_args=self.run_args, limits=self.limits,
            networks=networks,
            **{**quick, **more},
        )  # fmt: skip

    def toml(self, more: str = "") -> str:
        """The same, as a table of agent.toml."""
        return (
            f"[workloads]\ncontainers = true\nengine = {json.dumps(self.engine)}\n"
            f"engine_args = {json.dumps(self.args)}\n"
            f"run_args = {json.dumps(self.run_args)}\nlimits = {json.dumps(self.limits)}\n{more}\n"
        )

    def ids(self, node: str, *, running: bool = False) -> list[str]:
        words = ["ps", "--quiet", "--no-trunc", f"--filter=label=edgewright.node={node}"]
        return self.call(*words, *([] if running else ["--all"])).split()

    def inspect(self, name: str) -> dict[str, Any]:
        (found,) = json.loads(self.call("inspect", "--type=container", name))
        assert isinstance(found, dict)
        return found

    def forget_image(self) -> None:
        self.call("rmi", "--force", IMAGE)

    def bring_image(self) -> None:
        self.call("import", str(self.archive), IMAGE)

    def clear(self) -> None:
        if there := self.call("ps", "--all", "--quiet").split():
            self.call("rm", "--force", *there)


def make_pods(folder: Path) -> Pods:
    """Skips the test where nothing can be run."""
    busybox = shutil.which("busybox")
    if shutil.which("podman") is None or busybox is None:
        pytest.skip("podman or busybox is not installed")
    archive = _archive(folder, Path(busybox))
    places = (f"--root={folder / 'root'}", f"--runroot={folder / 'run'}", f"--tmpdir={folder / 'tmp'}")
    complaint = ""
    for runtime in ((), ("--runtime=runc",)):
        pods = Pods((*places, *runtime), archive=archive)
        try:
            pods.bring_image()
            pods.call("run", "--rm", "--network=none", *pods.run_args, IMAGE, "/bin/true")
        except (AssertionError, subprocess.TimeoutExpired) as error:
            complaint = str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)
            continue
        controllers = json.loads(pods.call("info", "--format=json"))["host"].get("cgroupControllers") or []
        limited = {"memory", "cpu", "pids"} <= set(controllers)
        return Pods(pods.args, pods.run_args, Limits.REQUIRE if limited else Limits.TRY, archive)
    pytest.skip(f"podman runs nothing here: {complaint}")


@contextmanager
def open_pods(engine: str, folder: Path) -> Iterator[Pods]:
    """Until the end of it. Skips the test where nothing can be run."""
    if engine == "podman":
        pods = make_pods(folder)
        yield pods
        pods.clear()
        pods.call("rmi", "--all", "--force")
        return
    busybox = shutil.which("busybox")
    if shutil.which("dockerd") is None or shutil.which("docker") is None or busybox is None:
        pytest.skip("dockerd, docker or busybox is not installed")
    socket, log = folder / "d.sock", folder / "dockerd.log"
    words = ["dockerd", f"--host=unix://{socket}", f"--data-root={folder / 'root'}", f"--exec-root={folder / 'exec'}"]
    words += [f"--pidfile={folder / 'd.pid'}", "--bridge=none", "--iptables=false", "--ip6tables=false"]
    with log.open("wb") as out, subprocess.Popen(words, stdout=out, stderr=out) as daemon:
        try:
            yield _dockers(
                Pods((f"--host=unix://{socket}",), (), engine="docker"), daemon, log, folder, Path(busybox)
            )
        finally:
            daemon.terminate()
            daemon.wait(WAIT_S)


def _dockers(pods: Pods, daemon: "subprocess.Popen[bytes]", log: Path, folder: Path, busybox: Path) -> Pods:
    """Once the daemon answers."""

    def said(*words: str) -> str:
        try:
            return pods.call(*words)
        except AssertionError:
            return ""

    wait_for(lambda: daemon.poll() is not None or said("version"), log.read_text)
    if daemon.poll() is not None:
        pytest.skip(f"dockerd does not run here: {log.read_text().strip().splitlines()[-1][:300]}")
    pods = replace(pods, archive=_archive(folder, busybox))
    pods.bring_image()
    try:
        pods.call("run", "--rm", "--network=none", IMAGE, "/bin/true")
    except AssertionError as error:
        pytest.skip(f"docker runs nothing here: {str(error)[:300]}")
    limited = limited_by(pods.call("info", "--format={{json .}}").encode())
    return replace(pods, limits=Limits.REQUIRE if set(limited) == set(LIMITED) else Limits.TRY)


def _archive(folder: Path, busybox: Path) -> Path:
    root = folder / "image"
    for name in ("bin", "tmp", "run", "data"):
        (root / name).mkdir(parents=True)
    shutil.copy(busybox, root / "bin" / "busybox")
    for tool in TOOLS:
        (root / "bin" / tool).symlink_to("busybox")
    archive = folder / "image.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(root, ".")
    return archive


def on_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test on an event loop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


def wait_for(true: Callable[[], object], what: Callable[[], object] = lambda: "waited in vain") -> None:
    """Generous, because the machine may be busy."""
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what()
        time.sleep(0.05)
