"""Which stages a pipeline looks for, as cameras start and workloads come and go; and what a stage's defects cost."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from agent.capture.frame import Frame
from agent.capture.picture import RgbPicture
from agent.config import PipelineConfig
from agent.infer.detections import Detections
from agent.outbox.rows import Draft
from agent.stages.place import FACTS_MAX, WORK_MAX, Seat
from agent.stages.stages import Stages
from platforms.stages import Fact, Found, InputLine, Picture, Place, Stage, StageKinds, StageTable, Wires
from runtime.errors import ConfigError, PermanentError
from runtime.mqtt import BrokerAddress
from schemas.identity import Lane

ONE_BOX = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0.5], np.float32), np.array([0], np.int32))


class Recorder(Stage):
    """Keeps what it is told."""

    place: Place

    def __init__(self, table: StageTable) -> None:
        self.told: list[Any] = []
        self.breaks_in = table.settings.get("breaks_in")
        self.listens = bool(table.settings.get("listens"))

    @property
    def wires(self) -> Wires:
        return Wires(line=InputLine("fake:/nowhere", 1) if self.listens else None)

    def begin(self) -> None:
        self.told.append(("begin", self.place.run))
        self._break("begin")

    def look(self, picture: Picture) -> None:
        self.told.append(("look", picture.index))
        self._break("look")

    def seen(self, pipeline: str, picture: Picture, found: Sequence[Found]) -> None:
        self.told.append((pipeline, picture.index, [one.label for one in found]))

    def report(self) -> dict[str, Any]:
        self._break("report")
        return {"told": len(self.told)}

    def _break(self, where: str) -> None:
        if self.breaks_in == where:
            raise ValueError(where)


class Outlet:
    """Through which all leaves."""

    def leaving(self, drafts: Sequence[Draft]) -> list[Draft]:
        return list(drafts)


@dataclass
class Node:
    """Stages with an outbox that takes all."""

    stages: Stages
    drafts: list[Draft] = field(default_factory=list)

    async def append(self, drafts: Sequence[Draft]) -> None:
        self.drafts += drafts

    def seat(self, config: PipelineConfig, run: str = "run-1") -> Seat | None:
        self.stages.load(config)
        return self.stages.seat(config, run, Outlet(), live=True)  # type: ignore[arg-type]

    def of(self, title: str) -> Recorder:
        (found,) = [one.stage for one in self.stages._all if one.config.title == title]
        assert isinstance(found, Recorder)
        return found


def pipeline(title: str, **settings: Any) -> PipelineConfig:
    table = {"kind": "acme.recorder", **settings} if settings or title != "second" else None
    return PipelineConfig("cam1", "model", title, stage=table)


def with_node(configs: Sequence[PipelineConfig], work: Callable[[Node], Any]) -> Any:
    async def run() -> Any:
        kinds = StageKinds({"acme.recorder": Recorder})
        made = Stages(kinds, configs, node="gw-1", broker=BrokerAddress(), outbox=None, evidence=None)  # type: ignore[arg-type]
        node = Node(made)
        made._outbox = node  # type: ignore[assignment]
        try:
            found = work(node)
            return await found if asyncio.iscoroutine(found) else found
        finally:
            made.close()

    return asyncio.run(run())


def frame(index: int) -> Frame:
    return Frame("cam1", index, index / 10, index, 1000 + index, RgbPicture(np.zeros((8, 8, 3), np.uint8)))


def test_each_picture_is_looked_at_once_and_every_pipeline_tells_what_it_found() -> None:
    configs = [pipeline("weld", also=["second"]), pipeline("seam", also=["second", "weld"]), pipeline("second")]

    def work(node: Node) -> list[list[Any]]:
        seats = [node.seat(config) for config in configs]
        for seat in seats:
            assert seat is not None
            seat.look(frame(3))
        for seat in seats:
            assert seat is not None
            seat.seen(frame(3), ("pore",), ONE_BOX)
        return [node.of("weld").told, node.of("seam").told]

    weld, seam = with_node(configs, work)
    begun, looked = ("begin", "run-1"), ("look", 3)
    assert weld == [begun, looked, ("weld", 3, ["pore"]), ("second", 3, ["pore"])]
    assert seam == [begun, looked, ("weld", 3, ["pore"]), ("seam", 3, ["pore"]), ("second", 3, ["pore"])]


def test_a_workload_brings_another_stage_and_the_configured_one_comes_back() -> None:
    configured = pipeline("weld", listens=True)

    def work(node: Node) -> None:
        node.seat(configured, "run-1")
        first = node.of("weld")
        node.seat(replace(configured, stage={"kind": "acme.recorder"}), "run-2")
        assert node.of("weld").told == [("begin", "run-2")]
        assert node.stages.of("acme.recorder", "cam1") == [node.of("weld")]
        node.seat(configured, "run-3")
        assert node.of("weld") is first
        assert first.told == [("begin", "run-1"), ("begin", "run-3")]
        assert node.seat(replace(configured, stage=None)) is None

    with_node([configured], work)


def test_a_workload_brings_no_wires_from_outside() -> None:
    def work(node: Node) -> None:
        with pytest.raises(ConfigError, match=r"are for stages of agent\.toml"):
            node.seat(pipeline("other", listens=True))
        with pytest.raises(ConfigError, match=r"pipeline other: stage\.kind: acme\.nothing needs"):
            node.seat(PipelineConfig("cam1", "model", "other", stage={"kind": "acme.nothing"}))
        assert node.seat(pipeline("other", also=[])) is not None

    with_node([], work)


@pytest.mark.parametrize("where", ["begin", "look", "report"])
def test_a_defect_costs_the_pipeline_at_most(where: str) -> None:
    config = pipeline("weld", breaks_in=where)

    def work(node: Node) -> None:
        if where == "begin":
            with pytest.raises(PermanentError, match="its stage cannot be begun"):
                node.seat(config)
            return
        seat = node.seat(config)
        assert seat is not None
        seat.look(frame(1))  # in the camera's thread nothing is raised
        if where == "look":
            with pytest.raises(ValueError, match="look"):
                seat.seen(frame(1), (), Detections.none())
        else:
            assert node.stages.report()["stages"][0]["error"] == "report: ValueError('report')"

    with_node([config], work)


def test_what_is_said_gets_the_time_of_its_picture_and_too_much_is_counted() -> None:
    config = pipeline("weld", also=[])

    async def work(node: Node) -> None:
        seat, stage = node.seat(config), node.of("weld")
        assert seat is not None
        pictures: list[Picture] = []
        stage.seen = lambda pipeline, picture, found: pictures.append(picture)  # type: ignore[method-assign]
        for index in (1, 2):
            seat.look(frame(index))
            seat.seen(frame(index), (), Detections.none())
        first = Fact("A", "a", {"n": 1}, pictures[0])
        stage.place.say([first, Fact("B", "b", {}, time_s=0.5), Fact("C", "c", {}, lane=Lane.LIFECYCLE)])
        stage.place.say([first] * (FACTS_MAX + 2))
        task = asyncio.create_task(node.stages.run())
        async with asyncio.timeout(30):
            while len(node.drafts) < 3 + FACTS_MAX:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        said = [(one.type, one.lane, one.time_utc_ms, one.data["time_s"]) for one in node.drafts[:3]]
        assert said == [
            ("A", Lane.EVENT, 1001, 0.1),
            ("B", Lane.EVENT, 1302, 0.5),
            ("C", Lane.LIFECYCLE, 1002, 0.2),
        ]
        assert node.drafts[0].data == {"camera_id": "cam1", "time_s": 0.1, "pipeline": "weld", "n": 1}
        assert node.stages.report()["stages"][0]["left_out_total"] == 2

    with_node([config], work)


def test_time_and_threads_are_of_the_run_that_asked_for_them() -> None:
    config = pipeline("weld", also=[])

    async def work(node: Node) -> None:
        node.seat(config)
        place = node.of("weld").place
        done: list[str] = []
        place.call_later(0.01, lambda: done.append("timer of the run before"))
        assert place.in_thread(lambda: "work of the run before", done.append)
        node.seat(config, "run-2")
        place.call_later(0.01, lambda: done.append("timer"))
        taken = [place.in_thread(lambda: "work", done.append) for _ in range(WORK_MAX)]
        assert taken == [True] * (WORK_MAX - 1) + [False]
        async with asyncio.timeout(30):
            while len(done) < WORK_MAX:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert sorted(done) == ["timer"] + ["work"] * (WORK_MAX - 1)

        def defect() -> str:
            raise ValueError("work that fails")

        assert place.in_thread(defect, done.append)
        async with asyncio.timeout(30):
            while node.stages.report()["stages"][0]["failures_total"] == 0:
                await asyncio.sleep(0.01)

    with_node([config], work)
