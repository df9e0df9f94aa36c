"""Input lines of stages: the kernel's, or those of the simulator."""

from pathlib import Path
from typing import Protocol

from agent.actions.fake_gpio import FakeInput
from agent.actions.gpio import GpiodInput
from platforms.stages import InputLine

SIMULATOR = "fake:"


class OpenLine(Protocol):
    """A line that says when it became active."""

    def wait(self, timeout_s: float) -> list[int]: ...

    def release(self) -> None: ...


def open_input(line: InputLine, name: str) -> OpenLine:
    """Raises ActionError."""
    if line.chip.startswith(SIMULATOR):
        return FakeInput(Path(line.chip.removeprefix(SIMULATOR)), line.line, active_low=line.active_low)
    return GpiodInput(line.chip, line.line, active_low=line.active_low, consumer=f"edge-agent {name}")


def is_there(line: InputLine) -> bool:
    """Whether the line's chip is; one of the simulator always is."""
    return line.chip.startswith(SIMULATOR) or Path(line.chip).exists()
