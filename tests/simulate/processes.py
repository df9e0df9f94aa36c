"""`edgectl simulate` as a process beside a real broker and a real coordinator."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.coordinator.process import ROOT, Process

WAIT_S = 100.0


class Simulation:
    """One run; `report` is there after `end`."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._errors = (folder / "simulate.err").open("wb")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coordinator.edgectl", *arguments, "--json"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={name: value for name, value in os.environ.items() if name != "EDGECTL_CONFIG"},
        )

    def until(self, done: Callable[[], object], what: str) -> None:
        """While it runs."""

        def found() -> object:
            assert self.process.poll() is None, Path(self._errors.name).read_text()
            return done()

        until(found, what)

    def workers(self) -> list[int]:
        """Their process ids."""
        pid = self.process.pid
        return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> dict[str, Any]:
        """What it reports, once it is done."""
        out, _ = self.process.communicate(timeout=WAIT_S)
        self._errors.close()
        assert self.process.returncode == 0, Path(self._errors.name).read_text()
        report: dict[str, Any] = json.loads(out)
        return report

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stdout is not None, "a pipe"
        self.process.stdout.close()
        self._errors.close()


@contextmanager
def simulation(folder: Path, *arguments: str) -> Iterator[Simulation]:
    running = Simulation(folder, *arguments)
    try:
        yield running
    finally:
        running.kill()


@contextmanager
def coordinator(folder: Path, port: int, extra: str = "") -> Iterator[Process]:
    """Connected when this returns."""
    running = Process(folder, port, extra)
    running.start()
    try:
        asyncio.run(running.connected())
        yield running
    finally:
        running.kill()


def until(done: Callable[[], object], what: str = "", timeout_s: float = WAIT_S) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain: {what}"
        time.sleep(0.2)


def states(running: Process, prefix: str = "sim") -> dict[str, int]:
    """Nodes of the run by state, as the coordinator has it on its disk."""
    query = "SELECT state, count(*) FROM nodes WHERE node GLOB ? GROUP BY state"
    return dict(running.query(query, f"{prefix}-*"))


def counts(running: Process) -> dict[str, tuple[int, int]]:
    """(boot, session) by node."""
    return {node: (boot, session) for node, boot, session in running.query("SELECT node, boot, session FROM nodes")}
