"""A real coordinator on a real PostgreSQL: either is killed in the middle, and every row is there once."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.store.place import PostgresPlace
from schemas.topics import FLEET
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process, edgectl
from tests.coordinator.sender import TestNode, until
from tests.postgres import Cluster


@pytest.fixture
def mqtt(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def coordinator(tmp_path: Path, mqtt: Broker, postgres_place: PostgresPlace) -> Iterator[Process]:
    process = Process(tmp_path, mqtt.port, dsn=postgres_place.dsn)
    yield process
    process.kill()


def test_killed_in_the_middle_of_a_stream_every_row_is_stored_once(
    mqtt: Broker, coordinator: Process, postgres: Cluster
) -> None:
    async def scene() -> None:
        coordinator.start()
        await coordinator.connected()
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            sent = 0

            async def stream(messages: int) -> None:
                nonlocal sent
                for _ in range(messages // 100):
                    node.send(range(sent + 1, sent + 101))
                    sent += 100
                    await asyncio.sleep(0.03)

            await stream(500)
            coordinator.kill()
            coordinator.start()
            await coordinator.connected(2)
            await stream(400)
            postgres.crash()
            await stream(200)
            postgres.start()
            await stream(200)
            await until(lambda: not node.waiting)
            assert node.refusals == {}
            assert sent == 1300

    asyncio.run(scene())
    assert coordinator.stop() == 0
    rows = coordinator.query("SELECT seq FROM events WHERE node = 'gw-1' AND lane = 'event' ORDER BY seq")
    assert [seq for (seq,) in rows] == list(range(1, 1301))
    assert coordinator.query("SELECT first, last FROM received WHERE lane = 'event'") == [(1, 1300)]
    fleet = coordinator.query("SELECT seq FROM events WHERE node = ? ORDER BY seq", FLEET)
    assert len(fleet) > 0
    assert [seq for (seq,) in fleet] == list(range(1, len(fleet) + 1))
    online = coordinator.query("SELECT count(*) FROM events WHERE type = 'NodeOnline'")
    assert online == [(1,)]
    text = coordinator.log.read_text()
    assert "task ingest failed" not in text
    assert "storing again" in text
    said = edgectl(["--config", str(coordinator.config), "nodes"])
    assert (said.returncode, "gw-1" in said.stdout) == (0, True)
    said = edgectl(["--config", str(coordinator.config), "status"])
    assert (said.returncode, said.stderr) == (0, "")
