"""The demonstration: its scene, its matrix, and a short run of the whole of it."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from platforms.manufacturing.demo.matrix import FAULT, MEANS, confusion, truth_of
from platforms.manufacturing.demo.scene import FAULTS, FIXED, WeldStation
from platforms.manufacturing.inspection.picture import Fault, Reference, is_shifted, look_at
from platforms.manufacturing.inspection.settings import CameraSettings, PartSettings, Verdict
from platforms.manufacturing.weld_parts import DefectKind

ROOT = Path(__file__).resolve().parents[2]
WHOLE = (0.0, 0.0, 1.0, 1.0)


@pytest.fixture(scope="module")
def scene() -> WeldStation:
    return WeldStation(7, line="stainless", faults=1)


def test_the_camera_has_its_faults_when_the_scene_says_so(scene: WeldStation) -> None:
    settings = CameraSettings(fixed=FIXED)
    reference = Reference(scene.render(0)[:, :, 1], FIXED)
    for begin_s, end_s, fault in FAULTS:
        index = round((begin_s + end_s) / 2 * scene.fps)
        luma = scene.render(index)[:, :, 1]
        look = look_at(luma, PartSettings(), settings, WHOLE)
        assert scene.fault_at(index) is fault
        if fault is Fault.SHIFTED:
            assert look.faults == frozenset()
            assert is_shifted(reference.shift(luma), settings)
        else:
            assert look.faults == {fault}


def test_the_parts_of_a_frame_are_where_they_are_seen(scene: WeldStation) -> None:
    for index in (100, 170, 300):
        look = look_at(scene.render(index)[:, :, 1], PartSettings(), CameraSettings(), WHOLE)
        seen = [(span.start, span.end) for span in look.spans if span.complete]
        there = [part.xyxy for part in scene.parts(index) if part.xyxy[0] > 5 and part.xyxy[2] < 635]
        assert len(seen) == len(there)
        for (start, end), (x0, _, x1, _) in zip(seen, there, strict=True):
            assert (start, end) == pytest.approx((x0, x1), abs=8)


def test_right_verdicts_make_a_diagonal_and_each_mistake_its_own_place(scene: WeldStation) -> None:
    parts = list(scene.passing(0, round(17 * scene.fps)))
    events = [
        {"verdict": truth_of(part), "time_s": part.index / scene.fps, "place_px": scene.size[0] / 2} for part in parts
    ]
    matrix = confusion(scene, events)
    assert matrix.figures()["right"] == 1.0
    assert matrix.parts == len(parts) >= 4
    bad = next(i for i, part in enumerate(parts) if truth_of(part) != Verdict.OK)
    escaped = confusion(scene, [e | {"verdict": "ok"} if i == bad else e for i, e in enumerate(events)])
    assert escaped.counts[truth_of(parts[bad]), "ok"] == 1
    assert escaped.figures()["escaped"] > 0
    missed = confusion(scene, [e for i, e in enumerate(events) if i != 1])
    assert missed.counts[truth_of(parts[1]), "none"] == 1
    assert confusion(scene, [*events, events[1]]).doubled == 1
    assert confusion(scene, [*events, {**events[1], "place_px": -50.0}]).unmatched == 1
    assert confusion(scene, []).parts == 0


def test_each_class_of_defect_means_something() -> None:
    assert set(MEANS) == set(DefectKind)


def test_a_part_that_passes_while_the_camera_is_at_fault_is_in_its_own_row(scene: WeldStation) -> None:
    begin_s, end_s, _ = FAULTS[0]
    during = list(scene.passing(round(begin_s * scene.fps), round(end_s * scene.fps)))
    assert during
    assert all(truth_of(part) == FAULT for part in during)


def test_the_same_frame_is_the_same_picture(scene: WeldStation) -> None:
    other = WeldStation(7, line="stainless", faults=1)
    for index in (10, round(20 * scene.fps), round(47 * scene.fps)):
        assert np.array_equal(scene.render(index), other.render(index))


@pytest.mark.slow
def test_the_demonstration_ends_with_its_matrix() -> None:
    command = ["scripts/demo", "--no-setup", "--platform", "manufacturing", "--seconds", "40", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    inspection = json.loads(done.stdout.splitlines()[-1])["inspection"]
    assert inspection["parts"] >= 1
    assert inspection["unmatched"] == inspection["rejected_at_fault"] == 0
    assert set(inspection["matrix"]) == {"ok", "rework", "reject", FAULT}
    assert "truth" in done.stderr
