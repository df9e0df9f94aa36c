"""A station on the frame path: real pictures in, what is said out."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.infer.detections import Detections
from agent.outbox.rows import Draft
from agent.stages.machine import NodeMachine
from agent.stages.place import NodePlace, Said, Seat
from platforms.manufacturing.inspection.outcomes import Judged
from platforms.manufacturing.inspection.settings import (
    CalibrationSettings,
    CameraSettings,
    Find,
    InspectionSettings,
    OutputSettings,
    PartSettings,
    SerialSettings,
    SerialSource,
    SignalSettings,
    Trigger,
)
from platforms.manufacturing.inspection.stage import InspectionStage
from runtime.mqtt import Message

WAIT_S = 30.0
SETTINGS = InspectionSettings(
    trigger=Trigger.SIGNAL,
    part=PartSettings(find=Find.NONE, frames=2),
    signal=SignalSettings(before_s=10.0, after_s=5.0),
    calibration=CalibrationSettings(mm_per_px=0.5),
)


class Everything:
    """An outlet through which all leaves."""

    def leaving(self, drafts: Sequence[Draft]) -> list[Draft]:
        return list(drafts)


def picture(code: str = "", *, moved: int = 0) -> RgbPicture:
    """A machine with marks at its top, a plate, perhaps with a code on it."""
    rng = np.random.default_rng(4)
    grey = np.full((360, 640), 40.0)
    grey[:40] = np.kron(rng.integers(0, 2, (5, 80)), np.ones((8, 8))) * 200 + 20
    grey[80:320, 100:500] = 150
    if code:
        modules = np.pad(cv2.QRCodeEncoder.create().encode(code), 4, constant_values=255)
        side = modules.shape[0] * 4
        grey[120 : 120 + side, 200 : 200 + side] = np.kron(modules, np.ones((4, 4)))
    grey = np.roll(grey, moved, axis=1) + rng.normal(0, 2, grey.shape)
    return RgbPicture(np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[:, :, None], 3, axis=2))


@dataclass
class Line:
    """A station at its place, and what it has said."""

    stage: InspectionStage
    seat: Seat
    said: list[Draft]
    published: list[Message]

    def show(self, index: int, what: RgbPicture, found: Detections | None = None) -> None:
        now_ns = time.monotonic_ns()
        frame = Frame("cam1", index, now_ns / 1e9, now_ns, 1000 + index, what)
        self.seat.look(frame)
        self.seat.seen(frame, ("crack",), found or Detections.none())

    @property
    def parts(self) -> list[Mapping[str, Any]]:
        return [draft.data for draft in self.said if draft.type == "PartInspected"]


@asynccontextmanager
async def line_of(settings: InspectionSettings) -> AsyncIterator[Line]:
    said: list[Draft] = []
    published: list[Message] = []

    def say(one: Said) -> None:
        said.extend(one.drafts)

    with ThreadPoolExecutor(1) as threads:
        loop = asyncio.get_running_loop()
        place = NodePlace("cam1", "weld", say=say, publish=published.append, threads=threads, loop=loop)
        stage = InspectionStage(settings, ("weld",))
        stage.open(place)
        stage.load(NodeMachine())
        place.begin("weld-1.1", Everything(), live=True)  # type: ignore[arg-type]
        stage.begin()
        yield Line(stage, Seat("weld", [(stage, place)]), said, published)
        assert place.failures_total == 0


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.01)


def test_the_code_on_a_part_becomes_its_serial() -> None:
    async def run() -> list[Mapping[str, Any]]:
        settings = replace(SETTINGS, serial=SerialSettings(SerialSource.CODE, wait_s=5.0))
        async with line_of(settings) as line:
            for index in range(3):
                line.show(index, picture("W-00417"))
            line.stage.line(time.monotonic_ns())
            await until(lambda: line.parts)
            return line.parts

    (only,) = asyncio.run(run())
    assert (only["serial"], only["verdict"], only["part_id"]) == ("W-00417", "ok", "weld-1.1-1")


def test_a_part_without_a_readable_code_is_judged_when_the_wait_is_over() -> None:
    async def run() -> list[Draft]:
        settings = replace(SETTINGS, serial=SerialSettings(SerialSource.CODE, required=True, wait_s=0.2))
        async with line_of(settings) as line:
            for index in range(3):
                line.show(index, picture())
            line.stage.line(time.monotonic_ns())
            assert line.said == []
            await until(lambda: line.parts)
            return line.said

    problem, only = asyncio.run(run())
    assert (problem.type, problem.data["problem"]) == ("InspectionProblem", "missing_serial")
    assert (only.type, only.data["serial"]) == ("PartInspected", "")


def test_a_camera_that_was_moved_makes_parts_unsure(tmp_path: Path) -> None:
    reference = tmp_path / "station.png"
    cv2.imwrite(str(reference), picture().rgb()[:, :, ::-1])
    crack = Detections(
        np.array([[200, 150, 240, 160]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    )
    camera = CameraSettings(reference=reference, fixed=(0.0, 0.0, 1.0, 0.11), hold_s=0.0)

    async def run(moved: int) -> list[Draft]:
        async with line_of(replace(SETTINGS, camera=camera)) as line:
            for index in range(3):
                line.show(index, picture(moved=moved), crack)
            line.stage.line(time.monotonic_ns())
            await until(lambda: line.parts)
            return line.said

    defect, part = asyncio.run(run(0))
    assert (defect.type, defect.data["defect_type"], part.data["verdict"]) == ("DefectDetected", "crack", "reject")
    problem, only = asyncio.run(run(30))
    assert problem.data["problem"] == "camera_shifted"
    assert (only.type, only.data["verdict"], only.data["defects"]) == ("PartInspected", "unsure", 0)


def test_a_call_gets_the_verdict_of_its_own_signal() -> None:
    async def run() -> tuple[Judged | None, Judged | None]:
        async with line_of(SETTINGS) as line:
            stage = line.stage
            assert await stage.answer(time.monotonic_ns(), "A0", 0.1) is None  # no picture yet
            for index in range(3):
                line.show(index, picture())
            first = await stage.answer(time.monotonic_ns(), "A1", 5.0)
            again = await stage.answer(time.monotonic_ns(), "A2", 0.1)  # within debounce_s
            return first, again

    first, again = asyncio.run(run())
    assert first is not None
    assert (first.serial, again) == ("A1", None)


def test_a_verdict_is_published_before_it_is_said() -> None:
    async def run() -> list[Message]:
        settings = replace(SETTINGS, output=OutputSettings("line/verdict", retain=True))
        async with line_of(replace(settings, signal=replace(SETTINGS.signal, topic="line/signal"))) as line:
            for index in range(3):
                line.show(index, picture())
            line.stage.heard("line/signal", b'{"serial": "A1"}')
            assert [part["serial"] for part in line.parts] == ["A1"]
            return line.published

    (message,) = asyncio.run(run())
    assert (message.topic, message.retain) == ("line/verdict", True)
    assert json.loads(message.payload)["serial"] == "A1"
