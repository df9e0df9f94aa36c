"""P63 to P69 with a real broker and real processes: who is alive, who is doubled, who was taken out."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.codec import decode_document, encode_document
from schemas.messages import Birth, Presence, Status
from schemas.topics import Kind
from tests.agent_process.agents import AgentProcess, Peer
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, until
from tests.fleet.fakes import Fake, all_leave
from tests.fleet.processes import FAST, LONG_S, count, ctl, retained, shown, told


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


def test_p63_each_start_of_an_agent_says_an_instance_of_its_own(tmp_path: Path, mqtt: Broker) -> None:
    with Peer(mqtt) as peer, AgentProcess(tmp_path, mqtt.port) as agent:
        agent.start()
        peer.wait(lambda: len(peer.on("birth")) >= 1, agent)  # it follows the status
        mqtt.restart()
        peer.wait(lambda: len(peer.on("birth")) >= 2, agent)
        agent.kill()
        peer.wait(lambda: "offline" in peer.statuses(), agent)
        agent.start()
        peer.wait_online(agent, 3)
        peer.wait(lambda: len(peer.on("birth")) >= 3, agent)
        births = [decode_document(Birth, Kind.BIRTH, heard.payload) for heard in peer.on("birth")]
        statuses = [decode_document(Status, Kind.STATUS, heard.payload) for heard in peer.on("status")]
    by_boot = {one.boot: one.instance for one in births}
    assert all(re.fullmatch("[0-9a-f]{16}", instance) for instance in by_boot.values())
    assert len(set(by_boot.values())) == 2
    assert {(one.boot, one.instance) for one in births} == set(by_boot.items())
    assert {(one.boot, one.instance) for one in statuses} == set(by_boot.items())
    assert births[0].resources["cores"] >= 1


def test_p63_resources_that_cannot_be_are_refused_with_the_field(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        await coordinator.connected()
        async with TestNode(mqtt.port, "gw-1") as node:
            node.publish("birth", b'{"boot":1,"session":1,"resources":{"cores":4,"memory_mb":-1}}', retain=True)
            await until(lambda: coordinator.query("SELECT reason FROM refused"))
            ((reason,),) = coordinator.query("SELECT reason FROM refused")
            assert "resources.memory_mb" in reason
            assert shown(coordinator, "gw-1") == ""

    asyncio.run(scene())


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
            topic = "edge/v1/coordinator/result/probe"
            await until(lambda: len([one for one in watcher.others if one.topic == topic]) >= 2)
            seen = [one for one in watcher.others if one.topic == topic]
            assert json.loads(seen[0].payload)["id"].startswith("1.")
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


def test_p67_p68_p69_a_deregistered_node_leaves_nothing_and_comes_back_only_by_connecting(
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
