"""The ingest task with a list as the wire: order of the answers, a disk that refuses, rows that cannot be stored."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.counters import Counters, percentile
from coordinator.fleet.registry import Fleet, LivenessRules
from coordinator.ingest.answer import acks, payloads
from coordinator.ingest.batch import BYTES_MIN, BYTES_MIN_DEEP, BatchLimits, Pacing
from coordinator.ingest.decode import Facts
from coordinator.ingest.dedupe import Received
from coordinator.ingest.inbox import INBOX_MAX, PRESSURE_AT, Inbox, Item
from coordinator.ingest.ingest import Ingest
from coordinator.link.outgoing import Outgoing
from coordinator.store.sql import SqlStore
from coordinator.store.sqlite import SqliteStore
from coordinator.store.store import Batch, Committed, RefusedMessage, Row
from runtime.mqtt import RECEIVE_MAXIMUM, Delivery, Message
from schemas.codec import decode_packed, encode_packed
from schemas.messages import Ack, Closed, LaneAck, Refusal
from schemas.topics import RULES, Kind, TopicSpace
from tests.coordinator.sender import alert_payload, event_payload, until
from tests.coordinator.stores import empty_pages

TOPIC = "edge/v1/gw-1/event/ObjectSeen"


class ListWire:
    """Keeps what would go out, in order."""

    index = 0

    def __init__(self) -> None:
        self.out: list[Message | Delivery] = []
        self.packet_bytes_max = 1024 * 1024
        self._outgoing = Outgoing(TopicSpace())

    def publish(self, message: Message) -> None:
        self.out.append(message)

    def answer(self, *answers: tuple[str, Ack]) -> None:
        for node, ack in answers:
            self._outgoing.answer(node, ack)
        while (found := self._outgoing.next(self.packet_bytes_max)) is not None:
            self.out.append(found[0])

    def acknowledge(self, *deliveries: Delivery) -> None:
        self.out += deliveries

    @property
    def acks(self) -> list[Ack]:
        return [decode_packed(Ack, Kind.ACK, m.payload) for m in self.out if isinstance(m, Message)]

    @property
    def pubacks(self) -> list[int]:
        return [d.mid for d in self.out if isinstance(d, Delivery)]


class PickyStore(SqliteStore):
    """A database that cannot take a certain row, for a reason that no check foresaw."""

    async def commit(self, batch: Batch) -> Committed:
        if any(row.seq == 13 for row in batch.events):
            raise OverflowError("the database has its own opinion")
        return await super().commit(batch)


class HeldStore(SqliteStore):
    """A disk that takes its time over the first transaction."""

    committing = False
    go_on = asyncio.Event()

    async def commit(self, batch: Batch) -> Committed:
        if not self.committing:
            self.committing = True
            await self.go_on.wait()
        return await super().commit(batch)


@pytest.fixture
def wire() -> Iterator[ListWire]:
    yield ListWire()


class Bench:
    def __init__(self, store: SqlStore) -> None:
        self.store = store
        self.counters = Counters()
        self.inbox = Inbox(self.counters)
        self.ingest = Ingest(
            store, Fleet([], LivenessRules(), 0), self.inbox, self.counters, TopicSpace(), BatchLimits(pause_ms=0)
        )

    def deliver(self, wire: ListWire, below: str, payload: bytes) -> None:
        self.inbox.put(Item(Delivery(f"edge/v1/gw-1/{below}", payload, 1, False, 0), wire, 7))

    def put(self, wire: ListWire, *seqs: int) -> None:
        for seq in seqs:
            delivery = Delivery(TOPIC, event_payload("gw-1", seq), 1, False, seq)
            self.inbox.put(Item(delivery, wire, 7))


@asynccontextmanager
async def running(store: SqlStore):  # type: ignore[no-untyped-def]
    bench = Bench(store)
    task = asyncio.create_task(bench.ingest.run())
    yield bench
    bench.inbox.close()
    await asyncio.wait_for(task, 20)
    store.close()


def test_the_node_is_answered_before_the_broker(tmp_path: Path, wire: ListWire) -> None:
    async def scene() -> None:
        async with running(SqliteStore(tmp_path)) as bench:
            bench.put(wire, 1, 2, 3, 2)
            await until(lambda: len(wire.pubacks) == 4)

    asyncio.run(scene())
    assert isinstance(wire.out[0], Message)
    assert wire.acks[0].stored[0].ranges == [(1, 3)]
    assert wire.pubacks == [1, 2, 3, 2]


def test_what_waits_is_read_while_the_disk_works_and_an_alert_goes_first_all_the_same(
    tmp_path: Path, wire: ListWire
) -> None:
    alert = Delivery("edge/v1/gw-1/alert/warning", alert_payload("gw-1", 7), 1, False, 7)

    async def scene() -> None:
        store = HeldStore(tmp_path)
        async with running(store) as bench:
            bench.put(wire, 1)
            await until(lambda: store.committing)
            bench.put(wire, 2, 3)
            waiting = bench.inbox.ahead(10)
            assert [item.delivery.mid for item in waiting] == [2, 3]
            await until(lambda: not bench.inbox.ahead(10))
            assert all(isinstance(item.said, Facts) for item in waiting)
            bench.inbox.put(Item(alert, wire, 7))
            assert not wire.out
            store.go_on.set()
            await until(lambda: len(wire.pubacks) == 4)
            assert bench.counters.stored == 4

    asyncio.run(scene())
    assert wire.pubacks == [1, 7, 2, 3]


def test_a_duplicate_is_answered_again(tmp_path: Path, wire: ListWire) -> None:
    async def scene() -> None:
        async with running(SqliteStore(tmp_path)) as bench:
            bench.put(wire, 5)
            await until(lambda: len(wire.acks) == 1)
            bench.put(wire, 5)
            await until(lambda: len(wire.acks) == 2)
            assert (bench.counters.stored, bench.counters.duplicates) == (1, 1)

    asyncio.run(scene())
    assert wire.acks[1].stored == wire.acks[0].stored


def test_a_full_disk_answers_nobody_until_there_is_room(tmp_path: Path, wire: ListWire) -> None:
    async def scene() -> None:
        store = SqliteStore(tmp_path, pages_max=empty_pages(tmp_path) + 1)
        problems: list[str] = []
        async with running(store) as bench:
            bench.ingest.on_problem = lambda: problems.append(bench.ingest.problem)
            bench.put(wire, *range(1, 1501))
            await until(lambda: bench.counters.commit_failures > 1)
            held = list(wire.pubacks)
            assert len(held) == bench.counters.stored < 1500
            store._writer.submit(lambda db: db.execute("PRAGMA max_page_count = 100000").fetchall()).result()
            await until(lambda: len(wire.pubacks) == 1500)
            assert "full" in problems[0] and problems[-1] == ""
            assert bench.counters.stored == 1500

    asyncio.run(scene())


def test_what_no_database_takes_is_refused_alone(
    tmp_path: Path, wire: ListWire, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene() -> None:
        async with running(PickyStore(tmp_path)) as bench:
            bench.put(wire, *range(10, 20))
            await until(lambda: len(wire.pubacks) == 10)
            assert (bench.counters.stored, bench.counters.refused) == (9, 1)

    asyncio.run(scene())
    refused = [item for ack in wire.acks for item in ack.refused]
    assert [(item.seq, item.reason) for item in refused] == [
        (13, "cannot be stored: the database has its own opinion")
    ]


def test_a_gap_too_many_is_refused_and_the_rest_stored(
    tmp_path: Path, wire: ListWire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.store.lanes.Received", lambda ranges: Received(ranges, ranges_max=2))

    async def scene() -> None:
        async with running(SqliteStore(tmp_path)) as bench:
            bench.put(wire, 1, 3, 5, 2)
            await until(lambda: len(wire.pubacks) == 4)
            assert (bench.counters.stored, bench.counters.refused) == (3, 1)

    asyncio.run(scene())
    assert [lane.ranges for ack in wire.acks for lane in ack.stored] == [[(1, 3)]]
    (refused,) = [item for ack in wire.acks for item in ack.refused]
    assert (refused.seq, "too many gaps" in refused.reason) == (5, True)


def test_what_is_inside_is_finished_when_the_inbox_closes(tmp_path: Path, wire: ListWire) -> None:
    async def scene() -> None:
        async with running(SqliteStore(tmp_path)) as bench:
            bench.put(wire, *range(1, 1001))

    asyncio.run(scene())
    assert len(wire.pubacks) == 1000


def test_the_inbox_presses_back_then_drops_and_counts(wire: ListWire) -> None:
    counters, said = Counters(), list[bool]()
    inbox = Inbox(counters)
    inbox.on_pressure = said.append
    for seq in range(INBOX_MAX + 5):
        inbox.put(Item(Delivery(TOPIC, b"x", 1, False, seq), wire, 7))
    assert (len(inbox), counters.dropped) == (INBOX_MAX, 5)
    assert said and all(said)
    while len(inbox) >= PRESSURE_AT // 2:
        assert said[-1]
        inbox.take(100, 10**9)
    assert said[-1] is False


def test_a_batch_holds_its_bytes_whatever_they_came_over(wire: ListWire) -> None:
    inbox, other = Inbox(Counters()), ListWire()
    items = [Item(Delivery(TOPIC, b"x" * 10, 1, False, n), w, 7) for n, w in enumerate([wire, wire, wire, other])]
    for item in items:
        inbox.put(item)
    assert inbox.take(100, 25) == items[:2]
    inbox.put_back(items[:2])
    assert inbox.take(100, 1) == items[:1]
    assert inbox.take(100, 1000) == items[1:]
    assert inbox.take(100, 1000) == []


@pytest.mark.parametrize(
    ("waiting", "size", "since_ms", "wait_ms"),
    [(1, 9, 1e9, 0.0), (1, 9, 0.0, 5.0), (1, 9, 4.0, 1.0), (500, 9, 0.0, 0.0), (1, 10**6, 0.0, 0.0)],
)
def test_idle_goes_at_once_and_busy_in_groups(waiting: int, size: int, since_ms: float, wait_ms: float) -> None:
    assert Pacing(BatchLimits(pause_ms=5.0)).wait_ms(waiting, size, since_ms) == wait_ms


@pytest.mark.parametrize("us_per_byte", [0.02, 0.3, 2.0, 50.0])
def test_transactions_become_as_large_as_their_time_allows(us_per_byte: float) -> None:
    pacing = Pacing(BatchLimits(aim_ms=40.0, bytes_max=1_000_000))
    for _ in range(200):
        pacing.done(pacing.bytes_max, 2.0 + pacing.bytes_max * us_per_byte / 1000)
    fitting = (40.0 - 2.0) * 1000 / us_per_byte
    assert pacing.bytes_max == pytest.approx(min(1_000_000, max(BYTES_MIN, fitting)), rel=0.15)


def test_small_transactions_teach_nothing_about_large_ones() -> None:
    pacing = Pacing(BatchLimits())
    before = pacing.bytes_max
    for _ in range(100):
        pacing.done(500, 3.0)
    assert pacing.bytes_max == before
    for _ in range(100):
        pacing.done(500, 300.0)  # a disk that is slow to flush: cutting further would make it worse
    assert pacing.bytes_max == BYTES_MIN
    pacing.done(500, 300.0, waiting_bytes=10**6)
    assert (pacing.bytes_max, pacing.messages_max) == (BYTES_MIN_DEEP, 1000), "much waits"
    pacing.done(500, 300.0)
    assert pacing.bytes_max < BYTES_MIN_DEEP
    assert pacing.messages_max == 500


def bulk(seq: int, size: int = 10) -> Delivery:
    return Delivery("edge/v1/gw-1/sync", b"x" * size, 1, False, seq)


ALERT = "edge/v1/gw-1/alert/critical"


def single(mid: int, topic: str = TOPIC, size: int = 10) -> Delivery:
    return Delivery(topic, b"x" * size, 1, False, mid)


def test_alerts_go_first_then_events_and_news_then_samples(wire: ListWire) -> None:
    inbox = Inbox(Counters())
    for mid in range(1, 51):
        inbox.put(Item(bulk(mid), wire, 7))
    for mid, topic in enumerate([TOPIC, "edge/v1/gw-1/status", "edge/v1/gw-1/event/sync_lost", ALERT], start=101):
        inbox.put(Item(single(mid, topic), wire, 7))
    assert [item.delivery.mid for item in inbox.take(100, 200)] == [104, 101, 102, 103, 1, 2]
    assert [item.delivery.mid for item in inbox.take(100, 60)] == [3, 4, 5, 6, 7, 8]


def test_none_starves_behind_what_is_more_urgent(wire: ListWire) -> None:
    inbox = Inbox(Counters())
    for mid in (1, 2):
        inbox.put(Item(bulk(mid, 1000), wire, 7))
    for mid in range(101, 111):
        inbox.put(Item(single(mid), wire, 7))
        inbox.put(Item(single(mid + 100, ALERT), wire, 7))
    assert [item.delivery.mid for item in inbox.take(4, 1000)] == [201, 202, 203, 204, 101, 1]
    assert [item.delivery.mid for item in inbox.take(4, 20)] == [205, 206, 102, 2]


def test_a_connection_that_ended_gets_its_turn(wire: ListWire) -> None:
    inbox, new = Inbox(Counters()), ListWire()
    for mid in (1, 2):
        inbox.put(Item(bulk(mid), wire, 7))
    for mid in range(101, 111):
        inbox.put(Item(single(mid, size=1), new, 7))
    batches = [[item.delivery.mid for item in inbox.take(1, 100)] for _ in range(4)]
    assert [mid for mids in batches for mid in mids if mid < 100] == [1, 2]
    assert [mid for mids in batches for mid in mids if mid > 100] == [101, 102, 103, 104]


def beat(node: str, mid: int) -> Delivery:
    return Delivery(f"edge/v1/{node}/heartbeat", b"x", 0, False, mid)


def test_of_the_heartbeats_of_a_node_the_newest_waits_and_they_have_a_quarter(wire: ListWire) -> None:
    inbox = Inbox(counters := Counters())
    for mid in range(1, 11):
        inbox.put(Item(single(mid), wire, 7))
        inbox.put(Item(beat(f"gw-{mid % 5}", mid), wire, 7))
    assert (len(inbox), counters.heartbeats_skipped, counters.received) == (15, 5, 20)
    batches = []
    while len(inbox):
        batches.append([(one.delivery.mid, one.delivery.qos) for one in inbox.take(8, 10**6)])
    assert batches[0] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (6, 1), (6, 0), (7, 0)]
    assert batches[1] == [(7, 1), (8, 1), (9, 1), (10, 1), (8, 0), (9, 0), (10, 0)]


def test_heartbeats_take_no_time_from_rows_that_wait_still(wire: ListWire) -> None:
    inbox = Inbox(Counters())
    for mid in range(1, 41):
        inbox.put(Item(single(mid), wire, 7))
        inbox.put(Item(beat(f"gw-{mid}", mid), wire, 7))
    size = len(single(1).payload)
    taken = inbox.take(100, 12 * size)
    assert [one.delivery.qos for one in taken] == [1] * 12 + [0] * 4, (
        "a quarter of what fits, not what is left of 100"
    )
    assert [one.delivery.qos for one in inbox.take(100, size)] == [1, 0], "one at least"
    assert len(inbox.take(100, 10**6)) == 27 + 35


def test_each_broker_may_send_as_much_as_it_is_allowed_to(wire: ListWire) -> None:
    inbox, said = Inbox(Counters(), brokers=3), list[bool]()
    inbox.on_pressure = said.append
    for mid in range(3 * RECEIVE_MAXIMUM):
        inbox.put(Item(single(mid), wire, 7))
    assert said == []


def test_a_heartbeat_that_is_put_back_gives_way_to_a_newer_one(wire: ListWire) -> None:
    inbox = Inbox(Counters())
    inbox.put(Item(beat("gw-1", 1), wire, 7))
    inbox.put(Item(beat("gw-2", 2), wire, 7))
    taken = inbox.take(10, 100)
    inbox.put(Item(beat("gw-1", 3), wire, 7))
    inbox.put_back(taken)
    assert sorted(one.delivery.mid for one in inbox.take(10, 100)) == [2, 3]
    assert inbox.bytes == 0


def test_heartbeats_alone_stop_nobody_from_reading(wire: ListWire) -> None:
    inbox, said = Inbox(Counters()), list[bool]()
    inbox.on_pressure = said.append
    for n in range(PRESSURE_AT + 10):
        inbox.put(Item(beat(f"gw-{n}", n), wire, 7))
    assert said == []
    assert len(inbox) == PRESSURE_AT + 10


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 400)), max_size=40), st.integers(1, 8), st.integers(1, 900)
)
def test_each_message_is_taken_once_and_in_the_order_of_its_kind(
    arrivals: list[tuple[int, int]], messages_max: int, bytes_max: int
) -> None:
    inbox, only = Inbox(Counters()), ListWire()
    for mid, (kind, size) in enumerate(arrivals):
        inbox.put(Item(single(mid, [ALERT, TOPIC, "edge/v1/gw-1/sync"][kind], size), only, 7))
    out: list[int] = []
    while len(inbox):
        taken = inbox.take(messages_max, bytes_max)
        assert 1 <= len(taken) <= messages_max + 2
        inbox.put_back(taken)
        assert inbox.take(messages_max, bytes_max) == taken
        out += [item.delivery.mid for item in taken]
    assert inbox.bytes == 0
    for kind in range(3):
        assert [mid for mid in out if arrivals[mid][0] == kind] == [
            mid for mid, (of, _) in enumerate(arrivals) if of == kind
        ]


def test_answers_fit_their_topic_and_name_every_row() -> None:
    stream = "é" * 200
    rows = [Row("gw-1", stream, lane, seq * 2, "", "", None, 0, 0, 0, "")
            for lane in ("event", "sample") for seq in range(2**61, 2**61 + 5000)]  # fmt: skip
    refused = [RefusedMessage("t", "gw-1", "漢" * 200, b"", 7, stream, "event", seq) for seq in range(1, 401)]
    answers = acks(rows, refused)
    payloads = [encode_packed(ack) for _, ack in answers]
    assert max(map(len, payloads)) <= RULES[Kind.ACK].payload_bytes_max
    stored = sum(last - first + 1 for _, ack in answers for lane in ack.stored for first, last in lane.ranges)
    assert stored == len(rows)
    assert sum(len(ack.refused) for _, ack in answers) == len(refused)


ranges = st.lists(st.tuples(st.integers(1, 2**62), st.integers(1, 2**62)), max_size=60)
stored_parts = st.builds(LaneAck, st.just("s" * 16), st.sampled_from(["event", "sample"]), ranges)
refused_parts = st.builds(Refusal, st.just("s" * 16), st.just("event"), st.integers(1, 2**62), st.text(max_size=30))


@st.composite
def closed_parts(draw: st.DrawFn) -> Closed:
    ends = sorted(draw(st.sets(st.integers(2, 2**61), max_size=80)))
    held = list(zip(ends[0::2], ends[1::2], strict=False))
    return Closed("s" * 16, "sample", 1, 2**62, held)


def said(ack: Ack) -> tuple[list[object], list[Refusal], list[object]]:
    """All that an answer says, one thing after another."""
    lanes: list[object] = [(part.lane, one) for part in ack.stored for one in part.ranges]
    return lanes, ack.refused, [(part.lane, one) for part in ack.closed for one in part.held]


@given(
    ack=st.builds(Ack, st.lists(stored_parts, max_size=4), st.lists(refused_parts, max_size=8),
                  st.lists(closed_parts(), max_size=3)),
    bytes_max=st.integers(200, 3000),
)  # fmt: skip
def test_an_answer_is_cut_to_what_the_broker_takes_and_says_the_same(ack: Ack, bytes_max: int) -> None:
    pieces = payloads(ack, bytes_max)
    assert all(len(piece) <= bytes_max for piece in pieces)
    assert len(pieces) == 1 or len(encode_packed(ack)) > bytes_max
    told = [decode_packed(Ack, Kind.ACK, piece) for piece in pieces]
    lanes, refused, held = zip(*map(said, told), strict=True)
    assert ([x for part in lanes for x in part], [x for part in refused for x in part]) == said(ack)[:2]
    assert [x for part in held for x in part] == said(ack)[2]
    # Each gap is closed from its first number to its last, without a hole.
    parts = [part for piece in told for part in piece.closed]
    whole = [part for i, part in enumerate(parts) if i == 0 or part.first == 1]
    assert len(whole) == len(ack.closed)
    for before, after in pairwise(parts):
        assert after.first in (1, before.last + 1) and (after.first != 1 or before.last == 2**62)
    assert not parts or parts[-1].last == 2**62


def test_a_broker_with_small_packets_gets_small_answers(tmp_path: Path, wire: ListWire) -> None:
    wire.packet_bytes_max = 300

    async def scene() -> None:
        async with running(SqliteStore(tmp_path)) as bench:
            bench.put(wire, *range(1, 400, 2))
            await until(lambda: len(wire.pubacks) == 200)

    asyncio.run(scene())
    messages = [message for message in wire.out if isinstance(message, Message)]
    assert max(message.packet_bytes_max for message in messages) <= 300
    assert [seq for ack in wire.acks for lane in ack.stored for seq, _ in lane.ranges] == list(range(1, 400, 2))


@pytest.mark.parametrize(("values", "percent", "expected"), [([], 99, 0.0), ([3.0], 50, 3.0), ([1, 2, 3, 4], 50, 2)])
def test_percentiles_are_nearest_rank(values: list[float], percent: int, expected: float) -> None:
    assert percentile(values, percent) == expected
