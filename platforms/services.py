"""What only some hosts have, as interfaces. `Context.service(Cameras)` gives the host's, or raises NotHereError."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Cameras(Protocol):
    """The cameras of a node."""

    def ids(self) -> Sequence[str]:
        """Those that are configured."""

    def describe(self, camera_id: str) -> Mapping[str, Any]:
        """`{"streams": [...]}`: the camera's rows of `status`, one a pipeline with the fields of
        `schemas.messages.StreamReport`. Raises FunctionError: no such camera."""

    async def start(self, camera_id: str) -> None:
        """Starts the camera and its pipelines; one that runs goes on. Raises FunctionError."""

    async def stop(self, camera_id: str) -> None:
        """Stops both; one that does not run stays so. Raises FunctionError."""
