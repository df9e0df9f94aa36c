"""Small files: what is damaged makes room, what a newer program wrote is left alone, two processes share one."""

import sqlite3
from pathlib import Path

import pytest

from runtime.small_file import SharedFile, open_or_set_aside, open_small
from runtime.sqlite import Migration, NewerVersionError, StorageFormatError

MIGRATIONS: tuple[Migration, ...] = (("0001_notes", "CREATE TABLE notes (text TEXT NOT NULL)"),)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "small.db"


def by_a_newer_program(path: Path) -> None:
    open_small(path, MIGRATIONS, "FULL").close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO migrations (name) VALUES ('9999_later')")
    db.close()


def damaged(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all" * 300)


def test_a_damaged_file_makes_room_and_is_kept(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    damaged(path)
    with pytest.raises(StorageFormatError):
        open_small(path, MIGRATIONS, "FULL")
    db = open_or_set_aside(path, MIGRATIONS, "FULL", lost="all notes are gone")
    assert db.execute("SELECT count(*) FROM notes").fetchone() == (0,)
    db.close()
    assert path.with_name("small.db.damaged-1").read_bytes().startswith(b"no database")
    assert "all notes are gone" in caplog.text


@pytest.mark.parametrize("newer_too", [False, True])
def test_a_file_of_a_newer_program_makes_room_where_that_is_wanted(path: Path, newer_too: bool) -> None:
    by_a_newer_program(path)
    if newer_too:
        open_or_set_aside(path, MIGRATIONS, "FULL", lost="", newer_too=True).close()
    else:
        with pytest.raises(NewerVersionError, match="newer version"):
            open_or_set_aside(path, MIGRATIONS, "FULL", lost="")
    assert path.with_name("small.db.damaged-1").exists() is newer_too


@pytest.mark.parametrize(("synchronous", "as_sqlite_says_it"), [("NORMAL", 1), ("FULL", 2)])
def test_it_is_as_durable_as_asked(path: Path, synchronous: str, as_sqlite_says_it: int) -> None:
    db = open_small(path, MIGRATIONS, synchronous)  # type: ignore[arg-type]
    assert db.execute("PRAGMA synchronous").fetchone() == (as_sqlite_says_it,)
    db.close()


def test_changes_of_another_are_noticed_and_own_ones_are_not(path: Path) -> None:
    ours, theirs = (SharedFile(path, MIGRATIONS, "FULL", set_aside=False, lost="") for _ in range(2))
    before = ours.changes()
    with ours._changing() as db:
        db.execute("INSERT INTO notes (text) VALUES ('ours')")
    assert ours.changes() == before
    with theirs._changing() as db:
        db.execute("INSERT INTO notes (text) VALUES ('theirs')")
    assert ours.changes() != before
    ours.close()
    theirs.close()
