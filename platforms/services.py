"""What only some hosts have, as interfaces. `Context.service(Cameras)` gives the host's, or raises NotHereError."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class Inspections(Protocol):
    """The inspection stations of a node."""

    async def inspect(self, camera_id: str, station: str, serial: str, wait_s: float) -> Mapping[str, Any]:
        """A part is in view: `{"station", "verdict", "part", "part_id", "serial", "reasons", "defects"}`, the verdict
        empty where there was none within `wait_s`. Raises FunctionError: no such station, or it takes no signals."""


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
