"""Rows that are numbered before others and committed after them: whoever follows the events passes over none."""

import json
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from coordinator.store import rows
from coordinator.store.place import PostgresPlace, open_reading
from coordinator.store.postgres import PostgresStore
from coordinator.store.settled import Settled
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Row
from runtime.database import transaction
from runtime.postgres import PostgresDatabase, connect
from tests.coordinator.stores import edgectl_place

ROOT = Path(__file__).resolve().parents[2]


def row(seq: int) -> Row:
    return Row("gw-1", "s1", "event", seq, "ObjectSeen", "cam1", None, 7, 8, 1, "{}")


@pytest.fixture
def place(postgres_place: PostgresPlace) -> PostgresPlace:
    PostgresStore(postgres_place).close()  # the tables
    return postgres_place


@pytest.fixture
def writers(place: PostgresPlace) -> Iterator[list[PostgresDatabase]]:
    """Two connections that write."""
    with ExitStack() as stack:
        yield [stack.enter_context(closing(connect(place.dsn, name="test"))) for _ in range(2)]


def write(db: PostgresDatabase, *seqs: int) -> None:
    rows.insert(db, "events", [row(seq) for seq in seqs])


def test_what_is_under_way_is_waited_for_and_nothing_else(
    place: PostgresPlace, writers: list[PostgresDatabase]
) -> None:
    slow, quick = writers
    settled = Settled()
    with closing(open_reading(place)) as db:

        def seen() -> list[int]:
            return [seq for (seq,) in db.execute("SELECT seq FROM events ORDER BY id")]

        assert settled.look(db) == 0
        slow.execute("BEGIN")
        write(slow, 1)
        with transaction(quick):
            write(quick, 2, 3)
        assert seen() == [2, 3]
        assert settled.look(db) == settled.look(db) == 0
        slow.execute("COMMIT")
        slow.execute("BEGIN")
        write(slow, 4)  # a later one: 1 to 3 need not wait for it
        assert settled.look(db) == 3 and seen() == [1, 2, 3]
        with transaction(quick):
            write(quick, 5)
        assert settled.look(db) == 3
        slow.execute("ROLLBACK")  # row 4 never comes
        assert settled.look(db) == 5
        with transaction(slow):
            slow.execute("SELECT count(*) FROM events")
            assert settled.look(db) == 5
            slow.execute("UPDATE meta SET value = value")
            with transaction(quick):
                write(quick, 6)
            assert settled.look(db) == 6  # who writes other tables holds up nobody


def test_nothing_is_known_at_first_while_somebody_writes(
    place: PostgresPlace, writers: list[PostgresDatabase]
) -> None:
    slow, quick = writers
    settled = Settled()
    slow.execute("BEGIN")
    write(slow, 1)
    with transaction(quick):
        write(quick, 2)
    with closing(open_reading(place)) as db:
        assert settled.look(db) is None
        slow.execute("COMMIT")
        assert settled.look(db) == 2


def test_sqlite_has_one_writer(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    store.run_now(lambda db: rows.insert(db, "events", [row(1), row(2)]))
    with closing(open_reading(tmp_path)) as db:
        assert Settled().look(db) == 2
    store.close()


def test_edgectl_follows_rows_of_transactions_that_end_in_another_order(
    place: PostgresPlace, writers: list[PostgresDatabase], tmp_path: Path
) -> None:
    slow, quick = writers
    write(quick, 1)
    command = [sys.executable, "-m", "coordinator.edgectl", *edgectl_place(place, tmp_path)]
    command += ["events", "--json", "--follow", "--topic", "Object*"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        out = following.stdout
        assert out is not None and following.stderr is not None

        def next_seq() -> int:
            return int(json.loads(out.readline())["seq"])

        assert next_seq() == 1
        for seq in range(2, 8, 2):
            slow.execute("BEGIN")
            write(slow, seq)
            with transaction(quick):
                write(quick, seq + 1)
            assert not select.select([out], [], [], 1.0)[0]  # it has looked, and waits for the slow one
            slow.execute("COMMIT")
            assert [next_seq(), next_seq()] == [seq, seq + 1]
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 0
        assert following.stderr.read() == ""
