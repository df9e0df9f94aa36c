"""What leaves a node under each mode, as tables and against brute force."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.results.aggregate import Summary, Windows
from agent.results.result import FRAME, Result, meant, narrowed
from agent.sync.policy import AGGREGATE, CHANGED, Shaper
from schemas.sync import DataFilter, Mode, SyncPolicy, TimeWindow, parse_policy

NOON = 1_795_521_600_000
BOUNDS = (0.5, 0.8)


def seen(kind: str = "person", confidence: float = 0.75) -> dict[str, Any]:
    return {"object_id": "1", "class": kind, "confidence": confidence, "box": [0.0, 0.0, 5.0, 5.0]}


def frame(at_ms: int, *objects: dict[str, Any], pipeline: str = "gate", local_only: bool = False) -> Result:
    data = {"camera_id": "cam1", "time_s": at_ms / 1000, "objects": list(objects)}
    return Result(NOON + at_ms, "cam1", pipeline, FRAME, "cam1", data, local_only)


def shaper(**policy: Any) -> Shaper:
    return Shaper(parse_policy(policy), "cam1", "gate")


def sent(by: Shaper, frames: list[Result]) -> list[Result]:
    return [row for each in frames for row in by.frame(each)]


# ---- filter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ({}, [0.75, 0.4, 0.9]),
        ({"classes": ["car"]}, [0.4, 0.9]),
        ({"confidence_min": 0.5}, [0.75, 0.9]),
        ({"classes": ["car"], "confidence_min": 0.5}, [0.9]),
        ({"classes": ["dog"]}, None),
        ({"cameras": ["cam2"]}, None),
        ({"pipelines": ["gate"]}, [0.75, 0.4, 0.9]),
        ({"types": ["StreamSample"]}, None),
        ({"types": [FRAME, "StreamSample"]}, [0.75, 0.4, 0.9]),
        ({"since_utc_ms": NOON + 1}, None),
        ({"since_utc_ms": NOON, "until_utc_ms": NOON + 1}, [0.75, 0.4, 0.9]),
        ({"until_utc_ms": NOON}, None),
        ({"times": [{"start": "12:00", "end": "13:00"}], "timezone": "UTC"}, [0.75, 0.4, 0.9]),
        ({"times": [{"start": "12:00", "end": "13:00"}], "timezone": "Asia/Tokyo"}, None),
    ],
)
def test_a_filter_chooses_results_and_the_objects_in_them(asked: dict[str, Any], left: list[float] | None) -> None:
    data_filter = parse_policy({"filter": asked}).filter
    kept = narrowed(data_filter, frame(0, seen(), seen("car", 0.4), seen("car", 0.9)))
    assert (None if kept is None else [item["confidence"] for item in kept.objects]) == left


def test_an_event_about_an_object_is_one_object() -> None:
    event = Result(NOON, "cam1", "gate", "ObjectSeen", "7", {"class": "car", "confidence": 0.6})
    assert narrowed(DataFilter(classes=("car",)), event) == event
    assert narrowed(DataFilter(classes=("dog",)), event) is None
    assert narrowed(DataFilter(confidence_min=0.7), event) is None
    gone = Result(NOON, "cam1", "gate", "ObjectGone", "7", {"class": "car", "best_confidence": 0.9})
    assert narrowed(DataFilter(confidence_min=0.7), gone) == gone


def test_what_has_no_objects_passes_a_filter_of_classes_only_by_the_name_of_its_type() -> None:
    sample = Result(NOON, "cam1", "gate", "StreamSample", "cam1", {"totals": {"car": 1, "person": 9}})
    assert narrowed(DataFilter(classes=("car",)), sample) is None
    assert narrowed(DataFilter(classes=("car",), types=("StreamSample",)), sample) == sample


# ---- thinning out -----------------------------------------------------------------------------------


def test_every_nth() -> None:
    assert [r.time_utc_ms - NOON for r in sent(shaper(mode="sample", every_n=3), [frame(n) for n in range(8)])] == [
        0, 3, 6,
    ]  # fmt: skip
    assert len(sent(shaper(mode="all"), [frame(n) for n in range(8)])) == 8


def test_one_in_so_many_seconds_by_the_results_own_time() -> None:
    by = shaper(mode="sample", every_s=2)
    assert [r.time_utc_ms - NOON for r in sent(by, [frame(700 * n) for n in range(10)])] == [0, 2100, 4200, 6300]
    assert sent(by, [frame(5000)]), "the clock was set back: begun anew"
    assert not sent(by, [frame(6999)])
    assert sent(by, [frame(7000)])


def test_a_frame_with_nothing_that_is_asked_for_takes_no_turn() -> None:
    by = shaper(mode="sample", every_n=2, filter={"classes": ["car"]})
    rows = sent(by, [frame(0, seen("car")), frame(1, seen()), frame(2, seen("car")), frame(3, seen("car"), seen())])
    assert [(r.time_utc_ms - NOON, len(r.objects)) for r in rows] == [(0, 1), (3, 1)]


# ---- changes ----------------------------------------------------------------------------------------


def counts(rows: list[Result]) -> list[tuple[int, dict[str, int]]]:
    assert {row.type for row in rows} <= {CHANGED}
    return [(row.time_utc_ms - NOON, row.data["counts"]) for row in rows]


def test_only_changes_of_the_counts_by_class() -> None:
    frames = [
        frame(0), frame(1), frame(2, seen()), frame(3, seen(confidence=0.9)), frame(4, seen("car")),
        frame(5, seen("car"), seen("car")), frame(6),
    ]  # fmt: skip
    rows = sent(shaper(mode="changes"), frames)
    assert counts(rows) == [(0, {}), (2, {"person": 1}), (4, {"car": 1}), (5, {"car": 2}), (6, {})]
    assert [row.data["before"] for row in rows] == [None, {}, {"person": 1}, {"car": 1}, {"car": 2}]


def test_a_deadband_compares_with_what_was_told_last() -> None:
    frames = [frame(n, *[seen()] * count) for n, count in enumerate([5, 6, 4, 7, 6, 8, 9, 10, 7])]
    rows = sent(shaper(mode="changes", deadband=2), frames)
    assert [data["person"] for _, data in counts(rows)] == [5, 8]


def test_a_change_has_to_hold() -> None:
    by = shaper(mode="changes", hold_s=1.0)
    flicker = [frame(100 * n, *[seen()] * (n % 2)) for n in range(30)]
    assert counts(sent(by, flicker)) == [(0, {})]
    stays = [frame(3000 + 100 * n, seen()) for n in range(15)]
    assert counts(sent(by, stays)) == [(3900, {"person": 1})]  # there since 2900, the last flicker


# ---- windows ----------------------------------------------------------------------------------------


def test_a_window_is_one_row_with_its_figures() -> None:
    by = shaper(mode="aggregate", window_s=10, histogram=BOUNDS)
    frames = [frame(0, seen(confidence=0.4), seen(confidence=0.8)), frame(4000), frame(9999, seen("car", 0.5))]
    (row,) = sent(by, [*frames, frame(10_000)])
    assert (row.type, row.time_utc_ms, row.subject) == (AGGREGATE, NOON, "cam1")
    assert row.data == {
        "camera_id": "cam1", "pipeline": "gate", "window_s": 10.0, "frames": 3,
        "objects": {"min": 0, "max": 2, "mean": 1.0},
        "bounds": [0.5, 0.8],
        "classes": {
            "car": {
                "detections": 1, "count": {"min": 0, "max": 1, "mean": 0.3333},
                "confidence": {"min": 0.5, "max": 0.5, "mean": 0.5}, "histogram": [0, 1, 0],
            },
            "person": {
                "detections": 2, "count": {"min": 0, "max": 2, "mean": 0.6667},
                "confidence": {"min": 0.4, "max": 0.8, "mean": 0.6}, "histogram": [1, 0, 1],
            },
        },
    }  # fmt: skip
    assert [row.data["frames"] for row in by.finish()] == [1]
    assert by.finish() == []


def test_a_window_ends_by_time_too() -> None:
    by = shaper(window_s=10)
    by.frame(frame(3000))
    assert by.due(NOON + 11_999) == []
    (row,) = by.due(NOON + 12_000)
    assert row.data["frames"] == 1
    assert by.due(NOON + 99_999) == []


def test_windows_are_coarser_while_the_node_can_do_no_better() -> None:
    by = shaper(window_s=10)
    assert by.frame(frame(0)) == []
    (fine,) = by.frame(frame(9000), coarse=True)
    assert [r.data["window_s"] for r in (fine, *by.finish())] == [10.0, 100.0]


def test_another_policy_begins_after_what_the_old_one_had() -> None:
    by = shaper(window_s=10)
    by.frame(frame(0))
    (row,) = by.change(SyncPolicy(mode=Mode.ALL))
    assert row.type == AGGREGATE
    assert [r.type for r in by.frame(frame(1))] == [FRAME]
    assert by.change(SyncPolicy(mode=Mode.ALL)) == []


objects = st.builds(seen, st.sampled_from(["person", "car", "dog"]), st.integers(0, 1000).map(lambda n: n / 1000))
frames = st.lists(st.tuples(st.integers(-3000, 9000), st.lists(objects, max_size=4)), max_size=30)


def brute(group: list[list[dict[str, Any]]], bounds: tuple[float, ...]) -> dict[str, Any]:
    """The same figures the long way."""
    names = {item["class"] for found in group for item in found}
    edges = [float("-inf"), *bounds, float("inf")]

    def of(name: str) -> dict[str, Any]:
        def near(mean: float) -> Any:
            return pytest.approx(mean, abs=1e-4)

        numbers = [sum(item["class"] == name for item in found) for found in group]
        values = [item["confidence"] for found in group for item in found if item["class"] == name]
        return {
            "detections": len(values),
            "count": {"min": min(numbers), "max": max(numbers), "mean": near(sum(numbers) / len(group))},
            "confidence": {"min": min(values), "max": max(values), "mean": near(sum(values) / len(values))},
            "histogram": [sum(a <= v < b for v in values) for a, b in itertools.pairwise(edges)],
        }  # fmt: skip

    sizes = [len(found) for found in group]
    return {
        "frames": len(group),
        "objects": {"min": min(sizes), "max": max(sizes), "mean": pytest.approx(sum(sizes) / len(sizes), abs=1e-4)},
        "bounds": list(bounds),
        "classes": {name: of(name) for name in sorted(names)},
    }


@given(frames, st.sampled_from([(), BOUNDS, (0.1, 0.2, 0.3)]), st.sampled_from([1.0, 2.5, 60.0]))
def test_windows_are_what_brute_force_says_whatever_the_clock_does(
    steps: list[tuple[int, list[dict[str, Any]]]], bounds: tuple[float, ...], window_s: float
) -> None:
    """A run of frames in one window is one row, and nothing is in none."""
    made, at_ms = Windows("cam1", "gate"), NOON
    groups: list[tuple[int, list[list[dict[str, Any]]]]] = []
    rows = []
    last = None
    for step_ms, found in steps:
        at_ms += step_ms
        window = at_ms - at_ms % round(window_s * 1000)
        if window != last:
            groups.append((window, []))
            last = window
        groups[-1][1].append(found)
        rows.append(made.add(at_ms, found, window_s, bounds))
    done = [row for row in [*rows, made.finish()] if row is not None]
    assert [row.from_utc_ms for row in done] == [window for window, _ in groups]
    for row, (_, group) in zip(done, groups, strict=True):
        assert row.summary.described() == brute(group, bounds)


@given(st.lists(st.lists(st.lists(objects, max_size=3), max_size=6), max_size=4))
def test_summaries_of_parts_add_up_to_the_summary_of_the_whole(parts: list[list[list[dict[str, Any]]]]) -> None:
    whole, merged = Summary(BOUNDS), Summary(BOUNDS)
    for part in parts:
        of_part = Summary(BOUNDS)
        for found in part:
            whole.add(found)
            of_part.add(found)
        merged.merge(of_part)
    assert alike(merged.described(), whole.described())


def alike(one: Any, other: Any) -> bool:
    """Equal but for the last digit of a mean: sums of parts are rounded in another order."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) < 1.5e-4
    return bool(one == other)


def test_other_bounds_do_not_add_up_and_no_histogram_is_left() -> None:
    one, other = Summary(BOUNDS), Summary((0.3,))
    one.add([seen()])
    other.add([seen(), seen()])
    one.merge(other)
    assert (one.described()["bounds"], one.described()["classes"]["person"]["histogram"]) == ([], [3])
    assert other.described()["bounds"] == [0.3], "the other is as it was"


def test_times_of_day_are_the_nodes_or_a_zones() -> None:
    night = DataFilter(times=(TimeWindow("22:00", "06:00"),), timezone="Asia/Tokyo")
    assert not meant(night, frame(0))  # 21:00 there
    assert meant(night, frame(3_600_000))
