"""Leases: as a table, in either database, and with a holder that is stopped and goes on writing."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from coordinator.edgectl import main as edgectl
from coordinator.lease.duty import Duty
from coordinator.lease.lease import Lease
from coordinator.store import leases, postgres
from coordinator.store.leases import LeaseLostError
from coordinator.store.place import Place, PostgresPlace, open_alone, open_store
from coordinator.store.postgres import LeaseDesk, Part, PostgresStore
from coordinator.store.reader import Reader
from runtime.database import Database, Job
from tests.coordinator.stores import edgectl_place

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
LASTS_MS = 9000

T = TypeVar("T")


@pytest.mark.parametrize(
    ("lease", "now_ms", "held", "ask_at_ms"),
    [
        (Lease("d", LASTS_MS), 500, False, 3500),  # another has it: ask again by and by
        (Lease("d", LASTS_MS, 1, 1000), 1000, True, 4000),
        (Lease("d", LASTS_MS, 1, 1000), 9099, True, 4000),  # an answer that is late is asked for at once
        (Lease("d", LASTS_MS, 1, 1000), 9100, False, 9100),  # earlier than it ends; the answer came too late: at once
        (Lease("d", LASTS_MS).given(4, 1000), 2000, True, 4000),
        (Lease("d", LASTS_MS, 4, 1000).lost(), 2000, False, 5000),
    ],
)
def test_a_lease_as_its_holder_sees_it(lease: Lease, now_ms: int, held: bool, ask_at_ms: int) -> None:
    assert (lease.is_held(now_ms), lease.ask_at_ms(now_ms)) == (held, ask_at_ms)


@pytest.fixture
def db(place: Place) -> Iterator[Database]:
    with closing(open_alone(place)) as opened:
        yield opened


def refuses(db: Database, token: int) -> bool:
    try:
        leases.fence(db, "d", token)
    except LeaseLostError:
        return True
    return False


def test_one_has_it_until_its_time_is_over_and_each_new_holder_has_a_later_token(db: Database) -> None:
    assert leases.take(db, "d", "a", 60_000) == 1
    assert leases.take(db, "d", "b", 60_000) == 0
    assert leases.take(db, "d", "a", 60_000) == 1, "asked for again it stays the same"
    assert [refuses(db, token) for token in (0, 1, 2)] == [True, False, True]
    assert leases.take(db, "e", "b", 60_000) == 1, "another duty"
    leases.release(db, "d", 1)
    assert not refuses(db, 1), "nobody else has it yet"
    assert leases.take(db, "d", "b", -1) == 2
    assert [refuses(db, token) for token in (1, 2)] == [True, False]
    assert leases.take(db, "d", "a", 60_000) == 3
    leases.release(db, "d", 2)
    assert leases.take(db, "d", "b", 60_000) == 0, "what a former holder gives back is not its own"
    leases.note_refused(db, "d", "b")
    (view, other) = leases.views(db)
    assert (view.duty, view.holder, view.token, view.refused, view.refused_holder) == ("d", "a", 3, 1, "b")
    assert 50_000 < view.left_ms <= 60_000
    assert (other.duty, other.writes) == ("e", 0)


def test_a_write_that_is_refused_leaves_nothing_and_is_seen(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = open_store(place)

    async def scene() -> None:
        former, later = Duty(store, "d", "a", lasts_s=0.001), Duty(store, "d", "b")
        changes: list[bool] = []
        former.on_change = changes.append
        with pytest.raises(LeaseLostError):
            await former.write(lambda db: None)
        await former.ask()
        await former.write(lambda db: db.execute("INSERT INTO counters (name, value) VALUES ('first', 1)"))
        await asyncio.sleep(0.01)
        await later.ask()
        await later.held()
        with pytest.raises(LeaseLostError):
            await former.write(lambda db: db.execute("INSERT INTO counters (name, value) VALUES ('lost', 1)"))
        with pytest.raises(LeaseLostError):
            await former.write_telling(lambda db: (None, []))
        assert changes == [True, False]
        assert (former.is_held, later.is_held) == (False, True)

    asyncio.run(scene())
    store.close()
    reader = Reader(place)
    assert reader.counters() == {"first": 1}
    reader.close()
    assert edgectl([*edgectl_place(place, tmp_path), "leases"]) == 0
    said = capsys.readouterr().out
    assert "d     b       2" in said
    assert "d: 1 writes of former holders were refused" in said
    assert ", of a" in said
    assert edgectl([*edgectl_place(place, tmp_path), "leases", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["refused_holder"] == "a"


def test_an_answer_that_came_when_its_time_was_over_is_followed_by_one_that_holds(place: Place) -> None:
    """The database was held up for longer than a lease lasts: the holder learns of its lease all the same."""
    store = open_store(place)

    class Slow:
        """Held up once."""

        waits_s = 0.3

        async def run(self, job: Job[T]) -> T:
            answer = await store.run(job)
            waits_s, self.waits_s = self.waits_s, 0.0
            await asyncio.sleep(waits_s)
            return answer

    async def scene() -> None:
        duty = Duty(store, "d", "a", lasts_s=0.2, desk=Slow())
        asking = asyncio.create_task(duty.run())
        async with asyncio.timeout(WAIT_S):
            await duty.held()
        asking.cancel()
        await asyncio.wait([asking])

    asyncio.run(scene())
    store.close()


def test_who_hangs_in_the_middle_of_what_it_sends_is_ended(
    postgres_place: PostgresPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a coordinator does that is suspended within a pipeline: no limit of the server's ends that."""
    monkeypatch.setattr(postgres, "HUNG_S", 0.5)
    with closing(open_alone(postgres_place)) as db:
        leases.take(db, "d", "a", 0)
    dsn = f"{postgres_place.dsn} application_name={postgres.NAME}"
    hung, other = psycopg.connect(dsn, autocommit=True), psycopg.connect(postgres_place.dsn, autocommit=True)
    hung.execute("BEGIN")
    sent = hung.pipeline()
    sent.__enter__()
    hung.execute("UPDATE leases SET writes = writes + 1")
    hung.pgconn.send_flush_request()
    hung.pgconn.flush()
    reading = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND wait_event = 'ClientRead'"
    until(lambda: other.execute(reading).fetchone() == (1,), lambda: "the server does not wait for more")
    time.sleep(1.0)
    desk = LeaseDesk(postgres_place)
    assert asyncio.run(desk.run(lambda db: leases.take(db, "d", "b", 9000))) == 2
    desk.close()
    assert other.execute("SELECT 1").fetchone() == (1,), "others are left alone"
    other.close()
    with pytest.raises(psycopg.OperationalError):
        sent.__exit__(None, None, None)
    hung.close()


class Holders:
    """Processes that want the same duty."""

    def __init__(self, place: PostgresPlace, folder: Path) -> None:
        self._place, self._folder = place, folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        words = [sys.executable, "-m", "tests.lease.holder", self._place.dsn, name, "1.5"]
        with (self._folder / name).open("wb") as out:
            self._processes[name] = subprocess.Popen(words, cwd=ROOT, stdout=out, stderr=out)

    def signal(self, name: str, number: signal.Signals) -> None:
        self._processes[name].send_signal(number)

    def said(self, name: str) -> str:
        return (self._folder / name).read_text()

    def end(self) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def holders(postgres_place: PostgresPlace, tmp_path: Path) -> Iterator[Holders]:
    started = Holders(postgres_place, tmp_path)
    yield started
    started.end()


def until(true: Callable[[], Any], why: Callable[[], str]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end_s, why()
        time.sleep(0.02)


def test_a_holder_that_was_stopped_and_goes_on_writing_is_refused(
    holders: Holders, postgres_place: PostgresPlace
) -> None:
    store = PostgresStore(postgres_place, part=Part.LEAD)

    def rows() -> list[tuple[str, int]]:
        async def ask() -> list[tuple[str, int]]:
            sql = "SELECT node, command_id FROM results ORDER BY id"
            return await store.read(lambda db: [(name, int(token)) for name, token in db.execute(sql)])

        return asyncio.run(ask())

    def said() -> str:
        return f"{rows()[-5:]} a: {holders.said('a')} b: {holders.said('b')}"

    holders.start("a")
    until(lambda: len(rows()) > 5, lambda: holders.said("a"))
    holders.start("b")
    holders.signal("a", signal.SIGSTOP)
    until(lambda: ("b", 2) in rows(), said)
    holders.signal("a", signal.SIGCONT)
    until(lambda: "refused" in holders.said("a"), said)
    before = len(rows())
    until(lambda: len(rows()) > before + 5, said)
    holders.signal("b", signal.SIGKILL)
    until(lambda: ("a", 3) in rows(), said)
    found = rows()
    assert [token for _, token in found] == sorted(token for _, token in found), "never one of before"
    assert {name for name, token in found if token == 2} == {"b"}
    views = asyncio.run(store.read(leases.views))
    assert views[0].refused >= 1
    assert (views[0].holder, views[0].token, views[0].refused_holder) == ("a", 3, "a")
    store.close()
