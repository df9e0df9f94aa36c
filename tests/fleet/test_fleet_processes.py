"""The fleet with a real broker, a real coordinator process, and nodes that are cut, silent, doubled and taken out."""

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.codec import encode_document
from schemas.messages import Presence, Status
from tests.agent_process.agents import AgentProcess
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process, edgectl
from tests.coordinator.sender import TestNode, until
from tests.fleet.fakes import Fake, all_leave

FAST = "heartbeat_s = 1.0\nheartbeats_missed_max = 3\nwill_hold_s = 1.0"
LONG_S = 90.0


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


def told(process: Process, *types: str) -> list[dict[str, Any]]:
    marks = ", ".join("?" * len(types))
    sql = f"SELECT data FROM events WHERE node = 'fleet' AND type IN ({marks}) ORDER BY id"
    return [json.loads(data) for (data,) in process.query(sql, *types)]


def shown(process: Process, name: str) -> str:
    rows = process.query("SELECT shown FROM nodes WHERE node = ?", name)
    return str(rows[0][0]) if rows else ""


def count(process: Process, state: str) -> int:
    return int(process.query("SELECT count(*) FROM nodes WHERE shown = ?", state)[0][0])


async def ctl(process: Process, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return await asyncio.to_thread(edgectl, ["--config", str(process.config), *arguments])


def retained(port: int, node: str) -> str:
    """What `mosquitto_sub` finds kept of a node."""
    command = ["mosquitto_sub", "-p", str(port), "-t", f"edge/v1/{node}/#", "--retained-only", "-W", "2", "-v"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout


def test_p65_a_mass_cut_freezes_and_a_broker_restart_takes_nobody_for_lost(
    mqtt: Broker, coordinator: Process
) -> None:
    """And when they are back it is over."""

    async def scene() -> None:
        await coordinator.connected()
        fakes = [Fake(mqtt.port, f"n-{n}", site="north").start() for n in range(200)]
        await until(lambda: count(coordinator, "online") == 200, LONG_S)
        mqtt.restart()  # killed: it forgets everything
        await coordinator.connected(2)
        await until(lambda: all(fake.session > 1 and fake.connection for fake in fakes), LONG_S)
        await asyncio.sleep(5.0)
        assert told(coordinator, "NodeOffline", "NodeFlapping") == []
        await until(lambda: count(coordinator, "online") == 200, LONG_S)

        await asyncio.gather(*(fake.cut() for fake in fakes[:150]))
        await until(lambda: told(coordinator, "FailoverFrozen"), LONG_S)
        await until(lambda: count(coordinator, "suspect") == 150, LONG_S)
        await asyncio.sleep(3.0)
        assert told(coordinator, "NodeOffline") == []
        looked = await ctl(coordinator, "nodes", "--status", "suspect")
        assert "FROZEN" in looked.stdout and "turned suspect within 60 s" in looked.stdout, looked
        assert "FROZEN" in (await ctl(coordinator, "status")).stdout
        for fake in fakes[:150]:
            fake.start()
        await until(lambda: count(coordinator, "online") == 200, LONG_S)
        await until(
            lambda: len(told(coordinator, "FailoverResumed")) == len(told(coordinator, "FailoverFrozen")), LONG_S
        )
        assert told(coordinator, "NodeOffline", "NodeFlapping") == []
        await all_leave(fakes)

    asyncio.run(scene())


def test_p64_without_its_own_messages_back_the_coordinator_takes_nobody_for_lost(
    tmp_path: Path, mqtt: Broker
) -> None:
    fast = f"{FAST}\n[fleet]\nprobe_s = 1.0\nprobe_lost_s = 2.0\n"
    coordinator = Process(tmp_path, mqtt.port, fast)
    coordinator.start()

    async def scene() -> None:
        await coordinator.connected()
        node = Fake(mqtt.port, "gw-1").start()
        async with TestNode(mqtt.port, "watcher") as watcher:
            seen = lambda: [one for one in watcher.others if one.topic == "edge/v1/coordinator/result/probe"]  # noqa: E731
            await until(lambda: len(seen()) >= 2)
            assert json.loads(seen()[0].payload)["id"].startswith("1.")
        await until(lambda: shown(coordinator, "gw-1") == "online")
        assert told(coordinator, "FailoverFrozen") == []
        mqtt.stop()
        await until(lambda: told(coordinator, "FailoverFrozen"), LONG_S)
        assert told(coordinator, "FailoverFrozen")[0]["scope"] == ""
        mqtt.start()
        await until(lambda: told(coordinator, "FailoverResumed"), LONG_S)
        assert told(coordinator, "NodeOffline") == []
        await node.leave()

    try:
        asyncio.run(scene())
    finally:
        coordinator.stop()


def test_p65_a_node_that_is_cut_is_suspect_then_offline_and_a_late_will_changes_nothing(
    mqtt: Broker, coordinator: Process
) -> None:
    async def scene() -> None:
        await coordinator.connected()
        node = Fake(mqtt.port, "gw-1").start()
        await until(lambda: shown(coordinator, "gw-1") == "online")
        await node.cut()
        await until(lambda: shown(coordinator, "gw-1") == "suspect")
        await until(lambda: shown(coordinator, "gw-1") == "offline")
        node.start()
        await until(lambda: shown(coordinator, "gw-1") == "online")
        async with TestNode(mqtt.port, "somebody") as other:
            will = encode_document(Status(Presence.OFFLINE, 1, 1, 0, "connection lost"))
            other.publish("edge/v1/gw-1/status", will, retain=True, whole=True)
            other.publish("edge/v1/gw-2/status", encode_document(Status(Presence.ONLINE, 1, 1, 7)), whole=True)
        await until(lambda: shown(coordinator, "gw-2") == "online")  # so the will was read
        assert shown(coordinator, "gw-1") == "online"
        await node.leave()
        await until(lambda: shown(coordinator, "gw-1") == "offline")

    asyncio.run(scene())


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


def test_p66_two_agents_with_one_identity_are_noticed_by_all(
    tmp_path: Path, mqtt: Broker, coordinator: Process
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()

    async def scene() -> None:
        await coordinator.connected()
        with AgentProcess(folders[0], mqtt.port) as one, AgentProcess(folders[1], mqtt.port) as other:
            one.start()
            await until(lambda: shown(coordinator, "gw-1") == "online", LONG_S)
            other.start()
            await until(lambda: told(coordinator, "IdentityConflict"), LONG_S)
            await until(lambda: "another agent is online as gw-1" in one.log, LONG_S)
            await until(lambda: "another agent is online as gw-1" in other.log, LONG_S)
        event = told(coordinator, "IdentityConflict")[0]
        assert event["one"]["instance"] != event["other"]["instance"]
        assert all(event[which]["hardware"] and event[which]["boot"] == 1 for which in ("one", "other"))
        looked = await ctl(coordinator, "node", "show", "gw-1")
        assert "two agents" in looked.stdout
        assert all(event[which]["instance"] in looked.stdout for which in ("one", "other"))
        assert "two agents" in (await ctl(coordinator, "nodes")).stdout

    asyncio.run(scene())


def test_p67_a_deregistered_node_leaves_nothing_and_comes_back_only_by_connecting(
    mqtt: Broker, coordinator: Process
) -> None:
    async def scene() -> None:
        await coordinator.connected()
        node = Fake(mqtt.port, "gw-1", labels={"line": "3"}).start()
        await until(lambda: shown(coordinator, "gw-1") == "online")
        async with TestNode(mqtt.port, "gw-1") as other:
            other.publish("reported", b'{"kept":"by the broker"}', retain=True)
        await ctl(coordinator, "desired", "set", "gw-1", "heartbeat_s=5")
        await until(lambda: "desired" in retained(mqtt.port, "gw-1"))
        refused = await ctl(coordinator, "node", "deregister", "gw-1")
        assert (refused.returncode, "stop its agent first" in refused.stderr) == (1, True), refused
        await node.leave()
        await until(lambda: shown(coordinator, "gw-1") == "offline")
        done = await ctl(coordinator, "node", "deregister", "gw-1")
        assert done.returncode == 0, done.stderr
        await until(lambda: not retained(mqtt.port, "gw-1"), LONG_S)
        for table in ("nodes", "node_labels", "heartbeats_latest", "stream_reports", "desired", "reported"):
            assert coordinator.query(f"SELECT * FROM {table} WHERE node = 'gw-1'") == [], table
        assert told(coordinator, "NodeDeregistered")[0]["node"] == "gw-1"
        assert (await ctl(coordinator, "node", "show", "gw-1")).returncode == 1

        # P68: what is late does not bring it back, and is cleared again; over a restart of the coordinator too.
        async with TestNode(mqtt.port, "gw-1") as other:
            other.present(Presence.OFFLINE, 1, 1, 0)
            other.born(1, 1, instance="gw-1-1")
        await until(lambda: not retained(mqtt.port, "gw-1"), LONG_S)
        assert coordinator.stop() == 0
        async with TestNode(mqtt.port, "gw-1") as other:
            other.born(1, 9, instance="gw-1-1")
            await asyncio.sleep(0.5)
        coordinator.start()
        await coordinator.connected(2)
        await until(lambda: not retained(mqtt.port, "gw-1"), LONG_S)
        assert shown(coordinator, "gw-1") == ""
        node.start()
        await until(lambda: shown(coordinator, "gw-1") == "online", LONG_S)
        assert len(told(coordinator, "NodeRegistered")) == 2
        await until(lambda: "status" in retained(mqtt.port, "gw-1") and "birth" in retained(mqtt.port, "gw-1"))

        # P69: a ban keeps it out until it is admitted.
        banned = await ctl(coordinator, "node", "deregister", "gw-1", "--force", "--ban")
        assert banned.returncode == 0 and "stays out" in banned.stdout, banned
        await node.cut()
        node.start()
        await until(lambda: node.connection is not None)
        await until(lambda: not retained(mqtt.port, "gw-1"), LONG_S)
        assert shown(coordinator, "gw-1") == ""
        assert "is banned" in (await ctl(coordinator, "node", "show", "gw-1")).stderr
        assert (await ctl(coordinator, "node", "admit", "gw-1")).returncode == 0
        await node.cut()
        node.start()
        await until(lambda: shown(coordinator, "gw-1") == "online", LONG_S)
        await node.leave()

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
