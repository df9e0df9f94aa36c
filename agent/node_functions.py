"""The functions every node serves by MQTT command: startStream, stopStream, snapshot, status, report."""

import asyncio
import base64
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from agent.stream import Stream
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Nothing, Served, plain
from schemas.codec import format_utc
from schemas.shape import Limit
from schemas.topics import Kind


@dataclass(frozen=True, slots=True)
class OfCamera:
    """`{"camera_id": "cam1"}`"""

    camera_id: str


@dataclass(frozen=True, slots=True)
class SnapshotOf:
    """`{"camera_id": "cam1", "width_max": 1280, "quality": 85}`"""

    camera_id: str
    width_max: Annotated[int, Limit(ge=16, le=4096)] = 1280
    quality: Annotated[int, Limit(ge=1, le=100)] = 85


DOCUMENTS = (Kind.BIRTH.value, Kind.REPORTED.value)


@dataclass(frozen=True, slots=True)
class ReportOf:
    """`{"documents": ["birth", "reported"]}`; none named: all of them."""

    documents: Annotated[tuple[str, ...], Limit(len_max=10)] = ()


def report_function(publish: Callable[[str], None]) -> Served:
    """`publish`es a document of the node again: a heartbeat named one that somebody does not have."""

    async def report(call: ReportOf) -> dict[str, Any]:
        if unknown := [name for name in call.documents if name not in DOCUMENTS]:
            known = ", ".join(DOCUMENTS)
            raise CallRejectedError("bad_arguments", f"there is no document {unknown[0]!r}; {known}", "documents")
        names = list(call.documents or DOCUMENTS)
        for name in names:
            publish(name)
        return {"published": names}

    return plain("report", ReportOf, report)


def node_functions(streams: Mapping[str, Stream], status: Callable[[], Awaitable[dict[str, Any]]]) -> list[Served]:
    """Bound to the streams of one agent."""

    def stream(camera_id: str) -> Stream:
        found = streams.get(camera_id)
        if found is None:
            known = ", ".join(sorted(streams)) or "there is none"
            raise CallRejectedError("unknown_camera", f"no camera {camera_id!r} here ({known})", "camera_id")
        return found

    async def start(call: OfCamera) -> dict[str, Any]:
        chosen = stream(call.camera_id)
        started = await chosen.start()
        return {"camera_id": call.camera_id, "started": started, "streams": _reports(chosen)}

    async def stop(call: OfCamera) -> dict[str, Any]:
        chosen = stream(call.camera_id)
        return {"camera_id": call.camera_id, "stopped": await chosen.stop()}

    async def snapshot(call: SnapshotOf) -> dict[str, Any]:
        chosen = stream(call.camera_id)
        taken = await asyncio.to_thread(chosen.snapshot, width_max=call.width_max, quality=call.quality)
        if taken is None:
            raise CallFailedError("no_frame", f"camera {call.camera_id} has given no frame yet; is it started?")
        frame, picture = taken
        return {
            "camera_id": call.camera_id,
            "time": format_utc(frame.captured_utc_ms),
            "frame_index": frame.index,
            "content_type": "image/jpeg",
            "bytes": len(picture),
            "data_base64": base64.b64encode(picture).decode("ascii"),
        }

    async def node_status(call: Nothing) -> dict[str, Any]:
        return await status()

    return [
        plain("startStream", OfCamera, start, timeout_s=120.0),
        plain("stopStream", OfCamera, stop),
        plain("snapshot", SnapshotOf, snapshot),
        plain("status", Nothing, node_status),
    ]


def _reports(stream: Stream) -> list[dict[str, Any]]:
    return [
        {"pipeline": report.pipeline, "state": report.state, "engine": report.engine, "error": report.error}
        for report in stream.reports()
    ]
