"""What only some hosts have, as interfaces. `Context.service(Cameras)` gives the host's, or raises NotHereError."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from platforms.stages import Stage


class Sensors(Protocol):
    """The sensors of a node."""

    def ids(self) -> Sequence[str]:
        """Those that are configured."""


class Stages(Protocol):
    """The stages of a node's pipelines."""

    def of(self, kind: str, camera_id: str) -> Sequence[Stage]:
        """Those of a camera and of a kind, as `manufacturing.inspection`: what the platform has made itself."""


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


@dataclass(frozen=True, slots=True)
class PipelineWanted:
    """A named pipeline of a camera, in a new version; with `version` alone one that was there, 0: as configured."""

    name: str = ""
    model: str | None = None
    confidence_min: float | None = None
    classes: tuple[str, ...] = ()
    fps_max: float | None = None
    version: int | None = None

    @property
    def says_more(self) -> bool:
        """Than name and version."""
        return bool(self.model or self.classes) or self.confidence_min is not None or self.fps_max is not None


class Pipelines(Protocol):
    """The named pipelines of a node: what is changed here holds over restarts, and other streams go on meanwhile."""

    def version(self, name: str) -> int:
        """Of what runs of this name, or ran last; 0: as configured."""

    def standing(self, name: str) -> tuple[str, str]:
        """State and reason of one that is to run and does not yet; ("", "") where it runs as it should."""

    async def put(self, camera_id: str, wanted: PipelineWanted) -> tuple[str, int]:
        """From now on; its name and version. Raises BadArgumentError, FunctionError."""

    async def enable(self, name: str) -> None:
        """A configured one that was taken away takes frames again."""
