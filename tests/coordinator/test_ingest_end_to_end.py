"""A real broker, a real coordinator process, a node that sends until it is answered: every row exactly once."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from schemas.codec import decode_document, decode_event, encode_packed
from schemas.identity import Lane
from schemas.messages import Heartbeat, Presence, Status, StreamReport, SyncBatch, SyncRow
from schemas.topics import Kind
from tests.broker import Broker, broker, start_broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, alert_payload, event_payload, until


@pytest.fixture
def mqtt(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def coordinator(tmp_path: Path, mqtt: Broker) -> Iterator[Process]:
    process = Process(tmp_path, mqtt.port)
    yield process
    process.kill()


def seqs(process: Process) -> list[int]:
    return [seq for (seq,) in process.query("SELECT seq FROM events WHERE node = 'gw-1' ORDER BY seq")]


def status_of(node: TestNode) -> list[Presence]:
    found = [d for d in node.others if d.topic == "edge/v1/coordinator/status"]
    return [decode_document(Status, Kind.STATUS, d.payload).state for d in found]


def test_events_alerts_and_batches_are_stored_and_answered(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            node.send(range(1, 301))
            node.publish("alert/warning", alert_payload("gw-1", 1))
            rows = [SyncRow(Lane.SAMPLE.value, seq, "Counts", "cam1", 7, {"n": seq}) for seq in range(1, 51)]
            raw = msgpack.unpackb(encode_packed(SyncBatch("s1", 1, rows)))
            raw["rows"][9]["data"] = "poison"
            node.publish("sync", msgpack.packb(raw))
            await until(lambda: not node.waiting and node.refusals)
            lanes = {(lane.stream, lane.lane): lane for ack in node.acks for lane in ack.stored}
            assert {("s1", "event"), ("s1", "alert"), ("s1", "sample")} == set(lanes)
            assert lanes["s1", "sample"].ranges == [(1, 9), (11, 50)]
            assert list(node.refusals) == [10]

    asyncio.run(scene())
    assert coordinator.stop() == 0
    assert seqs(coordinator) == [1, *range(1, 301)]
    assert coordinator.query("SELECT count(*) FROM samples") == [(49,)]
    assert coordinator.query("SELECT seq, reason FROM refused")[0][0] == 10


def test_killed_in_the_middle_of_a_stream_every_row_is_stored_once(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            sent = 0
            for life in range(1, 4):
                for _ in range(10):
                    node.send(range(sent + 1, sent + 101))
                    sent += 100
                    await asyncio.sleep(0.03)
                coordinator.kill()
                coordinator.start()
                await coordinator.connected(life + 1)
            await until(lambda: not node.waiting)
            assert node.refusals == {}
            assert sent == 3000

    asyncio.run(scene())
    assert coordinator.stop() == 0
    assert seqs(coordinator) == list(range(1, 3001))
    assert coordinator.query("SELECT first, last FROM received WHERE lane = 'event'") == [(1, 3000)]


def test_a_broker_that_dies_is_waited_for(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            node.send(range(1, 501))
            mqtt.kill()
            mqtt.start()
            await coordinator.connected(2)
            await until(lambda: not node.waiting)

    asyncio.run(scene())
    assert coordinator.stop() == 0
    assert seqs(coordinator) == list(range(1, 501))
    text = coordinator.log.read_text()
    assert text.count("trying again") == 1
    assert "Traceback" not in text


def test_a_broker_absent_at_the_start_is_not_fatal(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        mqtt.stop()
        coordinator.start()
        await until(lambda: coordinator.log.exists() and "cannot connect" in coordinator.log.read_text())
        mqtt.start()
        await coordinator.connected()

    asyncio.run(scene())
    assert coordinator.stop() == 0


def test_hostile_messages_are_kept_and_the_rest_goes_on(mqtt: Broker, coordinator: Process) -> None:
    good = json.loads(event_payload("gw-1", 7))

    def changed(**fields: Any) -> bytes:
        return json.dumps({**good, **fields}).encode()

    hostile = [
        b"no json at all",
        b"[" * 50_000,
        b"\x00\xff" * 100,
        changed(source="/edge/v1/gw-9", edgeseq="901"),
        changed(edgeseq="-1"),
        changed(edgeseq=str(2**70)),
        changed(data={"x": "y" * 200_000}, edgeseq="902"),
        json.dumps({"specversion": "1.0", "type": "ObjectSeen", "data": {}}).encode(),
    ]

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            for at, payload in enumerate(hostile, start=1):
                node.publish("event/ObjectSeen", payload)
                node.send([at])
            await until(lambda: not node.waiting and len(node.refusals) == 2)
            assert "not node gw-1" in node.refusals[901]
            assert "at most" in node.refusals[902]

    asyncio.run(scene())
    assert coordinator.stop() == 0
    assert seqs(coordinator) == list(range(1, len(hostile) + 1))
    kept = [payload for (payload,) in coordinator.query("SELECT payload FROM refused ORDER BY id")]
    assert sorted(kept) == sorted(hostile)
    assert "Traceback" not in coordinator.log.read_text()


def test_nodes_register_go_and_the_fleet_is_told_once(tmp_path: Path, mqtt: Broker) -> None:
    coordinator = Process(tmp_path, mqtt.port, "will_hold_s = 0.2")

    def told(node: TestNode) -> list[str]:
        found = [d for d in node.others if d.topic.startswith("edge/v1/fleet/event/")]
        return [decode_event(Kind.EVENT, "fleet", d.payload).type for d in found]

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born(labels={"line": "3"}, cameras=["cam1"])
            beat = Heartbeat(1, 1, 1, streams=[StreamReport("cam1", frames_total=9)])
            node.publish("heartbeat", encode_packed(beat), qos=0)
            await until(lambda: len(told(node)) == 2)
            # A goodbye overtakes the heartbeats that wait with it, and they count no more then.
            await until(lambda: coordinator.query("SELECT camera FROM stream_reports") != [])
            node.present(Presence.OFFLINE, utc_ms=0)
            await until(lambda: len(told(node)) == 3)
            assert told(node) == ["NodeOnline", "NodeRegistered", "NodeOffline"]
            coordinator.stop()
            await until(lambda: status_of(node)[-1] is Presence.OFFLINE)
            coordinator.start()
            await coordinator.connected(2)
            await until(lambda: status_of(node)[-1] is Presence.ONLINE)
            node.present(boot=1, session=2)
            await until(lambda: len(told(node)) == 4)
            assert told(node)[3] == "NodeOnline"

    try:
        asyncio.run(scene())
        assert coordinator.stop() == 0
        assert coordinator.query("SELECT key, value FROM node_labels") == [("line", "3")]
        assert coordinator.query("SELECT seq, type FROM events WHERE node = 'fleet' ORDER BY seq") == [
            (1, "NodeOnline"), (2, "NodeRegistered"), (3, "NodeOffline"), (4, "NodeOnline"),
        ]  # fmt: skip
        assert coordinator.query("SELECT camera FROM stream_reports") == [("cam1",)]
    finally:
        coordinator.kill()


def test_a_second_coordinator_on_the_same_folder_is_refused(
    tmp_path: Path, mqtt: Broker, coordinator: Process
) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()

    asyncio.run(scene())
    second = Process(tmp_path, mqtt.port)
    second.log = tmp_path / "second.log"
    second.start()
    assert second._process is not None
    assert second._process.wait(20) == 1
    assert "is in use by process" in second.log.read_text()
    assert "Traceback" not in second.log.read_text()
    assert coordinator.stop() == 0


def test_commands_to_the_coordinator_are_answered(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> list[dict[str, Any]]:
        async with TestNode(mqtt.port) as node:
            node.publish("edge/v1/coordinator/cmd/status", b'{"_id": "kept"}', retain=True, whole=True)
            await asyncio.sleep(0.2)
            coordinator.start()
            await coordinator.connected()

            def answers() -> list[dict[str, Any]]:
                return [json.loads(d.payload) for d in node.others if "/result/" in d.topic]

            await until(lambda: len(answers()) == 1)
            node.publish("edge/v1/coordinator/cmd/status", b"", whole=True)
            node.publish("edge/v1/coordinator/cmd/destroy", b'{"_id": "d"}', whole=True)
            node.publish("edge/v1/coordinator/cmd/status", b"}{", whole=True)
            await until(lambda: len(answers()) == 4)
            return answers()

    retained, *others = asyncio.run(scene())  # the others are answered side by side, in any order
    (status,) = (answer for answer in others if answer["error"] is None)
    (unknown,) = (answer for answer in others if answer["function"] == "destroy")
    (garbage,) = (answer for answer in others if answer not in (status, unknown))
    assert (retained["state"], retained["error"]["code"], retained["id"]) == ("rejected", "retained", "kept")
    assert status["state"] == "succeeded" and "received" in status["result"]["counters"]
    assert (unknown["state"], unknown["error"]["code"], unknown["id"]) == ("rejected", "unknown_function", "d")
    assert (garbage["state"], garbage["error"]["code"]) == ("rejected", "bad_message")
    assert coordinator.stop() == 0


def test_a_wrong_password_is_said_once_and_never_shown(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "coordinator", "right"], check=True)
    with broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nuser root\n") as mqtt:
        (tmp_path / "secret").write_text("wrong-horse\n")
        coordinator = Process(tmp_path, mqtt.port)
        with coordinator.config.open("a") as config:
            config.write(f'username = "coordinator"\npassword_file = "{tmp_path / "secret"}"\n')
        coordinator.start()

        async def scene() -> None:
            await until(lambda: coordinator.log.exists() and "refused as coordinator" in coordinator.log.read_text())

        asyncio.run(scene())
        assert coordinator.stop() == 0
    text = coordinator.log.read_text()
    assert "check broker.username" in text
    assert "wrong-horse" not in text
    assert "Traceback" not in text
