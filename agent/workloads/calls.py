"""Workloads that are functions: called again and again, one call at a time, as if a command had come.

What a function finds goes the way that it sends it: results, events, state. A call that fails ends the workload, and
its restart policy says whether and when it is called again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agent.workloads.errors import NotNowError, WorkloadError
from agent.workloads.machine import Ended
from agent.workloads.runner import Begun
from runtime.calls.errors import CallError, CallRejectedError
from schemas.workloads import WorkloadSpec

CallHere = Callable[[str, Mapping[str, Any], float | None], Awaitable[Any]]
"""(function, arguments, most seconds): as `Dispatcher.call_here`."""
BUSY = "busy"  # the code of a call that there was no place for


class CallRunner:
    """A `Runner`."""

    resumes = False

    def __init__(self, call: CallHere, names: Callable[[], list[str]]) -> None:
        self._call = call
        self._names = names

    def refusal(self, name: str, spec: WorkloadSpec) -> str | None:
        assert spec.function is not None
        if spec.function.name not in self._names():
            return f"function.name: there is no function {spec.function.name!r} here ({', '.join(self._names())})"
        if spec.env:
            return f"env: a function has no environment; give {', '.join(spec.env)} as arguments, if it takes them"
        return None

    async def start(self, name: str, spec: WorkloadSpec, *, resume: bool) -> Begun:
        """The first call: what cannot be called at all is seen at once."""
        await self._once(spec)
        return Begun()

    async def ended(self, name: str, spec: WorkloadSpec) -> Ended:
        assert spec.function is not None
        loop = asyncio.get_running_loop()
        due_s = loop.time() + spec.function.every_s
        while True:
            await asyncio.sleep(max(0.0, due_s - loop.time()))
            due_s = max(due_s + spec.function.every_s, loop.time())  # calls that took too long are not made up for
            try:
                await self._once(spec)
            except NotNowError:
                continue  # the others had every place: this turn is left out
            except WorkloadError as error:
                return Ended(False, str(error))

    async def stop(self, name: str, spec: WorkloadSpec, grace_s: float | None = None) -> None:
        """A call under way was ended when the driver cancelled `start` or `ended`."""

    async def logs(self, name: str, lines: int) -> list[str] | None:
        return None

    async def _once(self, spec: WorkloadSpec) -> None:
        function = spec.function
        assert function is not None
        try:
            await self._call(function.name, function.arguments, function.timeout_s)
        except CallRejectedError as error:
            if error.code == BUSY:
                raise NotNowError(f"{function.name}: {error}") from error
            raise WorkloadError(f"{function.name} refuses its arguments: {error}") from error
        except CallError as error:
            raise WorkloadError(f"{function.name} failed: {error}") from error
