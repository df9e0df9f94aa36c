"""What systemd does for one unit, as the unit file says: started, watched, started again. There is no systemd here.

Read from the unit: Restart=on-failure, RestartSec, RestartPreventExitStatus, WatchdogSec. A process whose watchdog is
overdue gets SIGABRT and SIGCONT, and SIGKILL a little later; systemd waits longer for that (TimeoutStopSec).
"""

import configparser
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ABORT_S = 5.0
STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Unit:
    """The lines of a unit file that decide about restarts. Seconds."""

    restart_s: float = 5.0
    watchdog_s: float = 0.0  # 0: none
    never_after: frozenset[int] = frozenset()  # exit statuses after which a person is needed


def read_unit(path: Path) -> Unit:
    parser = configparser.RawConfigParser(strict=False)
    parser.read(path)
    service = parser["Service"]
    return Unit(
        float(service["RestartSec"]),
        float(service["WatchdogSec"]),
        frozenset(int(status) for status in service["RestartPreventExitStatus"].split()),
    )


class Service:
    """One process and the thread that keeps it alive."""

    def __init__(
        self,
        name: str,
        unit: Unit,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.starts = 0
        self.failed = ""  # why it is not started again: a person is needed
        self._unit = unit
        self._command = list(command)
        self._folder = folder
        self._environment = dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._held = threading.Event()  # not started while it is clear
        self._over = threading.Event()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / f"{name}.notify"))
        self._socket.settimeout(0.1)
        self._thread = threading.Thread(target=self._keep, name=f"service[{name}]", daemon=True)

    def start(self) -> None:
        self._held.set()
        self._thread.start()

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def log_tail(self, lines: int = 15) -> str:
        """The end of what the process wrote."""
        path = self._folder / f"{self.name}.log"
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """To the process, if there is one."""
        if pid := self.pid:
            os.kill(pid, number)

    def kill(self, *, hold: bool = False) -> None:
        """kill -9. With `hold` it is not started again before `release`: something is done to its files."""
        if hold:
            self._held.clear()
        self.signal(signal.SIGKILL)
        if (process := self._process) is not None:
            process.wait(STOP_S)

    def release(self) -> None:
        self._held.set()

    def stop(self) -> None:
        """In order, for good."""
        self._over.set()
        self._held.set()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        self._thread.join(STOP_S)
        if self._thread.is_alive():
            self.signal(signal.SIGKILL)
            self._thread.join(STOP_S)
        self._socket.close()

    # ---- the thread -----------------------------------------------------------------------------

    def _keep(self) -> None:
        while not self._over.is_set():
            self._held.wait()
            if self._over.is_set():
                return
            status = self._live()
            if self._over.is_set():
                return
            if status in self._unit.never_after:
                self.failed = f"ended with status {status}, after which it is not started again:\n{self.log_tail()}"
                return
            self._over.wait(self._unit.restart_s)

    def _live(self) -> int:
        """One life of the process; its exit status."""
        log = (self._folder / f"{self.name}.log").open("ab")
        environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"} | self._environment
        if self._unit.watchdog_s:
            environment["NOTIFY_SOCKET"] = str(self._folder / f"{self.name}.notify")
            environment["WATCHDOG_USEC"] = str(round(self._unit.watchdog_s * 1e6))
        with log:
            process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=ROOT, env=environment)
        self._process = process
        self.starts += 1
        due_s = 0.0  # of the watchdog; it runs from READY=1 on
        while process.poll() is None:
            try:
                words = self._socket.recv(4096).decode(errors="replace").split("\n")
            except TimeoutError:
                words = []
            if self._unit.watchdog_s and ("READY=1" in words or (due_s and "WATCHDOG=1" in words)):
                due_s = time.monotonic() + self._unit.watchdog_s
            if due_s and time.monotonic() > due_s:
                self._abort(process)
        return process.returncode

    def _abort(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGABRT)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(ABORT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
