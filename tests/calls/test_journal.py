"""What the journal forgets, and that the coordinator's is a table of its store like any other."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent.state import StateFile
from coordinator.store import calls
from coordinator.store.migrations import MIGRATIONS
from coordinator.store.sqlite import SqliteStore
from runtime.calls import journal
from runtime.calls.journal import SqlJournal
from runtime.sqlite import connect, migrate
from schemas.messages import CommandState

Opened = tuple[SqlJournal, Callable[[], None]]


def of_agent(folder: Path) -> Opened:
    state = StateFile(folder / "state.db")
    return state.journal, state.close


def of_coordinator(folder: Path) -> Opened:
    store = SqliteStore(folder)
    return store.calls, store.close


@pytest.fixture(params=[of_agent, of_coordinator])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Opened]]:
    open_: Callable[[Path], Opened] = request.param
    yield lambda: open_(tmp_path)


def ids(kept: SqlJournal) -> list[str]:
    return [known.id for known in kept.unfinished().result()]


def test_a_command_is_known_from_its_acceptance_to_its_answer(opening: Callable[[], Opened]) -> None:
    kept, close = opening()
    assert kept.accept("a", "f", packed=True).result() is None
    assert kept.find("b").result() is None
    known = kept.accept("a", "g", packed=False).result()
    assert known is not None
    assert (known.function, known.state, known.packed, known.result) == ("f", CommandState.ACCEPTED, True, None)
    kept.running("a").result()
    close()
    kept, close = opening()
    assert set(kept.cut_off) == {"a"}
    kept.finish("a", CommandState.CANCELLED, b"answer").result()
    found = kept.find("a").result()
    assert found is not None
    assert (found.state, found.result, found.answered) == (CommandState.CANCELLED, b"answer", False)
    assert ids(kept) == ["a"]
    kept.answered("a").result()
    assert ids(kept) == []
    close()
    kept, close = opening()
    assert set(kept.cut_off) == set()
    close()


def test_the_oldest_finished_ones_are_forgotten_first(
    opening: Callable[[], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "KEPT_MAX", 3)
    kept, close = opening()
    for n in range(8):
        kept.accept(f"c-{n}", "f", packed=False).result()
        if n != 1:  # it runs on
            kept.finish(f"c-{n}", CommandState.SUCCEEDED, b"x").result()
    assert [n for n in range(8) if kept.find(f"c-{n}").result() is not None] == [1, 5, 6, 7]
    close()


def test_the_coordinator_forgets_by_age_too(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    for name in ("old", "running", "new"):
        store.calls.accept(name, "f", packed=False).result()
        if name != "running":
            store.calls.finish(name, CommandState.SUCCEEDED, b"x").result()

    def age(db: sqlite3.Connection) -> None:
        sql = "UPDATE commands SET accepted_utc_s = accepted_utc_s - ? WHERE id IN ('old', 'running')"
        db.execute(sql, (calls.KEPT_S + 60,))

    store._writer.submit(age).result()
    store.calls.accept("next", "f", packed=False).result()
    assert [name for name in ("old", "running", "new", "next") if store.calls.find(name).result()] == [
        "running", "new", "next",
    ]  # fmt: skip
    store.close()


def test_a_store_of_before_gets_its_journal(tmp_path: Path) -> None:
    db = connect(tmp_path / "coordinator.db")
    migrate(db, [step for step in MIGRATIONS if step[0] != "0006-calls"], what="a store of before")
    db.close()
    store = SqliteStore(tmp_path)
    assert store.calls.accept("a", "f", packed=False).result() is None
    store.close()
