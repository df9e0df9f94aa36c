"""The functions of manufacturing that are bound."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from platforms.context import BadArgumentError, Context, FunctionError
from platforms.functions import function
from platforms.manufacturing import checking
from platforms.manufacturing.inspection import stage
from platforms.manufacturing.maintenance import watching as machines
from platforms.manufacturing.production import watching as lines
from platforms.manufacturing.safety import rules
from platforms.manufacturing.stream_result import chosen, is_settled, result_of, wanted_of
from platforms.manufacturing.types import InspectionResult, ProcessingPipeline, StreamResult
from platforms.services import Cameras, Pipelines, Stages

# What other files bind and listen to; a module's names are what a host finds.
open_plant, watch_machines = machines.open_plant, machines.watch_machines
machine_condition, relearn_machine = machines.machine_condition, machines.relearn_machine
open_lines, follow_lines, look_at_lines = lines.open_lines, lines.follow_lines, lines.look_at_lines
line_figures, charts_of_line = lines.line_figures, lines.charts_of_line
explain_stop, set_line_plan = lines.explain_stop, lines.set_line_plan
check_manufacturing = checking.check_manufacturing
inspection = stage.inspection
too_close, fallen, missing_equipment, alone = rules.too_close, rules.fallen, rules.missing_equipment, rules.alone

ASK_AGAIN_S = 0.1
CONFIGURED = ProcessingPipeline()


@function("processVideoStream")
async def process_video_stream(
    context: Context, camera_id: str, pipeline: ProcessingPipeline = CONFIGURED, wait: float = 10.0
) -> StreamResult:
    """Starts the camera's stream, with another version of the pipeline where that is asked for; how it does."""
    cameras = context.service(Cameras)  # type: ignore[type-abstract]  # an interface is what is asked for
    pipelines = context.service(Pipelines)  # type: ignore[type-abstract]
    _there(cameras, camera_id)
    wanted = wanted_of(pipeline)
    if wanted.says_more or wanted.version is not None:
        name, _ = await pipelines.put(camera_id, wanted)
    else:
        name = str(chosen(camera_id, pipeline.name, cameras.describe(camera_id)["streams"])["pipeline"])
        await pipelines.enable(name)
    await cameras.start(camera_id)
    stream = _Watched(cameras, pipelines, camera_id, name)
    if is_settled(found := stream.result()):
        return found
    context.progress(None, "the stream is started, its first frame is awaited")
    try:
        async with asyncio.timeout(wait):
            while not is_settled(found := stream.result()):
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        found = stream.result()
    return found


@function("inspectPart")
async def inspect_part(
    context: Context, camera_id: str, serial: str = "", station: str = "", wait: float = 2.0
) -> InspectionResult:
    """A part is in view now: the verdict of the camera's station."""
    stages = context.service(Stages)  # type: ignore[type-abstract]  # an interface is what is asked for
    there = [one for one in stages.of(stage.KIND, camera_id) if isinstance(one, stage.InspectionStage)]
    asked = _station(there, camera_id, station)
    judged = await asked.answer(time.monotonic_ns(), serial, wait)
    if judged is None:
        return InspectionResult(camera_id, asked.name, "")
    return InspectionResult(camera_id, **asked.answered(judged))


def _station(there: Sequence[stage.InspectionStage], camera_id: str, name: str) -> stage.InspectionStage:
    """The one of that name, or the only one. Raises BadArgumentError, FunctionError."""
    names = ", ".join(one.name for one in there) or "there is none"
    meant = [one for one in there if not name or one.name == name]
    if len(meant) != 1:
        raise BadArgumentError("station" if name else "camera_id", f"not one station of {camera_id!r}: {names}")
    if not meant[0].takes_signals:
        raise FunctionError("no_signals", f"station {meant[0].name} sees parts by itself: its trigger is motion")
    return meant[0]


def _there(cameras: Cameras, camera_id: str) -> None:
    known = cameras.ids()
    if camera_id not in known:
        names = ", ".join(sorted(known)) or "there is none"
        raise BadArgumentError("camera_id", f"no camera {camera_id!r} here ({names})")


class _Watched:
    """A pipeline on its way."""

    def __init__(self, cameras: Cameras, pipelines: Pipelines, camera_id: str, name: str) -> None:
        self._cameras = cameras
        self._pipelines = pipelines
        self._camera_id = camera_id
        self._name = name

    def result(self) -> StreamResult:
        """What is known of it now; while it is on its way nothing of the version before."""
        name, version = self._name, self._pipelines.version(self._name)
        state, reason = self._pipelines.standing(name)
        if state:
            return StreamResult(self._camera_id, name, state, error=reason, version=version)
        rows = [row for row in self._cameras.describe(self._camera_id)["streams"] if row.get("pipeline") == name]
        row: Mapping[str, Any] = rows[0] if rows else {"pipeline": name, "state": "starting"}
        return result_of(self._camera_id, row, version)
