"""The functions of manufacturing that are bound."""

import asyncio

from platforms.context import BadArgumentError, Context
from platforms.functions import function
from platforms.manufacturing.stream_result import check_can_be_had, chosen, is_settled, result_of
from platforms.manufacturing.types import InspectionResult, ProcessingPipeline, StreamResult
from platforms.services import Cameras, Inspections

ASK_AGAIN_S = 0.1
CONFIGURED = ProcessingPipeline()


@function("processVideoStream")
async def process_video_stream(
    context: Context, camera_id: str, pipeline: ProcessingPipeline = CONFIGURED, wait: float = 10.0
) -> StreamResult:
    """Starts the camera's stream with its configured pipeline, and says how it performs once it decides frames."""
    cameras = context.service(Cameras)  # type: ignore[type-abstract]  # an interface is what is asked for
    check_can_be_had(pipeline)
    known = cameras.ids()
    if camera_id not in known:
        names = ", ".join(sorted(known)) or "there is none"
        raise BadArgumentError("camera_id", f"no camera {camera_id!r} here ({names})")
    chosen(camera_id, pipeline, cameras.describe(camera_id)["streams"])  # before anything is started
    await cameras.start(camera_id)
    if is_settled(found := _result(cameras, camera_id, pipeline)):
        return found
    context.progress(None, "the stream is started, its first frame is awaited")
    try:
        async with asyncio.timeout(wait):
            while not is_settled(found := _result(cameras, camera_id, pipeline)):
                await asyncio.sleep(ASK_AGAIN_S)
    except TimeoutError:
        found = _result(cameras, camera_id, pipeline)
    return found


@function("inspectPart")
async def inspect_part(
    context: Context, camera_id: str, serial: str = "", station: str = "", wait: float = 2.0
) -> InspectionResult:
    """A part is in view now: the verdict of the camera's station."""
    inspections = context.service(Inspections)  # type: ignore[type-abstract]  # an interface is what is asked for
    found = await inspections.inspect(camera_id, station, serial, wait)
    return InspectionResult(camera_id, **found)


def _result(cameras: Cameras, camera_id: str, pipeline: ProcessingPipeline) -> StreamResult:
    return result_of(camera_id, chosen(camera_id, pipeline, cameras.describe(camera_id)["streams"]))
