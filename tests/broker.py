"""A real broker on a free port: `with broker(tmp_path) as mqtt:` or `start_broker(tmp_path)` and `stop()`."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_S = 10.0
CONF = """
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_inflight_messages 1000
max_queued_messages 200000
max_queued_bytes 268435456
max_packet_size 4194304
set_tcp_nodelay true
log_dest stderr
log_type error
log_type warning
"""


class Broker:
    """One mosquitto. `kill` is -9; `restart` brings it back on the same port with nothing remembered."""

    def __init__(self, conf: Path, port: int) -> None:
        self.conf = conf
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with self.conf.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(self.conf)], stdout=log, stderr=log)
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"mosquitto does not listen on {self.port}; see {self.conf.with_suffix('.log')}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(10)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_broker(folder: Path, port: int | None = None, extra_conf: str = "") -> Broker:
    """A broker that listens; skips the test where mosquitto is not installed."""
    if shutil.which("mosquitto") is None and not Path("/usr/sbin/mosquitto").exists():
        pytest.skip("mosquitto is not installed")
    port = port or free_port()
    conf = folder / f"mosquitto-{port}.conf"
    conf.write_text(CONF.format(port=port) + extra_conf)
    running = Broker(conf, port)
    running.start()
    return running


@contextmanager
def broker(folder: Path, extra_conf: str = "") -> Iterator[Broker]:
    """A broker for the length of a `with`."""
    running = start_broker(folder, extra_conf=extra_conf)
    try:
        yield running
    finally:
        running.stop()
