"""Windows of local time: tables across midnight and across the nights in which clocks change, and by brute force."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.windows import is_open
from schemas.sync import TimeWindow, Weekday

BERLIN = "Europe/Berlin"
NIGHT = TimeWindow("22:00", "06:00")
FRIDAY_NIGHT = TimeWindow("22:00", "06:00", (Weekday.FRI,))


def utc(text: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(
    ("window", "local", "open_"),
    [
        (NIGHT, "2026-11-25 21:59:59", False),
        (NIGHT, "2026-11-25 22:00:00", True),
        (NIGHT, "2026-11-26 00:00:00", True),
        (NIGHT, "2026-11-26 05:59:59", True),
        (NIGHT, "2026-11-26 06:00:00", False),
        (FRIDAY_NIGHT, "2026-11-27 22:00:00", True),  # a Friday
        (FRIDAY_NIGHT, "2026-11-28 05:59:00", True),  # it began on Friday
        (FRIDAY_NIGHT, "2026-11-27 05:59:00", False),  # this one would have begun on Thursday
        (FRIDAY_NIGHT, "2026-11-28 22:30:00", False),
        (TimeWindow("00:00", "24:00", (Weekday.WED,)), "2026-11-25 23:59:59", True),
        (TimeWindow("00:00", "24:00", (Weekday.WED,)), "2026-11-26 00:00:00", False),
        (TimeWindow("22:00", "00:00", (Weekday.SUN,)), "2026-11-29 23:59:00", True),
        (TimeWindow("22:00", "00:00", (Weekday.SUN,)), "2026-11-30 00:00:00", False),
        (TimeWindow("22:00", "06:00", (Weekday.SUN,)), "2026-11-30 03:00:00", True),  # Monday, begun on Sunday
    ],
)
def test_windows_over_midnight_and_by_weekday(window: TimeWindow, local: str, open_: bool) -> None:
    assert is_open((window,), "UTC", utc(local)) is open_


@pytest.mark.parametrize(
    ("window", "moment_utc", "open_"),
    [
        # 2026-03-29: Berlin's clocks go from 02:00 to 03:00 (01:00 UTC).
        (TimeWindow("02:00", "03:00"), "2026-03-29 00:59:59", False),  # 01:59:59
        (TimeWindow("02:00", "03:00"), "2026-03-29 01:00:00", False),  # 03:00: the hour does not exist
        (NIGHT, "2026-03-28 21:00:00", True),  # 22:00
        (NIGHT, "2026-03-29 03:59:59", True),  # 05:59:59 in summer time: an hour shorter
        (NIGHT, "2026-03-29 04:00:00", False),
        # 2026-10-25: from 03:00 back to 02:00 (01:00 UTC).
        (TimeWindow("02:00", "03:00"), "2026-10-24 23:59:59", False),
        (TimeWindow("02:00", "03:00"), "2026-10-25 00:30:00", True),
        (TimeWindow("02:00", "03:00"), "2026-10-25 01:30:00", True),  # the second time
        (TimeWindow("02:00", "03:00"), "2026-10-25 02:00:00", False),
        (NIGHT, "2026-10-25 04:59:59", True),  # 05:59:59: an hour longer
        (NIGHT, "2026-10-25 05:00:00", False),
    ],
)
def test_windows_in_the_nights_in_which_clocks_change(window: TimeWindow, moment_utc: str, open_: bool) -> None:
    assert is_open((window,), BERLIN, utc(moment_utc)) is open_


def test_no_window_is_always_open_and_a_mad_clock_harms_nothing() -> None:
    assert is_open((), "", 0)
    for utc_ms in (-(10**18), 0, 10**18):
        assert is_open((TimeWindow("00:00", "24:00"),), BERLIN, utc_ms)


windows = st.builds(
    TimeWindow,
    st.integers(0, 1439).map(lambda m: f"{m // 60:02d}:{m % 60:02d}"),
    st.integers(0, 1440).map(lambda m: f"{m // 60:02d}:{m % 60:02d}"),
    st.lists(st.sampled_from(list(Weekday)), unique=True, max_size=4).map(tuple),
).filter(lambda w: w.start != w.end)


@given(windows, st.integers(0, 14 * 24 * 60 - 1))
def test_a_window_is_open_in_exactly_the_minutes_that_it_covers(window: TimeWindow, minute: int) -> None:
    """By brute force: all minutes of each occurrence in the days around."""
    start, end = (int(text[:2]) * 60 + int(text[3:]) for text in (window.start, window.end))
    length = end - start if end > start else end + 1440 - start
    covered = {
        day * 1440 + start + n
        for day in range(-1, 15)
        if not window.days or list(Weekday)[day % 7] in window.days  # day 0 is a Monday
        for n in range(length)
    }
    monday_ms = utc("2026-11-23 00:00:00")
    assert is_open((window,), "UTC", monday_ms + minute * 60_000) is (minute in covered)
