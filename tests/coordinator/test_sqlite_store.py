"""The store on a real file: once each, all or nothing, full disks, restarts."""

import asyncio
import json
from collections.abc import Coroutine
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coordinator.fleet.registry import FleetEvent, Node, NodeState, Word
from coordinator.lock import FolderLock, FolderLockedError
from coordinator.store.facts import facts
from coordinator.store.place import Place, open_reading, open_store
from coordinator.store.reader import EventFilter, Reader
from coordinator.store.sql import StoreLimits
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, RefusedMessage, Row
from runtime.errors import PermanentError
from runtime.sqlite import StorageError, StorageFormatError
from schemas.messages import Birth

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def row(seq: int, data: str = "{}", lane: str = "event") -> Row:
    return Row("gw-1", "s1", lane, seq, "ObjectSeen", "cam1", None, 7, 8, 1, data)


def seqs(place: Place) -> list[int]:
    reader = Reader(place)
    try:
        return sorted(event.seq for event in reader.events(EventFilter(node="gw-1"), 10_000))
    finally:
        reader.close()


def test_rows_are_stored_once_within_and_across_batches_and_restarts(place: Place) -> None:
    store = open_store(place)
    first = run(store.commit(Batch(events=[row(1), row(2), row(1)])))
    second = run(store.commit(Batch(events=[row(2), row(3)])))
    store.close()
    again = open_store(place)
    third = run(again.commit(Batch(events=[row(1), row(2), row(3), row(4)])))
    again.close()
    assert (first.new, first.duplicates) == (2, 1)
    assert (second.new, second.duplicates) == (1, 1)
    assert (third.new, third.duplicates) == (1, 3)
    assert seqs(place) == [1, 2, 3, 4]
    assert again.boot == store.boot + 1
    assert again.stream == store.stream


def test_a_full_disk_changes_nothing_and_the_rows_can_come_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, pages_max=150)
    taken = 0
    with pytest.raises(StorageError, match="full"):
        for seq in range(1, 1000):
            run(store.commit(Batch(events=[row(seq, '{"x": "' + "y" * 3000 + '"}')])))
            taken = seq
    store.close()
    assert taken > 0
    assert seqs(tmp_path) == list(range(1, taken + 1))
    roomy = open_store(tmp_path)
    committed = run(roomy.commit(Batch(events=[row(taken), row(taken + 1)])))
    roomy.close()
    assert (committed.new, committed.duplicates) == (1, 1)


def test_what_the_database_cannot_take_leaves_nothing_of_its_batch(place: Place) -> None:
    store = open_store(place)
    with pytest.raises(OverflowError):
        run(store.commit(Batch(events=[row(1), row(2)._replace(time_utc_ms=2**70)])))
    committed = run(store.commit(Batch(events=[row(1), row(2)])))
    store.close()
    assert committed.new == 2
    assert seqs(place) == [1, 2]


def test_fleet_events_get_an_identity_that_goes_on_after_a_restart(place: Place) -> None:
    draft = FleetEvent("NodeOnline", "gw-1", {"node": "gw-1"}, 7)
    store = open_store(place)
    committed = run(store.commit(Batch(fleet_events=[draft, draft])))
    assert [event.identity.seq for event in committed.fleet_events] == [1, 2]
    run(store.save_counters({"received": 3}, announced_seq=1))
    assert [event.identity.seq for event in store.unannounced(0, 10)] == [2]
    store.close()
    again = open_store(place)
    assert [event.identity.seq for event in again.unannounced(0, 10)] == [2]
    more = run(again.commit(Batch(fleet_events=[draft])))
    again.close()
    assert more.fleet_events[0].identity.seq == 3
    assert more.fleet_events[0].identity.stream == store.stream


def test_nodes_come_back_as_they_were(place: Place) -> None:
    birth = Birth(3, 4, labels={"line": "7"}, cameras=["a"])
    node = Node("gw-1", NodeState.DRAINING, 3, 4, Word.DRAINING, "why", 1, 2, 3, birth, 9)
    store = open_store(place)
    run(store.commit(Batch(nodes=[node])))
    store.close()
    again = open_store(place)
    assert again.nodes() == [node]
    again.close()


@pytest.mark.parametrize(("rows_max", "bytes_max"), [(3, 10_000), (100, 300)])
def test_refused_messages_are_capped_and_repetitions_counted(place: Place, rows_max: int, bytes_max: int) -> None:
    store = open_store(place, StoreLimits(rows_max, bytes_max))
    for i in range(10):
        bad = RefusedMessage("t", "gw-1", "why", b"%d" % i * 100, 7 + i)
        run(store.commit(Batch(refused=[bad])))
        run(store.commit(Batch(refused=[bad])))
    store.close()
    found = Reader(place).refused(100)
    assert [item.payload[:1] for item in found] == [b"7", b"8", b"9"]
    assert [item.times for item in found] == [2, 2, 2]


def test_a_store_of_a_newer_program_is_left_alone(place: Place) -> None:
    store = open_store(place)
    store._writer.submit(lambda db: db.execute("INSERT INTO migrations (name) VALUES ('9999-later')")).result()
    store.close()
    with pytest.raises(StorageFormatError, match="newer"):
        open_store(place)
    with pytest.raises(StorageFormatError, match="another schema"):
        Reader(place)


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "coordinator.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageFormatError, match=r"coordinator\.db"):
        open_store(tmp_path)
    with pytest.raises(StorageFormatError, match=r"coordinator\.db"):
        Reader(tmp_path)


def test_a_folder_has_one_coordinator(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "new")
    with pytest.raises(FolderLockedError, match="in use by process"):
        FolderLock(tmp_path / "new")
    lock.release()
    FolderLock(tmp_path / "new").release()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match="cannot be used"):
        FolderLock(tmp_path / "file" / "data")


def test_facts_are_found_by_type_time_camera_and_node(place: Place) -> None:
    def fact(node: str, seq: int, kind: str, at_ms: int, camera: str, lane: str = "event") -> Row:
        data = json.dumps({"camera_id": camera, "n": seq})
        return Row(node, "s1", lane, seq, kind, camera, None, at_ms, at_ms + 5, 1, data)

    store = open_store(place)
    events = [
        fact("gw-1", 1, "LineCrossed", 100_000, "cam1"),
        fact("gw-2", 1, "LineCrossed", 300_000, "cam1"),
        fact("gw-1", 2, "LineCrossed", 200_000, "cam2"),
        fact("gw-1", 3, "ObjectSeen", 200_000, "cam1"),
    ]
    run(store.commit(Batch(events=events, samples=[fact("gw-1", 1, "StreamSample", 250_000, "cam1", "sample")])))
    store.close()

    def found(limit: int = 10, **wanted: Any) -> list[tuple[str, int]]:
        with closing(open_reading(place)) as db:
            return [(one.node, one.time_utc_ms) for one in facts(db, limit=limit, **wanted)]

    crossed = [("gw-1", 100_000), ("gw-1", 200_000), ("gw-2", 300_000)]
    assert found(types=["LineCrossed"]) == crossed
    assert found(types=["LineCrossed"], limit=2) == crossed[1:], "the newest"
    assert found(types=["LineCrossed"], since_utc_ms=200_000, until_utc_ms=300_000) == [crossed[1]]
    assert found(types=["LineCrossed"], cameras=["cam1"]) == [crossed[0], crossed[2]]
    assert found(types=["LineCrossed", "StreamSample"], nodes=["gw-1"]) == [*crossed[:2], ("gw-1", 250_000)]


def test_a_store_that_was_closed_is_one_file(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    run(store.commit(Batch(events=[row(1)])))
    assert run(store.read(lambda db: db.execute("SELECT count(*) FROM events").fetchone())) == (1,)
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["coordinator.db"]
