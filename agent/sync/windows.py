"""Whether a moment is within windows of local time. Pure; UTC comes in, the zone's rules say what the clock shows.

A window goes by what a clock on the wall shows: in the night in which it is put forward, a window in the hour left
out does not open, and in the night in which it is put back, one in the hour that comes twice is open twice.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from schemas.sync import DAY_MINUTES, TimeWindow, Weekday, minute_of, zone

_DAYS = list(Weekday)
_LATEST_MS = 253_370_764_800_000  # the year 9999: a clock beyond it counts as there


def is_open(windows: Sequence[TimeWindow], timezone: str, utc_ms: int) -> bool:
    """True within any of the windows, and where there are none. An empty `timezone` is the machine's own."""
    if not windows:
        return True
    local = local_time(utc_ms, timezone)
    minute, today = local.hour * 60 + local.minute, local.weekday()
    return any(_holds(window, minute, today) for window in windows)


def local_time(utc_ms: int, timezone: str) -> datetime:
    """What the clock on the wall shows."""
    moment = datetime.fromtimestamp(min(max(utc_ms, 0), _LATEST_MS) / 1000, UTC)
    return moment.astimezone(zone(timezone) if timezone else None)


def _holds(window: TimeWindow, minute: int, today: int) -> bool:
    start, end = minute_of(window.start), minute_of(window.end)
    assert start is not None
    assert end is not None
    if start < end:
        return start <= minute < end and _begins_on(window, today)
    # Over midnight: the evening of its own day, and the morning after.
    evening = start <= minute < DAY_MINUTES and _begins_on(window, today)
    return evening or (minute < end and _begins_on(window, (today - 1) % 7))


def _begins_on(window: TimeWindow, day: int) -> bool:
    return not window.days or _DAYS[day] in window.days
