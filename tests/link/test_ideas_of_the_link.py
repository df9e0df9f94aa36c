"""The link's small machines: lanes, pace, token bucket, circuit breaker. Time is an argument everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.link.breaker import PAUSE_FIRST_S, PAUSE_MAX_S, TIMEOUTS_MAX, Breaker, BreakerState
from agent.link.bucket import TokenBucket
from agent.link.gate import RateGate
from agent.link.lanes import FRESH_MAX, LaneQueue
from agent.link.pace import ROWS_BEGIN, ROWS_MAX, ROWS_MIN, Pace
from agent.link.settings import LinkSettings
from agent.outbox.rows import Row
from schemas.identity import Lane


def row(seq: int) -> Row:
    return Row(Lane.EVENT, seq, "ObjectSeen", b"")


def test_live_rows_are_kept_beside_the_backlog() -> None:
    queue = LaneQueue(newest=5)
    queue.rewind()
    assert queue.has_backlog and queue.live_from == 6
    queue.committed(row(6))
    assert [item.seq for item in queue.fresh] == [6]
    queue.sent_backlog(5)
    assert (queue.cursor, len(queue.fresh)) == (5, 1)
    queue.fresh.popleft()
    assert not queue.is_behind


def test_what_does_not_fit_the_memory_joins_the_backlog() -> None:
    queue = LaneQueue()
    queue.rewind()
    for seq in range(1, FRESH_MAX + 2):
        queue.committed(row(seq))
    assert not queue.fresh and (queue.cursor, queue.live_from) == (0, FRESH_MAX + 2)


def test_a_row_that_is_to_be_sent_again_is_read_again_and_the_live_ones_with_it() -> None:
    queue = LaneQueue()
    queue.rewind()
    for seq in range(1, 11):
        queue.committed(row(seq))
        if seq < 8:
            queue.fresh.popleft()
    queue.go_back(3)
    assert (queue.cursor, queue.live_from, len(queue.fresh)) == (2, 11, 0)


def test_without_a_connection_nothing_is_kept_in_memory() -> None:
    queue = LaneQueue()
    for seq in range(1, 4):
        queue.missed(seq)
    assert not queue.fresh and (queue.cursor, queue.live_from, queue.has_backlog) == (0, 4, True)


@given(st.lists(st.tuples(st.integers(1, 500), st.floats(0.001, 5.0)), max_size=60))
def test_the_pace_stays_within_its_bounds(answers: list[tuple[int, float]]) -> None:
    pace, now_s = Pace(target_s=0.1), 0.0
    for count, delay_s in answers:
        now_s += delay_s
        before = pace.rows_max
        pace.answered(count, delay_s, now_s)
        assert ROWS_BEGIN <= pace.rows_max <= ROWS_MAX
        if delay_s <= 0.1 or before < ROWS_MIN:
            assert pace.rows_max >= before
        else:
            assert ROWS_MIN <= pace.rows_max <= before


def test_a_slow_coordinator_is_sent_less_and_a_quick_one_more() -> None:
    pace = Pace(target_s=0.1)
    for n in range(100):
        pace.answered(500, 0.05, n * 0.05)
    assert pace.rows_max > 10 * ROWS_MIN
    for n in range(100):
        pace.answered(500, 1.0, 10.0 + 1.5 * n)
    assert pace.rows_max == ROWS_MIN


@pytest.mark.parametrize(
    ("delay_s", "rounds"),
    [
        (0.03, [4, 8, 16, 32, 64]),
        (0.6, [4, 8, 16, 32, 64]),  # a satellite
        (5.0, [2, 2, 2, 2, 2]),  # everybody came back at once
    ],
)
def test_a_connection_begins_with_few_rows(delay_s: float, rounds: list[int]) -> None:
    pace, found = Pace(target_s=0.1), []
    for n in range(5):
        pace.answered(pace.rows_max, delay_s, delay_s * (n + 1))
        found.append(pace.rows_max)
    assert found == rounds


def test_answers_that_stay_away_lead_back_to_few() -> None:
    pace = Pace(target_s=0.1, rows=1000.0)
    for _ in range(20):
        pace.timed_out()
    assert pace.rows_max == ROWS_BEGIN


def test_a_bucket_gives_a_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(rate=10.0, burst=5.0)
    taken = 0
    for tick in range(100):  # ten seconds
        while bucket.has(1, tick / 10):
            bucket.take(1, tick / 10)
            taken += 1
    assert taken == 5 + 99
    assert TokenBucket(rate=0, burst=1).has(10**9, 0.0)


@given(
    rates=st.tuples(st.integers(0, 50), st.integers(0, 50_000)),
    sizes=st.lists(st.integers(1, 100_000), min_size=1, max_size=20),
)
def test_a_gate_that_says_no_says_when_it_will_say_yes(rates: tuple[int, int], sizes: list[int]) -> None:
    gate, now_s = RateGate(LinkSettings(messages_s_max=rates[0], bytes_s_max=rates[1])), 0.0
    for size in sizes:
        if not gate.may_send(Lane.EVENT, size, now_s):
            again_s = gate.look_again_s(Lane.EVENT, size, now_s)
            assert not gate.may_send(Lane.EVENT, size, now_s + 0.99 * (again_s - now_s))
            now_s = again_s + 1e-6  # what a sum of fractions may lack
        assert gate.may_send(Lane.EVENT, size, now_s)
        gate.sent(Lane.EVENT, size, now_s)


def test_a_message_larger_than_the_burst_passes_and_is_paid_for() -> None:
    bucket = TokenBucket(rate=10.0, burst=5.0)
    assert bucket.has(50, 0.0)
    bucket.take(50, 0.0)
    assert not bucket.has(1, 4.0)
    assert bucket.has(1, 4.7)


def test_alerts_never_wait_for_a_rate() -> None:
    gate = RateGate(LinkSettings(messages_s_max=1))
    assert gate.may_send(Lane.SAMPLE, 10, 0.0)
    gate.sent(Lane.SAMPLE, 10, 0.0)
    assert not gate.may_send(Lane.EVENT, 10, 0.5)
    assert gate.may_send(Lane.ALERT, 10, 0.5) and gate.may_send(Lane.LIFECYCLE, 10, 0.5)
    gate.sent(Lane.ALERT, 10, 0.5)
    assert not gate.may_send(Lane.EVENT, 10, 1.4)
    assert gate.may_send(Lane.EVENT, 10, 2.1)


def test_the_breaker_opens_probes_and_closes() -> None:
    breaker = Breaker()
    for n in range(TIMEOUTS_MAX - 1):
        breaker.timed_out(float(n))
    assert breaker.may_send_backlog(3.0)
    breaker.timed_out(3.0)
    assert breaker.state is BreakerState.OPEN and breaker.opened_total == 1
    assert not breaker.may_send_backlog(3.0 + PAUSE_FIRST_S - 0.1)
    assert breaker.may_send_backlog(3.0 + PAUSE_FIRST_S)
    assert BreakerState(breaker.state.value) is BreakerState.HALF_OPEN
    breaker.sent()
    assert not breaker.may_send_backlog(9.0)  # one probe, not more
    breaker.timed_out(20.0)
    assert not breaker.may_send_backlog(20.0 + 2 * PAUSE_FIRST_S - 0.1)
    assert breaker.may_send_backlog(20.0 + 2 * PAUSE_FIRST_S)
    breaker.sent()
    breaker.answered()
    assert breaker.may_send_backlog(31.0) and BreakerState(breaker.state.value) is BreakerState.CLOSED


@pytest.mark.parametrize("failures", [1, 5, 50])
def test_the_pause_of_the_breaker_grows_to_its_limit(failures: int) -> None:
    breaker, now_s = Breaker(), 0.0
    for _ in range(TIMEOUTS_MAX):
        breaker.timed_out(now_s)
    for _ in range(failures):
        while not breaker.may_send_backlog(now_s):
            now_s += 0.5
        breaker.sent()
        breaker.timed_out(now_s)
    began_s = now_s
    while not breaker.may_send_backlog(now_s):
        now_s += 0.5
    assert now_s - began_s == min(PAUSE_MAX_S, PAUSE_FIRST_S * 2**failures)
