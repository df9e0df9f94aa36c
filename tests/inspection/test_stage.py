"""A station on the frame path: real pictures in, what is said out; and the local broker coming and going."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.config import PipelineConfig
from agent.infer.detections import Detections
from agent.inspection import inspections as module
from agent.inspection.inspections import Inspections
from agent.inspection.stage import Said, Stage
from agent.outbox.rows import Draft
from platforms.manufacturing.inspection.outcomes import Judged, Outcome, Problem
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
    Verdict,
)
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from tests.broker import broker, free_port, start_broker

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


@asynccontextmanager
async def stage_of(settings: InspectionSettings) -> AsyncIterator[tuple[Stage, list[Outcome]]]:
    said: list[Outcome] = []

    def say(one: Said) -> None:
        said.extend(one.outcomes)

    with ThreadPoolExecutor(1) as readers:
        stage = Stage(settings, "cam1", "weld", say=say, readers=readers)
        stage.begin("weld-1.1", Everything(), live=True)  # type: ignore[arg-type]
        yield stage, said


def show(stage: Stage, index: int, what: RgbPicture, found: Detections | None = None) -> None:
    now_ns = time.monotonic_ns()
    frame = Frame("cam1", index, now_ns / 1e9, now_ns, 1000 + index, what)
    stage.look(frame)
    stage.seen("weld", frame, ("crack",), found or Detections.none())


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.01)


def judged(said: Sequence[Outcome]) -> list[Judged]:
    return [one for one in said if isinstance(one, Judged)]


def test_the_code_on_a_part_becomes_its_serial() -> None:
    async def run() -> list[Judged]:
        settings = replace(SETTINGS, serial=SerialSettings(SerialSource.CODE, wait_s=5.0))
        async with stage_of(settings) as (stage, said):
            for index in range(3):
                show(stage, index, picture("W-00417"))
            stage.signal(time.monotonic_ns())
            await until(lambda: judged(said))
            return judged(said)

    (only,) = asyncio.run(run())
    assert (only.serial, only.verdict) == ("W-00417", Verdict.OK)


def test_a_part_without_a_readable_code_is_judged_when_the_wait_is_over() -> None:
    async def run() -> list[Outcome]:
        settings = replace(SETTINGS, serial=SerialSettings(SerialSource.CODE, required=True, wait_s=0.2))
        async with stage_of(settings) as (stage, said):
            for index in range(3):
                show(stage, index, picture())
            stage.signal(time.monotonic_ns())
            assert said == []
            await until(lambda: judged(said))
            return said

    problem, only = asyncio.run(run())
    assert isinstance(problem, Problem)
    assert isinstance(only, Judged)
    assert (problem.kind, only.serial) == ("missing_serial", "")


def test_a_camera_that_was_moved_makes_parts_unsure(tmp_path: Path) -> None:
    reference = tmp_path / "station.png"
    cv2.imwrite(str(reference), picture().rgb()[:, :, ::-1])
    crack = Detections(
        np.array([[200, 150, 240, 160]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    )
    camera = CameraSettings(reference=reference, fixed=(0.0, 0.0, 1.0, 0.11), hold_s=0.0)

    async def run(moved: int) -> list[Outcome]:
        async with stage_of(replace(SETTINGS, camera=camera)) as (stage, said):
            for index in range(3):
                show(stage, index, picture(moved=moved), crack)
            stage.signal(time.monotonic_ns())
            await until(lambda: judged(said))
            return said

    assert [one.verdict for one in judged(asyncio.run(run(0)))] == [Verdict.REJECT]
    problem, only = asyncio.run(run(30))
    assert isinstance(problem, Problem)
    assert isinstance(only, Judged)
    assert (problem.kind, only.verdict, only.defects) == ("camera_shifted", Verdict.UNSURE, ())


def test_a_call_gets_the_verdict_of_its_own_signal() -> None:
    async def run() -> tuple[Judged | None, Judged | None]:
        async with stage_of(SETTINGS) as (stage, _):
            assert await stage.answer(time.monotonic_ns(), "A0", 0.1) is None  # no picture yet
            for index in range(3):
                show(stage, index, picture())
            first = await stage.answer(time.monotonic_ns(), "A1", 5.0)
            again = await stage.answer(time.monotonic_ns(), "A2", 0.1)  # within debounce_s
            return first, again

    first, again = asyncio.run(run())
    assert first is not None
    assert (first.serial, again) == ("A1", None)


# ---- the local broker ----------------------------------------------------------------------------


class Outbox:
    """Takes all."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    async def append(self, drafts: Sequence[Draft]) -> None:
        self.drafts += drafts


@pytest.mark.parametrize("too_late", [False, True])
def test_a_verdict_waits_for_the_local_broker_but_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_late: bool
) -> None:
    if too_late:
        monkeypatch.setattr(module, "HELD_S", -1.0)
    port = free_port()
    settings = replace(SETTINGS, output=OutputSettings("line/verdict", retain=True))

    async def run() -> Inspections:
        config = PipelineConfig("cam1", "model", "weld", inspection=settings)
        address = BrokerAddress("127.0.0.1", port)
        found = Inspections([config], node="gw-1", broker=address, outbox=Outbox(), evidence=None)  # type: ignore[arg-type]
        try:
            found.stages["weld"].signal(time.monotonic_ns())
            assert found.report()["output"]["waiting"] == 1
            running = start_broker(tmp_path, port)
            task = asyncio.create_task(found._broker.run())
            await until(lambda: found.report()["output"]["waiting"] == 0)
            if not too_late:
                assert json.loads(await retained(address))["reason"] == "no_picture"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            running.stop()
        finally:
            found.close()
        return found

    stats = asyncio.run(run()).stats
    assert (stats.published, stats.dropped) == ((0, 1) if too_late else (1, 0))


async def retained(address: BrokerAddress) -> bytes:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def receive(delivery: Delivery) -> None:
        if not heard.done():
            heard.set_result(delivery.payload)

    connection = Connection(address, client_id="plc", on_message=receive)
    await connection.connect()
    await connection.subscribe({"line/verdict": 1})
    try:
        return await asyncio.wait_for(heard, WAIT_S)
    finally:
        await connection.close()


def test_a_signal_that_was_retained_is_of_the_past(tmp_path: Path) -> None:
    settings = replace(SETTINGS, signal=replace(SETTINGS.signal, topic="line/signal"))

    async def run(port: int) -> tuple[int, int]:
        address = BrokerAddress("127.0.0.1", port)
        config = PipelineConfig("cam1", "model", "weld", inspection=settings)
        found = Inspections([config], node="gw-1", broker=address, outbox=Outbox(), evidence=None)  # type: ignore[arg-type]
        heard: list[bytes] = []
        found._topics["line/signal"].append(heard.append)
        task = asyncio.create_task(found._broker.run())
        connection = Connection(address, client_id="line", on_message=lambda delivery: None)
        await connection.connect()
        await until(lambda: found._broker.is_connected)
        before = len(heard)
        connection.publish(Message("line/signal", b"live"))
        await until(lambda: heard)
        await connection.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found.close()
        return before, len(heard)

    with broker(tmp_path) as running:

        async def leave_one() -> None:
            connection = Connection(
                BrokerAddress("127.0.0.1", running.port), client_id="old", on_message=lambda delivery: None
            )
            await connection.connect()
            connection.publish(Message("line/signal", b"old", retain=True))
            await asyncio.sleep(0.2)
            await connection.close()

        asyncio.run(leave_one())
        assert asyncio.run(run(running.port)) == (0, 1)
