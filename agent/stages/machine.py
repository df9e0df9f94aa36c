"""The files of stages, through the decoders of this node."""

from pathlib import Path
from typing import Any

from agent.capture.images import read_picture
from agent.capture.picture import luma
from platforms.stages import StageError
from runtime.errors import EdgewrightError


class NodeMachine:
    """`platforms.stages.Machine`."""

    def luma(self, path: Path) -> Any:
        """(height, width) uint8 of a picture in a file. Raises StageError."""
        try:
            return luma(read_picture(path))
        except EdgewrightError as error:
            raise StageError(str(error)) from error
