"""A real coordinator process on a real data folder."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from runtime import postgres

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """`python -m coordinator run` with a configuration of its own."""

    def __init__(self, folder: Path, port: int, extra: str = "", dsn: str = "") -> None:
        """`extra` goes into the table `[coordinator]`. With a `dsn` the store is PostgreSQL."""
        self.folder = folder
        self.data_dir = folder / "data"
        self.config = folder / "coordinator.toml"
        self._dsn = dsn
        store = f'[store]\nbackend = "postgres"\ndsn = "{dsn}"\n' if dsn else ""
        self.config.write_text(
            f'[coordinator]\ndata_dir = "data"\n{extra}\n{store}[broker]\nhost = "127.0.0.1"\nport = {port}\n'
        )
        self.log = folder / "coordinator.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "coordinator", "run", "--config", str(self.config)],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def signal(self, number: signal.Signals) -> None:
        """Nothing where it does not run."""
        if self._process is not None:
            self._process.send_signal(number)

    def ended(self) -> int | None:
        """Its exit status, None while it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(20)

    async def connected(self, times: int = 1) -> None:
        """Waits until the log says that it has connected so often."""
        for _ in range(1500):
            if self.log.exists() and self.log.read_text().count(": connected as coordinator") >= times:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"never connected:\n{self.log.read_text()}")

    def query(self, sql: str, *values: object) -> list[Any]:
        if self._dsn:
            with closing(postgres.connect(self._dsn, name="tests", read_only=True)) as server:
                return server.execute(sql, values).fetchall()
        db = sqlite3.connect(f"file:{self.data_dir / 'coordinator.db'}?mode=ro", uri=True, timeout=10)
        try:
            return db.execute(sql, values).fetchall()
        finally:
            db.close()


def edgectl(arguments: Sequence[str], **environ: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "coordinator.edgectl", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TZ": "UTC", **environ},
    )
