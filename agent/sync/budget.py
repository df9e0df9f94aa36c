"""Bytes that may leave in an hour, a day and a month. Pure; the calendar's time and the run time are arguments.

Rules kept here:

- A period begins anew when the calendar is beyond every hour (day, month) it has shown before, or when the agent has
  run for the length of one: so a clock that is set back and forth gives at most one period early, and one that shows
  the year 2099 for a while stops nothing for longer than a period.
- Sending is allowed while anything is left. The message that goes beyond the limit is taken off the periods after, so
  a limit smaller than a message slows down and does not stop.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from schemas.sync import Budget

HOUR_MS = 3_600_000
ROLL_S = 1.0
_LATEST_MS = 253_370_764_800_000


@dataclass(slots=True)
class _Period:
    """One of the three. `index` counts hours, days or months of the calendar; the latest one seen."""

    length_s: float
    index: int = -1
    used: int = 0
    since_run_s: float = 0.0


class BudgetMeter:
    """What has been spent in each period. `run_s`: the time that the agent has been running, over all its starts."""

    def __init__(self, limits: Budget) -> None:
        self.limits = limits
        self._periods = {
            "hour": _Period(3600.0),
            "day": _Period(24 * 3600.0),
            "month": _Period(31 * 24 * 3600.0),
        }
        self._rolled = (-1, 0.0)  # the hour and the run time of the last look

    def is_left(self, utc_ms: int, run_s: float) -> bool:
        """True while something may be sent."""
        self._roll(utc_ms, run_s)
        return all(limit is None or self._periods[name].used < limit for name, limit in self._given())

    def begins_anew_in_s(self, utc_ms: int, run_s: float) -> float:
        """In how many seconds a period begins at the earliest, by the calendar or by run time: every one of them
        begins with an hour of the calendar."""
        self._roll(utc_ms, run_s)
        by_calendar_s = (HOUR_MS - utc_ms % HOUR_MS) / 1000
        by_run_s = min(each.since_run_s + each.length_s for each in self._periods.values()) - run_s
        return max(ROLL_S, min(by_calendar_s, by_run_s))

    def spend(self, size: int, utc_ms: int, run_s: float) -> None:
        """Bytes that were sent, allowed or not."""
        self._roll(utc_ms, run_s)
        for period in self._periods.values():
            period.used += size

    def report(self, utc_ms: int, run_s: float) -> dict[str, dict[str, int | None]]:
        """For people: used and most, by period."""
        self._roll(utc_ms, run_s)
        return {name: {"used": self._periods[name].used, "most": limit} for name, limit in self._given()}

    def state(self) -> dict[str, list[float]]:
        """What has to be kept over a restart."""
        return {name: [each.index, each.used, each.since_run_s] for name, each in self._periods.items()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a kept state; what cannot be read of it begins at nothing."""
        for name, period in self._periods.items():
            kept = state.get(name)
            if isinstance(kept, list) and len(kept) == 3 and all(isinstance(item, int | float) for item in kept):
                period.index, period.used = int(kept[0]), max(0, int(kept[1]))
                period.since_run_s = float(kept[2])
        self._rolled = (-1, 0.0)

    def _given(self) -> list[tuple[str, int | None]]:
        limits = self.limits
        return [("hour", limits.hour_bytes), ("day", limits.day_bytes), ("month", limits.month_bytes)]

    def _roll(self, utc_ms: int, run_s: float) -> None:
        hour = utc_ms // HOUR_MS
        if hour == self._rolled[0] and 0.0 <= run_s - self._rolled[1] < ROLL_S:
            return  # asked at each message: within the hour nothing begins but by run time
        self._rolled = (hour, run_s)
        indexes = _indexes(utc_ms)
        for name, limit in self._given():
            period = self._periods[name]
            periods = indexes[name] - period.index if period.index >= 0 else 1
            if period.since_run_s > run_s:  # the run time was lost: count from here
                period.since_run_s = run_s
            if periods <= 0:
                if run_s - period.since_run_s < period.length_s:
                    continue
                periods = 1
            beyond = 0 if limit is None or period.index < 0 else max(0, period.used - limit * periods)
            period.index, period.used, period.since_run_s = indexes[name], beyond, run_s


def _indexes(utc_ms: int) -> dict[str, int]:
    utc_ms = min(max(utc_ms, 0), _LATEST_MS)
    moment = datetime.fromtimestamp(utc_ms / 1000, UTC)
    return {
        "hour": utc_ms // HOUR_MS,
        "day": utc_ms // (24 * HOUR_MS),
        "month": moment.year * 12 + moment.month,
    }
