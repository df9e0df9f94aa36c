"""Real agents and coordinators with slow functions (tests.calls.slow), and a client of them."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from runtime.calls.client import Client
from runtime.mqtt import BrokerAddress, Connection, Delivery
from schemas.codec import decode_result
from schemas.messages import Result

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 40.0


class Slow:
    """`agent` or `coordinator`, one life after another on the same folder."""

    def __init__(self, folder: Path, program: str, port: int) -> None:
        self.folder = folder
        self.program = program
        self.config = folder / f"{program}.toml"
        self.log = folder / f"{program}.log"
        table = '[node]\nid = "gw-1"\nheartbeat_s = 1.0' if program == "agent" else "[coordinator]"
        self.config.write_text(f'{table}\ndata_dir = "data-{program}"\n[broker]\nport = {port}\n', encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self._lives = 0

    async def start(self) -> None:
        """Returns when the broker has accepted it."""
        self._lives += 1
        self._spawn()
        await until(
            lambda: self.log.read_text(encoding="utf-8").count(": connected as ") >= self._lives,
            lambda: self.log.read_text(encoding="utf-8"),
        )

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "tests.calls.slow", self.program, "run", "--config", str(self.config)]
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(WAIT_S)


class Ear:
    """Hears what goes out on results, of everybody."""

    def __init__(self, port: int) -> None:
        self.heard: list[tuple[str, Result]] = []
        self._connection = Connection(BrokerAddress(port=port), client_id="ear", on_message=self._hear)

    async def __aenter__(self) -> "Ear":
        await self._connection.connect()
        await self._connection.subscribe({"edge/v1/+/result/#": 1})
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connection.close()

    def of(self, identifier: str, node: str, function: str) -> list[Result]:
        """On the result topic itself."""
        topic = f"edge/v1/{node}/result/{function}"
        return [result for heard, result in self.heard if heard == topic and result.id == identifier]

    def _hear(self, delivery: Delivery) -> None:
        self._connection.acknowledge(delivery)
        self.heard.append((delivery.topic, decode_result(delivery.payload)))


@contextlib.asynccontextmanager
async def running(folder: Path, program: str, port: int) -> AsyncIterator[tuple[Slow, Client, Ear]]:
    """A process, a client and an ear, for the length of a block."""
    process = Slow(folder, program, port)
    try:
        await process.start()
        async with Client(BrokerAddress(port=port)) as client, Ear(port) as ear:
            yield process, client, ear
    finally:
        process.kill()


def edgectl(*arguments: str, config: Path) -> "subprocess.Popen[str]":
    """A process of its own, as a person calls it; its stdout and stderr to be read."""
    return subprocess.Popen(
        [sys.executable, "-m", "coordinator.edgectl", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "EDGECTL_CONFIG": str(config)},
    )


async def until(true: Callable[[], object], what: Callable[[], object] = lambda: "waited in vain") -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what()
        await asyncio.sleep(0.02)
