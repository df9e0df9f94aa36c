"""A whole Edgewright on this machine: private broker, coordinator, agents, as real processes.

For the demo, the benchmarks and the tests. Everything lies in one folder and nothing is left running.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).resolve().parents[1]
STOP_S = 15.0
PORTS = range(15_000, 32_000)


class StackError(Exception):
    """A process did not start or did not live; the message holds the end of its log."""


def free_port() -> int:
    """A TCP port nobody listens on at this moment, and none that the kernel gives to an outgoing connection: who ends
    and listens there again finds it free."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise StackError(f"no TCP port from {PORTS.start} to {PORTS.stop - 1} is free")


class Stack:
    """Starts processes in order, stops them in reverse order."""

    def __init__(self, folder: Path, *, broker_conf: str = "") -> None:
        self.folder = folder
        self.port = free_port()
        self._broker_conf = broker_conf
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Stack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- starting --------------------------------------------------------------------------------

    def start_broker(self) -> None:
        """Mosquitto with the project's own settings on a free loopback port."""
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise StackError("mosquitto is not installed; scripts/setup --for demo installs it")
        settings = (ROOT / "mosquitto.conf").read_text(encoding="utf-8")
        conf = self.folder / "mosquitto.conf"
        listener = f"listener {self.port} 127.0.0.1\nallow_anonymous true\n"
        conf.write_text(f"{settings}\n{listener}{self._broker_conf}", encoding="utf-8")
        self.spawn("broker", [program, "-c", str(conf)])
        self._await_port()

    def start_coordinator(self, extra: str = "") -> Path:
        """The coordinator with a store of its own. Returns its configuration file."""
        config = self.folder / "coordinator.toml"
        text = f'[coordinator]\ndata_dir = "{self.folder}/coordinator"\n{extra}\n[broker]\nport = {self.port}\n'
        config.write_text(text, encoding="utf-8")
        self.spawn("coordinator", [sys.executable, "-m", "coordinator", "run", "--config", str(config)])
        return config

    def start_agent(self, node: str, body: str, *, nice: int = 0) -> Path:
        """An agent; `body` are its [[cameras]] and [[pipelines]]. Returns its configuration file."""
        config = self.folder / f"{node}.toml"
        head = f'[node]\nid = "{node}"\ndata_dir = "{self.folder}/{node}"\nheartbeat_s = 2.0\n'
        config.write_text(f"{head}[broker]\nport = {self.port}\n{body}", encoding="utf-8")
        command = [sys.executable, "-m", "agent", "run", "--config", str(config)]
        self.spawn(node, ["nice", "-n", str(nice), *command] if nice else command)
        return config

    def spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        """Any further process; its output goes to `<name>.log`."""
        log = (self.folder / f"{name}.log").open("ab")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)
        log.close()
        self._processes[name] = process
        return process

    # ---- watching --------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises StackError when a process has ended by itself."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise StackError(f"{name} ended with status {process.returncode}:\n{self.log_tail(name)}")

    def has(self, name: str) -> bool:
        """True for a process that was started and not stopped, though it may have ended by itself."""
        return name in self._processes

    def ended(self, name: str) -> int | None:
        """The exit status of a process that has ended by itself; None while it runs."""
        return self._processes[name].poll()

    def signal(self, name: str, number: int = signal.SIGTERM) -> None:
        """Sends a signal and does not wait for what comes of it."""
        self._processes[name].send_signal(number)

    def forget(self, name: str) -> None:
        """A process that has ended need not be stopped; its name is free for another."""
        self._processes.pop(name, None)

    def log_tail(self, name: str, lines: int = 25) -> str:
        """The end of what a process wrote."""
        path = self.folder / f"{name}.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def pss_mb(self, name: str) -> float:
        """Proportional set size of a process and all beneath it, in MiB."""
        return sum(_pss_kb(pid) for pid in _tree(self.pid(name))) / 1024

    # ---- stopping --------------------------------------------------------------------------------

    def stop_one(self, name: str, *, kill: bool = False) -> int:
        """Stops one process in order, or at once; returns its exit status."""
        process = self._processes.pop(name)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        try:
            return process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            return process.wait(STOP_S)

    def stop(self) -> dict[str, int]:
        """Stops everything, the last started first. Returns the exit statuses."""
        return {name: self.stop_one(name) for name in reversed(list(self._processes))}

    def _await_port(self, timeout_s: float = 10.0) -> None:
        until_s = time.monotonic() + timeout_s
        while time.monotonic() < until_s:
            if self.ended("broker") is not None:
                self.check()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                time.sleep(0.05)
        raise StackError(f"the broker does not listen on port {self.port}:\n{self.log_tail('broker')}")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _tree(pid: int) -> Iterable[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread lists the children it started
        try:
            started = task.read_text(encoding="ascii").split()
        except OSError:
            continue
        for child in started:
            yield from _tree(int(child))


def _pss_kb(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")), 0)
