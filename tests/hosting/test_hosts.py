"""What a context stands on, on real files: a node's results and outbox, the coordinator's store."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.hosting.host import node_host
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.results.result import FRAME, Result
from agent.results.store import ResultStore
from coordinator.hosting.host import coordinator_host
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Row
from platforms.checking import Here
from platforms.context import BadEventError, KeptResult, ResultQuery
from platforms.host_context import Host
from schemas.identity import Lane
from schemas.language.load import load_text
from schemas.language.schema import Placement
from tests.platforms.fake_context import FakeState

SCHEMA = load_text("""
record Guest { name: String @personal  table: Integer }
edge_computing Inn_Edge {
  platform_name: "Inn"
  events: [
    Seated(camera_id: String = "", guest: Guest) @source(node),
    Whispered(what: String) @source(node) @personal,
    Counted(n: Json) @source(node)
  ]
}
""").schema


class Node:
    def __init__(self, folder: Path, runner: asyncio.Runner) -> None:
        self._runner = runner
        self.file = OutboxFile(folder / "outbox.db", node="gw-1", boot=1)
        self.kept: list[Result] = []
        self.host = runner.run(self._host(folder))

    async def _host(self, folder: Path) -> Host:
        return node_host(
            "gw-1", results_path=folder / "results.db", outbox=Outbox(self.file), state=FakeState(), settings={},
            services={}, keep=self.kept.append, here=Here(),
        )  # fmt: skip

    def tell(self, name: str, data: Mapping[str, Any]) -> None:
        async def tell() -> None:
            await self.host.tell(SCHEMA, SCHEMA.events[name], data, "door")

        self._runner.run(tell())

    def results(self, **query: Any) -> list[KeptResult]:
        async def results() -> list[KeptResult]:
            return list(await self.host.results(ResultQuery(**query)))

        return self._runner.run(results())

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(row.payload)["data"] for row in self.file.take(Lane.EVENT, 0, 10)]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with asyncio.Runner() as runner:
        made = Node(tmp_path, runner)
        yield made
        made.file.close()


def test_an_event_leaves_without_what_is_personal_and_is_kept_whole(node: Node) -> None:
    node.tell("Seated", {"camera_id": "cam1", "guest": {"name": "Ann", "table": 3}})
    assert node.rows() == [{"camera_id": "cam1", "guest": {"table": 3}}]
    (kept,) = node.kept
    assert (kept.camera, kept.type, kept.subject, kept.local_only, kept.told) == (
        "cam1",
        "Seated",
        "door",
        True,
        False,
    )
    assert kept.data["guest"] == {"name": "Ann", "table": 3}


def test_a_personal_event_does_not_leave_at_all(node: Node) -> None:
    node.tell("Whispered", {"what": "Ann"})
    node.tell("Counted", {"n": 1})
    assert node.rows() == [{"n": 1}]
    assert [(kept.type, kept.local_only, kept.told) for kept in node.kept] == [
        ("Whispered", True, False), ("Counted", False, True),
    ]  # fmt: skip


def test_an_event_that_cannot_be_sent_is_an_error_of_the_function(node: Node) -> None:
    with pytest.raises(BadEventError, match="Counted cannot be sent"):
        node.tell("Counted", {"n": "x" * 200_000})
    assert node.kept == []


def test_a_node_asks_its_own_results_and_never_those_that_must_not_leave(node: Node, tmp_path: Path) -> None:
    assert node.results(types=("LineCrossed",)) == [], "there is no file yet"
    store = ResultStore(tmp_path / "results.db")
    given = [
        Result(at, camera, "p", kind, "gate", {"n": at}, local_only)
        for at, camera, kind, local_only in (
            (3, "cam1", "LineCrossed", False), (1, "cam2", "LineCrossed", False), (2, "cam1", FRAME, False),
            (4, "cam1", "LineCrossed", True), (5, "cam1", "ObjectSeen", False),
        )
    ]  # fmt: skip
    store.write(given, [], 0.0, {}).result()
    store.close()

    def found(**query: Any) -> list[tuple[int, str]]:
        return [(one.time_utc_ms, one.camera) for one in node.results(**query)]

    assert found(types=("LineCrossed",)) == [(1, "cam2"), (3, "cam1")], "in the order of their times"
    assert found(types=("LineCrossed",), cameras=("cam1",)) == [(3, "cam1")]
    assert found(types=("LineCrossed", "ObjectSeen"), since_utc_ms=3, until_utc_ms=5) == [(3, "cam1")]
    assert found(types=("LineCrossed", "ObjectSeen"), limit=1) == [(5, "cam1")], "the newest"
    assert found(nodes=("gw-2",)) == []
    assert found() == [(1, "cam2"), (3, "cam1"), (5, "cam1")], "of every type but frames"


def test_the_coordinator_asks_what_has_come_and_tells_the_fleet(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    announced: list[int] = []
    host = coordinator_host(store, state=FakeState(), settings={}, announce=lambda: announced.append(1))
    data = json.dumps({"camera_id": "cam1", "n": 5})
    row = Row("gw-1", "s1", "event", 1, "LineCrossed", "gate", None, 100_000, 100_005, 1, data)

    async def play() -> tuple[Any, Any]:
        await store.commit(Batch(events=[row]))
        await host.tell(SCHEMA, SCHEMA.events["Counted"], {"n": 1}, "door")
        return await host.results(ResultQuery(types=("LineCrossed",))), store.unannounced(0, 10)

    found, events = asyncio.run(play())
    store.close()
    assert found == [KeptResult("gw-1", "cam1", "LineCrossed", "gate", 100_000, {"camera_id": "cam1", "n": 5})]
    assert [(event.type, event.subject, event.data) for event in events] == [("Counted", "door", {"n": 1})]
    assert (announced, host.placement) == ([1], Placement.CLOUD)
