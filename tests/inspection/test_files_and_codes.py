"""`edge-agent calibrate` with pictures, codes that other programs have written, and lines of a chip that is none."""

import json
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import zxingcpp

from agent.__main__ import main
from agent.actions.fake_gpio import FakeInput, FakeLine
from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.stages.machine import NodeMachine
from agent.stages.place import SeenPicture
from platforms.assembly import assemble
from platforms.manufacturing.inspection.codes import read_codes
from platforms.manufacturing.inspection.files import load_calibration, load_reference, station_mistakes
from platforms.manufacturing.inspection.findings import Defect
from platforms.manufacturing.inspection.outcomes import Judged, Problem
from platforms.manufacturing.inspection.settings import (
    CalibrationSettings,
    CameraSettings,
    Form,
    InspectionSettings,
    OutputSettings,
    RuleSettings,
    SerialSettings,
    SerialSource,
    Verdict,
)
from platforms.manufacturing.inspection.stage import serial_in
from platforms.manufacturing.inspection.telling import Speaker, facts, messages
from platforms.manufacturing.inspection.verdict import Weighed
from platforms.settings import PlatformsTable
from platforms.stages import Fact, StageError

# ---- calibrate -----------------------------------------------------------------------------------


def chessboard(path: Path) -> np.ndarray:
    """9 x 6 inner corners of 40 px, seen at an angle; the homography that made it, board to pixels."""
    board = np.kron(np.indices((7, 10)).sum(axis=0) % 2, np.ones((40, 40))) * 255
    board = np.pad(board, 60, constant_values=255).astype(np.uint8)
    corners = np.array([[0, 0], [520, 0], [520, 400], [0, 400]], np.float32)
    seen = np.array([[30, 20], [600, 50], [560, 340], [60, 330]], np.float32)
    warp = cv2.getPerspectiveTransform(corners, seen)
    picture = cv2.warpPerspective(board, warp, (640, 360), borderValue=255)
    cv2.imwrite(str(path), cv2.GaussianBlur(picture, (3, 3), 0.8))
    return np.asarray(warp)


def test_a_chessboard_makes_a_calibration_with_a_small_residual(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    warp = chessboard(tmp_path / "board.png")
    command = ["calibrate", "--image", str(tmp_path / "board.png"), "--chessboard", "9x6", "--square-mm", "8"]
    assert main([*command, "--out", str(tmp_path / "station.json"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["points"], said["residual_mm_max"] < 0.2) == (54, True)
    calibration = load_calibration(CalibrationSettings(file=tmp_path / "station.json"))
    assert calibration is not None
    ends = cv2.perspectiveTransform(np.array([[[100, 100], [420, 100], [100, 300]]], np.float32), warp)[0]
    a, b, c = calibration.millimetres(ends, 640, 360)
    assert np.hypot(*(b - a)) == pytest.approx(64.0, abs=0.3)  # 320 px of the board are eight squares
    assert np.hypot(*(c - a)) == pytest.approx(40.0, abs=0.3)


def test_known_points_make_a_calibration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = ["100,100=0,0", "500,100=200,0", "500,300=200,100", "100,300=0,100", "300,200=100.5,50"]
    command = [word for point in points for word in ("--point", point)]
    assert main(["calibrate", *command, "--out", str(tmp_path / "c.json")]) == 0
    assert "5 points, residual" in capsys.readouterr().out
    refused = main(["calibrate", *command, "--out", str(tmp_path / "d.json"), "--residual-max", "0.01"])
    assert refused == 2
    assert not (tmp_path / "d.json").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "0 points"),
        (["--point", "1,2"], "pixels, then millimetres"),
        (["--point", "1,2=a,b"], "two numbers"),
        (["--chessboard", "9x6"], "--image"),
        (["--image", "nowhere.png", "--point", "1,2=3,4"], "nowhere.png"),
    ],
)
def test_what_makes_no_calibration_is_refused(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *arguments, "--out", str(tmp_path / "c.json")]) in (1, 2)
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    settings = InspectionSettings(
        calibration=CalibrationSettings(file=tmp_path / "c.json"),
        camera=CameraSettings(reference=tmp_path / "no.jpg"),
        rules=(RuleSettings(Verdict.REJECT, ("dent",)),),
    )
    told = station_mistakes(settings, NodeMachine(), ["crack"])
    assert [any(name in text for text in told) for name in ("c.json", "no.jpg", "dent")] == [True] * 3
    with pytest.raises(StageError):
        load_reference(settings.camera, NodeMachine())


# ---- codes ---------------------------------------------------------------------------------------


def on_a_part(code: np.ndarray, side: int) -> np.ndarray:
    """A code of `side` pixels, turned a little, on a grey plate with noise."""
    plate = np.full((360, 640), 150, np.uint8)
    small = cv2.resize(code, (side, side), interpolation=cv2.INTER_NEAREST)
    plate[100 : 100 + side, 200 : 200 + side] = small
    turned = cv2.warpAffine(plate, cv2.getRotationMatrix2D((320, 180), 7, 1.0), (640, 360), borderValue=150)
    noise = np.random.default_rng(1).normal(0, 6, turned.shape)
    return np.asarray(np.clip(turned + noise, 0, 255), np.uint8)


def test_a_qr_code_of_another_program_is_read() -> None:
    code = cv2.copyMakeBorder(
        cv2.QRCodeEncoder.create().encode("W-00417"), 4, 4, 4, 4, cv2.BORDER_CONSTANT, value=255
    )
    assert read_codes(on_a_part(code, 120)) == ["W-00417"]


def test_a_datamatrix_is_read_and_noise_is_none() -> None:
    barcode = zxingcpp.create_barcode("W-00418", zxingcpp.BarcodeFormat.DataMatrix)
    code = np.pad(np.array(barcode.to_image()), 4, constant_values=255)
    assert read_codes(on_a_part(code, 90)) == ["W-00418"]
    assert read_codes(np.random.default_rng(1).integers(0, 255, (360, 640)).astype(np.uint8)) == []


@pytest.mark.parametrize(
    ("payload", "serial"),
    [
        (b"A1", "A1"),
        (b' {"serial": "A1"} ', "A1"),
        (b'{"serial": 17}', "17"),
        (b'{"serial": [1]}', ""),
        (b"{", ""),
        (b"", ""),
        (b"\xff", "�"),
    ],
)
def test_a_serial_comes_plain_or_in_an_object(payload: bytes, serial: str) -> None:
    assert serial_in(payload) == serial


# ---- input lines ---------------------------------------------------------------------------------


def test_an_input_line_tells_each_rise_once(tmp_path: Path) -> None:
    drives = FakeLine(tmp_path / "chip.json", 4, active_low=False)
    line = FakeInput(tmp_path / "chip.json", 4, active_low=False)
    assert line.wait(0.0) == []
    for active in (True, False, True, True, False):
        drives.set(active)
    assert len(line.wait(0.0)) == 2
    assert line.wait(0.0) == []
    later = threading.Timer(0.05, drives.set, (True,))
    later.start()
    (at_ns,) = line.wait(30.0)
    assert at_ns <= time.monotonic_ns()
    later.join()


def test_an_input_that_is_active_low_tells_falls(tmp_path: Path) -> None:
    drives = FakeLine(tmp_path / "chip.json", 4, active_low=False)
    drives.set(True)
    line = FakeInput(tmp_path / "chip.json", 4, active_low=True)
    drives.set(False)
    assert len(line.wait(0.0)) == 1


# ---- what is said --------------------------------------------------------------------------------

SPEAKER = Speaker("weld", "weld-3.1")
CRACK = Weighed(Defect("crack", 0.91, (10.04, 20, 30, 40), 7, 1.5, (640, 360), 3), Verdict.REJECT, 12.5, 3.0, 37.5)
JUDGED = Judged(17, Verdict.REJECT, 1.5, 1.6, ("crack 12.5 mm",), (CRACK,), "A1", 3, 7, length_mm=150.0)


def checked(found: list[Fact]) -> list[Fact]:
    """None that its schema does not allow."""
    check = assemble(PlatformsTable(("manufacturing",))).catalogue.check
    assert all(check(fact.type, {"camera_id": "cam1", "time_s": 1.5, **fact.data}) for fact in found)
    return found


def test_the_events_of_a_part_are_as_declared() -> None:
    best = SeenPicture(Frame("cam1", 7, 1.5, 0, 1007, RgbPicture(np.zeros((360, 640, 3), np.uint8))))
    defect, part = checked(facts(JUDGED, SPEAKER, {7: best}, 4.2))
    assert (defect.type, defect.subject, defect.picture) == ("DefectDetected", "weld-3.1-17.1", best)
    assert (defect.data["defect_type"], defect.data["box"]) == ("crack", [10.0, 20, 30, 40])
    assert (part.type, part.data["verdict"], part.data["serial"]) == ("PartInspected", "reject", "A1")


def test_problems_are_as_declared() -> None:
    told = [Problem("no_part", 1.0, "nothing"), Problem("camera_black", 1.0, raised=True)]
    found = checked([fact for one in told for fact in facts(one, SPEAKER, {}, 0.0)])
    assert [fact.data["state"] for fact in found] == ["", "raised"]


def test_the_message_for_a_plc_is_flat_and_small() -> None:
    ((topic, payload),) = messages(JUDGED, SPEAKER, OutputSettings("line/v"), 4.2)
    said = json.loads(payload)
    assert all(isinstance(value, str | int | float) for value in said.values())
    assert (said["verdict"], said["code"], said["part"], said["worst"], said["ms"]) == ("reject", 3, 17, "crack", 4.2)
    assert len(payload) < 300
    assert topic == "line/v"


def test_plain_values_go_on_topics_of_their_own_the_verdict_last() -> None:
    found = messages(JUDGED, SPEAKER, OutputSettings("line/v", Form.VALUES), 4.2)
    assert found[-1] == ("line/v/verdict", b"reject")
    assert dict(found)["line/v/code"] == b"3"
    assert messages(JUDGED, SPEAKER, OutputSettings(), 4.2) == []


def test_a_signal_without_a_part_is_answered_and_is_no_event() -> None:
    nothing = Judged(0, Verdict.UNSURE, 1.0, 1.0, ("no_part",))
    assert facts(nothing, SPEAKER, {}, 0.0) == []
    ((_, payload),) = messages(nothing, SPEAKER, OutputSettings("line/v"), 500.0)
    assert json.loads(payload)["reason"] == "no_part"


def test_settings_for_codes_are_checked_on_this_machine() -> None:
    assert station_mistakes(InspectionSettings(serial=SerialSettings(SerialSource.CODE)), NodeMachine(), []) == []
