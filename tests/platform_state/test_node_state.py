"""Platform state at the node, on real files: writes, rows, limits, restarts, lost rows."""

import asyncio
import sqlite3
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.outbox.settings import LaneSettings, OutboxSettings
from agent.platform_state import platform_state as driver
from agent.platform_state.store import ValuesFile, opened
from agent.platform_state.tables import DELETED_MAX, FILE_NAME, Limits
from runtime.sqlite import StorageFormatError
from runtime.timeline import MachineTime
from schemas.fields import Owner
from schemas.identity import Lane
from schemas.messages import Closed
from schemas.state import Collection, Collections, StateRefusedError
from tests.coordinator.sender import until
from tests.platform_state.nodes import COLLECTIONS, NODE, node, order

RED, GREEN = {"phase": "red"}, {"phase": "green"}
ROADS, COUNTS, VISITORS = "traffic.intersections", "traffic.counts", "retail.visitors"
NOON_MS = 1_795_521_600_000


def test_a_write_is_there_at_once_and_leaves_as_a_row(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path) as one:
            await one.state.put(ROADS, "IS-001", RED)
            entry = await one.state.get(ROADS, "IS-001")
            assert entry is not None
            assert (entry.key, entry.value, entry.written_by) == ("IS-001", RED, NODE)
            assert 0 <= entry.age_s < 60
            (data,) = await one.until_said(1)
            assert data | {"at": ""} == {"collection": ROADS, "key": "IS-001", "value": RED, "at": ""}
            assert data["at"].endswith(".gw-1")
            (row,) = one.rows()
            assert (row.lane, row.type) == (Lane.STATE, "StateChanged")
            assert await one.state.delete(ROADS, "IS-001")
            assert not await one.state.delete(ROADS, "IS-001")
            assert not await one.state.delete(ROADS, "IS-002")
            assert await one.state.get(ROADS, "IS-001") is None
            assert [data["value"] for data in await one.until_said(2)] == [RED, None]

    asyncio.run(scenario())


def test_keys_and_entries_by_prefix_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path) as one:
            for key in ("b.2", "a", "b.10", "b%", "c"):
                await one.state.put(COUNTS, key, len(key))
            await one.state.put("traffic.limits", "b.0", 1)
            await one.state.delete(COUNTS, "c")
            assert await one.state.keys(COUNTS) == ["a", "b%", "b.10", "b.2"]
            assert [(entry.key, entry.value) for entry in await one.state.entries(COUNTS, "b.")] == [
                ("b.10", 4),
                ("b.2", 3),
            ]
            assert await one.state.keys(COUNTS, "x") == []

    asyncio.run(scenario())


def test_what_cannot_be_written_is_refused_and_counted_and_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path, keys_max=2, value_bytes_max=40) as one:
            for code, path, value in [
                ("unknown_collection", "traffic.x", 1),
                ("wrong_owner", "traffic.plans", 1),
                ("bad_value", ROADS, {"phase": "blue"}),
                ("too_large", COUNTS, "x" * 40),
            ]:
                with pytest.raises(StateRefusedError) as caught:
                    await one.state.put(path, "k", value)
                assert caught.value.code == code
            with pytest.raises(StateRefusedError, match="belongs to the coordinator"):
                await one.state.delete("traffic.plans", "k")
            for question in (one.state.get("traffic.x", "k"), one.state.entries("traffic.x")):
                with pytest.raises(StateRefusedError, match="no platform here declares it"):
                    await question
            await one.state.put(COUNTS, "a", 1)
            await one.state.put(COUNTS, "b", 1)
            with pytest.raises(StateRefusedError, match=r"2 keys of 2.*state\.keys_max"):
                await one.state.put(COUNTS, "c", 1)
            await one.state.put(ROADS, "c", RED)  # each collection has its own room
            await one.state.put(COUNTS, "b", 2)
            await one.state.delete(COUNTS, "a")
            await one.state.put(COUNTS, "c", 1)
            refused = one.state.report()["refused_total"]
            assert refused == {
                "unknown_collection": 1, "wrong_owner": 2, "bad_value": 1, "too_large": 1, "full": 1,
            }  # fmt: skip
            await until(lambda: one.values() == {f"{COUNTS}.a": None, f"{COUNTS}.b": 2, f"{COUNTS}.c": 1,
                                                 f"{ROADS}.c": RED})  # fmt: skip

    asyncio.run(scenario())


def test_the_same_again_makes_no_row_until_its_age_has_to_be_told(tmp_path: Path) -> None:
    file = ValuesFile(tmp_path / FILE_NAME, NODE)
    name, limits = (COUNTS, "a"), Limits(10, 60_000)

    def put(text: str, now_ms: int) -> bool:
        return file.put(name, text, NOON_MS + now_ms, limits).result()

    def kept() -> tuple[str, int]:
        (one,) = file.take([name]).result()
        file.mark_sent([one], 1).result()
        return one.at, one.time_utc_ms - NOON_MS

    assert put("1", 0)
    first = kept()
    assert not put("1", 30_000)
    assert file.take([name]).result() == []
    assert put("1", 60_000)
    second = kept()
    assert put("2", 60_001)
    assert kept()[1] == 60_001
    assert put("2", 60_001 - 3_600_000)  # a clock that was put back: rather once too often
    assert kept()[0] > second[0] > first[0]
    assert (first[1], second[1]) == (0, 60_000)
    file.close()


def test_the_age_of_the_same_value_begins_anew_with_each_write(tmp_path: Path) -> None:
    file = ValuesFile(tmp_path / FILE_NAME, NODE)
    for now_ms in (0, 5_000):
        file.put((COUNTS, "a"), "1", NOON_MS + now_ms, Limits(10, 60_000)).result()
    with opened(tmp_path / FILE_NAME) as db:
        assert db.execute("SELECT time_utc_ms FROM entries").fetchone() == (NOON_MS + 5_000,)
    file.close()


def test_a_key_written_fast_leaves_with_its_newest_value(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path, min_interval_s=3600.0) as one:
            for n in range(200):
                await one.state.put(COUNTS, "a", n)
            await one.until_said(1)
            assert [data["value"] for data in one.said()] == [one.said()[0]["value"]]
            assert one.state.report()["coalesced_total"] >= 197
            await one.state.put(COUNTS, "a", 1000)
            report = one.state.report()
            assert (report["waiting"], report["rows_total"]) == (1, 1)
            one.state.stop()  # and so it leaves, whatever its interval
            await until(lambda: one.values() == {f"{COUNTS}.a": 1000})

    asyncio.run(scenario())


def test_personal_state_stays_at_the_node(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path) as one:
            await one.state.put(VISITORS, "v1", {"seen": 3})
            await one.state.put(VISITORS, "v2", {"seen": 4})
            await one.state.delete(VISITORS, "v2")
            await one.state.put(COUNTS, "a", 1)
            await one.until_said(1)
            entry = await one.state.get(VISITORS, "v1")
            assert entry is not None and entry.value == {"seen": 3}
            one.state.say_again()
            await until(lambda: one.state.said_again_total == 1)
        # Not at the next start, and not because a new version of the platform has another mind.
        public = Collections([replace(COLLECTIONS[VISITORS], personal=False)])
        async with node(tmp_path, public, boot=2) as one:
            await one.state.put(VISITORS, "v9", 1)
            await until(lambda: f"{VISITORS}.v9" in one.values())
            assert {data["key"] for data in one.said()} == {"a", "v9"}

    asyncio.run(scenario())


def test_what_was_written_survives_a_restart_and_leaves_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path, runs=False) as one:  # cut off before anything reached the outbox
            await one.state.put(COUNTS, "a", 1)
            await one.state.put(COUNTS, "b", 1)
            await one.state.delete(COUNTS, "b")
            assert one.said() == []
        async with node(tmp_path, boot=2) as one:
            assert await one.state.keys(COUNTS) == ["a"]
            await one.until_said(2)
            assert one.values() == {f"{COUNTS}.a": 1, f"{COUNTS}.b": None}
        async with node(tmp_path, boot=3) as one:
            await one.state.put(COUNTS, "a", 2)
            said = await one.until_said(3)
            assert [data["value"] for data in said] == [1, None, 2]  # nothing was said twice
            assert order(said[2]) > order(said[0])

    asyncio.run(scenario())


def test_killed_between_outbox_and_file_it_says_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(ValuesFile, "mark_sent", lambda self, *rest: Future[None]())  # never done
            async with node(tmp_path, in_order=False) as one:
                await one.state.put(COUNTS, "a", 1)
                await one.until_said(1)
        async with node(tmp_path, boot=2) as one:
            first, again = await one.until_said(2)
            assert first == again

    asyncio.run(scenario())


def remove(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()


def test_an_outbox_that_has_forgotten_rows_is_told_everything_again(tmp_path: Path) -> None:
    """A new file, or an older copy put back; after a power cut its end may be missing alike."""

    async def scenario() -> None:
        async with node(tmp_path) as one:
            for key in "abc":
                await one.state.put(COUNTS, key, key)
            await one.state.delete(COUNTS, "c")
            await until(lambda: one.values().get(f"{COUNTS}.c", "") is None)
        remove(tmp_path, "outbox.db")
        async with node(tmp_path, boot=2) as one:
            await one.until_said(3)
            assert one.values() == {f"{COUNTS}.a": "a", f"{COUNTS}.b": "b", f"{COUNTS}.c": None}
            assert one.state.said_again_total == 1
        async with node(tmp_path, boot=3) as one:
            await one.state.put(COUNTS, "d", 1)
            await until(lambda: f"{COUNTS}.d" in one.values())
            assert one.state.said_again_total == 0  # once is enough

    asyncio.run(scenario())


def test_rows_that_were_given_up_are_said_again_when_that_is_certain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "LOOK_EVERY_S", 0.02)

    async def scenario() -> None:
        room = OutboxSettings(state=LaneSettings(rows_max=3))
        async with node(tmp_path, outbox=room) as one:
            for n in range(6):
                await one.state.put(COUNTS, str(n), n)
                await until(lambda n=n: str(n) in {data["key"] for data in one.said()})  # type: ignore[misc]
            assert {data["key"] for data in one.said()} == {"3", "4", "5"}
            (gap,) = one.outbox.file.gaps(10)
            # Not before: the coordinator may hold them.
            await asyncio.sleep(0.1)
            assert one.state.said_again_total == 0
            await asyncio.wrap_future(one.outbox.file.acknowledge([(Lane.STATE, 4, 6)]))
            answer = Closed(gap.stream, gap.lane, gap.first, gap.last, [])
            await asyncio.wrap_future(one.outbox.file.closed([answer]))
            await until(lambda: one.state.said_again_total == 1)
            await until(lambda: one.state.report()["rows_total"] == 12)
            # There is not room for all of it at once: it is told again later, and less and less often.
            assert {data["key"] for data in one.said()} == {"3", "4", "5"}

    asyncio.run(scenario())


def test_deletions_are_remembered_as_far_as_there_is_room(tmp_path: Path) -> None:
    file = ValuesFile(tmp_path / FILE_NAME, NODE)
    limits = Limits(5, 60_000)
    names = [(COUNTS, f"{n:05d}") for n in range(DELETED_MAX + 10)]
    for n, name in enumerate(names[: DELETED_MAX + 5]):
        file.put(name, "1", NOON_MS + n, limits)
        last = file.delete(name, NOON_MS + n, limits)
    assert last.result()
    with pytest.raises(Exception, match=f"0 keys of 5, and {DELETED_MAX + 5} deletions"):
        file.put(names[-1], "1", NOON_MS, limits).result()  # nothing has left yet
    kept = file.take(names).result()
    file.mark_sent(kept[:8], 8).result()
    assert file.put(names[-1], "1", NOON_MS, limits).result()
    with opened(tmp_path / FILE_NAME) as db:
        (oldest,) = db.execute("SELECT min(key) FROM entries WHERE value IS NULL").fetchone()
        assert oldest == "00005"  # of those that have left the oldest went
        assert db.execute("SELECT keys, deleted FROM collections").fetchone() == (1, DELETED_MAX)
    file.close()


def test_stamps_grow_whatever_the_clock_does_and_over_restarts(tmp_path: Path) -> None:
    stamps: list[dict[str, Any]] = []
    for n, jump_ms in enumerate((0, -86_400_000, 86_400_000, -5)):
        file = ValuesFile(tmp_path / FILE_NAME, NODE)
        file.put((COUNTS, "a"), str(n), NOON_MS + jump_ms, Limits(10, 1)).result()
        (kept,) = file.take([(COUNTS, "a")]).result()
        stamps.append({"at": kept.at})
        file.close()
    assert sorted(stamps, key=order) == stamps
    assert len({one["at"] for one in stamps}) == 4


def test_the_time_of_a_value_does_not_follow_a_wall_clock_that_jumps(tmp_path: Path) -> None:
    file = ValuesFile(tmp_path / FILE_NAME, NODE)
    assert file.utc_ms(MachineTime("m", 1_000, NOON_MS)) == NOON_MS
    assert file.utc_ms(MachineTime("m", 2_000, NOON_MS + 86_400_000)) == NOON_MS + 1_000
    file.take([]).result()
    file.close()
    again = ValuesFile(tmp_path / FILE_NAME, NODE)
    assert again.utc_ms(MachineTime("m", 3_000, NOON_MS + 86_400_000)) == NOON_MS + 2_000
    again.close()


def test_a_damaged_file_is_set_aside_and_one_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(b"no database at all" * 300)
    ValuesFile(path, NODE).close()
    assert (tmp_path / f"{FILE_NAME}.damaged-1").read_bytes().startswith(b"no database")
    db = sqlite3.connect(path)
    db.execute("INSERT INTO migrations (name) VALUES ('9999_from_the_future')")
    db.commit()
    db.close()
    with pytest.raises(StorageFormatError, match="newer version"):
        ValuesFile(path, NODE)
    assert not (tmp_path / f"{FILE_NAME}.damaged-2").exists()


def test_a_disk_that_refuses_is_told_to_the_caller_and_waited_out_on_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driver, "RETRY_S", 0.02)

    async def scenario() -> None:
        async with node(tmp_path) as one:
            await one.state.put(COUNTS, "a", "x" * 100)
            await one.until_said(1)
            writer = one.state._file._writer

            def limit(db: sqlite3.Connection) -> None:
                (pages,) = db.execute("PRAGMA page_count").fetchone()
                db.execute(f"PRAGMA max_page_count = {pages + 1}")

            await asyncio.wrap_future(writer.maintain(limit))
            with pytest.raises(Exception, match="full"):
                for n in range(100):
                    await one.state.put(COUNTS, f"b{n}", "x" * 1000)
            await asyncio.wrap_future(
                writer.maintain(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchone())
            )
            await one.state.put(COUNTS, "c", 1)
            await until(lambda: one.values().get(f"{COUNTS}.c") == 1)

    asyncio.run(scenario())


def test_many_writers_at_once_each_get_their_word(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path) as one:
            await asyncio.gather(*(one.state.put(COUNTS, str(n % 50), n) for n in range(1000)))
            await until(lambda: len(one.values()) == 50 and one.state.report()["waiting"] == 0)
            held = {f"{COUNTS}.{entry.key}": entry.value for entry in await one.state.entries(COUNTS)}
            await until(lambda: one.values() == held)
            assert held == {f"{COUNTS}.{n}": 950 + n for n in range(50)}

    asyncio.run(scenario())


def test_a_collection_that_is_no_longer_declared_stays_where_it_is(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with node(tmp_path, runs=False) as one:
            await one.state.put(COUNTS, "a", 1)
        other = Collections([Collection("traffic", "limits", Owner.SHARED)])
        async with node(tmp_path, other, boot=2) as one:
            await one.state.put("traffic.limits", "a", 2)
            await one.until_said(1)
            assert one.values() == {"traffic.limits.a": 2}
        async with node(tmp_path, boot=3) as one:
            assert await one.state.keys(COUNTS) == ["a"]
            await until(lambda: f"{COUNTS}.a" in one.values())

    asyncio.run(scenario())
