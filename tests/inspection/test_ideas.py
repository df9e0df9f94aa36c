"""Calibration, pictures, findings, rules, serials: each by itself."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platforms.calibration import (
    Calibration,
    CalibrationError,
    fit,
    read_calibration,
    scaled,
)
from platforms.manufacturing.inspection.findings import Defect, Sighting, best, merged, together
from platforms.manufacturing.inspection.picture import (
    CameraWatch,
    Fault,
    Reference,
    edge_width,
    is_shifted,
    look_at,
    spans_in,
)
from platforms.manufacturing.inspection.serials import SerialProblem, Serials, gs1, luhn
from platforms.manufacturing.inspection.settings import (
    CameraSettings,
    CheckDigit,
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
    inspection_mistakes,
)
from platforms.manufacturing.inspection.verdict import weigh
from platforms.stages import Found

WHOLE = (0.0, 0.0, 1.0, 1.0)


# ---- calibration ---------------------------------------------------------------------------------

TILTED = np.array([[0.4, 0.05, -20.0], [0.01, 0.5, 10.0], [0.0002, 0.0004, 1.0]])


def seen(points: np.ndarray) -> np.ndarray:
    """Where a tilted camera's pixels lie in mm."""
    through = np.column_stack([points, np.ones(len(points))]) @ TILTED.T
    return np.asarray(through[:, :2] / through[:, 2:])


def test_four_points_of_a_tilted_camera_give_its_plane() -> None:
    corners = np.array([[50, 40], [600, 60], [580, 330], [70, 300]], float)
    calibration = fit(corners, seen(corners))
    other = np.array([[320, 180], [100, 200]], float)
    assert calibration.millimetres(other) == pytest.approx(seen(other), abs=1e-6)
    assert calibration.residual_mm_max < 1e-6


def test_points_that_are_a_little_off_show_in_the_residual() -> None:
    rng = np.random.default_rng(1)
    points = rng.uniform(0, 600, (40, 2))
    calibration = fit(points, seen(points) + rng.normal(0, 0.2, (40, 2)))
    assert 0.1 < calibration.residual_mm_rms < 0.4
    assert calibration.residual_mm_max >= calibration.residual_mm_rms
    assert calibration.millimetres(points) == pytest.approx(seen(points), abs=0.6)


def test_two_points_give_scale_and_turn() -> None:
    calibration = fit([[0, 0], [100, 0]], [[5, 5], [5, 55]])
    assert calibration.size_of((0, 0, 100, 20)) == pytest.approx((50.0, 10.0, 500.0))


@pytest.mark.parametrize(
    ("pixels", "mm", "said"),
    [
        ([[0, 0]], [[0, 0]], "two make a scale"),
        ([[0, 0], [1, 1], [2, 0]], [[0, 0], [1, 1], [2, 0]], "two make a scale"),
        ([[0, 0], [0, 0]], [[0, 0], [1, 1]], "one"),
        ([[0, 0], [1, 1], [2, 2], [3, 3]], [[0, 0], [1, 1], [2, 2], [3, 3]], "line"),
        ([[0, 0], [1, math.nan], [2, 2], [3, 0]], [[0, 0], [1, 1], [2, 2], [3, 0]], "no number"),
    ],
)
def test_points_that_make_no_calibration(pixels: list[list[float]], mm: list[list[float]], said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        fit(pixels, mm)


def test_a_calibration_is_read_as_it_was_written_and_fits_pictures_of_other_sizes() -> None:
    calibration = fit([[0, 0], [640, 0], [640, 360], [0, 360]], [[0, 0], [320, 0], [320, 180], [0, 180]], (640, 360))
    again = read_calibration(calibration.to_json())
    assert again.size_of((0, 0, 64, 36), 640, 360) == pytest.approx((32.0, 18.0, 576.0))
    assert again.size_of((0, 0, 128, 72), 1280, 720) == pytest.approx((32.0, 18.0, 576.0))


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"matrix": 3}', '{"matrix": [[0,0,0],[0,0,0],[0,0,0]]}', "[" * 9999]
)
def test_a_file_that_is_no_calibration_is_refused(text: str) -> None:
    with pytest.raises(CalibrationError):
        read_calibration(text)


# ---- pictures ------------------------------------------------------------------------------------


def plate(x0: int, x1: int, *, width: int = 640, height: int = 360) -> np.ndarray:
    """A bright plate with a seam on a dark belt, with noise."""
    rng = np.random.default_rng(3)
    luma = np.full((height, width), 30.0)
    luma[60:300, max(x0, 0) : max(x1, 0)] = 120
    luma[170:190, max(x0, 0) : max(x1, 0)] = 80
    return np.clip(luma + rng.normal(0, 2, luma.shape), 0, 255).astype(np.uint8)


def blurred(luma: np.ndarray, sigma: float) -> np.ndarray:
    reach = int(3 * sigma)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(luma.astype(float), ((reach, reach), (0, 0)), mode="edge")
    smooth = sum(weight * padded[i : i + luma.shape[0]] for i, weight in enumerate(kernel))
    return np.asarray(np.clip(smooth, 0, 255), np.uint8)


def faults(luma: np.ndarray) -> frozenset[Fault]:
    return look_at(luma, PartSettings(), CameraSettings(), WHOLE).faults


@pytest.mark.parametrize(
    ("luma", "expected"),
    [
        (plate(100, 400), set()),
        (plate(700, 900), set()),  # an empty belt is no fault
        (np.full((360, 640), 4, np.uint8), {Fault.BLACK}),
        (np.full((360, 640), 255, np.uint8), {Fault.WHITE}),
        (blurred(plate(100, 400), 3.0), {Fault.BLURRED}),
    ],
    ids=["a part", "nothing", "black", "white", "blurred"],
)
def test_a_picture_shows_whether_the_camera_is_at_fault(luma: np.ndarray, expected: set[Fault]) -> None:
    assert faults(luma) == expected


def test_the_width_of_edges_grows_with_the_blur() -> None:
    widths = [edge_width(plate(100, 400))] + [edge_width(blurred(plate(100, 400), sigma)) for sigma in (1, 2, 3)]
    assert all(width is not None for width in widths)
    assert widths == sorted(widths, key=float)  # type: ignore[arg-type]
    assert edge_width(np.zeros((4, 4), np.uint8)) is None


@pytest.mark.parametrize(
    ("x0", "x1", "expected"),
    [
        (100, 400, [(100, 400, False, False)]),
        (-50, 200, [(0, 200, True, False)]),
        (500, 800, [(500, 640, False, True)]),
        (100, 120, []),  # dirt
    ],
)
def test_parts_are_found_along_the_belt(x0: int, x1: int, expected: list[tuple[float, float, bool, bool]]) -> None:
    found = spans_in(plate(x0, x1), PartSettings(), 0)
    assert [(s.start, s.end, s.cut_start, s.cut_end) for s in found] == expected


def test_parts_of_an_upright_belt_and_darker_ones_are_found_too() -> None:
    upright = np.ascontiguousarray(plate(100, 400, width=640, height=640).T)
    look = look_at(upright, PartSettings(moves=Moves.DOWN), CameraSettings(), (0.1, 0.05, 0.46, 1.0))
    assert [(span.start, span.end, span.complete) for span in look.spans] == [(100, 400, True)]
    assert look.extent == (32.0, 640.0)
    dark = spans_in(255 - plate(100, 400), PartSettings(find=Find.DARKER, level=0.7), 0)
    assert [(span.start, span.end) for span in dark] == [(100, 400)]


@pytest.mark.parametrize(("dx", "dy", "moved"), [(0, 0, False), (3, -2, False), (20, 0, True), (0, -15, True)])
def test_a_camera_that_was_moved_is_found_by_what_never_changes(dx: int, dy: int, moved: bool) -> None:
    rng = np.random.default_rng(5)
    scene = np.kron(rng.integers(0, 255, (60, 90)), np.ones((8, 8))).astype(np.uint8)
    reference = Reference(scene[40:400, 40:680], WHOLE)
    now = scene[40 + dy : 400 + dy, 40 + dx : 680 + dx]
    shift = reference.shift(np.clip(now + rng.normal(0, 3, now.shape), 0, 255).astype(np.uint8))
    assert (-shift.dx, -shift.dy) == pytest.approx((dx, dy), abs=5.1)
    assert is_shifted(shift, CameraSettings()) is moved


def test_a_camera_that_shows_something_else_counts_as_moved() -> None:
    rng = np.random.default_rng(5)
    reference = Reference(rng.integers(0, 255, (360, 640)).astype(np.uint8), WHOLE)
    assert is_shifted(reference.shift(rng.integers(0, 255, (360, 640)).astype(np.uint8)), CameraSettings())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 0.4), st.sets(st.sampled_from(list(Fault)))), max_size=30))
def test_faults_are_raised_and_cleared_in_turn_and_only_after_they_lasted(
    steps: list[tuple[float, set[Fault]]],
) -> None:
    watch, now_s = CameraWatch(0.5), 0.0
    raised: set[Fault] = set()
    for passed_s, now in steps:
        now_s += passed_s
        for change in watch.see(now_s, now):
            assert change.raised == (change.fault in now)
            assert now_s - change.time_s >= 0.5
            assert change.raised != (change.fault in raised)
            raised ^= {change.fault}
        assert watch.told == raised


# ---- findings ------------------------------------------------------------------------------------


def sighting(index: int, *found: tuple[str, float, float], begins: float = 0.0) -> Sighting:
    boxes = tuple(Found(label, sure, (begins + x, 100.0, begins + x + 20, 110.0)) for label, sure, x in found)
    return Sighting(index, index / 10, 1.0, boxes, (begins, 0.0), place=index / 10)


def test_one_defect_in_moving_pictures_is_one_with_the_mean_confidence() -> None:
    pictures = [sighting(n, ("crack", 0.6 + n / 10, 50.0), begins=100.0 * n) for n in range(3)]
    (defect,) = merged(pictures)
    assert (defect.label, defect.sightings, defect.index) == ("crack", 3, 2)
    assert defect.confidence == pytest.approx(0.7)
    assert defect.box[0] == 250.0


def test_two_defects_beside_each_other_and_two_classes_at_one_place_stay_two() -> None:
    apart = merged([sighting(0, ("pore", 0.9, 50.0), ("pore", 0.8, 120.0))])
    classes = merged([sighting(0, ("pore", 0.9, 50.0), ("crack", 0.8, 50.0))])
    assert (len(apart), len(classes)) == (2, 2)


def test_what_one_picture_of_four_shows_counts_a_quarter() -> None:
    (defect,) = merged([sighting(0, ("pore", 0.8, 50.0)), sighting(1), sighting(2), sighting(3)])
    assert defect.confidence == pytest.approx(0.2)


def test_what_two_models_call_the_same_is_one() -> None:
    first, second = merged([sighting(0, ("pore", 0.6, 50.0))]), merged([sighting(0, ("pore", 0.9, 52.0))])
    (only,) = together([first, second])
    assert only.confidence == pytest.approx(0.9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=40),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.02, 0.3]),
)
def test_the_best_pictures_are_few_and_of_different_places(
    given_: list[tuple[float, float]], most: int, apart: float
) -> None:
    kept: list[Sighting] = []
    for index, (quality, place) in enumerate(given_):
        kept = best(kept, Sighting(index, index / 10, quality, place=place), most, apart)
    assert len(kept) <= most
    stretches = [math.floor(one.place / apart) for one in kept] if apart else []
    assert len(set(stretches)) == len(stretches)
    if given_:
        assert kept


# ---- rules ---------------------------------------------------------------------------------------


def defect(label: str, confidence: float = 0.9, length: float = 20.0) -> Defect:
    return Defect(label, confidence, (0, 0, length, 4), 0, 0.0, (640, 360))


RULES = (
    RuleSettings(Verdict.REJECT, ("crack",)),
    RuleSettings(Verdict.REJECT, ("pore",), length_mm_min=5.0),
    RuleSettings(Verdict.REWORK, ("pore",), count_min=3),
    RuleSettings(Verdict.OK, ("stain",)),
)


@pytest.mark.parametrize(
    ("defects", "verdict", "count"),
    [
        ([], Verdict.OK, 0),
        ([defect("crack")], Verdict.REJECT, 1),
        ([defect("crack", 0.4)], Verdict.OK, 0),
        ([defect("pore", length=8)], Verdict.OK, 0),
        ([defect("pore", length=12)], Verdict.REJECT, 1),
        ([defect("pore", length=8)] * 2, Verdict.OK, 0),
        ([defect("pore", length=8)] * 3, Verdict.REWORK, 3),
        ([defect("stain")], Verdict.OK, 0),
        ([defect("unheard-of")], Verdict.UNSURE, 1),
        ([defect("unheard-of", 0.4)], Verdict.OK, 0),
    ],
)
def test_what_defects_mean(defects: list[Defect], verdict: Verdict, count: int) -> None:
    found, weighed = weigh(defects, RULES, Verdict.UNSURE, scaled(0.5))
    assert (found, len(weighed)) == (verdict, count)


def test_without_rules_each_defect_means_what_unlisted_says() -> None:
    assert weigh([defect("crack")], (), Verdict.REJECT, None)[0] is Verdict.REJECT


# ---- serials -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "right"), [("79927398713", True), ("79927398710", False), ("7", False)])
def test_luhn(text: str, right: bool) -> None:
    assert luhn(text) is right


@pytest.mark.parametrize(("text", "right"), [("4006381333931", True), ("4006381333932", False), ("", False)])
def test_gs1(text: str, right: bool) -> None:
    assert gs1(text) is right


def test_serials_are_remembered_up_to_a_limit() -> None:
    serials = Serials(SerialSettings(SerialSource.MQTT, memory=2, check=CheckDigit.NONE))
    assert [serials.check(text, n) for n, text in enumerate(("a", "b", "c"))] == [None, None, None]
    assert serials.check("a", 4) is None  # forgotten
    problem = serials.check("c", 5)
    assert problem is not None
    assert problem[0] is SerialProblem.DUPLICATE
    assert "part 2" in problem[1]


# ---- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (InspectionSettings(region=(0.5, 0, 0.5, 1)), "region"),
        (InspectionSettings(part=PartSettings(length_min=0.5, length_max=0.4)), "length_min"),
        (InspectionSettings(signal=SignalSettings(topic="a/b")), "takes none"),
        (InspectionSettings(trigger=Trigger.SIGNAL, signal=SignalSettings(topic="a/#")), "signal.topic"),
        (InspectionSettings(rules=(RuleSettings(Verdict.REJECT, length_mm_min=1),)), "no calibration"),
        (InspectionSettings(serial=SerialSettings(pattern="(")), "regular expression"),
        (InspectionSettings(serial=SerialSettings(SerialSource.MQTT)), "serial.topic"),
    ],
)
def test_settings_that_do_not_fit_together(table: InspectionSettings, said: str) -> None:
    assert any(said in text for text in inspection_mistakes(table))


def test_the_defaults_fit_together() -> None:
    assert inspection_mistakes(InspectionSettings()) == []
    assert Calibration(np.eye(3)).size_of((0, 0, 2, 1)) == pytest.approx((2, 1, 2))
