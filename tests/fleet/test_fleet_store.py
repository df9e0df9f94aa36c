"""What the store keeps of the fleet comes back as it was; who leaves is gone; selectors mean the same in it."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.fleet.facts import LazyFacts
from coordinator.fleet.flapping import Flap
from coordinator.fleet.guard import Turn
from coordinator.fleet.maintenance import Window
from coordinator.fleet.node import Condition, Conflict, Node, NodeState
from coordinator.fleet.registry import Memory
from coordinator.fleet.selector_text import parse
from coordinator.fleet.tombstones import Tombstone
from coordinator.fleet.twins import Seen
from coordinator.store.migrations import FILE_NAME, MIGRATIONS
from coordinator.store.place import Place, open_reading, open_store
from coordinator.store.reader import Reader
from coordinator.store.sql import SqlStore
from coordinator.store.store import Batch, HeartbeatRow
from runtime.sqlite import connect, migrate
from schemas.messages import Birth, Heartbeat, StreamReport
from tests.fleet.test_selectors import BIRTH

FULL = Node(
    "gw-1",
    NodeState.ONLINE,
    3,
    4,
    birth=replace(BIRTH, instance="0f", allocated={"cores": 1.0}),
    condition=Condition.ERROR,
    problem="door: lost",
    flap=Flap(1.5, 0, True, 3),
    lost=True,
    conflict=Conflict(Seen("a", 1, 2, 3, "box-a"), Seen("b", 1, 5, 6, "box-b"), 77),
)
NODES = [
    FULL,
    Node("gw-2", NodeState.SUSPECT, 1, 1, birth=Birth(site="plant-7", labels={"line": "[1]"})),
    Node("gw-3", window="m-1"),
]


@pytest.fixture
def store(place: Place) -> Iterator[SqlStore]:
    opened = open_store(place)
    asyncio.run(opened.commit(Batch(nodes=NODES)))
    yield opened
    opened.close()


def test_nodes_come_back_with_all_that_is_known_of_them(store: SqlStore, place: Place) -> None:
    store.close()
    again = open_store(place)
    assert {node.name: node for node in again.nodes()} == {node.name: node for node in NODES}
    again.close()


def test_what_else_was_known_comes_back_too(store: SqlStore, place: Place) -> None:
    window, stone = Window("m-1", parse("site = a"), 1, 2, "why", "me"), Tombstone("gw-9", 1, 2, "i", 3, True, "me")
    frozen = [Turn("north", True, "many"), Turn("", True, "all"), Turn("north", False, "back", 5)]
    other = Tombstone("gw-8", 0, 0, "", 4)
    asyncio.run(store.commit(Batch(windows=[window], tombstones=[stone, other], turns=frozen)))
    asyncio.run(store.commit(Batch(lifted=["gw-8"])))
    reader = Reader(place)
    assert [(one.id, one.nodes, one.by) for one in reader.windows()] == [("m-1", 1, "me")]
    assert [(one.scope, one.reason) for one in reader.freezes()] == [("", "all")]
    assert (reader.is_banned("gw-9"), reader.is_banned("gw-8")) == (True, False)
    reader.close()
    store.close()
    again = open_store(place)
    assert again.memory() == Memory({"m-1": window}, {"gw-9": stone}, {"": "all"})
    asyncio.run(again.commit(Batch(windows_over=["m-1"], turns=[Turn("", False, "back")])))
    again.close()
    last = open_store(place)
    assert last.memory() == Memory({}, {"gw-9": stone}, {})
    last.close()


def test_a_freeze_that_is_told_of_late_is_as_old_as_it_is(store: SqlStore, place: Place) -> None:
    asyncio.run(store.commit(Batch(turns=[Turn("north", True, "many", quiet=True)])))
    with closing(Reader(place)) as reader:
        (before,) = reader.freezes()
    asyncio.run(asyncio.sleep(0.002))
    asyncio.run(store.commit(Batch(turns=[Turn("north", True, "more")])))
    with closing(Reader(place)) as reader:
        assert reader.freezes() == [replace(before, reason="more")]


def test_a_window_that_this_version_cannot_read_holds_up_nobody(store: SqlStore, place: Place) -> None:
    asyncio.run(store.commit(Batch(windows=[Window("m-1", replace(parse("all"), text="site ~~ a"), 1, 2)])))
    store.close()
    again = open_store(place)
    assert again.memory().windows == {}
    again.close()


def test_nothing_of_a_node_that_leaves_stays_and_others_keep_theirs(store: SqlStore, place: Place) -> None:
    beat = HeartbeatRow(Heartbeat(1, 1, 1, streams=[StreamReport("door")]), 5)
    asyncio.run(store.commit(Batch(heartbeats={"gw-1": beat, "gw-2": beat})))
    asyncio.run(store.commit(Batch(gone=["gw-1"])))
    db = open_reading(place)
    for table in ("nodes", "node_labels", "heartbeats_latest", "stream_reports"):
        names = {name for (name,) in db.execute(f"SELECT node FROM {table}")}
        assert "gw-1" not in names, table
        assert "gw-2" in names, table
    db.close()


def test_gone_and_back_in_one_batch_is_back(store: SqlStore, place: Place) -> None:
    asyncio.run(store.commit(Batch(gone=["gw-1"], nodes=[Node("gw-1", boot=9)])))
    assert next((one.node, one.boot, one.birth) for one in Reader(place).nodes()) == ("gw-1", 9, {})


def test_a_node_that_was_merely_heard_changes_in_that_alone(store: SqlStore, place: Place) -> None:
    heard = replace(FULL, last_seen_utc_ms=99, heartbeat_seq=7, problem="never written")
    asyncio.run(store.commit(Batch(seen=[heard, Node("gw-unknown", last_seen_utc_ms=1)])))
    store.close()
    again = open_store(place)
    assert [one for one in again.nodes() if one.name == "gw-1"] == [
        replace(FULL, last_seen_utc_ms=99, heartbeat_seq=7)
    ]
    assert len(again.nodes()) == 3
    again.close()


@pytest.mark.parametrize(
    "text",
    [
        "all", "site = plant-7", "state = error", "state = maintenance", "boot >= 2", "name != gw-1", "line = 3",
        'line = "[1]"', "canary exists", "not line exists", "hardware.fan = true", "hardware.accelerators = edgetpu",
        "platform in (traffic)", "resources.memory_mb > 3000", "version.agent > 1.9", "near(48.14, 11.58, 5 km)",
        "label.absent = x", "hardware.accelerators exists", "camera exists", "type = Industrial_Gateway",
        "liveness = online",
    ],
)  # fmt: skip
def test_the_store_selects_what_the_coordinator_does(store: SqlStore, place: Place, text: str) -> None:
    selector, reader = parse(text), Reader(place)
    assert reader.select(selector) == [node.name for node in NODES if selector.matches(LazyFacts(node))]
    for node in NODES:
        why = reader.why(node.name, selector)
        assert why is not None and why.holds is selector.matches(LazyFacts(node))
    assert reader.why("gw-none", selector) is None
    reader.close()


def test_nodes_of_a_file_of_before_have_a_state(tmp_path: Path) -> None:
    db = connect(tmp_path / FILE_NAME)
    before = [name for name, _ in MIGRATIONS].index("0008-fleet")
    migrate(db, MIGRATIONS[:before], what="before")
    db.execute(
        "INSERT INTO nodes (node, state, boot, session, word, reason, heartbeat_seq, first_seen_utc_ms,"
        " last_seen_utc_ms, since_utc_ms) VALUES ('a', 'online', 1, 1, 0, '', 0, 1, 2, 3), ('b', 'offline', 1, 1, 3,"
        " '', 0, 1, 2, 3)"
    )
    db.close()
    store = open_store(tmp_path)
    assert {(node.name, node.shown.value, node.lost) for node in store.nodes()} == {
        ("a", "online", False),
        ("b", "offline", True),
    }
    store.close()
    assert [(one.node, one.state) for one in Reader(tmp_path).nodes(state="offline")] == [("b", "offline")]
