"""The tracker's rules as small stories, and its invariants."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.infer.detections import Detections
from agent.track import Tracker, TrackerSettings, Tracks
from runtime.errors import ConfigError

Box = tuple[float, float, float, float]


def seen(*boxes: Box, confidence: float | list[float] = 0.7, class_id: int | list[int] = 0) -> Detections:
    n = len(boxes)
    return Detections(
        np.array(boxes, np.float32).reshape(n, 4),
        np.broadcast_to(np.array(confidence, np.float32), n),
        np.broadcast_to(np.array(class_id, np.int32), n),
    )


def at(x: float, y: float = 100.0) -> Box:
    return (x, y, x + 40.0, y + 80.0)


def run(tracker: Tracker, frames: list[Detections], fps: float = 10.0, start_s: float = 0.0) -> list[Tracks]:
    return [tracker.update(frame, start_s + k / fps) for k, frame in enumerate(frames)]


def test_an_object_keeps_its_id_while_it_moves() -> None:
    shown = run(Tracker(), [seen(at(10.0 * k)) for k in range(20)])
    assert [t.track_id.tolist() for t in shown] == [[]] + [[1]] * 19
    assert shown[-1].xyxy[0] == pytest.approx(at(190.0), abs=3.0)
    assert shown[-1].first_seen_s[0] == 0.0
    assert shown[-1].last_seen_s[0] == pytest.approx(1.9)


def test_the_second_match_confirms_and_a_sure_first_detection_does_at_once() -> None:
    assert [len(t) for t in run(Tracker(), [seen(at(0))] * 3)] == [0, 1, 1]
    assert [len(t) for t in run(Tracker(), [seen(at(0), confidence=0.95)] * 2)] == [1, 1]


def test_a_single_false_detection_never_becomes_an_object_nor_goes() -> None:
    shown = run(Tracker(), [seen(at(0))] + [seen()] * 40)
    assert all(len(t) == 0 and len(t.gone) == 0 for t in shown)


def test_confirmation_that_comes_too_late_begins_anew() -> None:
    tracker = Tracker(TrackerSettings(confirm_within_s=1.0))
    assert [len(tracker.update(seen(at(0)), t)) for t in (0.0, 1.1, 1.5)] == [0, 0, 1]


def test_a_weak_detection_continues_a_track_but_begins_none() -> None:
    tracker = Tracker()
    run(tracker, [seen(at(0))] * 3)
    shown = tracker.update(seen(at(0), at(500), confidence=0.2), 0.3)
    assert shown.track_id.tolist() == [1]
    assert shown.matched.tolist() == [True]
    assert shown.confidence[0] == pytest.approx(0.2)
    assert len(tracker) == 1


def test_a_weak_detection_does_not_revive_a_lost_track() -> None:
    tracker = Tracker()
    run(tracker, [seen(at(0))] * 3 + [seen()])
    assert tracker.update(seen(at(0), confidence=0.2), 0.4).matched.tolist() == [False]


def test_a_lost_object_is_predicted_then_found_again_with_its_id() -> None:
    frames = [seen(at(10.0 * k)) for k in range(10)] + [seen()] * 8 + [seen(at(10.0 * k)) for k in range(18, 22)]
    shown = run(Tracker(), frames)
    assert all(t.track_id.tolist() == [1] for t in shown[1:])
    assert not any(t.matched[0] for t in shown[10:18])
    assert shown[17].xyxy[0, 0] == pytest.approx(170.0, abs=8.0)
    assert shown[17].last_seen_s[0] == pytest.approx(0.9)


def test_an_object_unseen_for_too_long_goes_once_and_its_id_never_returns() -> None:
    shown = run(Tracker(), [seen(at(0))] * 3 + [seen()] * 20 + [seen(at(0))] * 3)
    ended = [(k, t.gone.tolist()) for k, t in enumerate(shown) if len(t.gone)]
    assert ended == [(18, [1])]  # last seen at 0.2 s, 1.5 s allowed, the first frame after 1.7 s
    assert shown[-1].track_id.tolist() == [2]


def test_ages_are_seconds_whatever_the_frame_rate() -> None:
    for fps in (2.0, 60.0):
        tracker = Tracker(TrackerSettings(lost_max_s=2.0))
        run(tracker, [seen(at(0))] * 4, fps=fps)
        last = 3 / fps
        assert len(tracker.update(seen(), last + 1.99)) == 1
        assert tracker.update(seen(), last + 2.01).gone.tolist() == [1]


def test_two_objects_that_pass_each_other_keep_their_ids() -> None:
    frames = [seen(at(20.0 * k, 100), at(400 - 20.0 * k, 130)) for k in range(21)]
    shown = run(Tracker(), frames)
    final = dict(zip(shown[-1].track_id.tolist(), shown[-1].xyxy[:, 1].tolist(), strict=True))
    first = dict(zip(shown[1].track_id.tolist(), shown[1].xyxy[:, 1].tolist(), strict=True))
    assert final == pytest.approx(first, abs=5.0)


def test_class_is_the_weighted_majority_of_the_detections() -> None:
    tracker = Tracker()
    classes = [2, 7, 2, 2, 7, 2]
    shown = [tracker.update(seen(at(0), class_id=c), k / 10) for k, c in enumerate(classes)]
    assert [t.class_id.tolist() for t in shown[1:]] == [[2]] * 5
    doubtful = Tracker()
    run(doubtful, [seen(at(0), confidence=0.5, class_id=2), seen(at(0), confidence=0.9, class_id=7)])
    assert doubtful.update(seen(at(0), class_id=7), 0.2).class_id.tolist() == [7]


def test_class_aware_tracking_never_joins_two_classes() -> None:
    for aware, expected in ((True, [1, 2]), (False, [1])):
        tracker = Tracker(TrackerSettings(class_aware=aware))
        run(tracker, [seen(at(0), class_id=0)] * 3)
        shown = run(tracker, [seen(at(0), class_id=5)] * 3, start_s=0.3)[-1]
        assert shown.track_id.tolist() == expected


def test_time_that_stands_still_moves_nothing() -> None:
    tracker = Tracker()
    run(tracker, [seen(at(10.0 * k)) for k in range(10)])
    before = tracker.update(seen(), 1.0)
    again = tracker.update(seen(), 1.0)
    np.testing.assert_array_equal(before.xyxy, again.xyxy)


def test_time_that_jumps_back_keeps_ids_and_ages() -> None:
    tracker = Tracker()
    run(tracker, [seen(at(0))] * 11, start_s=1000.0)
    shown = tracker.update(seen(at(0)), 5.0)
    assert shown.track_id.tolist() == [1]
    assert shown.first_seen_s[0] == pytest.approx(4.0)
    assert shown.last_seen_s[0] == 5.0
    assert tracker.update(seen(), 6.4).gone.tolist() == []
    assert tracker.update(seen(), 6.6).gone.tolist() == [1]


def test_time_that_jumps_ahead_ends_what_was_there() -> None:
    tracker = Tracker()
    run(tracker, [seen(at(0))] * 3)
    shown = tracker.update(seen(at(0)), 100.0)
    assert shown.gone.tolist() == [1]
    assert len(shown) == 0


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -float("inf")])
def test_a_time_that_is_no_number_is_refused(time_s: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Tracker().update(seen(at(0)), time_s)


def test_what_finds_no_room_is_counted_and_the_most_confident_come_first() -> None:
    tracker = Tracker(TrackerSettings(tracks_max=2))
    frame = seen(at(0), at(200), at(400), at(600), confidence=[0.6, 0.9, 0.55, 0.8])
    tracker.update(frame, 0.0)
    assert tracker.refused == 2
    shown = tracker.update(frame, 0.1)
    assert sorted(shown.xyxy[:, 0].tolist()) == [200.0, 600.0]
    assert tracker.refused == 4


def test_detections_that_are_no_numbers_are_counted_and_left_out() -> None:
    tracker = Tracker()
    infinity = float("inf")
    bad = (float("nan"), 0.0, 1.0, 1.0), (-infinity, 0.0, infinity, 1.0)
    shown = run(tracker, [seen(at(0), *bad)] * 3)
    assert [t.track_id.tolist() for t in shown] == [[], [1], [1]]
    assert tracker.malformed == 6


def test_shown_values_are_not_changed_by_later_frames() -> None:
    tracker = Tracker()
    kept = run(tracker, [seen(at(10.0 * k)) for k in range(3)])[-1]
    copy = dataclasses.replace(kept, xyxy=kept.xyxy.copy(), last_seen_s=kept.last_seen_s.copy())
    run(tracker, [seen(at(300.0))] * 5, start_s=0.3)
    np.testing.assert_array_equal(kept.xyxy, copy.xyxy)
    np.testing.assert_array_equal(kept.last_seen_s, copy.last_seen_s)


def test_all_setting_mistakes_come_in_one_report() -> None:
    wrong = TrackerSettings(high_confidence=0.2, low_confidence=0.3, lost_max_s=-1.0, tracks_max=0, match_min=2.0)
    with pytest.raises(ConfigError) as report:
        Tracker(wrong)
    for name in ("low_confidence", "lost_max_s", "tracks_max", "match_min"):
        assert name in str(report.value)


boxes = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.floats(-50, 700, width=32),
    st.floats(-50, 500, width=32),
    st.floats(0, 200, width=32),
    st.floats(0, 200, width=32),
)
detection = st.tuples(boxes, st.floats(0, 1, width=32), st.integers(0, 3))
steps = st.floats(-5.0, 5.0)
film = st.lists(st.tuples(st.lists(detection, max_size=6), steps), min_size=1, max_size=15)


def frame_of(rows: list[tuple[Box, float, int]]) -> Detections:
    return seen(*(r[0] for r in rows), confidence=[r[1] for r in rows], class_id=[r[2] for r in rows])


@settings(deadline=None)
@given(film, st.booleans())
def test_ids_are_unique_tracks_bounded_and_all_numbers_finite(
    frames: list[tuple[list[tuple[Box, float, int]], float]], aware: bool
) -> None:
    tracker = Tracker(TrackerSettings(tracks_max=4, class_aware=aware))
    time_s, ended, known = 0.0, set[int](), set[int]()
    for rows, step in frames:
        time_s += step
        shown = tracker.update(frame_of(rows), time_s)
        ids = shown.track_id.tolist()
        assert ids == sorted(set(ids))
        assert len(tracker) <= 4
        assert not ended & set(ids), "an id came back"
        gone = set(shown.gone.tolist())
        assert gone <= known
        assert known - gone <= set(ids) | ended, "an object vanished without being gone"
        ended |= gone
        known = (known | set(ids)) - gone
        for column in (shown.xyxy, shown.confidence, shown.first_seen_s, shown.last_seen_s):
            assert np.isfinite(column).all()
        assert (shown.xyxy[:, 2:] >= shown.xyxy[:, :2]).all()
        assert (shown.first_seen_s <= shown.last_seen_s + 1e-9).all()
        assert (shown.last_seen_s <= time_s + 1e-9).all()
        assert (shown.last_seen_s[shown.matched] == time_s).all()


@settings(deadline=None)
@given(film, st.randoms(use_true_random=False))
def test_the_order_of_detections_does_not_matter(
    frames: list[tuple[list[tuple[Box, float, int]], float]], shuffle: object
) -> None:
    one, other, time_s = Tracker(), Tracker(), 0.0
    for rows, step in frames:
        time_s += abs(step) / 5.0
        mixed = list(rows)
        shuffle.shuffle(mixed)  # type: ignore[attr-defined]
        a, b = one.update(frame_of(rows), time_s), other.update(frame_of(mixed), time_s)
        for field in dataclasses.fields(Tracks):
            np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), err_msg=field.name)
