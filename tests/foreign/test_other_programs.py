"""Programs that are not ours see what the documents promise: an MQTT client, sqlite-utils on a file."""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import aiomqtt
import pytest
import sqlite_utils

from agent.outbox.file import OutboxFile
from agent.outbox.rows import Draft
from schemas.identity import Lane
from scripts.stack import Stack

PIPELINE = (
    '[[cameras]]\nid = "cam1"\nsource = "scene:weld?seed=1&fps=20"\n'
    '[[pipelines]]\ncamera = "cam1"\nmodel = "weld_defects"\n'
)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with Stack(tmp_path / "stack") as made:
        made.start_broker()
        yield made


@pytest.mark.parametrize("protocol", [aiomqtt.ProtocolVersion.V5, aiomqtt.ProtocolVersion.V311])
def test_an_integrators_client_hears_and_calls(stack: Stack, protocol: aiomqtt.ProtocolVersion) -> None:
    stack.start_agent("gw-1", PIPELINE)

    async def use() -> tuple[dict[str, object], dict[str, object]]:
        async with aiomqtt.Client("127.0.0.1", stack.port, protocol=protocol) as client:
            await client.subscribe("edge/v1/gw-1/event/ObjectSeen", qos=1)
            await client.subscribe("edge/v1/gw-1/result/status", qos=1)
            event: dict[str, object] = {}
            async for message in client.messages:
                body = json.loads(bytes(message.payload))
                if message.topic.matches("edge/v1/gw-1/event/+"):
                    if not event:
                        event = body
                        await client.publish("edge/v1/gw-1/cmd/status", b"{}", qos=1)
                else:
                    return event, body
        raise AssertionError("the client was closed")

    event, answer = asyncio.run(asyncio.wait_for(use(), 60))
    assert event["specversion"] == "1.0"
    assert event["type"] == "ObjectSeen"
    data = event["data"]
    assert isinstance(data, dict)
    assert data["camera_id"] == "cam1"
    assert answer["state"] == "succeeded"


def test_an_outbox_can_be_read_with_sqlite_utils(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    file = OutboxFile(path, node="gw-1", boot=1)
    try:
        file.append([Draft(Lane.EVENT, "ObjectSeen", "cam1-1", 1_700_000_000_000, {"class": "crack"})]).result(10)
        database = sqlite_utils.Database(sqlite3.connect(f"file:{path}?mode=ro", uri=True))
        try:
            (row,) = database["rows"].rows
            assert json.loads(row["payload"])["data"] == {"class": "crack"}
            assert [lane["produced"] for lane in database["lanes"].rows_where("lane = 'event'")] == [1]
        finally:
            database.close()
    finally:
        file.close()
