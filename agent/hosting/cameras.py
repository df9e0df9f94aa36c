"""The node's cameras as platforms' functions see them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from agent.stream import Stream
from platforms.context import BadArgumentError, FunctionError
from runtime.errors import EdgewrightError


class NodeCameras:
    """`platforms.services.Cameras` over the streams of one agent."""

    def __init__(self, streams: Mapping[str, Stream]) -> None:
        self._streams = streams

    def ids(self) -> Sequence[str]:
        return sorted(self._streams)

    def describe(self, camera_id: str) -> Mapping[str, Any]:
        stream = self._stream(camera_id)
        return {"camera_id": camera_id, "streams": [asdict(report) for report in stream.reports()]}

    async def start(self, camera_id: str) -> None:
        try:
            await self._stream(camera_id).start()
        except EdgewrightError as error:
            raise FunctionError("camera_failed", f"camera {camera_id} does not start: {error}") from error

    async def stop(self, camera_id: str) -> None:
        await self._stream(camera_id).stop()

    def _stream(self, camera_id: str) -> Stream:
        found = self._streams.get(camera_id)
        if found is None:
            known = ", ".join(self.ids()) or "there is none"
            raise BadArgumentError("camera_id", f"no camera {camera_id!r} here ({known})")
        return found
