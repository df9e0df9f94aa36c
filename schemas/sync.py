"""Which results leave a node, when, and how many bytes of them: the same words in a configuration file, in a command
and in desired state. Pure, but for the names of time zones, which are the system's.

`parse_policy` and `parse_filter` refuse what cannot be meant, all mistakes in one go, each naming the field, its
value and what would be right.
"""

import functools
import itertools
import zoneinfo
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from schemas.shape import ShapeError, fields_of, read_what_can_be

T = TypeVar("T")

NAMES_MAX = 100  # of types, cameras, classes in one filter
WINDOWS_MAX = 32
BOUNDS_MAX = 32
WINDOW_S_MAX = 24 * 3600.0
DAY_MINUTES = 24 * 60


class Mode(StrEnum):
    """How many of the frame results leave."""

    ALL = "all"  # each one
    SAMPLE = "sample"  # every n-th, or one in so many seconds, of each pipeline
    AGGREGATE = "aggregate"  # one row a window: counts, least, most and mean, histograms
    CHANGES = "changes"  # only when the number of objects of a class has changed


class Priority(StrEnum):
    """Which lane they travel in."""

    NORMAL = "normal"  # lane sample
    HIGH = "high"  # lane state: before everything of lane sample, and given up after it


class Metered(StrEnum):
    """Whether the link costs by the byte."""

    AUTO = "auto"  # as NetworkManager says; where there is none: no
    YES = "yes"
    NO = "no"


class Weekday(StrEnum):
    """In the order of `datetime.weekday()`."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class SyncLane(StrEnum):
    """Lanes that a policy may hold back; alerts and life-cycle events never wait for one."""

    SAMPLE = "sample"
    EVIDENCE = "evidence"
    STATE = "state"
    EVENT = "event"


@dataclass(frozen=True, slots=True)
class TimeWindow:
    """Local time of day, `start` included, `end` not. One that ends before it starts goes on after midnight.

    `days` are those on which it starts; none means every day. `24:00` is the end of a day.
    """

    start: str
    end: str
    days: tuple[Weekday, ...] = ()


@dataclass(frozen=True, slots=True)
class DataFilter:
    """Which results are meant; what is empty asks for nothing. Times are UTC milliseconds, `until` excluded.

    `classes` and `confidence_min` choose among the objects of a frame.
    """

    types: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    pipelines: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    confidence_min: float = 0.0
    since_utc_ms: int | None = None
    until_utc_ms: int | None = None
    times: tuple[TimeWindow, ...] = ()
    timezone: str = ""


@dataclass(frozen=True, slots=True)
class Budget:
    """Most bytes of MQTT payload that leave in an hour, a day and a month (UTC). Without a value: no limit."""

    hour_bytes: int | None = None
    day_bytes: int | None = None
    month_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """The standing order. `lanes` wait outside `windows`, beyond `budget` and while the link is metered."""

    mode: Mode = Mode.AGGREGATE
    every_n: int | None = None  # mode sample: this or the next
    every_s: float | None = None
    window_s: float = 60.0  # mode aggregate
    histogram: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9)  # mode aggregate: bounds of confidences
    deadband: int = 0  # mode changes: a count must differ by more than this
    hold_s: float = 0.0  # mode changes: and for at least this long
    filter: DataFilter = DataFilter()
    priority: Priority = Priority.NORMAL
    lanes: tuple[SyncLane, ...] = (SyncLane.SAMPLE, SyncLane.EVIDENCE)
    windows: tuple[TimeWindow, ...] = ()
    timezone: str = ""  # an IANA name, for the windows; empty: the node's own
    budget: Budget = Budget()
    metered: Metered = Metered.AUTO
    compress: bool = True


def parse_policy(raw: object, where: str = "") -> SyncPolicy:
    """A policy from a mapping. Raises ShapeError with every mistake, each beginning with its place below `where`."""
    policy, mistakes = read_what_can_be(SyncPolicy, raw)
    if policy is not None:
        mistakes += [text for text in policy_mistakes(policy) if text not in mistakes]
    return _sound(policy, mistakes, where)


def parse_filter(raw: object, where: str = "") -> DataFilter:
    """A filter from a mapping. Raises ShapeError as `parse_policy`."""
    data_filter, mistakes = read_what_can_be(DataFilter, raw)
    if data_filter is not None:
        mistakes += [text for text in filter_mistakes(data_filter) if text not in mistakes]
    return _sound(data_filter, mistakes, where)


def _sound(value: T | None, mistakes: list[str], where: str) -> T:
    if mistakes or value is None:
        # A mistake in the whole, not in one of its fields, has no place yet.
        raise ShapeError([_placed(where, text) for text in mistakes])
    return value


def _placed(where: str, text: str) -> str:
    head = text.partition(":")[0]
    in_a_field = head.replace("_", "").replace(".", "").replace("[", "").replace("]", "").isalnum()
    return f"{where}.{text}" if where and in_a_field and ":" in text else f"{where}: {text}" if where else text


def plain(value: SyncPolicy | DataFilter) -> dict[str, Any]:
    """As a mapping that the parsers read back as the same value: what says nothing is left out."""
    fields: dict[str, Any] = fields_of(value)
    return _without_none(fields)


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(item) if isinstance(item, Mapping) else item
        for key, item in fields.items()
        if item is not None
    }


# ---- what the shape alone does not show -------------------------------------------------------------


def policy_mistakes(policy: SyncPolicy) -> list[str]:
    """Each as `field: value … what would be right`."""
    found = _mode_mistakes(policy)
    found += [f"filter.{text}" for text in filter_mistakes(policy.filter)]
    found += _window_mistakes("windows", policy.windows) + _zone_mistakes("timezone", policy.timezone)
    for name in ("hour_bytes", "day_bytes", "month_bytes"):
        amount = getattr(policy.budget, name)
        if amount is not None and amount <= 0:
            found.append(f"budget.{name}: {amount} would let nothing leave for ever; leave it out for no limit")
    return found + _budget_order(policy.budget)


def _budget_order(budget: Budget) -> list[str]:
    """A longer period's limit below a shorter one's is a slip: the shorter one could never be used up."""
    given = [(name, amount) for name in ("hour_bytes", "day_bytes", "month_bytes")
             if (amount := getattr(budget, name)) is not None and amount > 0]  # fmt: skip
    return [
        f"budget.{longer}: {more} is less than budget.{shorter} = {less}; it must be at least as much"
        for (shorter, less), (longer, more) in itertools.pairwise(given)
        if more < less
    ]


def _mode_mistakes(policy: SyncPolicy) -> list[str]:
    found = []
    thinned = (policy.every_n is not None) + (policy.every_s is not None)
    if policy.mode is Mode.SAMPLE and thinned != 1:
        said = "both are given" if thinned else "neither is given"
        found.append(f"mode: 'sample' needs one of every_n and every_s; {said}")
    if policy.mode is not Mode.SAMPLE and thinned:
        name = "every_n" if policy.every_n is not None else "every_s"
        found.append(f"{name}: is for mode 'sample', but mode is '{policy.mode}'; leave it out, or change mode")
    if policy.every_n is not None and not 1 <= policy.every_n <= 10**6:
        found.append(f"every_n: {policy.every_n} must be from 1 to 1000000")
    if policy.every_s is not None and not 0 < policy.every_s <= WINDOW_S_MAX:
        found.append(f"every_s: {policy.every_s:g} must be more than 0 and at most {WINDOW_S_MAX:g} seconds")
    if not 1.0 <= policy.window_s <= WINDOW_S_MAX:
        found.append(f"window_s: {policy.window_s:g} must be from 1 to {WINDOW_S_MAX:g} seconds")
    if not 0 <= policy.deadband <= 10**6:
        found.append(f"deadband: {policy.deadband} must be from 0 to 1000000 objects")
    if not 0 <= policy.hold_s <= 3600:
        found.append(f"hold_s: {policy.hold_s:g} must be from 0 to 3600 seconds")
    return found + _bounds_mistakes(policy.histogram)


def _bounds_mistakes(given: Iterable[float | None]) -> list[str]:
    bounds = [bound for bound in given if bound is not None]  # others were no numbers, and that is said already
    if len(bounds) > BOUNDS_MAX:
        return [f"histogram: {len(bounds)} bounds; at most {BOUNDS_MAX} can be used"]
    if any(not 0.0 < bound < 1.0 for bound in bounds) or any(b <= a for a, b in itertools.pairwise(bounds)):
        return [f"histogram: {bounds} must be confidences between 0 and 1, each larger than the one before"]
    return []


def filter_mistakes(data_filter: DataFilter) -> list[str]:
    """As `policy_mistakes`."""
    found = []
    for name in ("types", "cameras", "pipelines", "classes"):
        names = getattr(data_filter, name)
        if len(names) > NAMES_MAX:
            found.append(f"{name}: {len(names)} names; at most {NAMES_MAX} can be given")
        found += [f"{name}: {text!r} must be a name of 1 to 200 characters" for text in names if _no_name(text)]
    if not 0.0 <= data_filter.confidence_min <= 1.0:
        found.append(f"confidence_min: {data_filter.confidence_min:g} must be from 0 to 1")
    since, until = data_filter.since_utc_ms, data_filter.until_utc_ms
    for name, moment in (("since_utc_ms", since), ("until_utc_ms", until)):
        if moment is not None and not 0 <= moment < 2**53:
            found.append(f"{name}: {moment} must be UTC milliseconds since 1970")
    if since is not None and until is not None and since >= until:
        found.append(f"since_utc_ms: {since} must be less than until_utc_ms, which is {until}")
    return found + _window_mistakes("times", data_filter.times) + _zone_mistakes("timezone", data_filter.timezone)


def _no_name(text: str) -> bool:
    return not isinstance(text, str) or not 0 < len(text) <= 200


def _window_mistakes(where: str, windows: tuple[TimeWindow | None, ...]) -> list[str]:
    if len(windows) > WINDOWS_MAX:
        return [f"{where}: {len(windows)} windows; at most {WINDOWS_MAX} can be given"]
    found = []
    for i, window in enumerate(windows):
        if window is None:
            continue  # too wrong to be read, and said so
        for name in ("start", "end"):
            text = getattr(window, name)
            if minute_of(text) is None or (name == "start" and text == "24:00"):
                found.append(f"{where}[{i}].{name}: {text!r} must be a time of day like 22:30")
        if window.start == window.end and minute_of(window.start) is not None:
            found.append(
                f"{where}[{i}].end: {window.end!r} is the start too, so the window is never open;"
                " for a whole day give 00:00 to 24:00"
            )
        if len(set(window.days)) < len(window.days):
            found.append(f"{where}[{i}].days: {', '.join(map(str, window.days))} names a day twice")
    return found


def _zone_mistakes(where: str, name: str) -> list[str]:
    if not name:
        return []
    try:
        zone(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return [f"{where}: {name!r} is no time zone known here; give one like Europe/Berlin, or UTC"]
    return []


# ---- times of day -----------------------------------------------------------------------------------


def minute_of(text: object) -> int | None:
    """Minutes since midnight of `HH:MM`, 0 … 1440; None for anything else."""
    if not (isinstance(text, str) and len(text) == 5 and text[2] == ":" and text.isascii()):
        return None
    hours, minutes = text[:2], text[3:]
    if not (hours.isdigit() and minutes.isdigit()) or int(minutes) > 59:
        return None
    minute = int(hours) * 60 + int(minutes)
    return minute if minute <= DAY_MINUTES else None


@functools.lru_cache(maxsize=64)
def zone(name: str) -> zoneinfo.ZoneInfo:
    """Raises ZoneInfoNotFoundError, ValueError or OSError where there is none of this name."""
    return zoneinfo.ZoneInfo(name)
