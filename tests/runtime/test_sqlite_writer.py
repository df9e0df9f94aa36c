import sqlite3
import tempfile
import threading
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import sqlite, writer
from runtime.sqlite import StorageError, StorageFormatError, Writer, connect, migrate, transaction

WAIT_S = 30.0
FIRST = ("0001", "CREATE TABLE t (n INTEGER PRIMARY KEY, body BLOB);")


def opened(path: Path) -> sqlite.Connection:
    db = connect(path)
    migrate(db, [FIRST], what="t")
    return db


def stored(path: Path) -> list[int]:
    with closing(connect(path, read_only=True)) as db:
        return [n for (n,) in db.execute("SELECT n FROM t ORDER BY n")]


class Held:
    """A writer whose thread waits, so that what is submitted meanwhile shares one transaction."""

    def __init__(self, path: Path) -> None:
        self.writer = Writer(opened(path), name="held")
        self._go = threading.Event()
        self.writer.submit(lambda db: self._go.wait(WAIT_S))

    def release(self) -> None:
        self._go.set()


def insert(n: int, body: bytes = b"") -> sqlite.Job[int]:
    def job(db: sqlite3.Connection) -> int:
        db.execute("INSERT INTO t VALUES (?, ?)", (n, body))
        return n

    return job


def test_a_failing_job_fails_alone(tmp_path: Path) -> None:
    held = Held(tmp_path / "a.db")

    def fails(db: sqlite3.Connection) -> None:
        db.execute("INSERT INTO t VALUES (99, '')")
        raise RuntimeError("half done")

    futures = [held.writer.submit(insert(1)), held.writer.submit(insert(2))]
    bad = held.writer.submit(fails)
    twice = held.writer.submit(insert(2))
    wrong = held.writer.submit(lambda db: db.execute("INSERT INTO t VALUES (?, ?)", (1,)))
    last = held.writer.submit(insert(3))
    held.release()
    assert [future.result(WAIT_S) for future in (*futures, last)] == [1, 2, 3]
    with pytest.raises(RuntimeError, match="half done"):
        bad.result(WAIT_S)
    with pytest.raises(sqlite3.IntegrityError):
        twice.result(WAIT_S)
    with pytest.raises(sqlite3.ProgrammingError):
        wrong.result(WAIT_S)  # a defect of ours is not called a damaged file
    held.writer.close()
    assert stored(tmp_path / "a.db") == [1, 2, 3]


def test_a_full_disk_is_told_and_over_when_there_is_room(tmp_path: Path) -> None:
    db = opened(tmp_path / "a.db")
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages + 4}")
    writer = Writer(db, name="small")
    writer.submit(insert(1)).result(WAIT_S)
    with pytest.raises(StorageError, match="full") as caught:
        writer.submit(insert(2, bytes(100_000))).result(WAIT_S)
    assert "free space" in caught.value.hint
    writer.submit(lambda db: db.execute(f"PRAGMA max_page_count = {pages + 1000}").fetchone()).result(WAIT_S)
    assert writer.submit(insert(3, bytes(100_000))).result(WAIT_S) == 3
    writer.close()
    assert stored(tmp_path / "a.db") == [1, 3]


def test_close_writes_what_waits_and_tells_who_comes_later(tmp_path: Path) -> None:
    held = Held(tmp_path / "a.db")
    futures = [held.writer.submit(insert(n)) for n in range(600)]
    held.release()
    held.writer.close()
    assert [future.result(0) for future in futures] == list(range(600))
    with pytest.raises(StorageError, match="closed"):
        held.writer.submit(insert(1000)).result(WAIT_S)
    held.writer.close()
    assert len(stored(tmp_path / "a.db")) == 600


def test_too_many_waiting_jobs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "QUEUE_MAX", 5)
    held = Held(tmp_path / "a.db")
    accepted = []
    with pytest.raises(StorageError, match="wait already"):
        for n in range(7):
            accepted += [held.writer.submit(insert(n))]
    held.release()
    held.writer.close()
    assert stored(tmp_path / "a.db") == [future.result(0) for future in accepted]


def test_a_cancelled_job_is_not_done(tmp_path: Path) -> None:
    held = Held(tmp_path / "a.db")
    dropped, kept = held.writer.submit(insert(1)), held.writer.submit(insert(2))
    assert dropped.cancel()
    held.release()
    assert kept.result(WAIT_S) == 2
    held.writer.close()
    assert stored(tmp_path / "a.db") == [2]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.booleans()), max_size=60))
def test_the_file_holds_exactly_what_succeeded(jobs: list[tuple[int, bool, bool]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.db"
        writer = Writer(opened(path), name="random")
        futures: list[tuple[int, Future[int]]] = []
        for n, fails, wait in jobs:

            def job(db: sqlite3.Connection, n: int = n, fails: bool = fails) -> int:
                insert(n)(db)
                if fails:
                    raise ValueError(n)
                return n

            futures.append((n, writer.submit(job)))
            if wait:
                futures[-1][1].exception(WAIT_S)
        writer.close()
        succeeded = sorted(n for n, future in futures if future.exception(0) is None)
        assert stored(path) == succeeded
        assert set(succeeded) == {n for n, fails, _ in jobs if not fails}


# ---- opening -----------------------------------------------------------------------------------


def test_what_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"hello, this is a letter and no database" * 50)
    before = path.read_bytes()
    with pytest.raises(StorageFormatError, match="no SQLite file"):
        connect(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_absent_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"absent/a\.db"):
        connect(tmp_path / "absent" / "a.db")
    with pytest.raises(StorageError):
        connect(tmp_path / "absent.db", read_only=True)


@pytest.mark.parametrize("name", ["a#b.db", "a?mode=ro.db", "a%20b.db", "ä b.db"])
def test_a_path_is_taken_literally(tmp_path: Path, name: str) -> None:
    opened(tmp_path / name).close()
    assert (tmp_path / name).is_file()
    assert stored(tmp_path / name) == []


def test_a_read_only_connection_cannot_write(tmp_path: Path) -> None:
    opened(tmp_path / "a.db").close()
    with closing(connect(tmp_path / "a.db", read_only=True)) as db, pytest.raises(sqlite3.OperationalError):
        db.execute("INSERT INTO t VALUES (1, '')")


# ---- migrations --------------------------------------------------------------------------------


def test_migrations_are_applied_once_and_in_order(tmp_path: Path) -> None:
    second = ("0002", "ALTER TABLE t ADD COLUMN more TEXT;\nINSERT INTO t VALUES (1, '', 'x');\n-- the end\n")
    opened(tmp_path / "a.db").close()
    for _ in range(2):
        with closing(connect(tmp_path / "a.db")) as db:
            migrate(db, [FIRST, second], what="t")
            assert db.execute("SELECT name FROM migrations ORDER BY name").fetchall() == [("0001",), ("0002",)]
            assert db.execute("SELECT n, more FROM t").fetchall() == [(1, "x")]


def test_a_failing_migration_leaves_nothing(tmp_path: Path) -> None:
    bad = ("0002", "CREATE TABLE u (n);\nINSERT INTO t VALUES (1, '');\nINSERT INTO nowhere VALUES (1);")
    with closing(opened(tmp_path / "a.db")) as db:
        with pytest.raises(Exception, match="nowhere"):
            migrate(db, [FIRST, bad], what="t")
        assert not db.in_transaction
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        assert db.execute("SELECT name FROM sqlite_master WHERE name = 'u'").fetchall() == []
        assert db.execute("SELECT name FROM migrations").fetchall() == [("0001",)]


def test_a_file_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "a.db").close()
    with closing(connect(tmp_path / "a.db")) as db, pytest.raises(StorageFormatError, match="newer") as caught:
        migrate(db, [], what="the outbox")
    assert "0001" in str(caught.value)


def test_an_error_in_a_transaction_takes_all_of_it_back(tmp_path: Path) -> None:
    with closing(opened(tmp_path / "a.db")) as db:
        with pytest.raises(KeyboardInterrupt), transaction(db):
            insert(1)(db)
            raise KeyboardInterrupt
        assert not db.in_transaction
    assert stored(tmp_path / "a.db") == []
