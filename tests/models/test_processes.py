"""`edgectl model …` beside a real coordinator and without one, also when either is killed in the middle."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from coordinator.fleet.registry import Node
from coordinator.models.blobs import FOLDER_NAME, Blobs
from coordinator.store.reader import Reader
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch
from schemas.messages import Birth
from tests.broker import broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.models.making import make_folder, model_bytes

WAIT_S = 60.0


def store(folder: Path, *nodes: Node) -> Path:
    """A data folder that a coordinator has left."""
    opened = SqliteStore(folder)
    if nodes:
        asyncio.run(opened.commit(Batch(nodes=list(nodes))))
    opened.close()
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    small = Birth(1, 1, hardware={"arch": "aarch64"}, resources={"memory_mb": 512.0})
    large = Birth(1, 1, hardware={"arch": "x86_64"}, resources={"memory_mb": 8192.0})
    return store(tmp_path / "data", Node("pi", birth=small), Node("pc", birth=large))


def model(data: Path, *words: str, status: int = 0) -> str:
    """What `edgectl model` says: on stdout, or on stderr where it fails."""
    done = edgectl(["--data-dir", str(data), "model", *words])
    assert done.returncode == status, done
    return done.stderr if status else done.stdout


def shown(data: Path, *words: str) -> Any:
    return json.loads(model(data, *words, "--json"))


def test_the_life_of_a_model_without_a_coordinator(tmp_path: Path, data: Path) -> None:
    needs = "[variants.requires]\nmemory_mb = 1024\n"
    first, second = (make_folder(tmp_path / v, version=v, more=needs, data=model_bytes(seed=i))
                     for i, v in enumerate(("1.0.0", "1.1.0")))  # fmt: skip
    assert "channel stable gives it out" in model(data, "add", str(first), "--channel", "stable")
    assert "canary gives it out" in model(data, "add", str(second), "--channel", "canary")
    assert [one["version"] for one in shown(data, "ls")] == ["1.1.0", "1.0.0"]
    assert [one["version"] for one in shown(data, "ls", "--channel", "stable")] == ["1.0.0"]

    assert "pc gets of finder@1.0.0: cpu" in model(data, "why", "finder", "pc")
    assert "needs 1024 MB of memory, and the node has 512" in model(data, "why", "finder@1.1", "pi")
    assert shown(data, "why", "finder", "--channel", "canary")["runs"] == {"cpu": 1}

    assert "1.0.0 before" in model(data, "promote", "finder@1.1.0", "stable")
    assert "retired" in model(data, "retire", "finder@1.0.0")
    assert [one["version"] for one in shown(data, "ls")] == ["1.1.0"]
    assert len(shown(data, "ls", "--retired")) == 2
    steps = [(step["action"], step["version"]) for step in shown(data, "show", "finder")["history"]]
    assert steps[-2:] == [("promoted", "1.1.0"), ("retired", "1.0.0")]
    text = model(data, "show", "finder")
    assert "finder@1.1.0" in text
    assert "1024 MB" in text
    assert "not yet" in text  # measured


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["show", "nothing"], 1, "there is no model nothing"),
        (["show", "finder@x"], 2, "is no version"),
        (["promote", "finder", "stable"], 2, "NAME@VERSION is wanted"),
        (["promote", "finder@3.0.0", "stable"], 1, "there is no model finder@3.0.0"),
        (["promote", "finder@1.0.0", "No!"], 1, "is no channel"),
        (["retire", "finder@1.0.0"], 1, "is given out by canary"),
        (["why", "finder", "pc"], 1, "channel stable gives out no version of finder"),
        (["why", "finder@1.0.0", "gw-9"], 1, "there is no node gw-9"),
        (["add", "/nowhere"], 1, "cannot be read"),
    ],
)
def test_mistakes_are_one_message(tmp_path: Path, data: Path, words: list[str], status: int, said: str) -> None:
    model(data, "add", str(make_folder(tmp_path / "b")), "--channel", "canary")
    assert said in model(data, *words, status=status)


def test_a_version_with_other_bytes_is_refused(tmp_path: Path, data: Path) -> None:
    model(data, "add", str(make_folder(tmp_path / "a")))
    assert "is here already, just so" in model(data, "add", str(make_folder(tmp_path / "a")))
    other = make_folder(tmp_path / "b", data=model_bytes(seed=7))
    assert "is here with other bytes" in model(data, "add", str(other), status=1)
    assert "4 files that no model needs" not in model(data, "verify")


def test_damage_is_found_and_mended_by_adding_again(tmp_path: Path, data: Path) -> None:
    folder = make_folder(tmp_path / "a")
    model(data, "add", str(folder))
    blobs = Blobs(data / FOLDER_NAME)
    sha256 = hashlib.sha256(model_bytes()).hexdigest()
    blobs.path(sha256).write_bytes(b"\0" * 4096)
    done = edgectl(["--data-dir", str(data), "model", "verify"])
    assert (done.returncode, "is damaged" in done.stdout) == (1, True)
    model(data, "add", str(folder))
    assert "0 of them missing or damaged" in model(data, "verify")


@pytest.mark.parametrize("after", [1, 3, 20, 60])
def test_nothing_is_half_added_after_a_kill(tmp_path: Path, data: Path, after: int) -> None:
    """Killed once so many blocks are written: the catalogue has nothing of it, and adding again completes it."""
    folder = make_folder(tmp_path / "a", data=model_bytes(64 * 1024 * 1024))
    program = (
        "import os, signal, sys\n"
        "from coordinator import edgectl\n"
        "from coordinator.models import blobs\n"
        "blobs.READ_BYTES, left = 1 << 20, [int(sys.argv.pop(1))]\n"
        "class Slow:\n"
        "    def __init__(self, source): self.source = source\n"
        "    def read(self, n):\n"
        "        left[0] -= 1\n"
        "        if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return self.source.read(n)\n"
        "copied = blobs._copied\n"
        "blobs._copied = lambda source, target, size: copied(Slow(source), target, size)\n"
        "sys.exit(edgectl.main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", program, str(after), "--data-dir", str(data), "model", "add", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == -signal.SIGKILL
    assert shown(data, "ls") == []
    blobs = Blobs(data / FOLDER_NAME)
    for path in blobs.folder.glob("??/*"):
        assert path.name.startswith(".") or hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert "that no model needs" in model(data, "verify")
    assert "added" in model(data, "add", str(folder))
    model(data, "verify", "--sweep")
    assert not list(blobs.folder.glob("??/.*"))
    assert "0 of them missing or damaged" in model(data, "verify")


@pytest.mark.parametrize("where", ["coordinator.ctl.models.store_files", "coordinator.store.models.add"])
def test_a_kill_between_files_and_row_leaves_only_files(tmp_path: Path, data: Path, where: str) -> None:
    """Killed when the files are there and the row is not, or is not committed."""
    folder = make_folder(tmp_path / "a")
    module, _, name = where.rpartition(".")
    program = (
        f"import os, signal, sys\nfrom coordinator import edgectl\nimport {module} as module\n"
        f"really = module.{name}\n"
        "def killed(*given, **named):\n"
        "    really(*given, **named)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        f"module.{name} = killed\n"
        "sys.exit(edgectl.main(sys.argv[1:]))\n"
    )
    words = [sys.executable, "-c", program, "--data-dir", str(data), "model", "add", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=WAIT_S, check=False)
    assert done.returncode == -signal.SIGKILL
    assert shown(data, "ls") == []
    assert "5 files that no model needs" in model(data, "verify")
    assert "(0 of them new)" in model(data, "add", str(folder))
    assert "0 of them missing or damaged" in model(data, "verify")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_beside_a_running_coordinator_it_is_asked(tmp_path: Path) -> None:
    port = free_port()
    folder = make_folder(tmp_path / "bundle")

    async def scenario(process: Process) -> None:
        process.start()
        await process.connected()
        said = await asyncio.to_thread(ask, process, "add", str(folder), "--channel", "stable")
        assert "added" in said
        # Without the configuration nobody knows how to ask it.
        assert "give --config FILE" in model(process.data_dir, "retire", "finder@1", status=2)
        other = make_folder(tmp_path / "other", data=model_bytes(seed=3))
        assert "is here with other bytes" in await asyncio.to_thread(ask, process, "add", str(other), status=1)
        assert "is given out by stable" in await asyncio.to_thread(ask, process, "retire", "finder@1", status=1)
        # What it was given is downloaded as it was.
        sha256 = hashlib.sha256(model_bytes()).hexdigest()
        assert await asyncio.to_thread(download, port, f"/blobs/{sha256}") == model_bytes()
        document = await asyncio.to_thread(download, port, "/models/finder/1.0.0")
        assert json.loads(document)["name"] == "finder"
        # Somebody without the data folder needs the broker alone.
        elsewhere = process.folder / "elsewhere.toml"
        elsewhere.write_text(process.config.read_text().replace('"data"', '"nowhere"'))
        words = ["--config", str(elsewhere), "model", "promote", "finder@1", "night"]
        done = await asyncio.to_thread(edgectl, words)
        assert (done.returncode, "night gives it out" in done.stdout) == (0, True), done
        # Killed and back, it still has it.
        process.kill()
        process.start()
        await process.connected(2)
        assert "retired" in await asyncio.to_thread(ask, process, "retire", "finder@1", "--withdraw")
        assert await asyncio.to_thread(download, port, f"/blobs/{sha256}") == model_bytes()

    with broker(tmp_path) as running:
        process = Process(tmp_path, running.port, extra=f"[models]\nhttp_port = {port}\n")
        try:
            asyncio.run(scenario(process))
        finally:
            assert process.stop() == 0, process.log.read_text()
    reader = Reader(process.data_dir)
    actions = [step.action for step in reader.model_history("finder", 9)]
    reader.close()
    assert actions == ["added", "promoted", "promoted", "withdrawn", "withdrawn", "retired"]


def ask(process: Process, *words: str, status: int = 0) -> str:
    done = edgectl(["--config", str(process.config), "model", *words])
    assert done.returncode == status, (done, process.log.read_text())
    return done.stderr if status else done.stdout


def download(port: int, path: str) -> bytes:
    """By curl, as soon as the server listens."""
    until = time.monotonic() + WAIT_S
    while True:
        done = subprocess.run(
            ["curl", "-sSf", f"http://127.0.0.1:{port}{path}"], capture_output=True, timeout=WAIT_S, check=False
        )
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < until, done.stderr
        time.sleep(0.1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_nobody_else_writes_into_the_coordinators_folder(tmp_path: Path, data: Path) -> None:
    os.chown(data, 12345, 12345)
    folder = make_folder(tmp_path / "a")
    assert "belongs to user 12345" in model(data, "add", str(folder), status=1)
    assert not (data / FOLDER_NAME).exists()
