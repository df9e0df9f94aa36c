"""The last seconds in memory, clips collected from them, and which events get evidence: plain numbers for time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.actions.settings import OnSettings
from agent.decide.facts import AlertState
from agent.evidence.choose import Chooser
from agent.evidence.ring import Collection, Rate, Ring, RingFrame
from agent.evidence.settings import Blur, EvidenceSettings, evidence_mistakes
from agent.outbox.rows import Draft
from schemas.identity import Lane
from schemas.messages import Severity


def frame(time_s: float, size: int = 10) -> RingFrame:
    return RingFrame(time_s, round(time_s * 1000), b"x" * size)


def times(frames: list[RingFrame]) -> list[float]:
    return [one.time_s for one in frames]


def test_the_ring_keeps_the_newest_seconds() -> None:
    ring = Ring(bytes_max=1000, span_s=2.0)
    for n in range(10):
        ring.put(frame(float(n)))
    assert times(ring.between(0, 99)) == [7.0, 8.0, 9.0]
    assert times(ring.between(7.5, 8.5)) == [8.0]
    assert ring.bytes == 30
    assert ring.newest_s == 9.0
    near = ring.nearest(7.6)
    assert near is not None
    assert near.time_s == 8.0


def test_a_recording_that_begins_again_is_another_story() -> None:
    ring = Ring(bytes_max=1000, span_s=60.0)
    for n in (5.0, 6.0, 0.0, 1.0):
        ring.put(frame(n))
    assert times(ring.between(0, 99)) == [0.0, 1.0]
    assert ring.bytes == 20


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 400)), max_size=60), st.integers(1, 1000))
def test_no_ring_is_larger_than_its_cap(steps: list[tuple[float, int]], cap: int) -> None:
    ring, now_s = Ring(bytes_max=cap, span_s=5.0), 0.0
    for step_s, size in steps:
        now_s += step_s
        ring.put(frame(now_s, size))
        kept = ring.between(-1, 1e9)
        assert ring.bytes == sum(len(one.jpeg) for one in kept) <= cap
        assert all(one.time_s >= now_s - 5.0 for one in kept)


@pytest.mark.parametrize(
    ("before", "after", "bytes_max", "taken", "complete"),
    [
        ([1, 2, 3], [4, 5, 6], 1000, [2, 3, 4, 5], True),
        ([1, 2, 3], [4], 1000, [2, 3, 4], False),
        ([], [3.5, 5.0, 5.1], 1000, [3.5, 5.0], True),
        ([2, 3], [4, 0.5, 1], 1000, [2, 3, 4], True),  # the recording began again
        ([2, 3], [4, 5, 6], 25, [2, 3], True),  # no more than it may hold
        ([], [9], 1000, [], True),
    ],
)
def test_a_clip_is_collected_from_before_and_after(
    before: list[float], after: list[float], bytes_max: int, taken: list[float], complete: bool
) -> None:
    collection = Collection(map(frame, before), from_s=2.0, to_s=5.0, bytes_max=bytes_max)
    for time_s in after:
        collection.add(frame(time_s))
    assert times(collection.frames) == taken
    assert collection.complete is complete
    assert len(taken) + collection.left_out >= len(taken)


@pytest.mark.parametrize(
    ("fps", "camera_fps", "expected"),
    [(5, 25, 50), (5, 30, 50), (10, 25, 100), (30, 25, 250), (5, 4, 40), (2, 7, 20)],
)
def test_the_rate_is_thinned_to_what_was_asked_for(fps: float, camera_fps: float, expected: int) -> None:
    rate = Rate(fps)
    passed = sum(rate.passes(n / camera_fps) for n in range(round(10 * camera_fps)))
    assert abs(passed - expected) <= 1


def test_the_rate_goes_on_when_the_clock_goes_back_or_jumps() -> None:
    rate = Rate(5)
    assert [rate.passes(t) for t in (100.0, 100.1, 0.0, 0.1, 0.2, 50.0, 50.1, 50.2)] == [
        True, False, True, False, True, True, False, True,
    ]  # fmt: skip


def alert(rule: str = "gate", state: str = "raised", camera: object = "cam1") -> Draft:
    data = {"camera_id": camera, "rule": rule, "state": state}
    return Draft(Lane.ALERT, f"Alert{state.title()}", "cam1", 1000, data, Severity.WARNING)


def event(kind: str, lane: Lane = Lane.EVENT) -> Draft:
    return Draft(lane, kind, "line-1", 1000, {"camera_id": "cam1"})


DEFAULT = EvidenceSettings().on


@pytest.mark.parametrize(
    ("on", "draft", "taken"),
    [
        (DEFAULT, alert(), True),
        (DEFAULT, alert(state="cleared"), False),
        (DEFAULT, event("LineCrossed"), False),
        (OnSettings(types=("LineCrossed",)), event("LineCrossed"), True),
        (OnSettings(types=("LineCrossed",)), alert(), False),
        (OnSettings(rules=("door",)), alert(), False),
        (OnSettings(cameras=("cam2",)), alert(), False),
        (OnSettings(), alert(camera=None), False),  # nothing to show
        (OnSettings(types=("StreamSample",)), event("StreamSample", Lane.SAMPLE), False),
        (OnSettings(types=("EvidenceStored",)), event("EvidenceStored", Lane.EVIDENCE), False),  # no end otherwise
    ],
)
def test_which_events_get_evidence(on: OnSettings, draft: Draft, taken: bool) -> None:
    assert Chooser(on, 0.0).takes(draft, 5.0) is taken


def test_each_rule_of_a_camera_has_a_cool_down_of_its_own() -> None:
    chooser = Chooser(OnSettings(), 10.0)
    said = [
        chooser.takes(alert("a"), 0.0),
        chooser.takes(alert("a"), 9.9),
        chooser.takes(alert("b"), 9.9),
        chooser.takes(alert("a", camera="cam2"), 9.9),
        chooser.takes(alert("a"), 10.0),
        chooser.takes(alert("a"), 19.0),
    ]
    assert said == [True, False, True, True, True, False]
    assert chooser.cooled_total == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (EvidenceSettings(enabled=True, jpeg=False, clip=False), "neither jpeg nor clip"),
        (EvidenceSettings(blur_regions=((0.5, 0.1, 0.5, 0.9),)), "blur_regions[0]: is empty"),
        (EvidenceSettings(blur=Blur.PEOPLE, person_classes=()), "person_classes: is empty"),
        (EvidenceSettings(blur=Blur.FACES, person_classes=(), face_classes=()), "face_classes: is empty"),
        (EvidenceSettings(on=OnSettings(cameras=("cam9",))), "no camera has the id 'cam9'"),
        (EvidenceSettings(on=OnSettings(rules=("x",), states=(AlertState.RAISED,))), "no rule is called 'x'"),
    ],
)
def test_impossible_settings_are_named(settings: EvidenceSettings, said: str) -> None:
    (only,) = evidence_mistakes(settings, ["cam1"], {"gate"})
    assert said in only
