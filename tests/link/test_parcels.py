"""Rows as messages: none larger than its topic or the broker allow, and what can never travel is set aside."""

import pytest

from agent.link.parcels import PACKET_BYTES_BESIDE, Parcels
from agent.outbox.encode import Encoder
from agent.outbox.rows import Row
from runtime.mqtt import Limits
from schemas.codec import decode_packed
from schemas.identity import Lane
from schemas.messages import Gap, Severity, SyncBatch
from schemas.topics import RULES, Kind, TopicSpace
from tests.link.senders import draft

STREAM = "0123456789abcdef"
KIB = 1024


class Desk:
    def __init__(self, packet_bytes_max: int = 1024 * KIB) -> None:
        self.aside: list[tuple[int, str]] = []
        self.parcels = Parcels(
            node="gw-1", boot=1, stream=STREAM, space=TopicSpace(),
            set_aside=lambda row, reason: self.aside.append((row.seq, reason)),
        )  # fmt: skip
        self.parcels.limits = Limits(packet_bytes_max=packet_bytes_max)
        self.encoder = Encoder(node="gw-1", stream=STREAM, boot=1)

    def row(self, lane: Lane, seq: int, size: int = 0, *, kind: str = "ObjectSeen") -> Row:
        payload = self.encoder.encode(draft(lane, "x" * size), seq)
        return Row(lane, seq, kind, payload, Severity.WARNING if lane is Lane.ALERT else None, STREAM)


@pytest.mark.parametrize(
    ("row", "packet_bytes_max", "why"),
    [
        (Row(Lane.EVENT, 1, "ObjectSeen", b"x" * (128 * KIB + 1), None, STREAM), 1024 * KIB, "allows: 131072"),
        (
            Row(Lane.ALERT, 1, "AlertRaised", b"x" * (64 * KIB + 1), Severity.INFO, STREAM),
            1024 * KIB,
            "allows: 65536",
        ),
        (Row(Lane.EVENT, 1, "ObjectSeen", b"x" * 20_000, None, STREAM), 20_000, "than the broker takes"),
        (Row(Lane.EVENT, 1, "No such/type", b"x", None, STREAM), 1024 * KIB, "last level"),
        (Row(Lane.EVENT, 1, "ObjectSeen", b"no event", None, STREAM), 1024 * KIB, "damaged"),
    ],
    ids=["an event's topic", "an alert's topic", "the broker", "no topic", "damaged"],
)
def test_a_row_that_can_never_travel_is_set_aside(row: Row, packet_bytes_max: int, why: str) -> None:
    desk = Desk(packet_bytes_max)
    assert desk.parcels.alone(row, from_file=True) is None
    ((seq, reason),) = desk.aside
    assert seq == 1
    assert why in reason


def test_the_largest_event_that_is_kept_travels() -> None:
    desk, limit = Desk(), RULES[Kind.EVENT].payload_bytes_max
    beside = len(desk.row(Lane.EVENT, 1).payload)
    row = desk.row(Lane.EVENT, 1, limit - beside)
    assert len(row.payload) == limit
    message = desk.parcels.alone(row, from_file=True)
    assert message is not None
    assert (message.payload, message.topic, desk.aside) == (row.payload, "edge/v1/gw-1/event/ObjectSeen", [])


def test_a_batch_holds_the_first_rows_and_leaves_out_what_is_under_way() -> None:
    desk = Desk(4000)
    rows = [desk.row(Lane.SAMPLE, 1), desk.row(Lane.SAMPLE, 2, 9000)]
    rows += [desk.row(Lane.SAMPLE, seq, 900) for seq in range(3, 10)]
    parcel = desk.parcels.batch(Lane.SAMPLE, rows, without={(Lane.SAMPLE, 3)}, rows_max=99, squeeze=False)
    assert [row.seq for row in parcel.rows] == [1, 4, 5, 6]
    assert parcel.seen == 6  # the second is set aside, the third dealt with already
    assert [seq for seq, _ in desk.aside] == [2]
    assert parcel.message is not None
    assert len(parcel.message.payload) + len(parcel.message.topic) + PACKET_BYTES_BESIDE <= 4000
    rest = desk.parcels.batch(Lane.SAMPLE, rows[:2], without={(Lane.SAMPLE, 1)}, rows_max=99, squeeze=False)
    assert (rest.seen, rest.message) == (2, None)


def test_as_many_gaps_are_told_as_the_broker_takes() -> None:
    desk = Desk(1000)
    gaps = [Gap(STREAM, "sample", 10 * n + 1, 10 * n + 5, "bytes") for n in range(100)]
    message = desk.parcels.gaps(gaps)
    told = decode_packed(SyncBatch, Kind.SYNC, message.payload).gaps
    assert 0 < len(told) < 100
    assert told == gaps[: len(told)]
    assert message.packet_bytes_max <= 1000
