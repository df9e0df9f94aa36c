"""What is kept, as a table; and that old rows go from either database without anything else changing."""

import asyncio
from collections.abc import Coroutine
from contextlib import closing
from typing import Any, TypeVar

import pytest

from coordinator import retention as driver
from coordinator.fleet.registry import FleetEvent
from coordinator.lease.duty import Duty
from coordinator.retention import Retention
from coordinator.store import partitions, retention
from coordinator.store.keep import Excess, Extent, Keep, Part, excess, parts_over
from coordinator.store.place import Place, PostgresPlace, open_reading, open_store
from coordinator.store.sql import SqlStore
from coordinator.store.store import Batch, Row

T = TypeVar("T")
DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS + DAY_MS // 2


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.mark.parametrize(
    ("keep", "extent", "found"),
    [
        (Keep(), Extent(10**9, 10**12, 1), Excess()),
        (Keep(age_s=10), Extent(5, 500, NOW_MS - 10_001), Excess(NOW_MS - 10_000)),
        (Keep(age_s=10), Extent(5, 500, NOW_MS - 10_000), Excess()),
        (Keep(age_s=10), Extent(), Excess()),
        (Keep(rows_max=3), Extent(5, 500, NOW_MS), Excess(rows=2)),
        (Keep(rows_max=5), Extent(5, 500, NOW_MS), Excess()),
        (Keep(bytes_max=300), Extent(5, 500, NOW_MS), Excess(rows=2)),
        (Keep(bytes_max=301), Extent(5, 500, NOW_MS), Excess(rows=2)),
        (Keep(rows_max=4, bytes_max=100), Extent(5, 500, NOW_MS), Excess(rows=4)),
        (Keep(1.0, 3, 100), Extent(5, 500, NOW_MS - 2000), Excess(NOW_MS - 1000, 4)),
    ],
)
def test_what_is_over(keep: Keep, extent: Extent, found: Excess) -> None:
    assert excess(keep, extent, NOW_MS) == found


@pytest.mark.parametrize(
    ("keep", "gone"),
    [
        (Keep(), 0),
        (Keep(age_s=2.6 * 86_400), 2),  # of days -5 … 0, those that ended before that
        (Keep(age_s=2.4 * 86_400), 3),
        (Keep(rows_max=35), 2),
        (Keep(bytes_max=3500), 2),
        (Keep(rows_max=1), 5),
        (Keep(age_s=1), 5),  # that of today stays, whatever is in it
    ],
)
def test_which_parts_go_whole(keep: Keep, gone: int) -> None:
    days = range(19_995, 20_002)
    parts = [Part(f"p{day}", day * DAY_MS, (day + 1) * DAY_MS, Extent(10, 1000)) for day in days if day <= 20_000]
    parts.append(Part("p20001", 20_001 * DAY_MS, 20_002 * DAY_MS, Extent()))
    assert [part.name for part in parts_over(keep, parts, NOW_MS)] == [f"p{19_995 + n}" for n in range(gone)]


def sample(seq: int, received_ms: int, lane: str = "sample") -> Row:
    return Row("gw-1", "s1", lane, seq, "Counts", "cam1", None, received_ms, received_ms, 1, '{"n": 1}')


def left(place: Place, table: str = "samples") -> list[int]:
    with closing(open_reading(place)) as db:
        return [seq for (seq,) in db.execute(f"SELECT seq FROM {table} WHERE node = 'gw-1' ORDER BY seq")]


def rounds(store: SqlStore, **keep: Keep) -> Retention:
    duty = Duty(store, "retention", "test")
    kept = Retention(store, duty, {"samples": Keep(), "events": Keep()} | keep)

    async def scene() -> None:
        await duty.ask()
        await kept.one_round(NOW_MS)

    run(scene())
    return kept


def test_old_rows_go_and_are_known_all_the_same(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(driver, "PAUSE_S", 0.0)
    store = open_store(place)
    old = [sample(seq, NOW_MS - 3 * DAY_MS) for seq in range(1, 31)]
    new = [sample(seq, NOW_MS) for seq in range(31, 41)]
    run(store.commit(Batch(samples=old + new, events=[row._replace(lane="event") for row in old + new])))
    kept = rounds(store, samples=Keep(age_s=86_400), events=Keep(age_s=86_400))
    assert (left(place), left(place, "events")) == (list(range(31, 41)), list(range(31, 41)))
    assert (kept.figures()["samples_shed"], kept.figures()["events_shed"]) == (30, 30)
    again = run(store.commit(Batch(samples=old, events=[row._replace(lane="event") for row in old])))
    assert (again.new, again.duplicates) == (0, 60)
    store.close()
    assert left(place) == list(range(31, 41))


@pytest.mark.parametrize("by", ["rows", "bytes"])
def test_beyond_a_number_or_their_bytes_the_oldest_go(place: Place, by: str) -> None:
    store = open_store(place)
    beside = retention.ROW_BYTES_BESIDE["postgres" if store.has_parts else "sqlite"]
    keep = Keep(rows_max=12) if by == "rows" else Keep(bytes_max=12 * (beside + 8))
    run(store.commit(Batch(samples=[sample(seq, NOW_MS) for seq in range(1, 41)])))
    kept = rounds(store, samples=keep)
    store.close()
    assert left(place) == list(range(29, 41))
    assert kept.figures()["samples_shed"] == 28


def test_what_the_coordinator_has_not_told_yet_stays(place: Place) -> None:
    store = open_store(place)
    run(store.commit(Batch(fleet_events=[FleetEvent("X", "n", {}, 5) for _ in range(4)])))
    run(store.save_counters({}, 2))
    rounds(store, events=Keep(age_s=1, rows_max=1))
    store.close()
    again = open_store(place)
    assert [event.identity.seq for event in again.unannounced(0, 10)] == [3, 4]
    with closing(open_reading(place)) as db:
        assert db.execute("SELECT count(*) FROM events").fetchone() == (2,)
    again.close()


def test_parts_are_made_ahead_and_go_whole(postgres_place: PostgresPlace) -> None:
    store = open_store(postgres_place)
    for day in (4, 3, 2):
        run(store.run(lambda db, d=day: partitions.make_ahead(db, NOW_MS - d * DAY_MS)))  # type: ignore[misc]
    run(store.commit(Batch(samples=[sample(n, NOW_MS - n % 5 * DAY_MS) for n in range(1, 101)])))
    run(store.commit(Batch(samples=[sample(101, 5)])))  # of a clock that was wrong
    with closing(open_reading(postgres_place)) as db:
        assert db.execute(f"SELECT count(*) FROM {partitions.OTHERS}").fetchone() == (1,)
    kept = rounds(store, samples=Keep(age_s=1.6 * 86_400))
    assert left(postgres_place) == [n for n in range(1, 101) if n % 5 <= 2]
    assert (kept.figures()["samples_parts_shed"], kept.figures()["samples_shed"]) == (2, 41)
    names = [part.name for part in run(store.read(partitions.parts))]
    assert partitions.name_of(NOW_MS // DAY_MS + 2) in names
    store.close()


def test_a_day_that_has_rows_among_the_others_gets_no_part_and_nothing_is_lost(postgres_place: PostgresPlace) -> None:
    store = open_store(postgres_place)
    run(store.commit(Batch(samples=[sample(1, NOW_MS)])))
    made = run(store.run(lambda db: partitions.make_ahead(db, NOW_MS)))
    assert made == [partitions.name_of(NOW_MS // DAY_MS + ahead) for ahead in (1, 2)]
    rounds(store, samples=Keep(age_s=86_400))
    store.close()
    assert left(postgres_place) == [1]
