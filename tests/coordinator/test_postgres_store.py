"""What is PostgreSQL's alone: several writers, connections that break, a server that dies, what must not be told."""

import asyncio
import random
import threading
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest

from coordinator.fleet.registry import FleetEvent, Node
from coordinator.store.place import Place, PostgresPlace, open_alone, open_reading, open_store
from coordinator.store.postgres import Part, PostgresStore
from coordinator.store.reader import EventFilter, Reader
from coordinator.store.store import Batch, ForeignStoreError, GapRow, RefusedMessage, Row
from runtime.database import StorageError, StorageFormatError
from runtime.errors import ConfigError, PermanentError
from runtime.postgres import PostgresDatabase, connect, described, translated
from schemas.topics import FLEET
from tests.postgres import Cluster

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def row(seq: int, node: str = "gw-1", lane: str = "event", data: str = "{}") -> Row:
    return Row(node, "s1", lane, seq, "ObjectSeen", "cam1", None, 7, 8, 1, data)


@pytest.fixture
def store(postgres_place: PostgresPlace) -> Iterator[PostgresStore]:
    opened = PostgresStore(postgres_place)
    yield opened
    opened.close()


def seqs(place: Place, node: str = "gw-1") -> list[int]:
    with closing(open_reading(place)) as db:
        sql = "SELECT seq FROM events WHERE node = ? UNION ALL SELECT seq FROM samples WHERE node = ? ORDER BY 1"
        return [seq for (seq,) in db.execute(sql, (node, node))]


# ---- text and values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELECT ?, ?", "SELECT $1, $2"),
        ("SELECT ?1, ?1, ?2", "SELECT $1, $1, $2"),
        ("SELECT ?2, ?", "SELECT $2, $3"),
        ("SELECT '?', 'it''s ?', ? -- why?", "SELECT '?', 'it''s ?', $1 -- why?"),
    ],
)
def test_parameters_are_counted_as_sqlite_counts(sql: str, said: str) -> None:
    assert translated(sql).decode() == said


HARD_TEXTS = ["a\0b", "\0", "\ufdd0", "\ufdd00\0\ufdd01", "ß \U0001f600", "%s %(a)s ?", "'; DROP TABLE events; --"]


@pytest.mark.parametrize("text", HARD_TEXTS)
def test_any_text_comes_back_as_it_was(place: Place, text: str) -> None:
    store = open_store(place)
    first = run(store.commit(Batch(events=[row(1)._replace(subject=text, stream=text)])))
    again = run(store.commit(Batch(events=[row(1)._replace(subject=text, stream=text)])))
    store.close()
    assert (first.new, again.new, again.duplicates) == (1, 0, 1)
    with closing(open_reading(place)) as db:
        assert db.execute("SELECT subject FROM events WHERE stream = ?", (text,)).fetchall() == [(text,)]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**63 - 1, None),
        (-(2**63), None),
        (2**63, OverflowError),
        (2**70, OverflowError),
        (-(2**63) - 1, OverflowError),
    ],
)
def test_integers_have_64_bits(place: Place, value: int, error: type[Exception] | None) -> None:
    store = open_store(place)
    try:
        if error is not None:
            with pytest.raises(error):
                run(store.commit(Batch(events=[row(1)._replace(time_utc_ms=value)])))
            return
        run(store.commit(Batch(events=[row(1)._replace(time_utc_ms=value)])))
        assert [one.time_utc_ms for one in Reader(place).events(EventFilter(), 10)] == [value]
    finally:
        store.close()


def test_half_a_surrogate_pair_is_refused_and_a_huge_document_is_not(place: Place) -> None:
    store = open_store(place)
    with pytest.raises(UnicodeEncodeError):
        run(store.commit(Batch(events=[row(1, data='"\ud800"')])))
    huge = '{"x": "' + "y" * 5_000_000 + '"}'
    run(store.commit(Batch(events=[row(1, data=huge)], refused=[RefusedMessage("t", "n", "why", b"\0\xff" * 9, 1)])))
    store.close()
    reader = Reader(place)
    assert [len(one.data["x"]) for one in reader.events(EventFilter(), 10)] == [5_000_000]
    assert [one.payload for one in reader.refused(10)] == [b"\0\xff" * 9]
    reader.close()


@pytest.mark.parametrize("pattern", ["Object*", "*Seen", "Obj?ctSeen", "[NO]bject*", "*", "O*t*n"])
def test_a_pattern_means_the_same(place: Place, pattern: str) -> None:
    store = open_store(place)
    run(store.commit(Batch(events=[row(1), row(2)._replace(type="Objecting"), row(3)._replace(type="X.bjectSeen")])))
    store.close()
    found = [one.seq for one in Reader(place).events(EventFilter(type_glob=pattern), 10)]
    said = {"Object*": [1, 2], "*Seen": [1, 3], "Obj?ctSeen": [1], "[NO]bject*": [1, 2], "*": [1, 2, 3], "O*t*n": [1]}
    assert found == said[pattern]


def test_both_have_the_same_tables_and_columns(tmp_path: Path, postgres_place: PostgresPlace) -> None:
    open_store(tmp_path).close()
    with closing(open_reading(tmp_path)) as db:
        names = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        in_file = {
            (name, column[1])
            for name in names
            if not name.startswith("sqlite_")
            for column in db.execute(f"PRAGMA table_info({name})")
        }
    with closing(open_reading(postgres_place)) as db:
        sql = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public'"
        at_server = {(table, column) for table, column in db.execute(sql) if not table.startswith("samples_")}
    ours = {("lanes", "node"), ("lanes", "stream"), ("lanes", "lane"), ("lanes", "version")}
    ours |= {("commits", "writer"), ("commits", "number"), ("commits", "at")}
    assert at_server == in_file | ours


# ---- several writers --------------------------------------------------------------------------------


def test_there_is_one_coordinator(store: PostgresStore, postgres_place: PostgresPlace) -> None:
    with pytest.raises(ForeignStoreError, match="a coordinator writes to PostgreSQL test_"):
        open_alone(postgres_place)
    store.close()
    open_alone(postgres_place).close()


def test_what_another_wrote_is_seen_whatever_was_remembered(postgres_place: PostgresPlace) -> None:
    one, other = (PostgresStore(postgres_place, part=Part.LEAD) for _ in range(2))
    assert run(one.commit(Batch(events=[row(1), row(2)]))).new == 2
    assert run(other.commit(Batch(events=[row(2), row(3)]))).new == 1
    assert run(one.commit(Batch(events=[row(3), row(4)]))).new == 1
    closed = run(other.commit(Batch(gaps=[GapRow("gw-1", "s1", "event", 3, 9, "bytes", 5)]))).closed
    assert [said.held for _, said in closed] == [[(3, 4)]]
    late = run(one.commit(Batch(events=[row(7)])))
    assert (late.new, [item.seq for item in late.late]) == (0, [7])
    events = [
        run(each.commit(Batch(fleet_events=[FleetEvent("X", "n", {}, 1)]))).fleet_events for each in (one, other)
    ]
    assert [event.identity.seq for made in events for event in made] == [2, 3]
    one.close()
    other.close()
    assert seqs(postgres_place) == [1, 2, 3, 4]


def test_writers_that_send_the_same_at_the_same_time_store_each_row_once(postgres_place: PostgresPlace) -> None:
    nodes, rows = 8, 200
    stores = [PostgresStore(postgres_place, part=Part.LEAD) for _ in range(3)]
    told: list[int] = []

    def write(store: PostgresStore, seed: int) -> None:
        chance = random.Random(seed)
        work = [(node, at) for node in range(nodes) for at in range(0, rows, 20)]
        chance.shuffle(work)
        while work:
            some = [work.pop() for _ in range(min(len(work), chance.randint(1, 6)))]
            found = [row(seq, f"gw-{node}") for node, at in some for seq in range(at + 1, at + 21)]
            samples = [one._replace(lane="sample") for one in found]
            beat = [Node(f"gw-{node}", boot=seed + 1) for node, _ in some]
            done = run(
                store.commit(Batch(events=found, samples=samples, nodes=beat if chance.random() < 0.3 else []))
            )
            assert done.new + done.duplicates == len(found) * 2
            told.append(done.new)

    threads = [threading.Thread(target=write, args=(store, seed)) for seed, store in enumerate(stores)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    for store in stores:
        store.close()
    assert sum(told) == nodes * rows * 2
    for node in range(nodes):
        assert seqs(postgres_place, f"gw-{node}") == sorted([*range(1, rows + 1)] * 2)
    with closing(open_reading(postgres_place)) as db:
        ranges = {tuple(found) for found in db.execute("SELECT DISTINCT first, last FROM received")}
    assert ranges == {(1, rows)}


# ---- what breaks ------------------------------------------------------------------------------------


def test_an_answer_that_is_lost_after_the_commit_is_found_out(
    store: PostgresStore, postgres_place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = PostgresDatabase.script
    cuts = 0

    def script(self: PostgresDatabase, sql: str) -> None:
        nonlocal cuts
        done(self, sql)
        if sql == "COMMIT":
            cuts += 1
            self.close()
            raise StorageError("the network is gone")

    monkeypatch.setattr(PostgresDatabase, "script", script)
    committed = run(store.commit(Batch(events=[row(1)], fleet_events=[FleetEvent("X", "n", {}, 1)])))
    assert (cuts, committed.new, len(committed.fleet_events)) == (1, 1, 1)
    monkeypatch.setattr(PostgresDatabase, "script", done)
    again = run(store.commit(Batch(events=[row(1), row(2)])))
    assert (again.new, again.duplicates) == (1, 1)
    assert seqs(postgres_place) == [1, 2]
    assert seqs(postgres_place, FLEET) == [1]


def test_what_breaks_before_the_commit_changes_nothing_and_may_come_again(
    store: PostgresStore, postgres_place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = PostgresDatabase.script

    def script(self: PostgresDatabase, sql: str) -> None:
        if sql == "COMMIT":
            self.close()
            raise StorageError("the network is gone")
        done(self, sql)

    monkeypatch.setattr(PostgresDatabase, "script", script)
    with pytest.raises(StorageError, match="network is gone"):
        run(store.commit(Batch(events=[row(1)])))
    monkeypatch.setattr(PostgresDatabase, "script", done)
    assert seqs(postgres_place) == []
    assert run(store.commit(Batch(events=[row(1)]))).new == 1


def test_a_server_that_is_away_is_an_error_to_try_again_after(
    postgres: Cluster, store: PostgresStore, postgres_place: PostgresPlace
) -> None:
    assert run(store.commit(Batch(events=[row(1)]))).new == 1
    postgres.crash()
    try:
        for _ in range(3):
            with pytest.raises(StorageError):
                run(store.commit(Batch(events=[row(2)])))
        with pytest.raises(StorageError):
            run(store.read(lambda db: db.execute("SELECT 1").fetchone()))
    finally:
        postgres.start()

    async def patiently() -> int:
        while True:
            try:
                return (await store.commit(Batch(events=[row(1), row(2)]))).new
            except StorageError:
                await asyncio.sleep(0.05)

    assert run(patiently()) == 1
    assert run(store.read(lambda db: db.execute("SELECT count(*) FROM events").fetchone())) == (2,)
    assert seqs(postgres_place) == [1, 2]


def test_a_server_that_was_restarted_meanwhile_costs_nobody_a_failure(
    postgres: Cluster, store: PostgresStore
) -> None:
    assert run(store.commit(Batch(events=[row(1)]))).new == 1
    assert run(store.read(lambda db: db.execute("SELECT count(*) FROM events").fetchone())) == (1,)
    postgres.stop()
    postgres.start()
    assert run(store.read(lambda db: db.execute("SELECT count(*) FROM events").fetchone())) == (1,)
    assert run(store.commit(Batch(events=[row(2)]))).new == 1


def test_a_statement_that_takes_too_long_is_ended_and_the_next_one_runs(postgres_place: PostgresPlace) -> None:
    store = PostgresStore(PostgresPlace(postgres_place.dsn, statement_timeout_s=0.2))
    with pytest.raises(StorageError, match="statement_timeout_s"):
        run(store.run(lambda db: db.execute("SELECT pg_sleep(5)").fetchone()))
    assert run(store.commit(Batch(events=[row(1)]))).new == 1
    store.close()


# ---- what it says -----------------------------------------------------------------------------------


def test_nobody_listens_is_said_with_the_place_and_without_the_password() -> None:
    dsn = "postgresql://edge:tops3cret@127.0.0.1:1/fleet"
    with pytest.raises(StorageError, match=r"PostgreSQL fleet at 127\.0\.0\.1:1") as caught:
        PostgresStore(PostgresPlace(dsn))
    assert "tops3cret" not in str(caught.value)
    assert "tops3cret" not in repr(PostgresPlace(dsn))


def test_a_dsn_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        described("host=db passwordtops3cret")
    assert "tops3cret" not in str(caught.value)


def test_a_database_without_a_store_and_one_of_a_newer_program(postgres: Cluster, store: PostgresStore) -> None:
    with postgres.database() as empty, pytest.raises(PermanentError, match="no coordinator's store"):
        open_reading(PostgresPlace(empty))
    run(store.run(lambda db: db.execute("INSERT INTO migrations (name) VALUES ('9999-later')")))
    store.close()
    place = store._place
    with pytest.raises(StorageFormatError, match="newer version"):
        PostgresStore(place)
    with pytest.raises(StorageFormatError, match="another schema"):
        Reader(place)


def test_a_database_that_is_not_utf8_is_refused(postgres: Cluster) -> None:
    postgres.sql("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(StorageFormatError, match="encoded as LATIN1"):
        connect(postgres.dsn("latin"), name="tests")
    postgres.sql("DROP DATABASE latin")
