"""Plain functions beside the event loop: `Served(name, parse, in_thread(analyse))`."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from runtime.calls.errors import CallRejectedError
from runtime.calls.served import Call

THREADS_MAX = 8  # of one function, those included that nobody waits for any more


def in_thread(
    run: Callable[[Call, Any], Any], *, threads_max: int = THREADS_MAX
) -> Callable[[Call, Any], Awaitable[Any]]:
    """Runs `run` in a thread of its own for each call.

    A thread cannot be stopped: when the call is cancelled or its deadline is over, its answer is given at once and
    what `run` still does is for nobody. One that takes long looks at `call.is_over`. Its threads are daemons: they
    hold up no end of the process.
    """
    places = threading.BoundedSemaphore(threads_max)

    async def run_in_thread(call: Call, given: Any) -> Any:
        if not places.acquire(blocking=False):
            raise CallRejectedError("busy", f"{call.function} holds {threads_max} threads already; try again later")
        done: Future[Any] = Future()
        done.set_running_or_notify_cancel()

        def work() -> None:
            try:
                value = run(call, given)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits, and not to this thread
                # asyncio cannot hand on a StopIteration.
                done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
            else:
                done.set_result(value)
            finally:
                places.release()

        threading.Thread(target=work, name=f"call[{call.function}]", daemon=True).start()
        return await asyncio.wrap_future(done)

    return run_in_thread
