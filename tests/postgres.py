"""A private PostgreSQL cluster for the tests: a unix socket in a folder of its own, one database for each test."""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",  # in tests only: what is under test is who answers what and when, not the disk
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "autovacuum": "off",
    "log_min_messages": "warning",
}
_WAIT_S = 60


def binaries() -> Path | None:
    """Where `initdb` and `postgres` are, the newest of them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    anywhere = shutil.which("initdb")
    return Path(anywhere).parent if anywhere else None


class Cluster:
    """Started once. `template` is the database that those of the tests are copied from."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self._programs = programs
        self._owner = "postgres" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        if self._owner is not None:
            os.chown(folder, pwd.getpwnam(self._owner).pw_uid, -1)
        self._run(
            "initdb", "-D", str(folder / "data"), "-E", "UTF8", "--locale=C", "-A", "trust", "-U", "edge", "--no-sync"
        )

    def dsn(self, database: str) -> str:
        return f"host={self.folder} user=edge dbname={database}"

    def start(self) -> None:
        settings = _SETTINGS | {"unix_socket_directories": str(self.folder)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", str(self.folder / "data"), *options],
                stdout=log,
                stderr=log,
                user=self._owner,
                cwd="/",
            )
        until_s = time.monotonic() + _WAIT_S
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until_s, (self.folder / "log").read_text()
            time.sleep(0.05)

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`: nothing is finished, the next start recovers."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    @contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The DSN of a new database, which is dropped at the end, whoever is connected."""
        name = f"test_{next(self._numbers)}"
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template}")
        yield self.dsn(name)
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def sql(self, text: str) -> None:
        """In none of the tests' databases."""
        from runtime.postgres import connect

        db = connect(self.dsn("postgres"), name="tests")
        db.script(text)
        db.close()

    def _end(self, number: int) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_WAIT_S)

    def _answers(self) -> bool:
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self.folder), "-U", "edge"]
        return subprocess.run(ready, check=False).returncode == 0

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self._programs / program), *arguments],
            check=True,
            capture_output=True,
            timeout=_WAIT_S,
            user=self._owner,
            cwd="/",
        )


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """Skips the test where PostgreSQL is not there."""
    programs = binaries()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: no initdb in /usr/lib/postgresql or on the path")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    folder = Path(tempfile.mkdtemp(prefix="edgewright-pg-"))
    cluster = Cluster(folder, programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.crash()
        shutil.rmtree(folder, ignore_errors=True)
