"""What every kind of action can do, and how it fails."""

from typing import Protocol

from agent.actions.event import LocalEvent
from runtime.errors import EdgewrightError


class ActionError(EdgewrightError):
    """The action did not do what it should; the reason is for people and holds no secret."""


class ActionTimeoutError(ActionError):
    """It took too long and was ended."""


class Runner(Protocol):
    """One action's technology. `run` is cancelled when it takes longer than `limit_s`, and cleans up then."""

    @property
    def limit_s(self) -> float | None:
        """The longest one run may take; None: it keeps its own limit."""
        ...

    def open(self) -> None:
        """Takes what it needs; `run` does it too where it is still missing. Raises EdgewrightError."""
        ...

    async def run(self, event: LocalEvent) -> str:
        """Does it, and says in a few words what happened. Raises ActionError."""
        ...

    def close(self) -> None:
        """Lets go of what it holds, in a safe state. Harmless when repeated."""
        ...
