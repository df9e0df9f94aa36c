"""Rows of a simulated node: kept until answered, sent again the same, never all at once into silence."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.simulate.outbox import (
    PATIENCE_MAX_S,
    ROWS_AT_FIRST,
    Outbox,
    Row,
    payload_of,
    rows_allowed,
    stream_of,
)
from platforms.catalogue import open_catalogue
from schemas.codec import decode_event, encode_event
from schemas.identity import Lane
from schemas.messages import Severity
from schemas.topics import Kind

EVENT = Lane.EVENT.value


def filled(count: int, rows_max: int = 1000) -> Outbox:
    outbox = Outbox(rows_max, 20)
    for number in range(count):
        outbox.append(Lane.EVENT, 7, 1_764_000_000_000 + number)
    return outbox


def sent(outbox: Outbox, now_s: float) -> list[int]:
    found = []
    while (row := outbox.send(now_s)) is not None:
        found.append(row.seq)
    return found


def test_each_row_is_sent_once_and_each_lane_counts_by_itself() -> None:
    outbox = filled(2)
    alert = outbox.append(Lane.ALERT, 7, 1)
    assert alert is not None and alert.key == (Lane.ALERT.value, 1)
    assert sent(outbox, 0.0) == [1, 2, 1]
    assert sent(outbox, 0.0) == []
    assert (len(outbox), outbox.under_way) == (3, 3)


def test_an_answer_frees_a_row_and_the_same_again_is_counted() -> None:
    outbox = filled(5)
    sent(outbox, 0.0)
    rows, again = outbox.answered(EVENT, [(1, 2), (4, 4)], 0.1)
    assert ([row.seq for row in rows], again) == ([1, 2, 4], 0)
    rows, again = outbox.answered(EVENT, [(1, 5)], 0.2)
    assert ([row.seq for row in rows], again) == ([3, 5], 3)
    assert len(outbox) == 0


def test_an_answer_for_rows_that_never_were_frees_nothing() -> None:
    assert filled(2).answered(EVENT, [(3, 2**62)], 0.1) == ([], 0)
    assert filled(2).answered("sample", [(1, 2)], 0.1) == ([], 0)


def test_a_new_connection_sends_what_was_under_way_first() -> None:
    outbox = filled(3)
    outbox.send(0.0)
    outbox.send(0.0)
    outbox.disconnected()
    assert outbox.under_way == 0
    assert sent(outbox, 1.0) == [1, 2, 3]


def test_into_silence_goes_one_probe_at_a_time_after_pauses_that_grow() -> None:
    outbox = filled(4)
    sent(outbox, 0.0)
    assert outbox.overdue(14.0, 15.0) == 15.0
    assert sent(outbox, 14.0) == []
    look_s = outbox.overdue(15.0, 15.0)
    assert sent(outbox, 15.0) == [1]
    assert look_s == 45.0
    outbox.append(Lane.EVENT, 7, 1)
    assert sent(outbox, 20.0) == [5]  # what is new is sent once, whoever listens
    assert outbox.overdue(45.0, 15.0) == 105.0
    assert sent(outbox, 45.0) == [2]
    assert outbox.overdue(105.0, 15.0) == 105.0 + PATIENCE_MAX_S
    assert sent(outbox, 105.0) == [3]


def test_a_probe_that_is_answered_at_once_shows_that_the_others_are_lost() -> None:
    outbox = filled(4)
    sent(outbox, 0.0)
    outbox.overdue(15.0, 15.0)
    assert sent(outbox, 15.0) == [1]
    outbox.answered(EVENT, [(1, 1)], 15.2)
    assert sent(outbox, 16.0) == [2, 3, 4]
    assert outbox.overdue(31.0, 15.0) is not None
    assert sent(outbox, 31.0) == [2]


def test_an_answer_that_comes_late_shows_how_long_answers_take_and_nothing_is_sent_again() -> None:
    outbox = filled(4)
    sent(outbox, 0.0)
    outbox.overdue(15.0, 15.0)
    assert sent(outbox, 15.0) == [1]
    outbox.answered(EVENT, [(1, 1)], 20.0)  # the probe's, or that of the first: nobody knows
    assert sent(outbox, 20.0) == []
    assert outbox.overdue(21.0, 15.0) == 50.0, "as patient as before, from the answer on"
    outbox.answered(EVENT, [(2, 2)], 40.0)  # sent once, 40 s ago
    assert outbox.overdue(41.0, 15.0) == 120.0
    assert outbox.overdue(120.0, 15.0) is not None
    assert sent(outbox, 120.0) == [3]


def test_an_answer_while_rows_rest_frees_them_too() -> None:
    outbox = filled(3)
    sent(outbox, 0.0)
    outbox.overdue(15.0, 15.0)
    outbox.answered(EVENT, [(1, 3)], 15.5)
    assert sent(outbox, 16.0) == []
    assert outbox.overdue(60.0, 15.0) is None


def test_a_full_outbox_takes_no_more() -> None:
    outbox = filled(3, rows_max=2)
    assert len(outbox) == 2
    outbox.answered(EVENT, [(1, 1)], 0.1)
    assert outbox.append(Lane.EVENT, 7, 1) is not None


@pytest.mark.parametrize("lane", [Lane.EVENT, Lane.ALERT])
def test_a_row_is_the_same_bytes_each_time_and_as_its_schema_says(lane: Lane) -> None:
    row = Row(lane.value, 12, 7, 1_764_000_000_000)
    payload = payload_of(row, "run", "sim-00001")
    row.times, row.sent_s = 3, 99.0
    assert payload_of(row, "run", "sim-00001") == payload
    kind = Kind.ALERT if lane is Lane.ALERT else Kind.EVENT
    event = decode_event(kind, "sim-00001", payload)
    assert row.below == f"{kind.value}/{Severity.WARNING.value if event.severity else event.type}"
    assert (event.identity.seq, event.identity.stream) == (12, stream_of("run", "sim-00001", 7))
    assert open_catalogue().check(event.type, event.data) is True


@given(
    st.sampled_from([Lane.EVENT, Lane.ALERT]), st.integers(1, 2**62), st.integers(0, 2**62), st.integers(0, 10**14)
)
def test_a_row_is_as_the_codec_would_write_it(lane: Lane, seq: int, boot: int, utc_ms: int) -> None:
    payload = payload_of(Row(lane.value, seq, boot, utc_ms), "run", "sim-00001")
    kind = Kind.ALERT if lane is Lane.ALERT else Kind.EVENT
    assert encode_event(decode_event(kind, "sim-00001", payload)) == payload


# How many may be under way, how many were answered, the most; and how many may be now.
ALLOWED = [
    (0, ROWS_AT_FIRST, 20, 2),  # after a connect
    (0, ROWS_AT_FIRST, 1, 1),
    (2, 0, 20, 2),
    (2, 1, 20, 3),
    (2, 2, 20, 4),  # so it doubles with each answer to all of them
    (16, 16, 20, 20),
    (20, 5, 20, 20),
]


@pytest.mark.parametrize(("before", "answered", "most", "after"), ALLOWED)
def test_each_answer_allows_one_more(before: int, answered: int, most: int, after: int) -> None:
    assert rows_allowed(before, answered, most) == after


def test_after_each_connect_few_rows_go_at_first_and_more_as_answers_come() -> None:
    outbox = filled(100)

    def go(now_s: float) -> list[int]:
        found = []
        while outbox.room > 0 and (row := outbox.send(now_s)) is not None:
            found.append(row.seq)
        return found

    bursts = [go(0.0)]
    while bursts[-1][-1] < 60:
        outbox.answered(EVENT, [(seq, seq) for seq in bursts[-1]], 0.1)
        bursts.append(go(0.1))
    assert [len(burst) for burst in bursts] == [2, 4, 8, 16, 20, 20]
    outbox.disconnected()
    assert [len(go(1.0)), outbox.room] == [2, 0]


def test_streams_of_runs_nodes_and_boots_are_all_different() -> None:
    streams = {stream_of(run, node, boot) for run in "ab" for node in ("n", "m") for boot in (1, 2)}
    assert len(streams) == 8
    assert all(len(stream) == 16 for stream in streams)
