"""All cameras of a node, by their ids: started and stopped together, and what goes to each of them."""

import asyncio
import logging
from collections.abc import Collection, Mapping

from agent.degrade.pipelines import Pace, Standing
from agent.infer.worker import Result
from agent.stream import Stream
from agent.workshop import Announce
from runtime.errors import EdgewrightError
from runtime.scheduling import prefer_short_slices

log = logging.getLogger(__name__)

Streams = Mapping[str, Stream]


async def run_streams(streams: Streams, enabled: Collection[str], announce: Announce) -> None:
    """Starts every enabled camera, one that cannot start does not hold back the others; stops all when cancelled."""
    try:
        await asyncio.gather(*(_start(stream, announce) for stream in streams.values() if stream.id in enabled))
        prefer_short_slices()  # for the loop alone: threads started before keep their long ones
        await asyncio.Event().wait()
    finally:
        await asyncio.gather(*(stream.stop() for stream in streams.values()))


async def _start(stream: Stream, announce: Announce) -> None:
    try:
        await stream.start()
    except EdgewrightError as error:
        log.error("camera %s does not start: %s", stream.id, error)
        data = {"camera_id": stream.id, "state": "failed", "reason": str(error)}
        announce("CameraStateChanged", stream.id, data)


def deliver(streams: Streams, result: Result) -> None:
    """To the pipeline that asked for it; it may have ended meanwhile. From the inference thread."""
    stream = streams.get(result.frame.camera_id)
    pipeline = stream.pipelines.get(result.name) if stream else None
    if pipeline is not None:
        pipeline.deliver(result)


def standings(streams: Streams) -> dict[str, Standing]:
    """Of every pipeline, by name."""
    return {name: standing for stream in streams.values() for name, standing in stream.standings().items()}


def set_paces(streams: Streams, paces: Mapping[str, Pace]) -> None:
    """How many frames each pipeline takes from now on."""
    for stream in streams.values():
        stream.set_paces(paces)
