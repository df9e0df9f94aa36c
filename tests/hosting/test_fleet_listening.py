"""What platforms listen to in the coordinator: events of the fleet as they are stored, each once; and the time."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from coordinator.hosting import listening as module
from coordinator.hosting.listening import FleetListening
from coordinator.store import meta
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Row
from platforms.context import KeptResult
from platforms.finding import Kind, Origin
from platforms.functions import Listener, On
from platforms.listening import Listening
from platforms.platform import Platform
from platforms.testing import FakeHost
from runtime.database import StorageError
from schemas.language.load import load_text
from schemas.language.schema import Placement
from tests.broker import Broker, start_broker
from tests.coordinator.process import Process, edgectl
from tests.coordinator.sender import TestNode, until

SCHEMA = """
edge_computing Plat_Fleet @version("1.0.0") {
  platform_name: "Plat_Fleet"
  functions: [heardSoFar(): Integer @cloud]
  state: { counts: Map[String, Integer] @owner(coordinator) }
  events: [Heard(n: Integer) @source(coordinator)]
}
"""
FUNCTIONS = """
from platforms.functions import every, function, on_events

@on_events("ObjectSeen", at="cloud")
async def heard(context, event):
    if event.data["n"] == 13:
        raise ValueError("unlucky")
    await context.emit("Heard", {"n": event.data["n"]}, subject=event.node)

@on_events("NodeRegistered", at="any")
async def greeted(context, event):
    await context.state.put("plat_fleet.counts", event.subject, 1)

@on_events("ObjectSeen")
async def at_the_node(context, event):
    await context.emit("Heard", {"n": -1})

@every(0.2, at="cloud")
async def tick(context):
    context.memory["ticks"] = context.memory.get("ticks", 0) + 1
    await context.state.put("plat_fleet.counts", "ticks", context.memory["ticks"])

@every(0.2)
async def tick_at_the_node(context):
    await context.emit("Heard", {"n": -2})

@function("heardSoFar")
async def heard_so_far(context):
    return context.memory.get("ticks", 0)
"""


def platform_folder(beneath: Path) -> Path:
    """The platform of these tests, as a coordinator is given it."""
    folder = beneath / "plat_fleet"
    folder.mkdir()
    (folder / "plat_fleet.edge").write_text(SCHEMA)
    (folder / "functions.py").write_text(FUNCTIONS)
    return folder


# ---- one process, with a store ----------------------------------------------------------------------


def row(seq: int, type_: str = "ObjectSeen") -> Row:
    data = json.dumps({"camera_id": "cam1", "n": seq})
    return Row("gw-1", "s1", "event", seq, type_, "cam1", None, 7, 8, 1, data)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    opened = SqliteStore(tmp_path)
    yield opened
    opened.close()


def listening(run: Callable[..., Any], store: SqliteStore, **mark: Any) -> FleetListening:
    """Of a platform with one listener."""
    schema = load_text(SCHEMA, "plat_fleet").schema
    marked = Listener(On.EVENTS, run, types=("ObjectSeen",), **{"at": "cloud", **mark})
    platform = Platform("plat_fleet", schema, {}, [], Origin("plat_fleet", Kind.FOLDER, Path(), ""), (), [marked])
    host = FakeHost(platform, placement=Placement.CLOUD)
    return FleetListening(store, Listening([platform], lambda one, call: host.context(), Placement.CLOUD))


async def while_it_listens(found: FleetListening, work: Callable[[], Any]) -> None:
    """As the supervisor does: a task that fails is started again."""

    async def again(task: Callable[[], Any]) -> None:
        while True:
            try:
                await task()
            except ValueError:
                await asyncio.sleep(0.01)

    found.started()
    tasks = [asyncio.create_task(again(task), name=name) for name, task in found.tasks()]
    try:
        await until(lambda: found._begin is not None)
        await work()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(module, "AGAIN_S", 0.02)


def kept_place(store: SqliteStore) -> str | None:
    return store.run_now(lambda db: meta.get(db, "heard.plat_fleet.heard"))


def test_one_that_is_new_hears_what_comes_from_now_on_and_the_next_goes_on_there(store: SqliteStore) -> None:
    calls: list[int] = []

    async def heard(context: Any, event: KeptResult) -> None:
        assert (event.node, event.camera, event.subject, event.time_utc_ms) == ("gw-1", "cam1", "cam1", 7)
        calls.append(event.data["n"])

    async def scene() -> None:
        async def work() -> None:
            await store.commit(
                Batch(events=[row(seq, "ObjectSeen" if seq % 2 else "ObjectGone") for seq in (3, 4, 5)])
            )
            await until(lambda: calls == [3, 5])

        await store.commit(Batch(events=[row(1), row(2)]))
        found = listening(heard, store)
        await while_it_listens(found, work)
        assert found.report() == {"plat_fleet.heard": {"calls": 2, "waiting": 0, "dropped": 0}}
        assert found.figures() == {"listeners_calls": 2, "listeners_waiting": 0, "listeners_dropped": 0}

        await store.commit(Batch(events=[row(seq) for seq in range(6, 700)]))  # nobody listens meanwhile

        async def rest() -> None:
            await store.commit(Batch(events=[row(6), row(700)]))  # one of them once more
            await until(lambda: calls[-1] == 700)

        await while_it_listens(listening(heard, store), rest)
        assert calls == [3, 5, *range(6, 701)]

    asyncio.run(scene())


def test_what_it_was_about_when_it_was_stopped_is_heard_again_and_nothing_else(store: SqliteStore) -> None:
    calls: list[int] = []

    async def heard(context: Any, event: KeptResult) -> None:
        calls.append(event.data["n"])
        if calls == [1, 2]:
            await asyncio.sleep(100)

    async def scene() -> None:
        async def work() -> None:
            await store.commit(Batch(events=[row(1), row(2), row(3)]))
            await until(lambda: calls == [1, 2])

        async def rest() -> None:
            await until(lambda: calls == [1, 2, 2, 3])

        await while_it_listens(listening(heard, store), work)
        await while_it_listens(listening(heard, store), rest)

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("raised", "calls"), [(ValueError("no"), [1, 2, 3]), (StorageError("away"), [1, 1, 2, 3])], ids=["fails", "waits"]
)
def test_a_call_that_fails_is_passed_over_and_one_without_a_store_is_made_again(
    store: SqliteStore, raised: Exception, calls: list[int]
) -> None:
    made: list[int] = []

    async def heard(context: Any, event: KeptResult) -> None:
        made.append(event.data["n"])
        if made == [1]:
            raise raised

    async def scene() -> None:
        async def work() -> None:
            await store.commit(Batch(events=[row(1), row(2), row(3)]))
            await until(lambda: made == calls)
            await until(lambda: kept_place(store) == "3")

        await while_it_listens(listening(heard, store), work)

    asyncio.run(scene())


def test_one_that_is_far_behind_passes_over_the_oldest_and_counts_them(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEHIND_MAX", 10)
    calls: list[int] = []

    async def heard(context: Any, event: KeptResult) -> None:
        calls.append(event.data["n"])

    async def scene() -> None:
        async def work() -> None:
            await until(lambda: calls == list(range(41, 51)))

        store.run_now(lambda db: meta.put(db, "heard.plat_fleet.heard", "0"))
        events = [row(seq, "ObjectSeen" if seq > 20 else "ObjectGone") for seq in range(1, 51)]
        await store.commit(Batch(events=events))
        found = listening(heard, store)
        await while_it_listens(found, work)
        assert found.report()["plat_fleet.heard"]["dropped"] == 20

    asyncio.run(scene())


def test_where_retention_took_every_row_it_begins_again(store: SqliteStore) -> None:
    calls: list[int] = []

    async def heard(context: Any, event: KeptResult) -> None:
        calls.append(event.data["n"])

    async def scene() -> None:
        async def work() -> None:
            await store.commit(Batch(events=[row(1), row(2)]))
            await until(lambda: calls == [1, 2])
            await store.run(lambda db: db.execute("DELETE FROM events").rowcount)
            await asyncio.sleep(0.2)
            await store.commit(Batch(events=[row(3)]))  # SQLite gives it the first number again
            await until(lambda: calls == [1, 2, 3])

        await while_it_listens(listening(heard, store), work)

    asyncio.run(scene())


def test_what_listens_at_nodes_is_not_called_here(store: SqliteStore) -> None:
    async def heard(context: Any, event: KeptResult) -> None: ...

    assert [name for name, _ in listening(heard, store, at="edge").tasks()] == []
    assert listening(heard, store, at="edge").figures() == {}
    assert [name for name, _ in listening(heard, store, at="any").tasks()] == ["events", "plat_fleet.heard"]


# ---- a real coordinator -----------------------------------------------------------------------------


@pytest.fixture
def mqtt(tmp_path: Path) -> Iterator[Broker]:
    running = start_broker(tmp_path)
    yield running
    running.stop()


@pytest.fixture
def coordinator(tmp_path: Path, mqtt: Broker) -> Iterator[Process]:
    folder = platform_folder(tmp_path)
    process = Process(tmp_path, mqtt.port, f'[platforms]\nfolders = ["{folder}"]')
    yield process
    process.kill()


def heard_numbers(coordinator: Process) -> list[int]:
    rows = coordinator.query("SELECT data FROM events WHERE type = 'Heard' ORDER BY id")
    return [int(json.loads(data)["n"]) for (data,) in rows]


def counts(coordinator: Process) -> Mapping[str, int]:
    rows = coordinator.query("SELECT key, value FROM state WHERE platform = 'plat_fleet'")
    return {key: int(value) for key, value in rows}


def test_a_coordinator_hears_the_fleet_once_over_restarts_and_kills(mqtt: Broker, coordinator: Process) -> None:
    async def scene() -> None:
        coordinator.start()
        await until(lambda: "connected as" in coordinator.log.read_text())
        async with TestNode(mqtt.port) as node:
            node.present()
            node.born()
            node.send(range(1, 31))
            await until(lambda: len(heard_numbers(coordinator)) == 29)
            await until(lambda: counts(coordinator).get("ticks", 0) > 3 and counts(coordinator).get("gw-1") == 1)
            await asyncio.sleep(1.5)  # its place is kept
            coordinator.kill()
            node.send(range(31, 51))
            coordinator.start()
            await until(lambda: len(heard_numbers(coordinator)) == 49)
            node.send(range(51, 71))
            assert coordinator.stop() == 0
            coordinator.start()
            await until(lambda: len(heard_numbers(coordinator)) == 69)
            await until(lambda: not node.waiting)
        assert heard_numbers(coordinator) == [n for n in range(1, 71) if n != 13]
        status = edgectl(["--data-dir", str(coordinator.data_dir), "status"])
        assert "listeners calls" in status.stdout and "listeners dropped" in status.stdout
        log = coordinator.log.read_text()
        assert "unlucky" in log and "at_the_node" not in log

    asyncio.run(scene())
