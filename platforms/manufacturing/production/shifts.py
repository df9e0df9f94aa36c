"""When a line is to run: shifts less breaks, as spans of UTC. Pure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo

from schemas.sync import DAY_MINUTES, TimeWindow, Weekday, minute_of, zone

Span = tuple[float, float]
"""[from, to) in seconds since 1970."""

_DAYS = list(Weekday)


def working(
    shifts: Sequence[TimeWindow], breaks: Sequence[TimeWindow], timezone: str, from_s: float, to_s: float
) -> list[Span]:
    """The planned spans within [from_s, to_s), in order and apart from each other; all of it without shifts."""
    if to_s <= from_s:
        return []
    planned = within(_spans(shifts, timezone, from_s, to_s), from_s, to_s) if shifts else [(from_s, to_s)]
    return without(planned, _spans(breaks, timezone, from_s, to_s))


def _spans(windows: Sequence[TimeWindow], timezone: str, from_s: float, to_s: float) -> list[Span]:
    where = zone(timezone) if timezone else UTC
    first = datetime.fromtimestamp(from_s, where).date() - timedelta(days=1)  # one that goes on after midnight
    days = (datetime.fromtimestamp(to_s, where).date() - first).days
    found = []
    for ahead in range(days + 1):
        day = first + timedelta(days=ahead)
        for window in windows:
            start, end = minute_of(window.start), minute_of(window.end)
            if start is None or end is None or (window.days and _DAYS[day.weekday()] not in window.days):
                continue
            begins = datetime.combine(day, time(), where)
            until = end if end > start else end + DAY_MINUTES
            found.append((_at(begins, start, where), _at(begins, until, where)))
    return union(found)


def _at(day: datetime, minute: int, where: tzinfo) -> float:
    """By the clock on the wall: 06:00 is 06:00, however long the night was."""
    date = day.date() + timedelta(days=minute // DAY_MINUTES)
    left = minute % DAY_MINUTES
    return datetime.combine(date, time(left // 60, left % 60), where).timestamp()


# ---- spans ---------------------------------------------------------------------------------------


def union(spans: Iterable[Span]) -> list[Span]:
    """The same time in order and apart from each other."""
    found: list[Span] = []
    for begin, end in sorted(spans):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        elif begin < end:
            found.append((begin, end))
    return found


def within(spans: Sequence[Span], from_s: float, to_s: float) -> list[Span]:
    """What of them lies in [from_s, to_s)."""
    cut = ((max(begin, from_s), min(end, to_s)) for begin, end in spans)
    return [(begin, end) for begin, end in cut if begin < end]


def both(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What lies in both; each in order and apart from each other."""
    return [piece for begin, end in others for piece in within(spans, begin, end)]


def without(spans: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """What of `spans` lies in none of `others`, which are in order and apart from each other."""
    found = list(spans)
    for begin, end in others:
        found = [
            piece
            for one in found
            for piece in ((one[0], min(one[1], begin)), (max(one[0], end), one[1]))
            if piece[0] < piece[1]
        ]
    return found


def length_s(spans: Sequence[Span]) -> float:
    return sum(end - begin for begin, end in spans)
