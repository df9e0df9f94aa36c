"""`processVideoStream` over a node's cameras: what it starts, what it waits for, what it refuses."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from platforms.context import BadArgumentError, FunctionError, NotHereError
from platforms.functions import bindings_of
from platforms.manufacturing import functions
from platforms.manufacturing.functions import process_video_stream
from platforms.manufacturing.types import ProcessingPipeline, StreamResult
from platforms.services import Cameras, Pipelines, PipelineWanted
from schemas.messages import StreamReport
from schemas.shape import fields_of
from tests.platforms.fake_context import FakeContext


@dataclass(slots=True)
class FakeCameras:
    """Cameras with the pipelines of `configured`; each state of `life` is seen once, the last one for ever."""

    configured: Mapping[str, Sequence[str]]
    life: list[StreamReport]
    started: list[str] = field(default_factory=list)

    def ids(self) -> Sequence[str]:
        return list(self.configured)

    def describe(self, camera_id: str) -> Mapping[str, Any]:
        now = StreamReport(camera_id, state="stopped")
        if self.started:
            now = self.life.pop(0) if len(self.life) > 1 else self.life[0]
        names = self.configured[camera_id] or [""]
        return {"streams": [fields_of(now) | {"camera": camera_id, "pipeline": name} for name in names]}

    async def start(self, camera_id: str) -> None:
        if not self.life:
            raise FunctionError("camera_failed", f"camera {camera_id} cannot be started")
        self.started.append(camera_id)

    async def stop(self, camera_id: str) -> None:
        self.started.remove(camera_id)


@dataclass(slots=True)
class FakePipelines:
    """What is put is version 7 at once, after `waits` looks."""

    waits: int = 0
    named: dict[str, int] = field(default_factory=dict)
    asked: list[PipelineWanted | str] = field(default_factory=list)

    def version(self, name: str) -> int:
        return self.named.get(name, 0)

    def standing(self, name: str) -> tuple[str, str]:
        self.waits -= 1
        return ("starting", "") if self.waits >= 0 else ("", "")

    async def put(self, camera_id: str, wanted: PipelineWanted) -> tuple[str, int]:
        self.asked.append(wanted)
        name = wanted.name or "weld"
        self.named[name] = 7
        return name, 7

    async def enable(self, name: str) -> None:
        self.asked.append(name)


RUNNING = StreamReport(
    "",
    state="running",
    frames_total=9,
    detections_total=4,
    dropped_total=2,
    fps=24.5,
    infer_ms_p50=7.0,
    infer_ms_p99=9.0,
    decide_ms_p99=12.0,
    engine="litert",
    counts={"porosity": 3, "scratch": 1},
)


def called(
    cameras: FakeCameras | None = None, pipeline: ProcessingPipeline | None = None, *, camera: str = "cam1"
) -> StreamResult:
    there = cameras or FakeCameras({"cam1": ["weld"]}, [RUNNING])
    context = FakeContext(services={Cameras: there, Pipelines: FakePipelines()})
    return asyncio.run(process_video_stream(context, camera, pipeline or ProcessingPipeline(), 5.0))


def test_it_starts_the_camera_and_says_how_it_performs() -> None:
    cameras = FakeCameras({"cam1": ["weld"]}, [RUNNING])
    assert called(cameras) == StreamResult(
        "cam1", "weld", "running", "litert", 9, 2, 4, 24.5, 7.0, 9.0, 12.0, {"porosity": 3, "scratch": 1}
    )
    assert cameras.started == ["cam1"]


def test_it_waits_for_the_first_frame() -> None:
    starting = StreamReport("", state="starting")
    found = called(FakeCameras({"cam1": ["weld"]}, [starting, starting, RUNNING]))
    assert (found.state, found.frames) == ("running", 9)


@pytest.mark.parametrize("state", ["failed", "waiting", "auth_failed", "lost", "paused"])
def test_it_does_not_wait_for_what_somebody_has_to_mend(state: str) -> None:
    found = called(FakeCameras({"cam1": ["weld"]}, [StreamReport("", state=state, error="no such model")]))
    assert (found.state, found.frames, found.error) == (state, 0, "no such model")


def test_without_a_frame_in_time_it_says_what_is_there() -> None:
    cameras = FakeCameras({"cam1": ["weld"]}, [StreamReport("", state="starting")])
    context = FakeContext(services={Cameras: cameras, Pipelines: FakePipelines()})
    found = asyncio.run(process_video_stream(context, "cam1", wait=0.0))
    assert (found.state, found.frames) == ("starting", 0)


def test_one_of_several_pipelines_is_named() -> None:
    cameras = FakeCameras({"cam1": ["people", "weld"]}, [RUNNING])
    assert called(cameras, ProcessingPipeline(name="weld")).pipeline == "weld"
    assert called(FakeCameras({"cam1": ["weld"]}, [RUNNING]), ProcessingPipeline(name="weld")).pipeline == "weld"


@pytest.mark.parametrize(
    ("pipelines", "asked", "at", "said"),
    [
        (["weld"], ProcessingPipeline(name="paint"), "pipeline.name", r"no pipeline 'paint' \(weld\)"),
        (["weld", "people"], ProcessingPipeline(), "pipeline.name", "several pipelines: people, weld"),
        ([], ProcessingPipeline(), "camera_id", "has no pipeline"),
    ],
)
def test_what_cannot_be_had_is_refused_before_anything_starts(
    pipelines: list[str], asked: ProcessingPipeline, at: str, said: str
) -> None:
    cameras = FakeCameras({"cam1": pipelines}, [RUNNING])
    with pytest.raises(BadArgumentError, match=said) as refused:
        called(cameras, asked)
    assert refused.value.field == at
    assert cameras.started == []


def test_a_camera_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(BadArgumentError, match=r"no camera 'roof' here \(cam1\)") as refused:
        called(camera="roof")
    assert refused.value.field == "camera_id"


def test_a_camera_that_cannot_be_started_fails_the_call() -> None:
    with pytest.raises(FunctionError, match="cannot be started"):
        called(FakeCameras({"cam1": ["weld"]}, []))


def test_a_host_without_cameras_has_no_such_function() -> None:
    with pytest.raises(NotHereError):
        asyncio.run(process_video_stream(FakeContext(), "cam1"))


def test_the_module_binds_what_it_says() -> None:
    assert "processVideoStream" in [binding.name for binding in bindings_of(functions)]


@pytest.mark.parametrize(
    "asked",
    [
        ProcessingPipeline(model="other"),
        ProcessingPipeline("weld", confidence_min=0.0),
        ProcessingPipeline(classes=("scratch",)),
        ProcessingPipeline(fps_max=0.0),
        ProcessingPipeline("paint", version=3),
        ProcessingPipeline(version=0),
    ],
)
def test_another_version_is_asked_of_the_node_and_waited_for(asked: ProcessingPipeline) -> None:
    pipelines = FakePipelines(waits=2)
    cameras = FakeCameras({"cam1": ["weld", "paint"]}, [StreamReport("", state="starting"), RUNNING])
    context = FakeContext(services={Cameras: cameras, Pipelines: pipelines})
    found = asyncio.run(process_video_stream(context, "cam1", asked))
    assert (found.state, found.frames, found.version, found.pipeline) == ("running", 9, 7, asked.name or "weld")
    (wanted,) = pipelines.asked
    assert isinstance(wanted, PipelineWanted)
    assert fields_of(wanted) == fields_of(asked)
