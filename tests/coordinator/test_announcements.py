"""Fleet events on their way out: each once, in order, and one that cannot travel holds up none."""

from bisect import bisect_right
from typing import Any, cast

import pytest

from coordinator.link.announcements import UNDER_WAY_MAX, Announcements, Encoded
from coordinator.store.store import Store
from runtime.mqtt import Message
from schemas.codec import decode_event
from schemas.identity import Identity
from schemas.messages import Event
from schemas.topics import FLEET, Kind, TopicSpace

SPACE = TopicSpace()
MIB = 1024 * 1024


class Kept:
    """The store, as far as it matters here."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, *data: dict[str, Any], kind: str = "NodeOnline") -> None:
        for each in data:
            who = Identity(FLEET, "s1", "lifecycle", len(self.events) + 1)
            self.events.append(Event(who, kind, "gw-1", 1_764_000_000_000, each, 1))

    def unannounced(self, after_seq: int, limit: int) -> list[Event]:
        at = bisect_right(self.events, after_seq, key=lambda event: event.identity.seq)
        return self.events[at : at + limit]


def announcements(kept: Kept) -> Announcements:
    return Announcements(cast(Store, kept), Encoded(SPACE))


def numbers(found: list[tuple[int, Message]]) -> list[int]:
    for seq, message in found:
        event = decode_event(SPACE.parse(message.topic).kind, FLEET, message.payload)
        assert (SPACE.parse(message.topic).kind, event.identity.seq) == (Kind.EVENT, seq)
    return [seq for seq, _ in found]


def test_some_are_under_way_at_a_time_and_none_is_said_twice() -> None:
    kept = Kept()
    kept.add(*[{"n": n} for n in range(150)])
    news = announcements(kept)
    assert numbers(news.next(MIB)) == list(range(1, UNDER_WAY_MAX + 1))
    assert news.next(MIB) == []
    assert news.announced_seq == 0
    for seq in (2, 1, 4):
        news.confirmed(seq)
    assert news.announced_seq == 2
    assert numbers(news.next(MIB)) == [101, 102, 103]
    news.connected()  # again, from the first that is not known to be there
    assert numbers(news.next(MIB))[0] == 3


@pytest.mark.parametrize(
    ("data", "kind", "packet_bytes_max", "why"),
    [
        ({"text": "x" * 200_000}, "NodeOnline", MIB, "at most 131072"),
        ({"text": "x" * 20_000}, "NodeOnline", 10_000, "the broker takes 10000"),
        ({"value": float("nan")}, "NodeOnline", MIB, "not JSON"),
        ({}, "No such/type", MIB, "last level"),
    ],
    ids=["too large for its topic", "too large for the broker", "no JSON", "no topic"],
)
def test_one_that_cannot_travel_is_passed_over_and_said(
    data: dict[str, Any], kind: str, packet_bytes_max: int, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept = Kept()
    kept.add({"n": 1})
    kept.add(data, kind=kind)
    kept.add({"n": 3})
    news = announcements(kept)
    assert numbers(news.next(packet_bytes_max)) == [1, 3]
    assert why in caplog.text
    news.confirmed(1)
    assert news.announced_seq == 2
    news.confirmed(3)
    assert (news.announced_seq, news.passed_over_total) == (3, 1)


def test_very_many_that_cannot_travel_do_not_keep_one_that_can() -> None:
    kept = Kept()
    kept.add(*[{"text": "x" * 140_000}] * (UNDER_WAY_MAX + 50), {"n": 1})
    news = announcements(kept)
    assert numbers(news.next(MIB)) == [UNDER_WAY_MAX + 51]
    news.confirmed(UNDER_WAY_MAX + 51)
    assert news.announced_seq == UNDER_WAY_MAX + 51
