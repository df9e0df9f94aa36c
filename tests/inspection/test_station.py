"""From pictures, signals and serials to verdicts, with plain numbers for time."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platforms.calibration import scaled
from platforms.manufacturing.inspection.outcomes import Judged, Problem
from platforms.manufacturing.inspection.picture import Fault
from platforms.manufacturing.inspection.settings import (
    Find,
    InspectionSettings,
    Moves,
    PartSettings,
    RuleSettings,
    SerialSettings,
    SerialSource,
    SignalSettings,
    Trigger,
    Verdict,
)
from platforms.manufacturing.inspection.station import Station
from tests.inspection.belt import FPS, Belt, BeltPart

MOTION = InspectionSettings(
    rules=(
        RuleSettings(Verdict.REJECT, ("crack",), confidence_min=0.5, unsure_from=0.3),
        RuleSettings(Verdict.REWORK, ("spatter",), confidence_min=0.5),
    )
)
SIGNAL = replace(MOTION, trigger=Trigger.SIGNAL, signal=SignalSettings(before_s=0.2, after_s=0.5, debounce_s=0.1))


def belt(settings: InspectionSettings, *parts: BeltPart, models: tuple[str, ...] = ("m",)) -> Belt:
    return Belt(Station(settings, models, scaled(0.5)), list(parts))


GOOD = BeltPart(-400)
BAD = BeltPart(-900, defects=(("crack", 0.9, 150.0), ("spatter", 0.8, 60.0)))


# ---- motion --------------------------------------------------------------------------------------


def test_each_part_gets_one_verdict_when_its_middle_passes_the_gate() -> None:
    line = belt(MOTION, GOOD, BAD)
    line.run(8.0)
    good, bad = line.judged
    assert [(one.number, one.verdict) for one in line.judged] == [(1, Verdict.OK), (2, Verdict.REJECT)]
    assert good.asked_s == pytest.approx((320 + 250) / 200, abs=0.1)
    assert bad.frames == 3
    assert bad.reasons == ("crack 10.0 mm", "spatter 10.0 mm")
    assert bad.length_mm == pytest.approx(150, abs=1)
    assert line.problems == []
    assert line.station.totals.verdicts == {"ok": 1, "reject": 1}


def test_a_part_that_only_one_of_three_pictures_shows_defective_is_no_reject() -> None:
    line = belt(MOTION, replace(GOOD, defects=(("crack", 0.9, 150.0),)))
    line.run(2.7)
    findings, line.parts[0] = line.parts[0], GOOD  # the last pictures before the gate show nothing
    line.run(4.0)
    assert findings.defects
    assert [one.verdict for one in line.judged] == [Verdict.OK]


@pytest.mark.parametrize(("confidence", "verdict"), [(0.2, Verdict.OK), (0.4, Verdict.UNSURE), (0.6, Verdict.REJECT)])
def test_between_the_confidences_nobody_can_say(confidence: float, verdict: Verdict) -> None:
    line = belt(MOTION, replace(GOOD, defects=(("crack", confidence, 150.0),)))
    line.run(5.0)
    assert [one.verdict for one in line.judged] == [verdict]


def test_a_belt_that_goes_back_and_forth_counts_a_part_once() -> None:
    line = belt(MOTION, GOOD)
    line.run(3.2)
    assert len(line.judged) == 1
    for speed in (-200.0, 200.0, -200.0, 200.0):
        line.speed = speed
        line.run(0.6)
    assert len(line.judged) == 1


def test_a_part_that_comes_back_in_at_the_exit_is_told_and_not_counted() -> None:
    line = belt(MOTION, GOOD)
    line.run(6.5)
    assert len(line.judged) == 1
    line.speed = -200.0
    line.run(1.8)
    assert [one.kind for one in line.problems] == ["part_twice"]
    line.speed = 200.0
    line.run(2.0)
    assert len(line.judged) == 1
    assert line.station.totals.parts == 1


def test_a_part_beyond_the_gate_when_the_camera_starts_is_nobodys() -> None:
    for parts in ((BeltPart(300.0), BeltPart(-300.0)), (BeltPart(-300.0), BeltPart(300.0))):
        line = belt(MOTION, *parts)
        line.run(6.0)
        assert [one.number for one in line.judged] == [1]


def test_frames_that_are_missing_on_the_way_make_no_second_part() -> None:
    line = belt(MOTION, GOOD)
    line.run(3.2)
    line.travelled += 60.0
    line.index += 6
    line.run(3.0)
    assert len(line.judged) == 1


def test_a_part_that_is_taken_away_before_the_gate_has_no_verdict() -> None:
    line = belt(MOTION, GOOD)
    line.run(2.0)
    line.parts.clear()
    line.run(4.0)
    assert line.outcomes == []
    assert line.station.waiting == 0


def test_a_part_that_passes_while_the_camera_is_black_is_unsure() -> None:
    line = belt(MOTION, GOOD)
    line.run(2.0)
    line.faults = frozenset({Fault.BLACK})
    line.run(4.0)
    line.faults = frozenset()
    line.run(1.0)
    assert [(one.verdict, one.reasons[0]) for one in line.judged] == [(Verdict.UNSURE, "camera_black")]


def test_a_part_longer_than_the_view_is_unsure() -> None:
    line = belt(MOTION, BeltPart(-900, length=800.0))
    line.run(10.0)
    (judged,) = line.judged
    assert judged.verdict is Verdict.UNSURE
    assert judged.reasons == ("part_incomplete",)


@pytest.mark.parametrize(
    ("region", "verdict"), [((0.0, 0.4, 1.0, 1.0), Verdict.REJECT), ((0.0, 0.6, 1.0, 1.0), Verdict.OK)]
)
def test_what_lies_outside_the_region_counts_for_nothing(
    region: tuple[float, float, float, float], verdict: Verdict
) -> None:
    line = belt(replace(MOTION, region=region), BeltPart(-400, defects=(("crack", 0.9, 150.0),)))
    line.run(5.0)
    assert [one.verdict for one in line.judged] == [verdict]


def test_a_defect_of_the_part_beside_it_is_not_its_own() -> None:
    line = belt(MOTION, BeltPart(-310), BeltPart(-640, defects=(("crack", 0.9, 290.0),)))
    line.run(7.0)
    assert [one.verdict for one in line.judged] == [Verdict.OK, Verdict.REJECT]


def test_upright_belts_go_the_same_way() -> None:
    settings = replace(MOTION, part=PartSettings(moves=Moves.DOWN))
    line = belt(settings, GOOD)
    line.run(5.0)
    assert [one.verdict for one in line.judged] == [Verdict.OK]


# ---- the camera ----------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.BLURRED, Fault.SHIFTED])
def test_a_camera_at_fault_makes_a_defective_part_unsure_and_never_a_reject(fault: Fault) -> None:
    line = belt(MOTION, BeltPart(-400, defects=(("crack", 0.9, 150.0),)))
    line.shifted = fault is Fault.SHIFTED
    line.faults = frozenset() if line.shifted else frozenset({fault})
    line.run(5.0)
    (judged,) = line.judged
    assert judged.verdict is Verdict.UNSURE
    assert judged.reasons[0] == f"camera_{fault.value}"
    assert judged.defects == ()
    assert [(one.kind, one.raised) for one in line.problems] == [(f"camera_{fault.value}", True)]


@pytest.mark.parametrize("fault", [Fault.BLACK, Fault.WHITE])
def test_a_blind_camera_is_told_once_and_again_when_it_sees(fault: Fault) -> None:
    line = belt(MOTION)
    line.run(1.0)
    line.faults = frozenset({fault})
    line.run(2.0)
    line.faults = frozenset()
    line.run(2.0)
    kinds = [(one.kind, one.raised) for one in line.problems]
    assert kinds == [(f"camera_{fault.value}", True), (f"camera_{fault.value}", False)]
    assert line.judged == []
    assert line.station.camera_faults == []


def test_a_blurred_camera_is_told_once_though_an_empty_belt_shows_no_edges() -> None:
    line = belt(MOTION, GOOD, replace(GOOD, at=-1300.0))
    line.faults = frozenset({Fault.BLURRED})
    for seconds, empty in ((5.5, False), (1.0, True), (4.0, False)):
        line.edge_px = None if empty else 6.0
        line.faults = frozenset() if empty else frozenset({Fault.BLURRED})
        line.run(seconds)
    assert [(one.kind, one.raised) for one in line.problems] == [("camera_blurred", True)]


def test_a_flash_of_darkness_is_no_fault_and_costs_no_part() -> None:
    line = belt(MOTION, GOOD)
    line.run(2.6)
    line.faults = frozenset({Fault.BLACK})
    line.run(0.2)
    line.faults = frozenset()
    line.run(3.0)
    assert line.problems == []
    assert [one.verdict for one in line.judged] == [Verdict.OK]


# ---- several models ------------------------------------------------------------------------------


def test_two_models_make_one_verdict_of_the_worst() -> None:
    line = belt(MOTION, GOOD, models=("a", "b"))
    for _ in range(100):
        line.model = "a"
        line.parts[0] = GOOD
        line.run(0.05)
        line.index -= 1  # the same picture, by the other model
        line.travelled -= 10.0
        line.model = "b"
        line.parts[0] = replace(GOOD, defects=(("crack", 0.9, 100.0),))
        line.run(0.05)
    assert [one.verdict for one in line.judged] == [Verdict.REJECT]
    assert line.judged[0].frames == 6


def test_a_model_that_is_silent_is_waited_for_and_then_makes_a_good_part_unsure() -> None:
    line = belt(MOTION, GOOD, models=("a", "b"))
    line.model = "a"
    line.run(2.9)
    assert line.judged == []
    due_s = line.station.wake_at()
    assert due_s is not None
    assert line.station.tick(due_s - 0.01) == []
    (judged,) = line.station.tick(due_s)
    assert isinstance(judged, Judged)
    assert (judged.verdict, judged.reasons) == (Verdict.UNSURE, ("model_silent b",))
    assert line.station.wake_at() is None


def test_what_one_model_saw_clearly_is_a_reject_though_the_other_is_silent() -> None:
    line = belt(MOTION, BeltPart(-400, defects=(("crack", 0.9, 150.0),)), models=("a", "b"))
    line.model = "a"
    line.run(4.0)
    assert [one.verdict for one in line.judged] == [Verdict.REJECT]


# ---- signals -------------------------------------------------------------------------------------


def standing(settings: InspectionSettings, *parts: BeltPart) -> Belt:
    line = belt(settings, *parts)
    line.speed = 0.0
    return line


def test_a_signal_is_answered_at_once_from_pictures_just_taken() -> None:
    line = standing(SIGNAL, BeltPart(150, defects=(("crack", 0.9, 150.0),)))
    line.run(1.0)
    said = line.station.signal(line.time_s + 0.01)
    assert [one.verdict for one in said if isinstance(one, Judged)] == [Verdict.REJECT]


def test_a_signal_waits_for_its_pictures() -> None:
    line = standing(replace(SIGNAL, signal=SignalSettings(before_s=0.0, after_s=1.0)), BeltPart(150))
    line.run(1.0)
    assert line.station.signal(line.time_s + 0.01) == []
    assert line.run(0.1) == []
    (judged,) = line.run(0.05)
    assert isinstance(judged, Judged)
    assert judged.frames == 3


def test_no_part_after_a_signal_is_told_and_answered() -> None:
    line = standing(SIGNAL)
    line.run(1.0)
    assert line.station.signal(line.time_s) == []
    problem, judged = line.run(0.6)
    assert isinstance(problem, Problem)
    assert isinstance(judged, Judged)
    assert (problem.kind, judged.verdict, judged.reasons, judged.number) == (
        "no_part", Verdict.UNSURE, ("no_part",), 0
    )  # fmt: skip
    assert line.station.totals.parts == 0


def test_no_pictures_after_a_signal_is_told_by_time_alone() -> None:
    line = standing(SIGNAL)
    line.run(0.1)
    line.station.signal(5.0)
    assert line.station.wake_at() == 5.5
    kinds = [one.kind for one in line.station.tick(5.5) if isinstance(one, Problem)]
    assert kinds == ["no_picture"]


def test_a_second_signal_for_the_same_part_is_not_counted() -> None:
    line = standing(SIGNAL, BeltPart(150))
    line.run(1.0)
    assert len(line.station.signal(line.time_s)) == 1
    bounce = line.station.signal(line.time_s + 0.02)
    line.run(0.5)
    again = line.station.signal(line.time_s)
    kinds = [one.kind for one in (*bounce, *again) if isinstance(one, Problem)]
    assert kinds == ["part_twice", "part_twice"]
    assert line.station.totals.parts == 1


def test_a_signal_with_a_black_camera_is_unsure_at_once() -> None:
    line = standing(SIGNAL, BeltPart(150))
    line.faults = frozenset({Fault.BLACK})
    line.run(2.0)
    said = line.station.signal(line.time_s)
    assert [(one.verdict, one.reasons) for one in said if isinstance(one, Judged)] == [
        (Verdict.UNSURE, ("camera_black",))
    ]


def test_without_a_way_to_see_parts_the_signal_is_believed() -> None:
    line = standing(replace(SIGNAL, part=PartSettings(find=Find.NONE)))
    line.run(1.0)
    (judged,) = line.station.signal(line.time_s)
    assert isinstance(judged, Judged)
    assert judged.verdict is Verdict.OK


# ---- serials -------------------------------------------------------------------------------------


def with_serials(**more: object) -> InspectionSettings:
    serial = SerialSettings(SerialSource.MQTT, "line/serial", pattern="[A-Z][0-9]+", required=True, **more)  # type: ignore[arg-type]
    return replace(MOTION, serial=serial)


def test_the_serial_that_came_before_a_part_is_its_own() -> None:
    line = belt(with_serials(), GOOD, BAD)
    line.run(1.0)
    line.station.given(line.time_s, " A1 \n")
    line.run(3.0)
    line.station.given(line.time_s, "A2")
    line.run(4.0)
    assert [one.serial for one in line.judged] == ["A1", "A2"]
    assert line.problems == []


def test_a_wrong_a_double_and_a_missing_serial_are_told() -> None:
    parts = [BeltPart(-400.0 - 500 * n) for n in range(4)]
    line = belt(with_serials(), *parts)
    for serial in ("A1", "b2", "A1", ""):
        if serial:
            line.station.given(line.time_s, serial)
        line.run(2.9)
    line.run(1.5)
    assert [one.kind for one in line.problems] == ["wrong_serial", "duplicate_serial", "missing_serial"]
    assert [one.repeat for one in line.judged] == [False, False, True, False]
    assert line.station.totals.parts == 3  # the one that was here before is not counted again


def test_a_serial_that_waited_too_long_is_nobodys() -> None:
    line = belt(with_serials(window_s=1.0), GOOD)
    line.station.given(0.0, "A1")
    line.run(5.0)
    assert [one.serial for one in line.judged] == [""]


def test_a_code_is_asked_for_and_waited_for() -> None:
    settings = replace(MOTION, serial=SerialSettings(SerialSource.CODE, wait_s=1.0))
    line = belt(settings, GOOD)
    line.run(2.9)
    assert line.judged == []
    ((part, sightings),) = line.station.unread()
    assert sightings
    (judged,) = line.station.read(part, "A7")
    assert isinstance(judged, Judged)
    assert judged.serial == "A7"
    assert line.station.unread() == []


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([1, 1, 1, 2, 3, 5]), min_size=20, max_size=120),
    faults=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 40), st.sampled_from(list(Fault))), max_size=3),
    defective=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_whatever_the_camera_does_a_part_has_at_most_one_verdict_and_a_good_one_is_never_rejected(
    gaps: list[int], faults: list[tuple[int, int, Fault]], defective: list[bool]
) -> None:
    crack = (("crack", 0.9, 150.0),)
    parts = [BeltPart(-350.0 - 480 * n, defects=crack if bad else ()) for n, bad in enumerate(defective)]
    line = belt(MOTION, *parts)
    for gap in gaps:
        line.index += gap - 1
        line.travelled += (gap - 1) * line.speed / FPS
        now = {fault for begin, length, fault in faults if begin <= line.index < begin + length}
        line.shifted = Fault.SHIFTED in now
        line.faults = frozenset(now - {Fault.SHIFTED})
        line.run(1 / FPS)
    assert len(line.judged) <= len(parts)
    assert [one.number for one in line.judged] == list(range(1, len(line.judged) + 1))
    assert sum(one.verdict is Verdict.REJECT for one in line.judged) <= sum(defective)
    for one in line.judged:
        if any(reason.startswith("camera_") for reason in one.reasons):
            assert one.verdict is Verdict.UNSURE


def test_a_clock_that_jumps_back_loses_no_part() -> None:
    line = belt(MOTION, GOOD, BAD)
    line.run(2.0)
    line.station.tick(line.time_s + 0.5)
    line.run(6.0)
    assert [one.verdict for one in line.judged] == [Verdict.OK, Verdict.REJECT]
