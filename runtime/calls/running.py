"""One call at work: what it may take, how it is ended from outside, and how often it says how far it is."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.calls.errors import CallCancelledError, CallFailedError
from runtime.calls.served import Call, Served
from runtime.mqtt import Delivery
from schemas.messages import CallProgress, Command

PROGRESS_EVERY_S = 0.5
GRACE_S = 5.0  # what a function gets to end in when it is told to; then it is answered for without it


@dataclass(frozen=True, slots=True)
class Asked:
    """A command as it arrived. `identifier` is what the journal knows it by, empty where there is nothing."""

    command: Command
    delivery: Delivery
    identifier: str
    caller: str
    arrived_s: float


class Running:
    """A call from its arrival on. `taken` says whether it is a new one, once the journal has answered."""

    def __init__(self, asked: Asked, say: Callable[[CallProgress], None]) -> None:
        loop = asyncio.get_running_loop()
        self.asked = asked
        self.taken: asyncio.Future[bool] = loop.create_future()
        self.is_over = False  # its outcome is known
        self.task: asyncio.Task[Any] | None = None  # the function's own
        self._cancelled: asyncio.Future[None] = loop.create_future()
        self._spaced = Spaced(say)

    def settle(self, *, taken: bool) -> None:
        """The journal has answered, or something else did."""
        if not self.taken.done():
            self.taken.set_result(taken)

    def cancel(self) -> bool:
        """The call ends as cancelled; False when it is too late for that."""
        if self.is_over or (self.task is not None and self.task.done()):
            return False
        if not self._cancelled.done():
            self._cancelled.set_result(None)
        return True

    async def work(self, served: Served, given: Any) -> Any:
        """What the function returns. Raises what it raises, CallCancelledError, and CallFailedError when its time is
        over: `deadline` for the caller's, `timeout` for its own."""
        began_s, asked = time.monotonic(), self.asked
        ends_s, code, text = began_s + served.timeout_s, "timeout", f"longer than {served.timeout_s:g} s"
        deadline_s = asked.command.deadline_s
        if deadline_s is not None and asked.arrived_s + deadline_s < ends_s:
            ends_s, code, text = asked.arrived_s + deadline_s, "deadline", f"longer than the {deadline_s:g} s it had"
        if self._cancelled.done():
            raise CallCancelledError("cancelled", "cancelled before it began")
        if ends_s <= began_s:
            raise CallFailedError(code, f"{served.name} would have taken {text}; it was not begun")
        call = Call(
            asked.command.id, served.name, asked.caller,
            ends_s=ends_s, now_s=time.monotonic, report=self._spaced.put,
        )  # fmt: skip
        self.task = task = asyncio.create_task(_run(served, call, given), name=f"call[{served.name}]")
        task.add_done_callback(_look_away)
        is_cut = False
        try:
            ends: set[asyncio.Future[Any]] = {task, self._cancelled}
            await asyncio.wait(ends, timeout=ends_s - began_s, return_when=asyncio.FIRST_COMPLETED)
            if is_cut := not task.done():
                call.is_over = True
                task.cancel()
                await asyncio.wait({task}, timeout=GRACE_S)
        finally:
            self._spaced.close()
            call.is_over = True
            task.cancel()  # where this process stops
        still = "" if task.done() else f"; it did not end within {GRACE_S:g} s of being told to, and may go on"
        if self._cancelled.done():
            raise CallCancelledError("cancelled", f"cancelled{still}")
        if is_cut:
            raise CallFailedError(code, f"{served.name} took {text}{still}")
        if task.cancelled():
            raise CallFailedError("defect", f"{served.name} cancelled itself")
        return task.result()


async def _run(served: Served, call: Call, given: Any) -> Any:
    try:
        return await served.run(call, given)
    except SystemExit as error:  # the loop would take it for the end of the process
        raise CallFailedError("defect", f"{served.name} tried to end the process: {error!r}") from error


def _look_away(task: "asyncio.Task[Any]") -> None:
    """Nobody may be left to see how it ended."""
    if not task.cancelled():
        task.exception()


class Spaced:
    """Hands on the newest of what is put, at most every `PROGRESS_EVERY_S`. Put from any thread; made on the loop."""

    def __init__(self, say: Callable[[CallProgress], None]) -> None:
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._newest: CallProgress | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._woken = False
        self._closed = False
        self._last_s = float("-inf")

    def put(self, progress: CallProgress) -> None:
        if self._closed:
            return
        self._newest = progress
        if threading.get_ident() == self._thread:
            self._wake()
        elif not self._woken:  # one wake-up for all that comes before the loop gets to it
            self._woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear of it
                self._loop.call_soon_threadsafe(self._wake)

    def close(self) -> None:
        """The answer says more than what still waits."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self) -> None:
        self._woken = False
        if self._timer is None and not self._closed:
            self._timer = self._loop.call_later(
                max(0.0, self._last_s + PROGRESS_EVERY_S - self._loop.time()), self._send
            )

    def _send(self) -> None:
        self._timer, self._last_s = None, self._loop.time()
        newest, self._newest = self._newest, None
        if newest is not None and not self._closed:
            self._say(newest)
