"""Objects, frames, and the decider as a whole."""

import itertools
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from agent.decide.decider import Decider
from agent.decide.facts import Fact
from agent.decide.settings import AlertRuleSettings, DecideSettings, LineSettings, ZoneSettings
from agent.infer.detections import Detections
from agent.track import Tracker
from runtime.errors import ConfigError
from tests.decide.film import LABELS, SIZE, Thing, events, show, tracks_of

EVERYTHING = DecideSettings(
    every_frame=True,
    update_interval_s=0.3,
    lines=(LineSettings("gate", start=(0.5, 0.9), end=(0.5, 0.1)),),
    zones=(ZoneSettings("dock", polygon=((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))),),
    rules=(AlertRuleSettings("any", zone="dock", for_s=0.4, clear_after_s=1.0, cooldown_s=0.5),),
)


def kinds(facts: list[Fact]) -> list[str]:
    return [getattr(fact, "type", "Alert") for fact in facts]


def plain(**more: object) -> Decider:
    return Decider("cam1", LABELS, DecideSettings(**more))  # type: ignore[arg-type]


def test_an_object_is_seen_updated_and_gone() -> None:
    decider = plain(update_interval_s=1.0)
    facts = []
    for k in range(30):
        thing = Thing(7, 0.3 + 0.01 * k, 0.5, confidence=0.6 + 0.01 * (k == 4), last_seen_s=k / 10)
        facts += show(decider, k / 10, thing)
    facts += show(decider, 4.5)
    assert [(kind, fact.time_s) for kind, fact in zip(kinds(facts), facts, strict=True)] == [
        ("ObjectSeen", 0.0),
        ("ObjectUpdated", 1.0),
        ("ObjectUpdated", 2.0),
        ("ObjectGone", 4.5),
    ]
    assert {fact.subject for fact in facts} == {"cam1-7"}
    seen, gone = events(facts, "ObjectSeen")[0], events(facts, "ObjectGone")[0]
    assert seen.data == {
        "camera_id": "cam1",
        "object_id": "cam1-7",
        "class": "person",
        "confidence": 0.6,
        "box": [280.0, 400.0, 320.0, 500.0],
        "age_s": 0.0,
        "frame_width": SIZE,
        "frame_height": SIZE,
    }
    assert gone.data == {
        "camera_id": "cam1",
        "object_id": "cam1-7",
        "class": "person",
        "reason": "left",
        "dwell_s": 2.9,
        "best_confidence": 0.61,
        "frames": 30,
        "first_box": [280.0, 400.0, 320.0, 500.0],
        "last_box": [570.0, 400.0, 610.0, 500.0],
        "zone_dwell_s": {},
        "frame_width": SIZE,
        "frame_height": SIZE,
    }


def test_an_object_that_stands_still_is_not_told_again() -> None:
    decider = plain(update_interval_s=0.5)
    facts = [f for k in range(50) for f in show(decider, k / 10, Thing(1, 0.5 + 0.001 * (k % 3), 0.5))]
    assert kinds(facts) == ["ObjectSeen"]


def test_a_change_of_class_is_told() -> None:
    decider = plain(update_interval_s=0.5)
    facts = show(decider, 0.0, Thing(1, 0.5, 0.5, "dog")) + show(decider, 1.0, Thing(1, 0.5, 0.5, "person"))
    assert kinds(facts) == ["ObjectSeen", "ObjectUpdated"]
    assert decider.counts()["objects"] == {"dog": 1}
    assert decider.counts()["detections"] == {"dog": 1, "person": 1}


def test_an_object_is_seen_when_it_is_detected_not_when_it_is_predicted() -> None:
    decider = plain()
    assert show(decider, 0.0, Thing(1, 0.5, 0.5, matched=False)) == []
    assert kinds(show(decider, 0.1, Thing(1, 0.5, 0.5))) == ["ObjectSeen"]
    assert show(decider, 0.2, Thing(1, 0.9, 0.9, matched=False)) == []


def test_a_class_without_a_label_has_its_number() -> None:
    decider = Decider("cam1", ("person",), DecideSettings())
    assert show(decider, 0.0, Thing(1, 0.5, 0.5, "dog"))[0].data["class"] == "class_2"


def test_every_frame_is_told_with_all_its_objects_if_asked() -> None:
    decider = plain(every_frame=True, object_events=False)
    (empty,) = show(decider, 0.0)
    (full,) = show(decider, 0.1, Thing(1, 0.5, 0.5), Thing(2, 0.3, 0.5, "car", matched=False))
    assert (empty.data["objects"], empty.subject) == ([], "cam1")
    seen, predicted = full.data["objects"]  # type: ignore[misc, str-unpack]
    common = {"confidence": 0.8}
    assert seen == common | {
        "object_id": "cam1-1",
        "class": "person",
        "box": [480.0, 400.0, 520.0, 500.0],
        "predicted": False,
    }
    assert predicted == common | {
        "object_id": "cam1-2",
        "class": "car",
        "box": [280.0, 400.0, 320.0, 500.0],
        "predicted": True,
    }


def test_the_end_of_the_camera_ends_every_object_and_keeps_the_totals() -> None:
    decider = plain()
    show(decider, 0.0, Thing(1, 0.5, 0.5), Thing(2, 0.2, 0.2))
    facts = decider.finish(1.0)
    assert [(f.subject, f.data["reason"]) for f in facts] == [
        ("cam1-1", "camera_stopped"),
        ("cam1-2", "camera_stopped"),
    ]
    assert decider.finish(2.0) == []
    assert decider.occupancy()["objects"] == 0
    assert decider.counts()["objects"] == {"person": 2}


def test_all_setting_mistakes_come_in_one_report() -> None:
    wrong = DecideSettings(
        update_interval_s=-1.0,
        lines=(LineSettings("gate", start=(0.5, 0.5), end=(0.5, 0.5)), LineSettings("gate", (0, 0), (1, 2))),
        zones=(
            ZoneSettings("bow", polygon=((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9))),
            ZoneSettings("", polygon=((0.1, 0.1), (0.2, 0.2))),
        ),
        rules=(
            AlertRuleSettings("r1", zone="nowhere", classes=("unicorn",)),
            AlertRuleSettings("r2", for_s=math.nan, min_confidence=7.0),
        ),
    )
    with pytest.raises(ConfigError) as report:
        Decider("cam1", LABELS, wrong)
    for part in (
        "camera 'cam1'",
        "update_interval_s = -1.0",
        "line 'gate': start and end are the same",
        "line 'gate': the name is given 2 times",
        "line 'gate': end (1, 2) lies outside",
        "zone 'bow': the edge after point 1 runs into",
        "zone '': a name is",
        "zone '': has 2 points",
        "rule 'r1': zone 'nowhere' is not among the zones",
        "rule 'r1': class 'unicorn' is not among the model's labels (person, car, dog)",
        "rule 'r2': for_s = nan",
        "rule 'r2': min_confidence = 7.0",
    ):
        assert part in str(report.value)


@pytest.mark.parametrize("time_s", [math.nan, math.inf])
def test_a_time_that_is_no_number_is_refused(time_s: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        show(plain(), time_s)


def test_time_that_jumps_back_ends_nothing_early_and_keeps_facts_on_the_cameras_clock() -> None:
    decider = Decider("cam1", LABELS, EVERYTHING)
    there = Thing(1, 0.5, 0.5)
    for k in range(6):
        show(decider, 1000.0 + k / 10, there)  # the alert was raised at 1000.4
    facts = show(decider, 5.0, there)
    assert {fact.time_s for fact in facts} == {5.0}
    assert decider.wake_at() == pytest.approx(6.0)
    (cleared,) = decider.tick(6.0)
    assert kinds([cleared]) == ["Alert"]
    assert cleared.time_s == pytest.approx(6.0)
    assert decider.occupancy()["alerts"] == []


@given(st.floats(1e-3, 1e6), st.floats(0, 1e6))
def test_a_tick_at_the_time_asked_for_is_never_asked_for_again(before_s: float, after_s: float) -> None:
    decider = Decider("cam1", LABELS, EVERYTHING)
    for time_s in (before_s, before_s + 0.5, after_s, after_s + 0.5):
        show(decider, time_s, Thing(1, 0.5, 0.5))
    ticks = 0
    while (due_s := decider.wake_at()) is not None:
        decider.tick(due_s)
        ticks += 1
        assert ticks <= 4


def walkers(seed: int, frames: int = 120) -> list[tuple[float, Detections]]:
    """A few people who wander about, come and go; a detector that misses some."""
    rng = np.random.default_rng(seed)
    at, speed = rng.uniform(200, 800, (6, 2)), rng.normal(0, 80, (6, 2))
    film = []
    for k in range(frames):
        at = at + speed / 10
        speed[(at < 0) | (at > 1000)] *= -1
        there = rng.random(6) > 0.2 + 0.8 * (np.arange(6) == k // 30)
        xyxy = np.hstack((at - (20, 100), at + (20, 0)))[there].astype(np.float32)  # noqa: RUF005
        n = len(xyxy)
        film.append((k / 10, Detections(xyxy, rng.uniform(0.3, 1, n).astype(np.float32), np.zeros(n, np.int32))))
    return film


def decide(film: list[tuple[float, Detections]], ticks_s: list[float]) -> list[Fact]:
    """All facts of a film, with a tick at each of `ticks_s` that falls between two frames."""
    tracker, decider = Tracker(), Decider("cam1", LABELS, EVERYTHING)
    facts, before_s = list[Fact](), -math.inf
    for time_s, detections in film:
        for tick_s in sorted(t for t in ticks_s if before_s < t < time_s):
            facts += decider.tick(tick_s)
        facts += decider.update(tracker.update(detections, time_s), time_s, SIZE, SIZE)
        before_s = time_s
    return facts + decider.finish(before_s + 0.1)


def test_the_same_film_gives_the_same_facts_and_some_of_every_kind() -> None:
    facts = decide(walkers(1), [])
    assert facts == decide(walkers(1), [])
    assert set(kinds(facts)) == {
        "ObjectSeen", "ObjectUpdated", "ObjectGone", "LineCrossed", "ZoneCountChanged", "FrameAnalyzed", "Alert",
    }  # fmt: skip


@hypothesis_settings(deadline=None, max_examples=25)
@given(st.integers(0, 5), st.lists(st.integers(0, 1200), max_size=20))
def test_ticks_between_frames_change_nothing_but_when_it_is_told(seed: int, ticks: list[int]) -> None:
    film = walkers(seed)[::7]  # far apart, so that much falls due between two frames
    assert decide(film, [tick / 100 for tick in ticks]) == decide(film, [])


def test_facts_are_ready_for_json_and_exact_in_it() -> None:
    for fact in decide(walkers(2), []):
        assert json.loads(json.dumps(fact.data, allow_nan=False)) == fact.data


def test_objects_are_seen_once_gone_once_and_counted_in_between() -> None:
    facts = decide(walkers(3), [])
    seen, gone = events(facts, "ObjectSeen"), events(facts, "ObjectGone")
    assert len({f.subject for f in seen}) == len(seen)
    assert sorted(f.subject for f in seen) == sorted(f.subject for f in gone)


def test_memory_does_not_grow_with_the_objects_that_were() -> None:
    decider = Decider("cam1", LABELS, EVERYTHING)
    sizes = []
    for k in range(600):
        show(decider, k / 10, *(Thing(1000 + k * 3 + i, 0.3 + 0.02 * (k % 20), 0.5) for i in range(3)))
        if k >= 100 and k % 20 == 0:
            sizes.append(len(pickle.dumps(decider)))
    assert max(sizes) - min(sizes) < 100


def test_the_ids_that_a_tracker_calls_gone_are_gone() -> None:
    decider = plain()
    tracker = Tracker()
    box = Detections(np.array([(100, 100, 140, 200)], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
    facts = decider.update(tracker.update(box, 0.0), 0.0, SIZE, SIZE)
    for k in itertools.count(1):
        tracks = tracker.update(Detections.none(), k / 10)
        facts += decider.update(tracks, k / 10, SIZE, SIZE)
        if tracks.gone.size:
            break
    assert kinds(facts) == ["ObjectSeen", "ObjectGone"]


def test_an_empty_frame_needs_nothing() -> None:
    assert plain().update(tracks_of(), 0.0, SIZE, SIZE) == []
    assert plain().wake_at() is None
