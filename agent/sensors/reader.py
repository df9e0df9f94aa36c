"""What each kind of sensor does: read until cancelled, and hand on what came."""

import logging
from typing import Protocol

from agent.sensors.parse import Block
from runtime.errors import PermanentError, TemporaryError

log = logging.getLogger(__name__)


class SensorError(TemporaryError):
    """The connection cannot be made or was lost: it is tried again."""


class SensorSettingsError(PermanentError):
    """It cannot work like this: a library is missing, an address is none. A person has to act."""


class Sink(Protocol):
    """Where samples go. All on the loop."""

    async def take(self, block: Block, *, at_s: float | None = None, source_s: float | None = None) -> None:
        """Raw samples, (n, channels), the last one from now, or from `at_s` of the steady clock; `source_s`: the
        source's time of it. Waits where a replay is ahead of those who look at its windows."""

    def break_off(self) -> None:
        """What comes next does not follow on what came."""

    def refused(self, reason: str) -> None:
        """Something came that is not as the settings say."""

    def connected(self) -> None:
        """The source is there."""


class Reader(Protocol):
    """One sensor's technology."""

    lossless: bool
    """A replay: it waits rather than lose windows."""

    async def run(self, sink: Sink) -> None:
        """Until cancelled, or until a recording has ended. Raises SensorError and SensorSettingsError; it is run
        again after the first."""
