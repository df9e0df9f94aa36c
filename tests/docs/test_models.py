"""docs/models.md: its bundle is added, its commands are run, its downloads are made from a real coordinator."""

import asyncio
import hashlib
import re
import shlex
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from coordinator.config import load_config
from coordinator.fleet.registry import Node
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch
from schemas.messages import Birth
from tests.broker import broker
from tests.coordinator.process import ROOT, Process, edgectl
from tests.models.making import model_bytes

PAGE = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
MODEL = model_bytes()
SHA256 = hashlib.sha256(MODEL).hexdigest()
WAIT_S = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[list[str]]:
    """Every call of a program on the page, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines() if line.startswith(program)]
    return [shlex.split(line.replace("SHA256", SHA256), comments=True)[1:] for line in lines]


def bundle(folder: Path) -> Path:
    """The bundle of the page."""
    manifest = blocks("toml")[0].replace('"SHA256"', f'"{SHA256}"')
    folder.mkdir(parents=True)
    (folder / "bundle.toml").write_text(manifest)
    (folder / "finder_int8.tflite").write_bytes(MODEL)
    (folder / "labels.txt").write_text("pore\ncrack\n")
    return folder


def test_every_command_of_the_page_does_what_it_says(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    store = SqliteStore(data)
    birth = Birth(1, 1, hardware={"arch": "aarch64"}, resources={"memory_mb": 4096.0, "cores": 4.0})
    asyncio.run(store.commit(Batch(nodes=[Node("gw-1", birth=birth)])))
    store.close()
    folder = bundle(tmp_path / "bundles/finder")
    (tmp_path / "keys").mkdir()
    said = []
    for words in (one for one in commands("edgectl") if one[0] == "model"):
        if words[1] == "quantize":  # it needs TensorFlow: tests/models/test_quantize.py
            continue
        words = [str(tmp_path / word) if word.startswith(("bundles/", "keys/")) else word for word in words]
        done = edgectl(["--data-dir", str(data), *words])
        assert done.returncode == 0, (words, done.stderr)
        said.append((words[1], done.stdout))
    assert len(said) == 13
    assert {what for what, _ in said} == {
        "add", "ls", "show", "why", "promote", "retire", "verify", "keygen", "sign", "verify-signature",
    }  # fmt: skip
    assert (folder / "bundle.sig").is_file()
    config = tmp_path / "keys" / "coordinator.toml"
    config.write_text(next(table for table in blocks("toml") if "trusted_keys" in table))
    assert list(load_config(config).models.trusted_keys) == ["release"]
    text = "\n".join(out for _, out in said)
    for part in (
        "finder@1.4.0: added", "map50 0.61", "38.5 ms on raspberry-pi-5", "runs on 1 of 1 nodes",
        "gw-1 gets of finder@1.4.0: cpu", "stable gives it out", "finder@1.4.0: retired", "0 of them missing",
        "finder@1.4.0: the signature of release is right",
    ):  # fmt: skip
        assert part in text


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not here")
def test_the_downloads_of_the_page(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    table = next(table for table in blocks("toml") if "http_port = 8090" in table)
    with broker(tmp_path) as running:
        process = Process(tmp_path, running.port, extra=table.replace("8090", str(port)))
        assert load_config(process.config).models.http_port == port
        process.start()
        try:
            asyncio.run(process.connected())
            done = edgectl(["--config", str(process.config), "model", "add", str(bundle(tmp_path / "finder"))])
            assert done.returncode == 0, done.stderr
            document, file = commands("curl")
            assert b'"version":"1.4.0"' in curl(tmp_path, port, document)
            curl(tmp_path, port, file)
            assert (tmp_path / "finder.tflite").read_bytes() == MODEL
        finally:
            process.stop()


def curl(folder: Path, port: int, words: list[str]) -> bytes:
    """As soon as the server listens."""
    words = ["curl", *(word.replace("8090", str(port)) for word in words)]
    until_s = time.monotonic() + WAIT_S
    while (done := subprocess.run(words, cwd=folder, capture_output=True, timeout=WAIT_S, check=False)).returncode:
        assert time.monotonic() < until_s, done.stderr
        time.sleep(0.1)
    return done.stdout
