"""The fleet with a real broker, a real coordinator process, and nodes that are stopped, repaired and selected."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent_process.agents import AgentProcess
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, until
from tests.fleet.fakes import Fake, all_leave
from tests.fleet.processes import FAST, LONG_S, ctl, shown, told


@pytest.fixture
def mqtt(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def coordinator(tmp_path: Path, mqtt: Broker) -> Iterator[Process]:
    process = Process(tmp_path, mqtt.port, FAST)
    process.start()
    yield process
    process.stop()


def test_a_half_open_agent_is_suspect_then_offline(tmp_path: Path, mqtt: Broker, coordinator: Process) -> None:
    (tmp_path / "agent").mkdir()

    async def scene() -> None:
        await coordinator.connected()
        with AgentProcess(tmp_path / "agent", mqtt.port) as agent:
            agent.start()
            await until(lambda: shown(coordinator, "gw-1") == "online", LONG_S)
            assert agent.process is not None
            agent.process.send_signal(signal.SIGSTOP)
            await until(lambda: shown(coordinator, "gw-1") in ("suspect", "offline"), LONG_S)
            await until(lambda: shown(coordinator, "gw-1") == "offline", LONG_S)
            (lost,) = told(coordinator, "NodeOffline")
            assert lost["reason"] == "heartbeats stay away"
            agent.process.send_signal(signal.SIGCONT)
            await until(lambda: shown(coordinator, "gw-1") == "online", LONG_S)

    asyncio.run(scene())


def test_maintenance_is_no_loss_and_survives_a_restart(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        await coordinator.connected()
        node = Fake(mqtt.port, "gw-1", site="plant-7").start()
        await until(lambda: shown(coordinator, "gw-1") == "online")
        made = await ctl(coordinator, "maintenance", "add", "site = plant-7", "--for", "2h", "--reason", "new belt")
        assert made.returncode == 0 and "1 nodes are meant now" in made.stdout, made
        assert shown(coordinator, "gw-1") == "maintenance"
        listed = (await ctl(coordinator, "maintenance", "ls")).stdout
        assert "new belt" in listed and "site = plant-7" in listed
        assert coordinator.stop() == 0
        coordinator.start()
        await coordinator.connected(2)
        await node.cut()
        await until(lambda: coordinator.query("SELECT * FROM nodes WHERE state = 'offline'"), LONG_S)
        assert (shown(coordinator, "gw-1"), told(coordinator, "NodeOffline")) == ("maintenance", [])
        identifier = made.stdout.partition(":")[0]
        assert (await ctl(coordinator, "maintenance", "end", identifier)).returncode == 0
        await until(lambda: shown(coordinator, "gw-1") == "offline")
        assert told(coordinator, "NodeOffline")[0]["reason"] == "its maintenance is over and it is not back"
        for wrong, said in (
            (("add", "state = online", "--for", "2h"), "which maintenance itself changes"),
            (("add", "site =", "--for", "2h"), "expected a value"),
            (("add", "site = a", "--for", "40d"), "longer than 30 days"),
            (("end", "m-none"), "no maintenance m-none"),
        ):
            refused = await ctl(coordinator, "maintenance", *wrong)
            assert refused.returncode in (1, 2) and said in refused.stderr, refused

    asyncio.run(scene())


def test_a_busy_node_is_selected_and_why_says_why(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        await coordinator.connected()
        hardware = {"arch": "arm64", "accelerators": ["edgetpu"]}
        node = Fake(
            mqtt.port, "gw-1", site="plant-7", hardware=hardware, resources={"cores": 2.0}, beat_s=0.3
        ).start()
        other = Fake(mqtt.port, "gw-2", site="plant-8", hardware=hardware).start()
        node.cpu_percent = 195.0
        await until(lambda: (shown(coordinator, "gw-1"), shown(coordinator, "gw-2")) == ("busy", "online"))
        text = "site = plant-7 and hardware.accelerators has edgetpu and state = busy"
        found = await ctl(coordinator, "nodes", "--select", text, "--json")
        assert [one["node"] for one in json.loads(found.stdout)] == ["gw-1"]
        why = await ctl(coordinator, "why", "gw-2", text)
        assert why.returncode == 1
        assert why.stdout.splitlines() == [
            "no  all of",
            "no    site = plant-7   (plant-8)",
            "yes   hardware.accelerators has edgetpu   (edgetpu)",
            "no    state = busy   (online)",
        ]
        assert (await ctl(coordinator, "why", "gw-1", text)).returncode == 0
        wrong = await ctl(coordinator, "nodes", "--select", "site ~ x")
        assert wrong.returncode == 2 and "column 6" in wrong.stderr
        await until(lambda: coordinator.query("SELECT * FROM heartbeats_latest WHERE node = 'gw-1'"))
        await all_leave([node, other])

    asyncio.run(scene())


def test_a_heartbeat_of_a_stranger_is_counted_and_asks_for_its_birth(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        await coordinator.connected()
        node = Fake(mqtt.port, "gw-1").start()
        await until(lambda: shown(coordinator, "gw-1") == "online")
        assert coordinator.stop() == 0
        database = coordinator.data_dir / "coordinator.db"
        for file in (database, database.with_name("coordinator.db-wal"), database.with_name("coordinator.db-shm")):
            file.unlink(missing_ok=True)
        async with TestNode(mqtt.port, "gw-1") as other:
            for topic in ("status", "birth"):
                other.publish(topic, b"", retain=True)
        coordinator.start()
        await coordinator.connected(2)
        await until(lambda: any(one.topic.endswith("/cmd/report") for one in node.heard), LONG_S)
        asked = json.loads(next(one.payload for one in node.heard if one.topic.endswith("/cmd/report")))
        assert asked["documents"] == ["birth"]
        sql = "SELECT value FROM counters WHERE name = 'heartbeats_unknown' AND value > 0"
        await until(lambda: coordinator.query(sql))
        await node.leave()

    asyncio.run(scene())
