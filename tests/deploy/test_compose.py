"""The compose file: what it names is there, and both coordinators take the configuration that it gives them.

That its images run is not seen here: neither their registry nor a compose is at hand.
"""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordinator.config import load_config
from coordinator.store.place import PostgresPlace

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "compose"
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
    return found


def test_it_has_a_database_two_brokers_of_one_cluster_and_two_coordinators(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "broker-1", "broker-2", "coordinator-a", "coordinator-b"}
    names = {services[f"broker-{i}"]["environment"]["EMQX_NODE_NAME"] for i in (1, 2)}
    seeds = services["broker-1"]["environment"]["EMQX_CLUSTER__STATIC__SEEDS"]
    assert set(seeds.strip("[]").split(",")) == names
    for i in (1, 2):
        broker = services[f"broker-{i}"]
        assert f"emqx@{broker['hostname']}" == broker["environment"]["EMQX_NODE_NAME"]
        assert "broker" in broker["networks"]["default"]["aliases"]
        assert all(port.startswith("127.0.0.1:") for port in broker["ports"])


def test_the_brokers_take_what_mosquitto_takes(services: dict[str, Any]) -> None:
    said = services["broker-1"]["environment"]
    (size,) = re.findall(r"^max_packet_size (\d+)$", (ROOT / "mosquitto.conf").read_text(), re.MULTILINE)
    assert int(said["EMQX_MQTT__MAX_PACKET_SIZE"].removesuffix("MB")) * 1024 * 1024 == int(size)
    (count,) = re.findall(r"^max_queued_messages (\d+)$", (ROOT / "mosquitto.conf").read_text(), re.MULTILINE)
    assert said["EMQX_MQTT__MAX_MQUEUE_LEN"] == count


@pytest.mark.parametrize("name", ["a", "b"])
def test_each_coordinator_takes_its_configuration(name: str, services: dict[str, Any], tmp_path: Path) -> None:
    service = services[f"coordinator-{name}"]
    assert "./coordinator.toml:/etc/edgewright/coordinator.toml:ro" in service["volumes"]
    dsn = tmp_path / "store-dsn"
    dsn.write_text("postgresql://edgewright:secret@postgres:5432/edgewright")
    file = tmp_path / "coordinator.toml"
    file.write_text((FOLDER / "coordinator.toml").read_text().replace("/run/secrets/store-dsn", str(dsn)))
    words = ["check" if word == "run" else word for word in service["command"]]
    words[words.index("--config") + 1] = str(file)
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{file}: fine\n"), done.stderr
    config = load_config(file, name)
    assert (config.coordinator.client_id, config.address().host) == (f"coordinator-{name}", "broker")
    assert isinstance(config.place, PostgresPlace)
    assert "secret" not in config.place.described


def test_what_the_image_is_built_of_is_there() -> None:
    for line in re.findall(r"^COPY (.*)$", CONTAINERFILE, re.MULTILINE):
        for source in shlex.split(line)[:-1]:
            assert (ROOT / source).exists(), source
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"benchmarks", "scripts"}
    assert packages == set(re.findall(r"^COPY (\w+) /build/\w+$", CONTAINERFILE, re.MULTILINE))
