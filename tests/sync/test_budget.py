"""Bytes an hour, a day and a month, over restarts and whatever the clock does."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.budget import HOUR_MS, BudgetMeter
from schemas.sync import Budget

NOON = round(datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC).timestamp() * 1000)
DAY_MS = 24 * HOUR_MS


@pytest.mark.parametrize(
    ("limits", "after_ms"),
    [
        (Budget(hour_bytes=100), HOUR_MS),
        (Budget(day_bytes=100), 12 * HOUR_MS),
        (Budget(month_bytes=100), 6 * DAY_MS - 12 * HOUR_MS),
        (Budget(100, 100, 100), 6 * DAY_MS - 12 * HOUR_MS),
    ],
)
def test_a_used_budget_waits_for_the_next_period_of_the_calendar(limits: Budget, after_ms: int) -> None:
    meter = BudgetMeter(limits)
    meter.spend(99, NOON, 0.0)
    assert meter.is_left(NOON, 0.0)
    meter.spend(1, NOON, 0.0)
    assert not meter.is_left(NOON, 0.0)
    assert not meter.is_left(NOON + after_ms - 1, 1.0)
    assert meter.is_left(NOON + after_ms, 1.0)


@given(
    limits=st.builds(Budget, *[st.none() | st.integers(1, 1000)] * 3),
    spent=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 50 * HOUR_MS)), min_size=1, max_size=10),
    wrong_ms=st.integers(-3 * DAY_MS, 3 * DAY_MS),
)
def test_nothing_becomes_free_before_a_period_begins_anew(
    limits: Budget, spent: list[tuple[int, int]], wrong_ms: int
) -> None:
    """Whoever looks again only then misses nothing, also where the clock was set at some time."""
    meter, utc_ms, run_s = BudgetMeter(limits), NOON, 0.0
    meter.is_left(NOON + wrong_ms, 0.0)
    for size, later_ms in spent:
        utc_ms, run_s = utc_ms + later_ms, run_s + later_ms / 1000
        meter.spend(size, utc_ms, run_s)
        if not meter.is_left(utc_ms, run_s):
            wait_s = meter.begins_anew_in_s(utc_ms, run_s)
            assert 1.0 <= wait_s <= 3600.0
            if wait_s > 1.0:
                wait_ms = int(wait_s * 1000) - 1
                assert not meter.is_left(utc_ms + wait_ms, run_s + wait_ms / 1000)


def test_without_limits_nothing_waits() -> None:
    meter = BudgetMeter(Budget())
    meter.spend(10**15, NOON, 0.0)
    assert meter.is_left(NOON, 0.0)
    assert meter.report(NOON, 0.0)["month"] == {"used": 10**15, "most": None}


def test_what_goes_beyond_is_taken_off_the_periods_after() -> None:
    meter = BudgetMeter(Budget(hour_bytes=100))
    meter.spend(350, NOON, 0.0)
    left = [meter.is_left(NOON + n * HOUR_MS, 3600.0 * n) for n in range(4)]
    assert left == [False, False, False, True]
    assert meter.report(NOON + 3 * HOUR_MS, 10800.0)["hour"] == {"used": 50, "most": 100}


def test_it_goes_on_after_a_restart() -> None:
    before = BudgetMeter(Budget(day_bytes=100))
    before.spend(100, NOON, 50.0)
    after = BudgetMeter(Budget(day_bytes=100))
    after.restore(before.state())
    assert not after.is_left(NOON + HOUR_MS, 60.0)
    assert after.is_left(NOON + DAY_MS, 70.0)


@pytest.mark.parametrize("state", [{}, {"day": 7}, {"day": ["x", 1, 2]}, {"day": [1, 2]}, {"hour": [1, -9, 1e99]}])
def test_a_kept_state_that_is_damaged_stops_nothing(state: dict[str, object]) -> None:
    meter = BudgetMeter(Budget(100, 100, 100))
    meter.restore(state)
    assert meter.is_left(NOON, 0.0)
    meter.spend(100, NOON, 0.0)
    assert not meter.is_left(NOON, 1.0)


def test_a_clock_set_back_and_forth_gives_one_period_at_most() -> None:
    meter = BudgetMeter(Budget(day_bytes=100))
    sent = 0
    for n in range(40):
        moment = NOON + (DAY_MS if n % 2 else 0)
        if meter.is_left(moment, float(n)):
            meter.spend(100, moment, float(n))
            sent += 100
    assert sent == 200


def test_a_clock_that_was_far_ahead_stops_nothing_for_longer_than_a_period() -> None:
    meter = BudgetMeter(Budget(hour_bytes=100))
    meter.spend(100, NOON + 70 * 365 * DAY_MS, 0.0)
    assert not meter.is_left(NOON, 3599.0)
    assert meter.is_left(NOON, 3600.0)


@given(st.lists(st.tuples(st.floats(0, 4000), st.integers(0, 300)), max_size=80), st.integers(1, 500))
def test_with_an_honest_clock_all_that_leaves_is_within_the_limit(steps: list[tuple[float, int]], limit: int) -> None:
    """But for the one message that goes beyond, which the hours after pay for; and nothing waits without need."""
    meter, run_s, sent = BudgetMeter(Budget(hour_bytes=limit)), 0.0, 0
    by_hour: dict[int, int] = {}
    for pause_s, size in steps:
        run_s += pause_s
        utc_ms = NOON + int(run_s * 1000)
        hour = (utc_ms - NOON) // HOUR_MS
        if meter.is_left(utc_ms, run_s):
            meter.spend(size, utc_ms, run_s)
            by_hour[hour] = by_hour.get(hour, 0) + size
            sent += size
        else:
            assert sent >= limit, "refused though nothing was used up"
        assert by_hour.get(hour, 0) < limit + 300
        assert sent < limit * (hour + 1) + 300
