"""What runs workloads of a type. The driver calls it for one workload at a time, for several side by side."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from agent.workloads.machine import Ended
from schemas.workloads import WorkloadSpec, WorkloadState

Note = Callable[[str, WorkloadState, str], None]
"""(workload, state, reason): a running one waits for something, or is well again."""


@dataclass(frozen=True, slots=True)
class Begun:
    """It runs. `note` is for people; `found`: it ran already, from an earlier start of the agent."""

    note: str = ""
    found: bool = False


class Runner(Protocol):
    """Calls may be cancelled at any time; `stop` puts things in order then."""

    resumes: bool
    """Whether what it runs can outlive the agent."""

    def refusal(self, name: str, spec: WorkloadSpec) -> str | None:
        """Why this node does not run it, whatever is tried; None where it may."""

    async def start(self, name: str, spec: WorkloadSpec, *, resume: bool) -> Begun:
        """Returns when it runs; what may be left of an earlier one is ended first.

        `resume`: it ran when the agent ended, and may still, or have ended since: then it is taken as it is.
        Raises NotNowError and other TemporaryErrors, and WorkloadError and other EdgewrightErrors.
        """

    async def ended(self, name: str, spec: WorkloadSpec) -> Ended:
        """Returns when it has ended by itself."""

    async def stop(self, name: str, spec: WorkloadSpec, grace_s: float | None = None) -> None:
        """Nothing of it runs when this returns, also where nothing did. `grace_s`: less time than the spec gives."""

    async def logs(self, name: str, lines: int) -> list[str] | None:
        """The newest lines that it said, oldest first; None where it says nothing of its own."""
