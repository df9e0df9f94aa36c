"""What a policy may say, and that every mistake is named with its field, its value and what would be right."""

from typing import Any

import pytest

from schemas.shape import ShapeError
from schemas.sync import (
    Budget,
    DataFilter,
    Metered,
    Mode,
    Priority,
    SyncLane,
    SyncPolicy,
    TimeWindow,
    Weekday,
    minute_of,
    parse_filter,
    parse_policy,
    plain,
)

WHOLE: dict[str, Any] = {
    "mode": "sample",
    "every_s": 2.5,
    "priority": "high",
    "lanes": ["sample", "event"],
    "windows": [{"start": "22:00", "end": "06:00", "days": ["fri", "sat"]}, {"start": "12:00", "end": "24:00"}],
    "timezone": "Europe/Berlin",
    "budget": {"hour_bytes": 1000, "month_bytes": 5000},
    "metered": "no",
    "compress": False,
    "filter": {"classes": ["person"], "confidence_min": 0.5, "since_utc_ms": 1, "until_utc_ms": 2},
}


def test_everything_that_can_be_said_is_understood() -> None:
    assert parse_policy(WHOLE) == SyncPolicy(
        mode=Mode.SAMPLE,
        every_s=2.5,
        priority=Priority.HIGH,
        lanes=(SyncLane.SAMPLE, SyncLane.EVENT),
        windows=(TimeWindow("22:00", "06:00", (Weekday.FRI, Weekday.SAT)), TimeWindow("12:00", "24:00")),
        timezone="Europe/Berlin",
        budget=Budget(1000, None, 5000),
        metered=Metered.NO,
        compress=False,
        filter=DataFilter(classes=("person",), confidence_min=0.5, since_utc_ms=1, until_utc_ms=2),
    )
    assert parse_policy({}) == SyncPolicy()


@pytest.mark.parametrize("raw", [{}, WHOLE])
def test_a_policy_as_a_mapping_is_the_same_policy(raw: dict[str, Any]) -> None:
    assert parse_policy(plain(parse_policy(raw))) == parse_policy(raw)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"mod": "all"}, "sync.mod: unknown key; did you mean mode?"),
        ({"mode": "some"}, "sync.mode: 'some' must be one of all, sample, aggregate, changes"),
        ({"mode": "sample"}, "sync.mode: 'sample' needs one of every_n and every_s; neither is given"),
        (
            {"mode": "sample", "every_n": 2, "every_s": 1},
            "sync.mode: 'sample' needs one of every_n and every_s; both",
        ),
        ({"every_n": 2}, "sync.every_n: is for mode 'sample', but mode is 'aggregate'"),
        ({"mode": "sample", "every_n": 0}, "sync.every_n: 0 must be from 1 to 1000000"),
        ({"mode": "sample", "every_s": 0}, "sync.every_s: 0 must be more than 0"),
        ({"window_s": 0}, "sync.window_s: 0 must be from 1 to 86400 seconds"),
        ({"window_s": "1m"}, "sync.window_s: '1m' must be a number"),
        ({"histogram": [0.5, 0.4]}, "sync.histogram: [0.5, 0.4] must be confidences between 0 and 1, each larger"),
        ({"histogram": ["a", 0.5]}, "sync.histogram[0]: 'a' must be a number"),
        ({"windows": [7]}, "sync.windows[0]: 7 must be a table"),
        ({"deadband": -1}, "sync.deadband: -1 must be from 0"),
        ({"hold_s": 1e9}, "sync.hold_s: 1e+09 must be from 0 to 3600"),
        ({"budget": {"day_bytes": 0}}, "sync.budget.day_bytes: 0 would let nothing leave for ever; leave it out"),
        ({"budget": {"day_bytes": -5}}, "sync.budget.day_bytes: -5 would let nothing leave"),
        (
            {"budget": {"hour_bytes": 9, "day_bytes": 3}},
            "sync.budget.day_bytes: 3 is less than budget.hour_bytes",
        ),
        ({"budget": {"hour_bytes": 9, "month_bytes": 3}}, "sync.budget.month_bytes: 3 is less than"),
        ({"budget": {"week_bytes": 3}}, "sync.budget.week_bytes: unknown key"),
        ({"windows": [{"start": "22:00"}]}, "sync.windows[0].end: is missing"),
        ({"windows": [{"start": "25:00", "end": "06:00"}]}, "sync.windows[0].start: '25:00' must be a time of day"),
        ({"windows": [{"start": "24:00", "end": "06:00"}]}, "sync.windows[0].start: '24:00' must be a time of day"),
        ({"windows": [{"start": "10:00", "end": "1000"}]}, "sync.windows[0].end: '1000' must be a time of day"),
        ({"windows": [{"start": "10:00", "end": "10:00"}]}, "'10:00' is the start too, so the window is never open"),
        ({"windows": [{"start": "1:00", "end": "02:00", "days": ["mo"]}]}, "'mo' must be one of mon, tue, wed"),
        ({"windows": [{"start": "01:00", "end": "02:00", "days": ["mon", "mon"]}]}, "names a day twice"),
        ({"windows": [{"start": "01:00", "end": "02:00"}] * 33}, "sync.windows: 33 windows; at most 32"),
        ({"timezone": "Mars/Olympus"}, "sync.timezone: 'Mars/Olympus' is no time zone known here"),
        ({"timezone": "../../etc/passwd"}, "is no time zone known here"),
        ({"metered": "perhaps"}, "sync.metered: 'perhaps' must be one of auto, yes, no"),
        ({"lanes": ["alert"]}, "sync.lanes[0]: 'alert' must be one of sample, evidence, state, event"),
        ({"filter": {"since_utc_ms": 5, "until_utc_ms": 5}}, "sync.filter.since_utc_ms: 5 must be less than"),
        ({"filter": {"confidence_min": 1.5}}, "sync.filter.confidence_min: 1.5 must be from 0 to 1"),
        ({"filter": {"colour": "red"}}, "sync.filter.colour: unknown key"),
        ({"filter": {"classes": [""]}}, "sync.filter.classes: '' must be a name"),
        ({"filter": {"classes": "person"}}, "sync.filter.classes: 'person' must be a list"),
        ("all", "sync: 'all' must be a table"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_reason(raw: Any, said: str) -> None:
    with pytest.raises(ShapeError) as caught:
        parse_policy(raw, "sync")
    assert any(said in mistake for mistake in caught.value.mistakes), caught.value.mistakes


def test_every_mistake_is_named_at_once() -> None:
    raw = {"mode": "none", "budget": {"hour_bytes": 0}, "filter": {"since_utc_ms": 9, "until_utc_ms": 3}, "x": 1}
    with pytest.raises(ShapeError) as caught:
        parse_policy(raw)
    assert [text.partition(":")[0] for text in caught.value.mistakes] == [
        "mode", "x", "filter.since_utc_ms", "budget.hour_bytes",
    ]  # fmt: skip


def test_a_filter_alone_is_read_the_same_way() -> None:
    assert parse_filter({"types": ["FrameResult"]}) == DataFilter(types=("FrameResult",))
    with pytest.raises(ShapeError, match=r"data_filter\.until_utc_ms: -1 must be UTC milliseconds since 1970"):
        parse_filter({"until_utc_ms": -1}, "data_filter")


@pytest.mark.parametrize(
    ("text", "minute"),
    [("00:00", 0), ("23:59", 1439), ("24:00", 1440), ("24:01", None), ("7:00", None), ("07:60", None),
     ("٠٧:٠٠", None), (7, None), ("-1:00", None)],
)  # fmt: skip
def test_times_of_day(text: object, minute: int | None) -> None:
    assert minute_of(text) == minute
