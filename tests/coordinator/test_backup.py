"""Backups of either database, put back in either; and what `check` finds."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coordinator.__main__ import main
from coordinator.documents.changes import Change
from coordinator.fleet.registry import FleetEvent, Node
from coordinator.lock import FolderLock, FolderLockedError
from coordinator.store import state
from coordinator.store.backup import back_up, restore
from coordinator.store.checking import check_backup, check_store
from coordinator.store.place import Place, PostgresPlace, open_alone, open_reading, open_store
from coordinator.store.sql import SqlStore
from coordinator.store.store import Batch, ForeignStoreError, GapRow, RefusedMessage, ReportedRow, Row
from runtime.errors import PermanentError
from runtime.machine_time import machine_time
from runtime.sqlite import StorageFormatError
from schemas.documents import Reported, sealed
from schemas.messages import Birth
from schemas.topics import FLEET

T = TypeVar("T")
TEXT = "nul \0, \ufdd0 and ß"


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def row(seq: int, lane: str = "event") -> Row:
    return Row("gw-1", "s1", lane, seq, "ObjectSeen", TEXT, None, 7, 86_400_000 * seq, 1, "{}")


def fill(store: SqlStore) -> None:
    """Something in every table that has rows of its own."""
    birth = Birth(1, 1, labels={"line": "3"})
    rows = [row(seq) for seq in (1, 2, 3, 7)]
    batch = Batch(
        events=rows,
        samples=[one._replace(lane="sample") for one in rows],
        gaps=[GapRow("gw-1", "s1", "event", 4, 5, "bytes", 9)],
        refused=[RefusedMessage("t", "gw-1", "why", b"\0\xff", 3)],
        nodes=[Node("gw-1", birth=birth)],
        fleet_events=[FleetEvent("NodeOnline", "gw-1", {}, 5)],
    )
    run(store.commit(batch))
    run(store.change_desired("gw-1", Change({"pipelines.door.enabled": False}, (), None, "test")))
    run(store.run(lambda db: state.write(db, "traffic.plans", "p", '{"a": 1}', machine_time(), 100)))


def rows_of(place: Place, table: str, columns: str = "*") -> list[Any]:
    with closing(open_reading(place)) as db:
        return sorted(map(tuple, db.execute(f"SELECT {columns} FROM {table}")), key=str)


TABLES = ("nodes", "node_labels", "received", "gaps", "refused", "desired", "desired_history", "state")


@pytest.fixture
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A second place, of the kind that the test asks for."""
    if request.param == "sqlite":
        (tmp_path / "other").mkdir()
        yield tmp_path / "other"
        return
    cluster, template = (request.getfixturevalue(name) for name in ("postgres", "postgres_template"))
    with cluster.database(template) as dsn:
        yield PostgresPlace(dsn)


@pytest.mark.parametrize("other", ["sqlite", "postgres"], indirect=True)
def test_what_is_put_back_is_what_was_there(place: Place, other: Place, tmp_path: Path) -> None:
    store = open_store(place)
    fill(store)
    counts = back_up(place, tmp_path / "backup.db")
    before = {table: rows_of(place, table) for table in TABLES}
    run(store.commit(Batch(events=[row(8), row(9)])))
    stream = store.stream
    store.close()
    assert (counts["events"], counts["samples"], counts["state"]) == (6, 4, 1)
    assert check_backup(tmp_path / "backup.db") == []

    assert restore(tmp_path / "backup.db", other, tmp_path / "other") == counts
    assert check_store(other) == []
    assert {table: rows_of(other, table) for table in TABLES} == before
    received = [("event", 1, 5), ("event", 7, 7), ("sample", 1, 3), ("sample", 7, 7)]
    assert rows_of(other, "received", "lane, first, last") == received
    assert {subject for (subject,) in rows_of(other, "samples", "subject")} == {TEXT}

    again = open_store(other)
    assert again.stream != stream, "numbers that were given out are not given out again"
    assert again.boot > 1_700_000_000
    assert [node.name for node in again.nodes()] == ["gw-1"]
    done = run(again.commit(Batch(events=[row(8), row(3)], fleet_events=[FleetEvent("X", "n", {}, 1)])))
    assert (done.new, done.duplicates) == (1, 1)
    assert done.fleet_events[0].identity.seq == 1
    assert run(again.desired("gw-1")).revision == 1
    later = sealed(Reported(epoch=1, revision=9, boot=1, serial=1))
    renewed = run(again.commit(Batch(reported=[ReportedRow("gw-1", later, 5)]))).renewed["gw-1"]
    assert (renewed.epoch, renewed.revision) > (1, 9), "the node had answered to a document that is forgotten"
    again.close()
    assert sorted(number for (number,) in rows_of(other, "events", "id")) == list(range(1, 11))


def test_a_backup_beside_one_who_writes_is_of_one_moment(place: Place, tmp_path: Path) -> None:
    store, ends = open_store(place), threading.Event()
    run(store.commit(Batch(events=[row(1)])))

    def write() -> None:
        for seq in range(2, 1000):
            run(store.commit(Batch(events=[row(seq)], samples=[row(seq, "sample")])))
            if ends.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for n in range(3):
            counts = back_up(place, tmp_path / f"{n}.db")
            assert counts["events"] == counts["samples"] + 1
            assert check_backup(tmp_path / f"{n}.db") == []
    finally:
        ends.set()
        writer.join(60)
        store.close()


def test_nothing_is_overwritten_unless_it_is_said(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "data" if isinstance(place, PostgresPlace) else tmp_path
    store = open_store(place)
    fill(store)
    back_up(place, tmp_path / "backup.db")
    with pytest.raises(PermanentError, match="never overwritten"):
        back_up(place, tmp_path / "backup.db")
    run(store.commit(Batch(events=[row(100)])))
    if isinstance(place, PostgresPlace):
        with pytest.raises(ForeignStoreError):
            restore(tmp_path / "backup.db", place, folder, force=True)
    store.close()
    with pytest.raises(PermanentError, match="--force"):
        restore(tmp_path / "backup.db", place, folder)
    assert (100,) in rows_of(place, "events", "seq")
    lock = FolderLock(folder)
    with pytest.raises(FolderLockedError):
        restore(tmp_path / "backup.db", place, folder, force=True)
    lock.release()
    restore(tmp_path / "backup.db", place, folder, force=True)
    assert (100,) not in rows_of(place, "events", "seq")
    assert check_store(place) == []
    if not isinstance(place, PostgresPlace):
        aside = tmp_path / "aside"
        aside.mkdir()
        (tmp_path / "coordinator.db.before-restore-1").rename(aside / "coordinator.db")
        assert (100,) in rows_of(aside, "events", "seq")


@pytest.mark.parametrize(
    ("content", "match"), [(None, "no such file"), (b"no database" * 1000, "no backup|no SQLite"), (b"", "no backup")]
)
def test_what_is_no_backup_is_refused(tmp_path: Path, content: bytes | None, match: str) -> None:
    if content is not None:
        (tmp_path / "backup.db").write_bytes(content)
    with pytest.raises(PermanentError, match=match):
        restore(tmp_path / "backup.db", tmp_path, tmp_path)
    assert not (tmp_path / "coordinator.db").exists()


def test_a_backup_that_is_damaged_or_newer_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    fill(store)
    run(store.commit(Batch(samples=[row(seq, "sample") for seq in range(10, 3000)])))
    store.close()
    back_up(tmp_path, tmp_path / "backup.db")
    raw = bytearray((tmp_path / "backup.db").read_bytes())
    (tmp_path / "damaged.db").write_bytes(raw[: len(raw) // 2] + b"\xff" * 8192 + raw[len(raw) // 2 + 8192 :])
    with pytest.raises(StorageFormatError, match="damaged"):
        restore(tmp_path / "damaged.db", tmp_path, tmp_path, force=True)
    with closing(open_alone(tmp_path)) as db:
        db.execute("INSERT INTO migrations (name) VALUES ('9999-later')")
    back = tmp_path / "coordinator.db"
    back.rename(tmp_path / "newer.db")
    with pytest.raises(StorageFormatError, match="newer version"):
        restore(tmp_path / "newer.db", tmp_path, tmp_path)


DAMAGES = [
    ("UPDATE received SET last = 2 WHERE first = 1 AND lane = 'event'", "1 rows of lane event of stream s1 of gw-1"),
    ("DELETE FROM received WHERE lane = 'sample'", "4 rows of lane sample"),
    ("INSERT INTO received (node, stream, lane, first, last) VALUES ('gw-1', 's1', 'event', 5, 6)", "1-5 and 5-"),
    ("UPDATE desired SET revision = 9", "the document of gw-1 is 1.1, not 1.9"),
    ("UPDATE desired SET document = replace(document, 'false', 'true')", "the document of gw-1 cannot be read"),
    ("UPDATE state_collections SET rows = 7", "has 1 rows, and 7 are noted"),
    ("UPDATE gaps SET last = 6", "the gap 4-6 of lane event"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_what_does_not_fit_together_is_found(place: Place, damage: str, said: str) -> None:
    store = open_store(place)
    fill(store)
    store.close()
    assert check_store(place) == []
    with closing(open_alone(place)) as db:
        db.execute(damage)
    found = check_store(place)
    assert [problem for problem in found if said in problem] != [], found


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(tmp_path / "data")
    fill(store)
    config = tmp_path / "coordinator.toml"
    config.write_text('[coordinator]\ndata_dir = "data"\n')

    def command(*words: str) -> tuple[int, str]:
        status = main([words[0], "--config", str(config), *words[1:]])
        said = capsys.readouterr()
        return status, said.out + said.err

    backup = str(tmp_path / "backup.db")
    status, said = command("backup", backup)
    assert (status, "rows of" in said) == (0, True), said
    status, said = command("check", "--store", "--backup", backup)
    assert (status, "the store is sound" in said) == (0, True), said
    status, said = command("restore", backup)
    assert (status, "--force" in said) == (1, True), said
    store.close()
    status, said = command("restore", backup, "--force")
    assert (status, "put back" in said) == (0, True), said
    with closing(open_alone(tmp_path / "data")) as db:
        db.execute("DELETE FROM received")
    status, said = command("check", "--store")
    assert (status, "not noted as received" in said) == (1, True), said
    assert FLEET not in said
