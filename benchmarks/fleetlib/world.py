"""Brokers, a coordinator and what can be seen of both from outside: its store, its processor time, its memory."""

import contextlib
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.calls.client import Client
from runtime.mqtt import BrokerAddress
from runtime.sqlite import Connection, StorageError, connect
from schemas.messages import Command
from schemas.topics import COORDINATOR, TopicSpace
from scripts.stack import ROOT, Stack, StackError, free_port

_TICKS = os.sysconf("SC_CLK_TCK")
START_S = 60.0
FILES_MAX = 20_000  # a process here may not open more: a broker holds 18,000 nodes


class World:
    """`brokers` real ones, and one coordinator at all of them, with a store of its own."""

    def __init__(self, folder: Path, brokers: int, *, coordinator: bool = True) -> None:
        """Without `coordinator` it is started later."""
        self.stack = Stack(folder)
        self.ports = [free_port() for _ in range(brokers)]
        self.config = folder / "coordinator.toml"
        self.data_dir = folder / "coordinator"
        self._coordinator = coordinator

    def __enter__(self) -> "World":
        self.stack.__enter__()
        try:
            for number in range(len(self.ports)):
                self.start_broker(number)
            tables = "".join(f'[[brokers]]\nname = "b{n}"\nport = {port}\n' for n, port in enumerate(self.ports))
            self.config.write_text(f'[coordinator]\ndata_dir = "{self.data_dir}"\n{tables}', encoding="utf-8")
            if self._coordinator:
                self.start_coordinator()
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(self, *error: Any) -> None:
        self.stack.stop()

    # ---- processes ------------------------------------------------------------------------------

    def start_broker(self, number: int) -> None:
        """Mosquitto with the project's own settings."""
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        if program is None:
            raise StackError("mosquitto is not installed; scripts/setup --for demo installs it")
        settings = (ROOT / "mosquitto.conf").read_text(encoding="utf-8")
        conf = self.stack.folder / f"broker-{number}.conf"
        conf.write_text(f"{settings}\nlistener {self.ports[number]} 127.0.0.1\nallow_anonymous true\n", "utf-8")
        self.stack.spawn(f"broker-{number}", [program, "-c", str(conf)])

    def kill_broker(self, number: int) -> None:
        self.stack.stop_one(f"broker-{number}", kill=True)

    def start_coordinator(self) -> None:
        self.stack.spawn("coordinator", [sys.executable, "-m", "coordinator", "run", "--config", str(self.config)])
        self.until(lambda: self.counters().get("broker_connected") == 1.0 or None, "the coordinator connects")

    def until(self, found: Any, what: str, timeout_s: float = START_S) -> Any:
        """What `found` gives once that is not None. For the start; parts await it in `runs.py`."""
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            self.stack.check()
            if (value := found()) is not None:
                return value
            time.sleep(0.1)
        raise StackError(f"waited {timeout_s:g} s in vain: {what}\n{self.stack.log_tail('coordinator')}")

    # ---- what it costs --------------------------------------------------------------------------

    def cpu_s(self) -> float:
        """Processor time of the coordinator so far, all threads."""
        fields = Path(f"/proc/{self.stack.pid('coordinator')}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        return _status_kb(self.stack.pid("coordinator"), "VmRSS") / 1024

    # ---- its store ------------------------------------------------------------------------------

    def query(self, sql: str, *values: object) -> list[Any]:
        """Read only, beside the coordinator."""
        try:
            with self.store() as db:
                return db.execute(sql, values).fetchall()
        except (sqlite3.OperationalError, StorageError):  # not there yet
            return []

    def counters(self) -> dict[str, float]:
        """As it last wrote them, every 2 s."""
        return dict(self.query("SELECT name, value FROM counters"))

    def nodes(self, prefix: str, state: str) -> int:
        found = self.query("SELECT count(*) FROM nodes WHERE state = ? AND node LIKE ?", state, f"{prefix}-%")
        return int(found[0][0]) if found else 0

    def told(self, *types: str, since_utc_ms: int = 0) -> list[tuple[str, str, int]]:
        """(type, subject, time) of the fleet's events."""
        marks = ", ".join("?" * len(types))
        sql = f"SELECT type, subject, time_utc_ms FROM events WHERE node = 'fleet' AND type IN ({marks})"
        return self.query(sql + " AND time_utc_ms >= ? ORDER BY id", *types, since_utc_ms)

    @contextlib.contextmanager
    def store(self) -> Iterator[Connection]:
        db = connect(self.data_dir / "coordinator.db", read_only=True)
        try:
            yield db
        finally:
            db.close()


async def ask(world: World, function: str, arguments: dict[str, Any], timeout_s: float = 120.0) -> Any:
    """What the coordinator answers to a call. Raises RuntimeError where it refuses."""
    async with Client(BrokerAddress(port=world.ports[0]), space=TopicSpace(), name="benchmark") as client:
        result = await client.ask(COORDINATOR, Command(function, arguments), timeout_s=timeout_s)
    if result.error is not None:
        raise RuntimeError(f"{function}: {result.error.message}")
    return result.result


def _status_kb(pid: int, key: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0


def utc_ms() -> int:
    return time.time_ns() // 1_000_000


def percentile(values: list[float], percent: float) -> float | None:
    """Nearest rank; None of nothing."""
    ranked = sorted(values)
    return round(ranked[max(0, -int(-len(ranked) * percent // 100) - 1)], 2) if ranked else None
