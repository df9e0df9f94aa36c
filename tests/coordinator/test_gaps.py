"""Gap records at the coordinator: closed once, answered the same for ever, bounded, shown to people."""

import asyncio
import json
import shutil
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.ingest.answer import acks
from coordinator.ingest.decode import GAPS_MAX, Decoder, Facts
from coordinator.ingest.dedupe import Received, merged
from coordinator.store import lanes, sql
from coordinator.store.gaps import answer
from coordinator.store.place import Place, open_store
from coordinator.store.reader import Reader
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Committed, GapRow, Row
from runtime.mqtt import Delivery
from schemas.codec import encode_packed
from schemas.messages import Closed, SyncBatch, SyncRow
from schemas.topics import RULES, Kind, TopicSpace
from tests.coordinator.process import edgectl
from tests.coordinator.sender import until
from tests.coordinator.stores import edgectl_place, empty_pages
from tests.coordinator.test_ingest_driver import ListWire, running

T = TypeVar("T")
NOW = time.time_ns() // 1_000_000


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def row(seq: int, *, stream: str = "s1", ago_ms: int = 0) -> Row:
    return Row("gw-1", stream, "sample", seq, "StreamSample", "cam1", None, NOW, NOW - ago_ms, 1, "{}")


def gap(first: int, last: int, *, stream: str = "s1", node: str = "gw-1", reason: str = "bytes") -> GapRow:
    return GapRow(node, stream, "sample", first, last, reason, NOW)


def held(committed: Committed) -> list[list[tuple[int, int]]]:
    return [said.held for _, said in committed.closed]


def sync(rows: Sequence[SyncRow] = (), gaps: Sequence[Any] = ()) -> bytes:
    raw = msgpack.unpackb(encode_packed(SyncBatch("s1", 1, list(rows))))
    return bytes(msgpack.packb(raw | {"gaps": list(gaps)}))


def told(first: Any, last: Any, **changes: Any) -> dict[str, Any]:
    return {"stream": "s1", "lane": "sample", "first": first, "last": last, "reason": "bytes"} | changes


def decoded(payload: bytes) -> Facts:
    said = Decoder(TopicSpace()).decode(Delivery("edge/v1/gw-1/sync", payload, 1, False, 1), 7)
    assert isinstance(said, Facts), said
    return said


def sample(seq: int) -> SyncRow:
    return SyncRow("sample", seq, "StreamSample", "cam1", 7, {"n": seq})


# ---- closing ----------------------------------------------------------------------------------------

STEPS = st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.integers(1, 30)), max_size=12)


@settings(max_examples=25, deadline=None)
@given(STEPS)
def test_a_gap_is_answered_with_what_is_really_stored(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("gaps")
    store = SqliteStore(folder)
    stored, closed = set[int](), set[int]()
    for is_gap, one, other in steps:
        whole = set(range(min(one, other), max(one, other) + 1))
        if is_gap:
            committed = run(store.commit(Batch(gaps=[gap(min(whole), max(whole))])))
            assert held(committed) == [merged(stored & whole)]
            assert len(committed.fleet_events) == (1 if whole - stored - closed else 0)
            closed |= whole - stored
        else:
            committed = run(store.commit(Batch(samples=[row(seq) for seq in sorted(whole)])))
            assert sorted(item.seq for item in committed.late) == sorted(whole & closed)
            assert committed.new == len(whole - stored - closed)
            assert committed.duplicates == len(whole & stored)
            stored |= whole - closed
    store.close()
    reader = Reader(folder)
    assert {n for view in reader.gaps("", 100) for n in range(view.first, view.last + 1)} == closed
    assert reader.totals()["samples"] == len(stored)
    reader.close()


def test_the_answer_is_the_same_after_a_restart(place: Place) -> None:
    store = open_store(place)
    run(store.commit(Batch(samples=[row(2), row(3)], gaps=[gap(1, 2**60)])))
    store.close()
    again = open_store(place)
    committed = run(again.commit(Batch(gaps=[gap(1, 2**60), gap(1, 3)])))
    again.close()
    assert held(committed) == [[(2, 3)], [(2, 3)]]
    assert committed.fleet_events == []


def test_rows_of_a_message_count_before_its_gaps(place: Place) -> None:
    store = open_store(place)
    said = decoded(sync([sample(4), sample(5)], [told(1, 9)]))
    committed = run(store.commit(Batch(samples=said.rows, gaps=list(said.gaps))))
    store.close()
    assert (committed.new, committed.late, held(committed)) == (2, [], [[(4, 5)]])
    assert committed.fleet_events[0].type == "DataGapReported"
    assert committed.fleet_events[0].data["missing"] == 7


# ---- what is hostile --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (told(0, 5), "no range"),
        (told(7, 5), "no range"),
        (told(1, 2**63), "more than 64 bits"),
        (told(-3, 5), "at least 0"),
        (told(1.5, 5), "whole number"),
        (told("1", 5), "whole number"),
        (told(1, 5, stream=""), "1 to 200 characters"),
        (told(1, 5, stream="s" * 201), "1 to 200 characters"),
        (told(1, 5, lane="No Lane"), "no lane name"),
        (told(1, 5, reason=b"x"), "bytes"),
        ({"stream": "s1", "lane": "sample"}, "is missing"),
        ("gap", "must be a table"),
        (None, "must be a table"),
        ([[[[[[1]]]]]], "nested"),
    ],
)
def test_a_bad_gap_record_is_refused_alone(item: Any, why: str) -> None:
    said = decoded(sync([sample(1)], [told(10, 12), item, told(20, 22)]))
    assert [found.seq for found in said.rows] == [1]
    assert [(found.first, found.last) for found in said.gaps] == [(10, 12), (20, 22)]
    (refused,) = said.refused
    assert why in refused.reason
    assert (refused.node, refused.seq) == ("gw-1", 0)


def test_a_gap_is_of_the_node_on_whose_topic_it_came() -> None:
    (found,) = decoded(sync(gaps=[told(1, 5, node="gw-9")])).gaps
    assert found.node == "gw-1"


def test_of_very_many_gap_records_the_first_are_taken_and_the_rest_come_again() -> None:
    said = decoded(sync([sample(1)], [told(3 * n + 3, 3 * n + 4, reason="") for n in range(8000)]))
    assert (len(said.rows), len(said.gaps)) == (1, GAPS_MAX)
    assert ["8000 gap records" in refused.reason for refused in said.refused] == [True]


def test_gaps_that_stand_alone_are_bounded_and_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "Received", lambda ranges: Received(ranges, ranges_max=3))
    wire = ListWire()

    async def scene() -> None:
        async with running(open_store(place)) as bench:
            payload = sync([sample(1)], [told(10 * n, 10 * n + 1) for n in range(1, 6)])
            bench.deliver(wire, "sync", payload)
            await until(lambda: len(wire.pubacks) == 1)
            assert bench.counters.refused == 3
            bench.deliver(wire, "sync", sync(gaps=[told(2, 60)]))
            await until(lambda: len(wire.pubacks) == 2)

    run(scene())
    closed = [(item.first, item.last) for ack in wire.acks for item in ack.closed]
    assert closed == [(10, 11), (20, 21), (2, 60)]
    reader = Reader(place)
    assert {"too many gaps" in item.reason for item in reader.refused(10)} == {True}
    assert reader.holes("gw-1", 10, NOW * 2) == []
    reader.close()


def test_gap_records_that_touch_too_much_are_put_off(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "TOUCHED_MAX", 100)
    store = open_store(place)
    committed = run(store.commit(Batch(samples=[row(seq) for seq in range(1, 401, 2)], gaps=[gap(1, 400)] * 50)))
    assert (len(committed.closed), committed.gaps_put_off) == (1, 49)
    again = run(store.commit(Batch(gaps=[gap(1, 400)])))
    store.close()
    assert held(again) == held(committed)


def test_answers_with_very_many_held_ranges_fit_their_topic() -> None:
    stream = "é" * 200
    received = [(seq, seq) for seq in range(2**61, 2**61 + 20_000, 2)]
    whole = gap(1, 2**62, stream=stream)
    closed = [("gw-1", said) for said in [*answer(whole, received, []), *answer(whole, received, received[1:])]]
    answers = [ack for _, ack in acks([], [], closed)]
    assert max(len(encode_packed(ack)) for ack in answers) <= RULES[Kind.ACK].payload_bytes_max
    said = [item for ack in answers for item in ack.closed]
    assert [item.first for item in said[:10]] == [1, *(item.last + 1 for item in said[:9])]
    assert [part for item in said[:10] for part in item.held] == received
    assert said[9].last == 2**62
    assert said[10:] == [Closed(stream, "sample", 1, 2**62, received[:1])]


def test_a_full_disk_closes_nothing_and_answers_nothing(tmp_path: Path) -> None:
    wire = ListWire()

    async def scene() -> None:
        store = SqliteStore(tmp_path, pages_max=empty_pages(tmp_path) + 2)
        async with running(store) as bench:
            data = {"x": "y" * 3000}
            rows = [SyncRow("sample", seq, "S", "cam1", 7, data) for seq in range(1, 101)]
            bench.deliver(wire, "sync", sync(rows, [told(101, 200)]))
            await until(lambda: bench.counters.commit_failures > 1)
            bench.put(wire, 1)
            assert (wire.out, bench.counters.gaps) == ([], 0)
            store._writer.submit(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchall()).result()
            await until(lambda: len(wire.pubacks) == 2)

    run(scene())
    stored = [lane.ranges for ack in wire.acks for lane in ack.stored if lane.lane == "sample"]
    assert stored == [[(1, 100)]]
    assert [(item.first, item.last, item.held) for ack in wire.acks for item in ack.closed] == [(101, 200, [])]


# ---- what people see --------------------------------------------------------------------------------


@pytest.fixture
def shown(place: Place, tmp_path: Path) -> list[str]:
    store = open_store(place)
    since_ms = NOW - time.time_ns() // 1_000_000  # the suite may have been running for minutes
    rows = [*(row(seq, ago_ms=since_ms) for seq in (1, 5, 9)), row(20, ago_ms=600_000 + since_ms)]
    run(store.commit(Batch(samples=rows, gaps=[gap(3, 6), gap(1, 7, node="gw-2", reason="age")])))
    store.close()
    return edgectl_place(place, tmp_path)


@pytest.mark.parametrize(
    ("command", "said", "unsaid"),
    [
        ("gaps", ["gw-1", "given up: bytes", "gw-2", "given up: age", "10    19", "not explained"], ["7     8"]),
        ("gaps gw-2", ["gw-2", "1     7   7        given up: age"], ["gw-1", "bytes"]),
        ("gaps gw-1 --open-for 0s", ["10    19", "7     8"], ["gw-2"]),
    ],
)
def test_gaps_and_holes_as_a_table(shown: list[str], command: str, said: list[str], unsaid: list[str]) -> None:
    done = edgectl([*shown, *command.split()])
    assert (done.returncode, done.stderr) == (0, "")
    assert [text for text in said if text not in done.stdout] == []
    assert [text for text in unsaid if text in done.stdout] == []


def test_gaps_and_holes_as_json(shown: list[str]) -> None:
    done = edgectl([*shown, "gaps", "gw-1", "--open-for", "0s", "--json"])
    views = json.loads(done.stdout)
    assert [(v["lane"], v["first"], v["last"], v["missing"], v["told"], v["reason"]) for v in views] == [
        ("sample", 3, 4, 2, True, "bytes"), ("sample", 6, 6, 1, True, "bytes"),
        ("sample", 2, 2, 1, False, ""), ("sample", 7, 8, 2, False, ""), ("sample", 10, 19, 10, False, ""),
    ]  # fmt: skip


def test_a_refused_row_is_no_hole(place: Place) -> None:
    bad = decoded(sync([sample(1)])).refused
    assert bad == ()
    store = open_store(place)
    raw = msgpack.unpackb(sync([sample(1), sample(2), sample(3)]))
    raw["rows"][1]["data"] = "poison"
    said = decoded(msgpack.packb(raw))
    run(store.commit(Batch(samples=said.rows, refused=list(said.refused))))
    store.close()
    reader = Reader(place)
    assert [item.seq for item in reader.refused(10)] == [2]
    assert reader.holes("", 10, NOW * 2) == []
    reader.close()


def test_a_store_put_back_from_a_backup_shows_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = open_store(tmp_path / "data")
    run(store.commit(Batch(samples=[row(seq) for seq in range(1, 101)])))
    store.close()
    shutil.copytree(tmp_path / "data", tmp_path / "backup")
    store = open_store(tmp_path / "data")
    run(store.commit(Batch(samples=[row(seq) for seq in range(101, 301)])))
    store.close()
    restored = open_store(tmp_path / "backup")  # the node has been told that 101 to 300 are safe
    run(restored.commit(Batch(samples=[row(seq) for seq in range(301, 311)])))
    run(restored.commit(Batch(samples=[row(seq, stream="s2") for seq in range(321, 331)])))
    restored.close()
    reader = Reader(tmp_path / "backup")
    lacking = [(view.stream, view.first, view.last) for view in reader.holes("gw-1", 10, NOW * 2)]
    reader.close()
    assert lacking == [("s1", 101, 300), ("s2", 311, 320)]
