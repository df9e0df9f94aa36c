"""An output line, whatever drives it, and the action that switches it."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from agent.actions.choose import Follower
from agent.actions.event import LocalEvent
from agent.actions.settings import ActionSettings, Drive


class OutputLine(Protocol):
    """One line of a chip, held by us. Active and inactive are logical: the active level is its own affair."""

    def set(self, active: bool) -> None:
        """Raises ActionError."""
        ...

    def release(self) -> None:
        """Gives the line back as it is."""
        ...


class PinRunner:
    """A line that pulses at each event, or follows the alerts that are on."""

    limit_s: float | None = None  # a pulse has its own length

    def __init__(self, settings: ActionSettings, take: Callable[[], OutputLine]) -> None:
        """`take` raises ActionError while the line cannot be had."""
        self._settings = settings
        self._take = take
        self._line: OutputLine | None = None
        self._follower = None if settings.drive is Drive.PULSE else Follower(latch=settings.drive is Drive.LATCH)

    def open(self) -> None:
        """Takes the line, inactive. Raises ActionError."""
        self._line = self._take()

    async def run(self, event: LocalEvent) -> str:
        if self._follower is not None:  # also while the line cannot be had: it is right once it can
            active = self._follower.see(event.draft)
        if self._line is None:
            self.open()
        line = self._line
        assert line is not None
        if self._follower is not None:
            line.set(active)
            return "active" if active else "inactive"
        line.set(True)
        try:
            await asyncio.sleep(self._settings.pulse_s)
        finally:
            line.set(False)
        return f"active for {self._settings.pulse_s:g} s"

    def close(self) -> None:
        """Leaves the line in its safe state."""
        line, self._line = self._line, None
        if line is not None:
            try:
                line.set(self._settings.exit_active)
            finally:
                line.release()
