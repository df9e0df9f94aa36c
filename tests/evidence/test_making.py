"""From an event to a file that is bound to it: the driver with a real outbox, a real store and real threads."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.actions.settings import OnSettings
from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.degrade.switches import Switch, Switches
from agent.evidence.evidence import WANTED_MAX, Evidence
from agent.evidence.maker import UNKNOWN
from agent.evidence.settings import Blur, EvidenceSettings
from agent.evidence.store import EvidenceStore
from agent.evidence.tables import Binding, Piece
from agent.infer.detections import Detections
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from agent.outbox.settings import OutboxSettings
from agent.track.tracks import Tracks
from schemas.identity import Lane
from schemas.messages import Severity
from tests.capture.helpers import moving
from tests.coordinator.sender import until

LABELS = ("person", "car")


class Scene:
    """One agent's evidence, its outbox and a camera that is told what to give."""

    def __init__(self, folder: Path, *, private: bool = False, **settings: Any) -> None:
        base = {
            "enabled": True,
            "free_bytes_min": 0,
            "pre_s": 1.0,
            "post_s": 1.0,
            "cooldown_s": 0.0,
            "clip_fps": 10.0,
        }
        self.settings = EvidenceSettings(**(base | settings))
        self.file = OutboxFile(folder / "outbox.db", node="gw-1", boot=1, settings=OutboxSettings())
        self.outbox = Outbox(self.file)
        self.store = EvidenceStore(folder, self.settings)
        self.switches = Switches()
        self.announced: list[str] = []
        self.evidence = Evidence(
            self.settings,
            self.store,
            ["cam1"],
            private=frozenset(["cam1"] if private else []),
            outbox=self.outbox,
            switches=self.switches,
            announce=lambda kind, subject, data: self.announced.append(kind),
        )
        self.rows: list[Row] = []
        self.outbox.on_append = self.evidence.expect
        self.outbox.on_committed = self._committed

    def _committed(self, rows: list[Row]) -> None:
        self.rows += rows
        self.evidence.committed(rows)

    async def film(self, from_s: float, to_s: float, *, people: bool = True) -> None:
        """Ten frames a second, with what a model saw in each."""
        for n in range(round(from_s * 10), round(to_s * 10)):
            frame = picture(n / 10)
            while self.evidence._cameras["cam1"].waiting:  # the ring's thread keeps up: nothing is left out
                await asyncio.sleep(0)
            self.evidence.frame(frame)
            if people:
                self.evidence.decided(LABELS, frame, SEEN, NOTHING, [])
        await until(lambda: not self.evidence._cameras["cam1"].waiting)

    async def happens(self, time_s: float, *, held: bool = True, n: int = 1) -> str:
        """An alert at that moment; the id it gets."""
        draft = Draft(
            Lane.ALERT, "AlertRaised", "cam1", round(time_s * 1000),
            {"camera_id": "cam1", "time_s": time_s, "rule": f"r{n}", "state": "raised", "alert_id": f"a{n}"},
            Severity.CRITICAL,
        )  # fmt: skip
        if held:
            self.evidence.decided(LABELS, picture(time_s), SEEN, NOTHING, [draft])
        await self.outbox.append([draft])
        return str(json.loads(self.rows[-1].payload)["id"])

    def told(self) -> list[dict[str, Any]]:
        rows = [json.loads(row.payload) for row in self.rows if row.type == "EvidenceStored"]
        return [row["data"] for row in rows]


SEEN = Detections(np.array([[0, 0, 80, 60]], np.float32), np.ones(1, np.float32), np.zeros(1, np.int32))
NOTHING = Tracks(
    np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(0),
    np.zeros(0), np.zeros(0, np.bool_), np.zeros(0, np.int64),
)  # fmt: skip


def picture(time_s: float) -> Frame:
    return Frame("cam1", round(time_s * 10), time_s, 0, round(time_s * 1000), RgbPicture(moving(round(time_s * 10))))


@asynccontextmanager
async def scene(folder: Path, **settings: Any) -> AsyncIterator[Scene]:
    one = Scene(folder, **settings)
    task = asyncio.create_task(one.evidence.run())
    try:
        yield one
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        one.evidence.close()
        one.file.close()


def test_an_alert_gets_a_picture_and_a_clip_bound_to_it(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as one:
            await one.film(0.0, 3.0)
            event_id = await one.happens(2.5)
            await one.film(3.0, 4.0)
            await until(lambda: len(one.told()) == 2)
            still, clip = one.told()
            assert (still["content_type"], clip["content_type"]) == ("image/jpeg", "video/mp4")
            assert still["from_utc_ms"] == still["to_utc_ms"] == 2500
            assert (clip["from_utc_ms"], clip["to_utc_ms"]) == (1500, 3500)
            for told in (still, clip):
                kept = one.store.get(told["sha256"])
                assert kept is not None
                assert (told["event_id"], told["event_type"], told["alert_id"]) == (event_id, "AlertRaised", "a1")
                assert kept.events == (Binding(event_id, "AlertRaised", 2500, "a1", "critical"),)
                assert len(one.store.files.path(kept.sha256).read_bytes()) == told["bytes"]
            assert one.evidence.report()["ring_dropped_total"] == 0

    asyncio.run(run())


def test_nothing_of_a_camera_with_a_local_only_pipeline_leaves(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, private=True) as one:
            await one.film(0.0, 3.0)
            await one.happens(2.5)
            await one.film(3.0, 4.0)
            await until(lambda: len(one.told()) == 2)
            assert all(told["local_only"] and "local_only" in told["reason"] for told in one.told())
            assert one.store.figures()["kept"] == 2
            assert one.store.next_to_send(all_of_it=True, without=frozenset()) is None

    asyncio.run(run())


def test_a_machine_that_does_less_keeps_pictures_and_no_clips(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path) as one:
            one.switches.turn_off_only(frozenset({Switch.EVIDENCE_CLIPS}))
            await one.film(0.0, 1.0)
            await one.happens(0.5)
            await one.film(1.0, 3.0)
            await until(lambda: one.told())
            one.switches.turn_off_only(frozenset())
            await one.happens(2.0)
            await one.film(3.0, 4.0)
            await until(lambda: len(one.told()) == 3)
            assert [told["content_type"] for told in one.told()] == ["image/jpeg", "image/jpeg", "video/mp4"]
            assert one.evidence.report()["clips_left_out_total"] == 1

    asyncio.run(run())


def test_an_event_whose_frame_is_gone_gets_the_nearest_picture(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, clip=False) as one:
            await one.film(0.0, 2.0)
            await one.happens(1.04, held=False)
            await until(lambda: one.told())
            assert one.told()[0]["from_utc_ms"] == 1000
            assert one.told()[0]["width"] == 160

    asyncio.run(run())


@pytest.mark.parametrize(("people", "stays"), [(True, False), (False, True)])
def test_nothing_leaves_where_nobody_looked_for_people(tmp_path: Path, people: bool, stays: bool) -> None:
    async def run() -> None:
        async with scene(tmp_path, blur=Blur.PEOPLE) as one:
            await one.film(0.0, 2.0, people=people)
            await one.happens(1.5, held=people)
            await one.film(2.0, 3.0, people=people)
            await until(lambda: len(one.told()) == 2)
            assert [(told["local_only"], told["blurred"]) for told in one.told()] == [(stays, not stays)] * 2
            assert all(told["reason"] == (UNKNOWN if stays else "") for told in one.told())
            assert (one.evidence.report()["frames_unknown_total"] > 0) == stays
            assert one.store.figures()["local_only"] == (2 if stays else 0)

    asyncio.run(run())


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.evidence.evidence.GRACE_S", 1.0)


def test_a_camera_that_stops_is_not_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, jpeg=False, post_s=0.5) as one:
            await one.film(0.0, 1.0)
            await one.happens(0.9, held=False)
            await until(lambda: one.told())
            assert (one.told()[0]["from_utc_ms"], one.told()[0]["to_utc_ms"]) == (0, 900)

    asyncio.run(run())


def test_more_at_once_than_can_be_made_is_counted_and_blocks_nobody(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, on=OnSettings(), clip=False, blur=Blur.PEOPLE) as one:
            await one.film(0.0, 1.0)
            for n in range(WANTED_MAX + 10):  # nobody has looked beyond the moment yet: they wait
                await one.happens(0.9, n=n)
            assert one.evidence.report()["dropped_total"] == 10
            await one.film(1.0, 2.0)
            await until(lambda: len(one.told()) == WANTED_MAX)
            assert one.store.count == 1  # all of them show the same picture

    asyncio.run(run())


def test_what_was_stored_and_not_told_is_told_by_the_next_start(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path, EvidenceSettings(free_bytes_min=0))
    kept = store.put(b"x", Piece("image/jpeg", "cam1", 5, 5), Binding("s.alert.1", "AlertRaised", 5, "", "info"))
    store.close()

    async def run() -> None:
        async with scene(tmp_path) as one:
            await until(lambda: one.told())
            assert one.told()[0]["sha256"] == kept.sha256
            await until(lambda: not one.store.untold())

    asyncio.run(run())
    asyncio.run(nothing_new(tmp_path))


async def nothing_new(folder: Path) -> None:
    async with scene(folder) as one:
        await asyncio.sleep(0.5)
        assert one.told() == []


def test_what_cannot_be_kept_is_said_once_and_the_rest_goes_on(tmp_path: Path) -> None:
    async def run() -> None:
        async with scene(tmp_path, clip=False, free_bytes_min=2**49) as one:
            await one.film(0.0, 1.0)
            for n in range(3):
                await one.happens(0.5, n=n)
            await until(lambda: one.evidence.failed_total == 3)
            assert one.announced == ["EvidenceFailed"]
            assert "stay free" in one.evidence.report()["problem"]
            assert one.store.figures()["no_room_total"] == 3

    asyncio.run(run())
