"""Long-lived tasks: started by name, restarted by policy, stopped in path order.

Rules kept here:

- Every task has a name, an owner (the `Supervisor`) and a way to stop (cancellation, or a `stop` request first).
- A task that fails is started again by its `RestartPolicy`. One that gives up ends the whole process with
  `TaskGaveUpError`: the service manager starts everything from a clean state. A task that returns is finished.
- Stopping goes by `stage`, then by order of registration, one task at a time, each within its own deadline.
- Cancellation always passes.
- This is the one place that catches every exception.
"""

import asyncio
import enum
import logging
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from runtime.errors import EdgewrightError
from runtime.restart import FailureHistory, GiveUp, RestartPolicy, after_failure
from runtime.sdnotify import Notifier

__all__ = [
    "LoopLateness",
    "LoopWatch",
    "RestartPolicy",
    "Supervisor",
    "TaskChange",
    "TaskGaveUpError",
    "TaskState",
    "feed_watchdog",
    "run_until_signalled",
    "summarise_lateness",
]

log = logging.getLogger(__name__)

TaskFactory = Callable[[], Coroutine[Any, Any, None]]

# A task that ignored its stop request gets this long to unwind once it is cancelled.
_CANCEL_TIMEOUT_S = 1.0


class TaskState(enum.Enum):
    """What is true of a supervised task."""

    RUNNING = "running"
    WAITING = "waiting"  # failed, and waits for its next start
    FINISHED = "finished"  # returned by itself
    GAVE_UP = "gave_up"  # failed too often; the process ends
    STOPPED = "stopped"  # stopped because somebody asked


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One task entered `state`. `failures` counts since the task was registered."""

    name: str
    state: TaskState
    failures: int = 0
    error: str = ""
    retry_in_s: float = 0.0


class TaskGaveUpError(EdgewrightError):
    """A task failed more often than its policy allows, or ended in a way it must not."""


@dataclass(slots=True)
class _Supervised:
    name: str
    factory: TaskFactory
    policy: RestartPolicy
    stage: int
    stop_timeout_s: float
    stop: Callable[[], None] | None
    state: TaskState = TaskState.RUNNING
    failures: int = 0
    history: FailureHistory = field(default_factory=FailureHistory)
    stopping: bool = False
    runner: asyncio.Task[None] | None = None


class Supervisor:
    """Owns the long-lived tasks of a process. All methods belong to one event loop."""

    def __init__(self, *, on_change: Callable[[TaskChange], None] | None = None, stop_timeout_s: float = 5.0) -> None:
        self._on_change = on_change
        self._stop_timeout_s = stop_timeout_s
        self._tasks: dict[str, _Supervised] = {}
        self._over = asyncio.Event()
        self._failure: BaseException | None = None

    def supervise(
        self,
        name: str,
        factory: TaskFactory,
        policy: RestartPolicy | None = None,
        *,
        stage: int = 0,
        stop: Callable[[], None] | None = None,
        stop_timeout_s: float | None = None,
    ) -> None:
        """Start `factory()` now under `name` and keep it running.

        `stage` orders the stop of tasks that come and go: lower ones stop first. `stop` asks the task to end by
        itself (it may drain); without it, or when the deadline has passed, the task is cancelled.
        """
        if name in self._tasks:
            raise ValueError(f"a task named {name!r} is already supervised")
        deadline_s = self._stop_timeout_s if stop_timeout_s is None else stop_timeout_s
        task = _Supervised(name, factory, policy or RestartPolicy(), stage, deadline_s, stop)
        self._tasks[name] = task
        task.runner = asyncio.create_task(self._keep_running(task), name=name)
        task.runner.add_done_callback(lambda runner: self._runner_ended(task, runner))

    def states(self) -> dict[str, TaskState]:
        """The state of every registered task, in order of registration."""
        return {task.name: task.state for task in self._tasks.values()}

    async def stop(self, name: str) -> None:
        """Stop one task and forget it, so that its name is free again. Unknown names are an error."""
        await self._stop_one(self._tasks[name])
        self._tasks.pop(name, None)

    async def run(self, stop_asked: asyncio.Event) -> None:
        """Wait for `stop_asked` or for a task that gives up, then stop every task in path order.

        Raises TaskGaveUpError in the second case. Also stops them all when it is cancelled.
        """
        waits = [
            asyncio.create_task(stop_asked.wait(), name="supervisor-stop-asked"),
            asyncio.create_task(self._over.wait(), name="supervisor-gave-up"),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await self._stop_all()
        if self._failure is not None:
            raise self._failure

    async def _keep_running(self, task: _Supervised) -> None:
        while True:
            self._enter(task, TaskState.RUNNING)
            try:
                await task.factory()
            except Exception as error:  # the supervision boundary
                if task.stopping:
                    log.error("task %s failed while it was stopping", task.name, exc_info=error)
                    break
                await self._wait_out(task, error)
            else:
                break
        self._enter(task, TaskState.STOPPED if task.stopping else TaskState.FINISHED)

    async def _wait_out(self, task: _Supervised, error: Exception) -> None:
        """Log the failure of `task` and sleep until its next start, or raise TaskGaveUpError."""
        task.failures += 1
        said = f"{type(error).__name__}: {error}"
        verdict = after_failure(task.policy, task.history, time.monotonic(), random.random())
        if isinstance(verdict, GiveUp):
            log.critical("task %s gave up", task.name, exc_info=error)
            self._enter(task, TaskState.GAVE_UP, said)
            raise TaskGaveUpError(
                f"task {task.name} failed {verdict.failures} times within {task.policy.window_s:g} s, last: {said}",
                hint="the tracebacks are in the log above",
            )
        log.error("task %s failed, starts again in %.1f s", task.name, verdict.delay_s, exc_info=error)
        task.history = verdict.history
        self._enter(task, TaskState.WAITING, said, verdict.delay_s)
        await asyncio.sleep(verdict.delay_s)

    def _enter(self, task: _Supervised, state: TaskState, error: str = "", retry_in_s: float = 0.0) -> None:
        task.state = state
        if self._on_change is not None:
            self._on_change(TaskChange(task.name, state, task.failures, error, retry_in_s))

    def _runner_ended(self, task: _Supervised, runner: asyncio.Task[None]) -> None:
        """Notice a runner that ended by more than its own return: then the process ends too."""
        if runner.cancelled():
            if task.stopping:
                return
            # Nobody but the supervisor may cancel its tasks; a stage that is silently gone is worse than a restart.
            failure: BaseException = TaskGaveUpError(f"task {task.name} was cancelled, but not by its supervisor")
        elif (error := runner.exception()) is not None:
            failure = error
        else:
            return
        self._failure = self._failure or failure
        self._over.set()

    async def _stop_all(self) -> None:
        met: set[str] = set()
        # Looked up anew each time: a task may still arrive while the others stop.
        while left := [task for task in self._tasks.values() if task.name not in met]:
            task = min(left, key=lambda task: task.stage)
            met.add(task.name)
            await self._stop_one(task)

    async def _stop_one(self, task: _Supervised) -> None:
        runner = task.runner
        task.stopping = True
        if runner is None or runner.done():
            return
        if task.stop is not None and task.state is TaskState.RUNNING:
            task.stop()
            await asyncio.wait([runner], timeout=task.stop_timeout_s)
            if not runner.done():
                log.warning("task %s did not end within %g s: cancelled", task.name, task.stop_timeout_s)
            timeout_s = _CANCEL_TIMEOUT_S
        else:
            timeout_s = task.stop_timeout_s
        runner.cancel()
        await asyncio.wait([runner], timeout=timeout_s)
        if not runner.done():
            log.error("task %s ignores its cancellation after %g s: left behind", task.name, timeout_s)
        elif runner.cancelled():
            self._enter(task, TaskState.STOPPED)


async def run_until_signalled(supervisor: Supervisor, stop_asked: asyncio.Event | None = None) -> None:
    """Run `supervisor` until SIGTERM or SIGINT, then stop in path order; a second signal ends the process at once.

    `stop_asked` lets the owner end it too. Raises TaskGaveUpError like `Supervisor.run`.
    """
    asked = stop_asked or asyncio.Event()

    def signalled(number: signal.Signals) -> None:
        if asked.is_set():
            # No clean-up on purpose: the person or the service manager has waited long enough.
            os._exit(128 + number)
        log.info("%s: stopping; a second signal ends at once", number.name)
        asked.set()

    loop = asyncio.get_running_loop()
    handled = (signal.SIGTERM, signal.SIGINT)
    for number in handled:
        loop.add_signal_handler(number, signalled, number)
    try:
        await supervisor.run(asked)
    finally:
        for number in handled:
            loop.remove_signal_handler(number)


async def feed_watchdog(notifier: Notifier, healthy: Callable[[], bool]) -> None:
    """Tell the service manager twice per watchdog interval that we live, as long as `healthy()` says so.

    Returns at once where no watchdog is asked for.
    """
    period_s = notifier.watchdog_period_s
    while period_s is not None:
        if healthy():
            notifier.watchdog()
        await asyncio.sleep(period_s)


@dataclass(frozen=True, slots=True)
class LoopLateness:
    """How late the event loop woke up, over the last `samples` wake-ups."""

    samples: int = 0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    max_ms: float = 0.0


def summarise_lateness(late_ms: Iterable[float]) -> LoopLateness:
    """Nearest-rank percentiles of the wake-up delays."""
    ranked = sorted(late_ms)
    count = len(ranked)
    if not count:
        return LoopLateness()
    return LoopLateness(
        samples=count,
        p50_ms=ranked[(count + 1) // 2 - 1],
        p99_ms=ranked[-(-count * 99 // 100) - 1],
        max_ms=ranked[-1],
    )


class LoopWatch:
    """Measures how long the event loop takes to answer: what else ran in its thread, or held the GIL.

    A thread of its own asks every `period_ms` and the loop notes when it answered. A timer of the loop itself would
    be up to 1 ms late by its own rounding, with nothing in its way. Keeps the newest `window` answers.
    """

    def __init__(self, *, period_ms: int = 20, window: int = 750) -> None:
        self._period_s = period_ms / 1_000
        self._late_ms: deque[float] = deque(maxlen=window)

    async def run(self) -> None:
        """Measure until cancelled."""
        stopped, answered = threading.Event(), threading.Event()
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._ask, args=(loop, stopped, answered), name="loop-watch", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
            answered.set()

    def lateness(self) -> LoopLateness:
        return summarise_lateness(list(self._late_ms))

    def forget(self) -> None:
        """Drop what was measured, for instance after a warm-up."""
        self._late_ms.clear()

    def _ask(self, loop: asyncio.AbstractEventLoop, stopped: threading.Event, answered: threading.Event) -> None:
        while not stopped.wait(self._period_s):
            answered.clear()
            try:
                loop.call_soon_threadsafe(self._answer, time.perf_counter(), answered)
            except RuntimeError:  # the loop was closed meanwhile
                return
            answered.wait()

    def _answer(self, asked_s: float, answered: threading.Event) -> None:
        self._late_ms.append((time.perf_counter() - asked_s) * 1_000)
        answered.set()
