"""The plant of the campaign: a broker, a coordinator, and nodes with a camera each, as services that start again.

Each node reaches the broker through a proxy of its own, has its data on a small volume of its own where one can be
mounted, and runs its model in an accelerator's process (`passthrough.c`): a release of the coordinator's registry, in
place of the configured one. Beside it runs a container, where podman can run one. The first of several nodes has a
clock that can jump instead, and the configured model: libfaketime makes some sleeps of a process fail, and a model is
not proved then.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from benchmarks.faultlib.scenarios import can_mount
from benchmarks.faultlib.site import faketime
from benchmarks.recoverylib.marks import read_marks
from benchmarks.recoverylib.service import ROOT, Service, Unit, read_unit
from coordinator.store.reader import NodeView, Reader, StreamView
from runtime.errors import EdgewrightError
from scripts.stack import free_port
from tests.proxy import Proxy
from tests.workloads.pods import IMAGE, Pods, make_pods

FPS = 10.0
VOLUME_MB = 512  # below some 256 MB free a node begins to give things up
MODEL = ROOT / "platforms" / "manufacturing" / "models" / "weld_defects"
BROKER_UNIT = Unit(restart_s=0.5)
CAMERA_UNIT = Unit(restart_s=3.0)  # a camera that starts again
RECOVERY_MAX_S = 120.0
WORKLOAD, PIPELINE = "pump", "cam1"


class PlantError(Exception):
    """The plant did not come up: a failure of the campaign, not of what it measures."""


@dataclass(slots=True)
class Machine:
    """One gateway: its agent, its camera, its link."""

    name: str
    folder: Path  # of the agent's data
    marks: Path
    offset: Path  # of its clock, for libfaketime
    proxy: Proxy
    camera: Service
    agent: Service
    has_clock: bool  # that can jump


Also = Callable[[Machine], str]
"""What is amiss beyond the usual; empty where nothing is."""


class Plant:
    """`with Plant(folder, 3) as plant:` everything runs and decides; afterwards nothing is left."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self.folder = folder
        self.port = free_port()
        self.volumes = not can_mount()
        self._mounted: list[Path] = []
        self._reader: Reader | None = None
        self.pods, self.without_pods = _pods(folder)
        self._models_port = free_port()
        self.digest = ""  # of the release that all nodes run
        library = _passthrough(folder)
        self.broker = self._broker()
        self.coordinator_data = self._volume("coordinator")
        self.coordinator = self._coordinator()
        self.machines = [
            self._machine(f"gw-{n + 1}", n, library, has_clock=nodes > 1 and n == 0) for n in range(nodes)
        ]

    def __enter__(self) -> Self:
        try:
            self.broker.start()
            self.coordinator.start()
            for machine in self.machines:
                machine.camera.start()
                machine.agent.start()
            self._wait_all_well()
            self._want()
            self._wait_all_well(self.fulfils)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    # ---- what is wanted ---------------------------------------------------------------------------

    def _want(self) -> None:
        """Every node is to run a release of the registry, and a container."""
        bundle = self.folder / "release"
        shutil.copytree(MODEL, bundle)
        manifest = bundle / "bundle.toml"
        manifest.write_text(manifest.read_text(encoding="utf-8").replace('"1"', '"2.0.0"', 1), encoding="utf-8")
        self._edgectl("model", "add", str(bundle))
        self.digest = json.loads(self._edgectl("model", "show", "weld_defects@2.0.0", "--json"))["digest"]
        model = {"model": "weld_defects@2.0.0", "digest": self.digest}
        wanted: dict[str, Any] = {f"pipelines.{PIPELINE}.model": model}
        if self.pods is not None:
            container = {"image": IMAGE, "command": ["sleep", "100000"], "network": "none"}
            wanted[f"workloads.{WORKLOAD}.spec"] = {"type": "container", "generation": 1, "container": container}
        for machine in self.machines:
            for path, value in wanted.items():
                if machine.has_clock and path.startswith("pipelines."):
                    continue
                self._edgectl("desired", "set", machine.name, f"{path}={json.dumps(value)}")

    def _edgectl(self, *words: str) -> str:
        command = [sys.executable, "-m", "coordinator.edgectl", "--config", str(self._coordinator_toml), *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PlantError(f"edgectl {' '.join(words)}: {done.stderr}")
        return done.stdout

    def _wait_all_well(self, also: Also | None = None) -> None:
        since_s, since_ms = time.monotonic(), _now_ms()
        for machine in self.machines:
            if why := self.wait_well(machine, since_s, since_ms, also):
                raise PlantError(f"{machine.name} does not begin: {why}\n{machine.agent.log_tail()}")

    # ---- what is so ------------------------------------------------------------------------------

    def fulfils(self, machine: Machine) -> str:
        """What of that the node does not report; empty where it reports all of it."""
        reader = Reader(self.coordinator_data)
        try:
            said = reader.documents(machine.name).reported
        finally:
            reader.close()
        held = said.fields.get(f"pipelines.{PIPELINE}.model") or {}
        if held.get("digest") != self.digest and not machine.has_clock:
            return f"it runs {held or 'no model that it names'}; pending {said.pending}, refused {said.refused}"
        runs = said.fields.get(f"workloads.{WORKLOAD}.state") or {}
        if self.pods is not None and runs.get("state") != "running":
            return f"its container is {runs}"
        return ""

    def on_accelerator(self, machine: Machine) -> str:
        """What runs its model, where that is not the accelerator."""
        _, stream = self._asked(machine.name)
        engine = str(stream.report.get("engine", "")) if stream is not None else ""
        return "" if engine.startswith("delegate") else f"its model runs on {engine or 'nothing'}"

    def wait_well(
        self,
        machine: Machine,
        since_s: float,
        since_ms: int,
        also: Also | None = None,
        limit_s: float = RECOVERY_MAX_S,
    ) -> str:
        """Waits until the node is well again, by what came after a moment; empty, or what is still amiss.

        Well: frames are decided, the coordinator calls it online, has a heartbeat and a sample of it, all from after
        the moment (of the monotonic clock in s, of UTC in ms), and `also` has nothing to say.
        """
        until_s = time.monotonic() + limit_s
        why = "?"
        while time.monotonic() < until_s:
            if machine.agent.failed or self.coordinator.failed or self.broker.failed:
                return machine.agent.failed or self.coordinator.failed or self.broker.failed
            why = self._amiss(machine, since_s, since_ms, also)
            if not why:
                return ""
            time.sleep(0.1)
        return why

    def _amiss(self, machine: Machine, since_s: float, since_ms: int, also: Also | None) -> str:
        marks = read_marks(machine.marks)
        if int((marks > since_s).sum()) < FPS / 2:
            return "no frames are decided"
        try:
            node, stream = self._asked(machine.name)
        except (EdgewrightError, OSError) as error:
            return f"the coordinator's store: {error}"
        if node is None or node.state != "online":
            return f"the coordinator calls it {node.state if node else 'unknown'}: {node.reason if node else ''}"
        if node.heartbeat_utc_ms <= since_ms:
            return "no heartbeat has come"
        if stream is None or stream.last_sample_utc_ms <= since_ms:
            return "no sample has come"
        return also(machine) if also is not None else ""

    def _asked(self, name: str) -> tuple[NodeView | None, StreamView | None]:
        reader = Reader(self.coordinator_data)
        try:
            streams = reader.streams(name)
            return reader.node(name), streams[0] if streams else None
        finally:
            reader.close()

    # ---- how it is made --------------------------------------------------------------------------

    def _broker(self) -> Service:
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        if program is None:
            raise PlantError("mosquitto is not installed; scripts/setup --for test installs it")
        conf = self.folder / "mosquitto.conf"
        settings = (ROOT / "mosquitto.conf").read_text(encoding="utf-8")
        conf.write_text(f"{settings}\nlistener {self.port} 127.0.0.1\nallow_anonymous true\n", encoding="utf-8")
        return Service("broker", BROKER_UNIT, [program, "-c", str(conf)], self.folder)

    def _coordinator(self) -> Service:
        self._coordinator_toml = conf = self.folder / "coordinator.toml"
        conf.write_text(
            f'[coordinator]\ndata_dir = "{self.coordinator_data}"\nheartbeat_s = 2.0\n[broker]\nport = {self.port}\n'
            f"[models]\nhttp_port = {self._models_port}\n",
            encoding="utf-8",
        )
        unit = read_unit(ROOT / "deploy" / "systemd" / "edge-coordinator.service")
        command = [sys.executable, "-m", "coordinator", "run", "--config", str(conf)]
        return Service("coordinator", unit, command, self.folder)

    def _machine(self, name: str, number: int, library: Path, *, has_clock: bool) -> Machine:
        data, proxy, camera_port = self._volume(name), Proxy(self.port, free_port()), free_port()
        bundle = self.folder / f"{name}-model"
        shutil.copytree(MODEL, bundle)
        conf, marks, offset = (self.folder / f"{name}.{end}" for end in ("toml", "marks", "clock"))
        offset.write_text("+0", encoding="ascii")
        conf.write_text(
            f'[node]\nid = "{name}"\ndata_dir = "{data}"\nheartbeat_s = 2.0\nresend_after_s = 3.0\n'
            f"[outbox]\nballast_bytes = 4194304\n"
            f"[broker]\nport = {proxy.port}\nkeepalive_s = 5\n"
            f'[inference]\nrungs = ["delegate", "cpu"]\ndelegate_library = "{library}"\nretry_first_s = 1.0\n'
            f'[[cameras]]\nid = "cam1"\nsource = "http://127.0.0.1:{camera_port}/mjpeg"\n'
            f'[[pipelines]]\ncamera = "cam1"\nmodel = "{bundle}"\nsample_interval_s = 1.0\n'
            f'[models]\nsources = ["http://127.0.0.1:{self._models_port}"]\nspread_s = 0\nretry_first_s = 0.5\n'
            "probation_s = 1.0\n[models.gate]\nlatency_factor_max = 20.0\n"
            f"{self.pods.toml('restart_first_s = 0.5') if self.pods is not None else ''}",
            encoding="utf-8",
        )
        camera = [sys.executable, "-m", "benchmarks.recoverylib.camera", str(camera_port), str(FPS), str(number)]
        agent = [sys.executable, "-m", "benchmarks.recoverylib.node", str(marks), "run", "--config", str(conf)]
        unit = read_unit(ROOT / "deploy" / "systemd" / "edge-agent.service")
        return Machine(
            name, data, marks, offset, proxy,
            Service(f"{name}-camera", CAMERA_UNIT, camera, self.folder),
            Service(f"{name}-agent", unit, agent, self.folder, faketime(offset) if has_clock else None), has_clock,
        )  # fmt: skip

    def _volume(self, name: str) -> Path:
        """A folder on a small volume of its own, or a plain one where none can be mounted."""
        at = self.folder / name
        at.mkdir()
        if self.volumes:
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={VOLUME_MB}m", "edgewright", str(at)], check=True)
            self._mounted.append(at)
        return at

    def _end(self) -> None:
        for machine in self.machines:
            machine.agent.stop()
            machine.camera.stop()
            machine.proxy.close()
        self.coordinator.stop()
        self.broker.stop()
        if self.pods is not None:
            self.pods.clear()
        for at in self._mounted:
            subprocess.run(["umount", "-l", str(at)], check=False)


def _pods(folder: Path) -> tuple[Pods | None, str]:
    """A podman of its own, or why there is none."""
    (folder / "pods").mkdir()
    try:
        return make_pods(folder / "pods"), ""
    except pytest.skip.Exception as error:
        return None, str(error)


def _passthrough(folder: Path) -> Path:
    library = folder / "libpassthrough.so"
    source = Path(__file__).with_name("passthrough.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-o", str(library), str(source)], check=True)
    return library


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
