"""A real mosquitto for the tests, with the project's own settings, on a loopback port of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scripts.stack import free_port as free_port

ROOT = Path(__file__).resolve().parents[1]
START_S = 20.0


class Broker:
    """One mosquitto; `stop` in order, `kill` with -9, `restart` on the same port."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def stop(self) -> None:
        self._end(kill=False)

    def kill(self) -> None:
        self._end(kill=True)

    def restart(self) -> None:
        self._end(kill=True)
        self.start()

    def start(self) -> None:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
        assert program is not None, "mosquitto is not installed"
        with self._config.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self._config)], stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_S
        while True:
            assert self._process.poll() is None, self._config.with_suffix(".log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
                return
            except OSError:
                assert time.monotonic() < deadline_s, "mosquitto does not listen"
                time.sleep(0.02)

    def _end(self, *, kill: bool) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill() if kill else process.terminate()
            process.wait(START_S)


def start_broker(tmp_path: Path, port: int | None = None, extra_conf: str = "") -> Broker:
    """Listens when this returns. `extra_conf` is appended to the settings, anonymous unless it says so."""
    port = port or free_port()
    lines = [(ROOT / "mosquitto.conf").read_text(encoding="utf-8"), f"listener {port} 127.0.0.1"]
    if "allow_anonymous" not in extra_conf:
        lines.append("allow_anonymous true")
    config = tmp_path / f"mosquitto-{port}.conf"
    config.write_text("\n".join([*lines, extra_conf, ""]), encoding="utf-8")
    return Broker(config, port)


@contextmanager
def broker(folder: Path, extra_conf: str = "", port: int | None = None) -> Iterator[Broker]:
    """A broker for the length of a `with`."""
    running = start_broker(folder, port, extra_conf)
    try:
        yield running
    finally:
        running.stop()
