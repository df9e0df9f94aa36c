"""P59 to P62: values as schemas declare them, at both ends."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from agent.outbox.checked import Checked
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from platforms.catalogue import open_catalogue
from schemas.identity import Lane
from schemas.language.validators import InvalidError
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process
from tests.coordinator.sender import TestNode, event_payload, until

NOON = 1_795_521_600_123


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def coordinator(tmp_path: Path, broker: Broker) -> Iterator[Process]:
    process = Process(tmp_path, broker.port)
    yield process
    process.kill()


def taken(node: TestNode) -> set[int]:
    spans = [span for ack in node.acks for lane in ack.stored for span in lane.ranges]
    return {seq for first, last in spans for seq in range(first, last + 1)}


def stored(folder: Path, draft: Draft) -> Row:
    async def scene() -> Row:
        file = OutboxFile(folder / "outbox.db", node="gw-1", boot=1)
        outbox = Outbox(file)
        outbox.checked = Checked(open_catalogue())
        try:
            (row,) = await outbox.append([draft])
        finally:
            file.close()
        return row

    return asyncio.run(scene())


def test_p59_a_fact_that_is_not_as_declared_is_told_as_an_invalid_event(
    tmp_path: Path, broker: Broker, coordinator: Process
) -> None:
    wrong = {"camera_id": "cam1", "sha256": "no digest", "bytes": -1}
    row = stored(tmp_path, Draft(Lane.EVIDENCE, "EvidenceLost", "cam1", NOON, wrong))
    topic = row.topic("gw-1")
    assert (topic.kind.value, topic.leaf) == ("event", "InvalidEvent")

    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(broker.port) as node:
            node.publish("event/InvalidEvent", row.payload)
            await until(lambda: node.acks)
            assert node.acks[0].stored and not node.refusals

    asyncio.run(scene())
    ((data,),) = coordinator.query("SELECT data FROM events WHERE type = 'InvalidEvent' AND lane = 'evidence'")
    told = json.loads(data)
    assert (told["type"], told["field"], json.loads(told["data"])) == ("EvidenceLost", "sha256", wrong)
    assert "must match [0-9a-f]{64}" in told["reason"]


def test_p60_p61_the_coordinator_refuses_what_is_not_as_declared_and_takes_what_nobody_declares(
    broker: Broker, coordinator: Process
) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(broker.port) as node:
            node.publish("event/ObjectSeen", event_payload("gw-1", 1, data={"camera_id": "cam1", "box": [1, 2]}))
            await until(lambda: 1 in node.refusals)
            assert node.refusals[1].startswith("ObjectSeen: box: 2 items are too few; at least 4")
            node.publish("event/OfNobody", event_payload("gw-1", 2, type="OfNobody", data={"any": [1, None]}))
            later = {"camera_id": "cam1", "box": [0, 0, 1, 1], "of_a_later_version": {"a": 1}}
            node.publish("event/ObjectSeen", event_payload("gw-1", 3, data=later))
            await until(
                lambda: (
                    sum(last - first + 1 for ack in node.acks for one in ack.stored for first, last in one.ranges)
                    == 2
                )
            )
            node.publish("edge/v1/coordinator/cmd/status", b"{}", whole=True)
            await until(lambda: [d for d in node.others if d.topic.endswith("result/status")])
            (said,) = [json.loads(d.payload) for d in node.others if d.topic.endswith("result/status")]
            counters = said["result"]["counters"]
            assert (counters["invalid"], counters["unchecked"], counters["refused"]) == (1, 1, 1)

    asyncio.run(scene())
    assert coordinator.query("SELECT seq, data FROM events ORDER BY seq") == [
        (2, '{"any":[1,null]}'),
        (3, '{"camera_id":"cam1","box":[0,0,1,1],"of_a_later_version":{"a":1}}'),
    ]
    ((payload,),) = coordinator.query("SELECT payload FROM refused")
    assert json.loads(payload)["data"] == {"camera_id": "cam1", "box": [1, 2]}


def test_p62_a_declared_value_may_be_written_as_people_write_it() -> None:
    catalogue = open_catalogue()
    sync, alert = catalogue.arguments("syncDataToCloud"), catalogue.arguments("triggerAlert")
    assert sync is not None and alert is not None
    call = {"data_filter": {"since_utc_ms": "2026-11-24T12:00:00.123Z", "confidence_min": 1}}
    for found in (sync.decode_json(json.dumps(call)), sync.decode_msgpack(msgpack.packb(call))):
        assert found["data_filter"]["since_utc_ms"] == NOON
        assert type(found["data_filter"]["confidence_min"]) is float
    found = alert({"condition": {"camera_id": "cam1", "for": "1m30s"}, "action": {"action": "siren"}})
    assert found["condition"]["for"] == 90.0
    with pytest.raises(InvalidError, match="data_filtr: unknown argument; did you mean data_filter"):
        sync({"data_filtr": {}})
