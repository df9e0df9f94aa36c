"""The coordinator's driver: what is published and asked for, when, and how often; on a real store."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from coordinator.counters import Counters
from coordinator.documents.changes import Change
from coordinator.documents.documents import Documents
from coordinator.ingest.decode import News
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Committed, ReportedRow
from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Call
from runtime.mqtt import Message
from schemas.codec import document_hash
from schemas.documents import Reported, decode_desired, sealed
from schemas.messages import Birth, Heartbeat
from schemas.topics import TopicSpace

BIRTH = b'{"boot":1}'


class Desk:
    """A driver, what it published, and a clock."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.sent: list[Message] = []
        self.now_s = 1000.0
        self.room = True
        self.counters = Counters()
        self.driver = Documents(store, TopicSpace(), self.counters, lambda: self.now_s)
        self.driver.publish = lambda broker, message: self.sent.append(message)
        self.driver.has_room = lambda broker: self.room
        self.driver.is_connected = lambda broker: True
        self.driver.is_registered = lambda node: node == "gw-1"

    async def set_desired(self, arguments: dict[str, Any]) -> Any:
        function = self.driver.function()
        return await function.run(Call(), function.parse(arguments))

    def hear(self, document: Birth | Heartbeat, payload: bytes = b"", committed: Committed | None = None) -> None:
        self.driver.heard([(News("gw-1", document), payload)], committed or Committed())

    def versions(self) -> list[tuple[int, int]]:
        return [decode_desired(m.payload).version for m in self.sent if m.topic.endswith("/desired")]

    def asked(self) -> list[list[str]]:
        return [json.loads(m.payload)["documents"] for m in self.sent if m.topic == "edge/v1/gw-1/cmd/report"]


def play(folder: Path, scene: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        store = SqliteStore(folder)
        desk = Desk(store)
        task = asyncio.create_task(desk.driver.run())
        try:
            await scene(desk)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()

    asyncio.run(run())


async def until(true: Callable[[], object]) -> None:
    for _ in range(3000):
        if true():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("waited in vain")


def test_a_node_is_told_and_asked_less_and_less_often_where_that_does_not_help(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        await desk.set_desired({"node": "gw-1", "set": {"heartbeat_s": 5}})
        await until(lambda: desk.versions() == [(1, 1)])
        assert (desk.sent[0].retain, desk.sent[0].qos) == (True, 1)
        desk.hear(Birth(), BIRTH)
        for _ in range(240):  # an hour of heartbeats that never match
            desk.now_s += 15
            desk.hear(Heartbeat(birth_hash="0" * 16, reported_hash="1" * 32, desired_hash="2" * 32))
            await until(lambda: len(desk.versions()) == len(desk.asked()) + 1)
        assert 5 < len(desk.asked()) < 20
        assert set(map(tuple, desk.asked())) == {("birth", "reported")}
        assert desk.counters.asked_again == len(desk.asked())

    play(tmp_path, scene)


def test_nothing_is_asked_of_a_node_that_matches_or_names_nothing(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.hear(Heartbeat())  # an older agent
        report = sealed(Reported(1, 1))
        committed = await desk.store.commit(Batch(reported=[ReportedRow("gw-1", report, 1)]))
        desk.hear(Birth(1), BIRTH, committed)
        desk.hear(Heartbeat(birth_hash=document_hash(BIRTH), reported_hash=report.hash))
        assert desk.sent == []
        assert desk.driver.names_report("gw-1", report.hash)
        desk.now_s += 60
        desk.hear(Heartbeat(birth_hash="0" * 16, reported_hash=report.hash))
        assert desk.asked() == [["birth"]]

    play(tmp_path, scene)


def test_a_document_that_was_just_written_is_published_as_it_is_and_only_the_newest(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.room = False
        first = (await desk.store.change_desired("gw-1", Change({"heartbeat_s": 5}))).desired
        second = (await desk.store.change_desired("gw-1", Change({"heartbeat_s": 6}))).desired
        desk.driver.changed("gw-1", second)
        desk.driver.changed("gw-1", first)  # its writer was told later
        desk.room = True
        await until(lambda: desk.versions() == [(1, 2)])
        desk.driver.connected()
        await until(lambda: desk.versions() == [(1, 2), (1, 2)])

    play(tmp_path, scene)


def test_after_a_connect_everything_is_published_without_filling_the_queue(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.room = False
        for n in range(5):
            answer = await desk.set_desired({"node": f"gw-{n}", "set": {"heartbeat_s": 5}})
            assert answer["registered"] == (n == 1)
        await asyncio.sleep(0.1)
        assert desk.sent == []
        desk.room = True
        await until(lambda: len(desk.sent) == 5)
        desk.driver.connected()
        await until(lambda: len(desk.sent) == 10)
        assert len({message.topic for message in desk.sent}) == 5

    play(tmp_path, scene)


CLASSES = [f"{n}-" + "x" * 190 for n in range(100)]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({}, "bad_arguments"),
        ({"node": "fleet", "set": {"heartbeat_s": 5}}, "bad_arguments"),
        ({"node": "gw-1", "set": {"heartbeat_s": 5}, "unknown": 1}, "bad_arguments"),
        ({"node": "gw-1", "set": {"heartbeat_s": 0}}, "bad_fields"),
        ({"node": "gw-1", "set": {"heartbeat_s": 5}, "if_revision": 3}, "stale"),
        ({"node": "gw-1", "set": {f"pipelines.p{n}.classes_ignored": CLASSES for n in range(20)}}, "too_large"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, arguments: dict[str, Any], code: str) -> None:
    async def scene(desk: Desk) -> None:
        with pytest.raises(CallRejectedError) as refused:
            await desk.set_desired(arguments)
        assert refused.value.code == code
        assert (await desk.store.desired("gw-1")).revision == 0

    play(tmp_path, scene)


def test_how_many_are_still_to_be_published_is_known(tmp_path: Path) -> None:
    async def scene(desk: Desk) -> None:
        desk.room = False
        for node in ("gw-1", "gw-2"):
            await desk.set_desired({"node": node, "set": {"heartbeat_s": 5}})
        assert desk.driver.due == 2
        desk.room = True
        await until(lambda: desk.driver.due == 0)
        assert desk.versions() == [(1, 1), (1, 1)]

    play(tmp_path, scene)
