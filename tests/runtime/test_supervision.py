import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from runtime.restart import RestartPolicy
from runtime.sdnotify import Notifier
from runtime.supervision import (
    LoopLateness,
    LoopWatch,
    Supervisor,
    TaskChange,
    TaskGaveUpError,
    TaskState,
    feed_watchdog,
    summarise_lateness,
)

ROOT = Path(__file__).resolve().parents[2]
QUICK = RestartPolicy(backoff_first_s=0.001, backoff_max_s=0.001, restarts_max=3, window_s=1_000)
WAIT_S = 20.0


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, WAIT_S))


def forever() -> Coroutine[Any, Any, None]:
    return asyncio.sleep(3_600)


class Fails:
    """A task that raises in its first `times` runs and then waits for its cancellation."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.runs = 0
        self.steady = asyncio.Event()

    async def __call__(self) -> None:
        self.runs += 1
        if self.runs <= self.times:
            raise RuntimeError(f"failure {self.runs}")
        self.steady.set()
        await forever()


def test_a_failed_task_starts_again_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    changes: list[TaskChange] = []

    async def main() -> None:
        supervisor, stop = Supervisor(on_change=changes.append), asyncio.Event()
        fails = Fails(2)
        supervisor.supervise("link", fails, QUICK)
        running = asyncio.create_task(supervisor.run(stop))
        await fails.steady.wait()
        assert supervisor.states() == {"link": TaskState.RUNNING}
        stop.set()
        await running

    run(main())
    assert [(change.state.value, change.failures) for change in changes] == [
        ("running", 0),
        ("waiting", 1),
        ("running", 1),
        ("waiting", 2),
        ("running", 2),
        ("stopped", 2),
    ]
    assert changes[1].error == "RuntimeError: failure 1"
    assert changes[1].retry_in_s > 0
    tracebacks = [record for record in caplog.records if record.exc_info]
    assert len(tracebacks) == 2, "one traceback for each failure"


def test_a_task_that_gives_up_ends_everything_with_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor = Supervisor()
        other_ended = asyncio.Event()

        async def other() -> None:
            try:
                await forever()
            finally:
                other_ended.set()

        supervisor.supervise("other", other)
        supervisor.supervise("camera cam1", Fails(100), QUICK)
        with pytest.raises(TaskGaveUpError, match=r"camera cam1 failed 4 times .* failure 4"):
            await supervisor.run(asyncio.Event())
        assert other_ended.is_set()
        assert supervisor.states() == {"other": TaskState.STOPPED, "camera cam1": TaskState.GAVE_UP}

    run(main())
    assert sum(1 for record in caplog.records if record.exc_info) == 4


def test_a_task_that_returns_is_finished_and_not_restarted() -> None:
    async def main() -> None:
        supervisor, stop, runs = Supervisor(), asyncio.Event(), 0

        async def once() -> None:
            nonlocal runs
            runs += 1

        supervisor.supervise("once", once)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await supervisor.run(stop)
        assert runs == 1
        assert supervisor.states() == {"once": TaskState.FINISHED}

    run(main())


def test_tasks_stop_by_stage_and_then_in_order_of_registration() -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()
        ended: list[str] = []

        def noted(name: str) -> Callable[[], Coroutine[Any, Any, None]]:
            async def task() -> None:
                try:
                    await forever()
                finally:
                    await asyncio.sleep(0.005)
                    ended.append(name)

            return task

        for name, stage in (("cam1", 0), ("pipeline", 1), ("outbox", 2), ("link", 2), ("cam2", 0)):
            supervisor.supervise(name, noted(name), stage=stage)
        asyncio.get_running_loop().call_later(0.05, stop.set)
        await supervisor.run(stop)
        assert ended == ["cam1", "cam2", "pipeline", "outbox", "link"]

    run(main())


def test_a_task_that_arrives_during_the_stop_is_stopped_too() -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()

        async def starts_another() -> None:
            try:
                await forever()
            finally:
                supervisor.supervise("late", forever)

        supervisor.supervise("commands", starts_another)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        await supervisor.run(stop)
        assert supervisor.states() == {"commands": TaskState.STOPPED, "late": TaskState.STOPPED}

    run(main())


def test_a_stop_request_lets_the_task_drain() -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()
        asked, drained = asyncio.Event(), asyncio.Event()

        async def drains() -> None:
            await asked.wait()
            await asyncio.sleep(0.02)
            drained.set()

        supervisor.supervise("outbox", drains, stop=asked.set)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        await supervisor.run(stop)
        assert drained.is_set()
        assert supervisor.states() == {"outbox": TaskState.STOPPED}

    run(main())


def test_a_task_that_does_not_drain_in_time_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()
        supervisor.supervise("outbox", forever, stop=lambda: None, stop_timeout_s=0.02)
        stop.set()
        await asyncio.sleep(0)
        await supervisor.run(stop)
        assert supervisor.states() == {"outbox": TaskState.STOPPED}

    run(main())
    assert "outbox did not end within 0.02 s" in caplog.text


def test_a_task_that_ignores_cancellation_does_not_hold_up_the_others(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, stop, release = Supervisor(stop_timeout_s=0.05), asyncio.Event(), asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        supervisor.supervise("stubborn", stubborn)
        supervisor.supervise("good", forever)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        await supervisor.run(stop)
        assert supervisor.states()["good"] is TaskState.STOPPED
        release.set()
        await asyncio.sleep(0.01)

    run(main())
    assert "stubborn ignores its cancellation" in caplog.text


def test_a_waiting_task_stops_at_once() -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()
        slow = RestartPolicy(backoff_first_s=3_000, backoff_max_s=3_000)
        supervisor.supervise("link", Fails(1), slow, stop=lambda: None)
        while supervisor.states()["link"] is not TaskState.WAITING:
            await asyncio.sleep(0.001)
        stop.set()
        await supervisor.run(stop)
        assert supervisor.states() == {"link": TaskState.STOPPED}

    run(main())


def test_cancelling_run_stops_every_task_and_passes() -> None:
    async def main() -> None:
        supervisor = Supervisor()
        supervisor.supervise("link", forever)
        running = asyncio.create_task(supervisor.run(asyncio.Event()))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert supervisor.states() == {"link": TaskState.STOPPED}

    run(main())


def test_a_task_cancelled_by_a_stranger_ends_the_process() -> None:
    async def main() -> None:
        supervisor = Supervisor()

        async def cancels_itself() -> None:
            raise asyncio.CancelledError

        supervisor.supervise("link", cancels_itself)
        with pytest.raises(TaskGaveUpError, match="link was cancelled"):
            await supervisor.run(asyncio.Event())

    run(main())


def test_one_task_can_be_stopped_and_its_name_used_again() -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()
        supervisor.supervise("cam1", forever)
        with pytest.raises(ValueError, match="cam1"):
            supervisor.supervise("cam1", forever)
        await supervisor.stop("cam1")
        assert supervisor.states() == {}
        supervisor.supervise("cam1", forever)
        stop.set()
        await supervisor.run(stop)

    run(main())


def test_an_error_while_stopping_is_logged_and_the_stop_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, stop = Supervisor(), asyncio.Event()

        async def trips() -> None:
            try:
                await forever()
            finally:
                raise RuntimeError("tripped while closing")

        supervisor.supervise("trips", trips)
        supervisor.supervise("good", forever)
        asyncio.get_running_loop().call_later(0.02, stop.set)
        await supervisor.run(stop)
        assert set(supervisor.states().values()) == {TaskState.STOPPED}

    run(main())
    assert "tripped while closing" in caplog.text


def test_a_callback_that_fails_is_not_swallowed() -> None:
    async def main() -> None:
        def broken(change: TaskChange) -> None:
            raise KeyError(change.name)

        supervisor = Supervisor(on_change=broken)
        supervisor.supervise("link", forever)
        with pytest.raises(KeyError, match="link"):
            await supervisor.run(asyncio.Event())

    run(main())


SIGNALLED = """
import asyncio, sys
from runtime.supervision import Supervisor, run_until_signalled

async def stage(name):
    print("up", name, flush=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print("down", name, flush=True)
        if "hang" in sys.argv:
            await asyncio.sleep(3600)

async def main():
    supervisor = Supervisor(stop_timeout_s=3600)
    for name in ("capture", "link"):
        supervisor.supervise(name, lambda name=name: stage(name))
    await run_until_signalled(supervisor)
    print("clean", flush=True)

asyncio.run(main())
"""


def start_signalled(*args: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SIGNALLED), *args], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["up capture\n", "up link\n"]
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_stops_in_path_order(number: signal.Signals) -> None:
    process = start_signalled()
    process.send_signal(number)
    out, _ = process.communicate(timeout=WAIT_S)
    assert out == "down capture\ndown link\nclean\n"
    assert process.returncode == 0


def test_the_second_signal_ends_the_process_at_once() -> None:
    process = start_signalled("hang")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "down capture\n"
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=WAIT_S)
    assert out == ""
    assert process.returncode == 128 + signal.SIGINT


@pytest.mark.parametrize(
    ("late_ms", "summary"),
    [
        ([], LoopLateness()),
        ([3.0], LoopLateness(1, 3.0, 3.0, 3.0)),
        ([2.0, 1.0], LoopLateness(2, 1.0, 2.0, 2.0)),
        ([float(n) for n in range(1, 101)], LoopLateness(100, 50.0, 99.0, 100.0)),
        ([float(n) for n in range(1, 202)], LoopLateness(201, 101.0, 199.0, 201.0)),
    ],
)
def test_lateness_is_summarised_by_nearest_rank(late_ms: list[float], summary: LoopLateness) -> None:
    assert summarise_lateness(late_ms) == summary


def test_loop_watch_sees_a_blocked_loop_and_keeps_a_bounded_window() -> None:
    async def main() -> None:
        watch = LoopWatch(period_ms=1, window=10)
        measuring = asyncio.create_task(watch.run(), name="loop-watch")
        await asyncio.sleep(0.01)
        time.sleep(0.1)  # noqa: ASYNC251 - the blocked loop
        await asyncio.sleep(0.003)
        assert watch.lateness().max_ms >= 90
        while watch.lateness().samples < 10:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert watch.lateness().samples == 10
        watch.forget()
        assert watch.lateness().samples == 0
        measuring.cancel()

    run(main())


class CountingNotifier(Notifier):
    def __init__(self, watchdog_interval_s: float | None) -> None:
        super().__init__(watchdog_interval_s=watchdog_interval_s)
        self.fed = 0

    def watchdog(self) -> None:
        self.fed += 1


def test_the_watchdog_is_fed_only_while_healthy() -> None:
    async def main() -> None:
        notifier, healthy = CountingNotifier(0.01), True
        feeding = asyncio.create_task(feed_watchdog(notifier, lambda: healthy), name="watchdog")
        while notifier.fed < 3:
            await asyncio.sleep(0.005)
        healthy = False
        fed = notifier.fed
        await asyncio.sleep(0.05)
        assert notifier.fed == fed
        feeding.cancel()

    run(main())


def test_without_a_watchdog_nothing_is_fed() -> None:
    async def main() -> None:
        notifier = CountingNotifier(None)
        await feed_watchdog(notifier, lambda: True)
        assert notifier.fed == 0

    run(main())


def test_log_level_of_a_restart_is_error(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        supervisor, stop, fails = Supervisor(), asyncio.Event(), Fails(1)
        supervisor.supervise("link", fails, QUICK)
        running = asyncio.create_task(supervisor.run(stop))
        await fails.steady.wait()
        stop.set()
        await running

    with caplog.at_level(logging.ERROR):
        run(main())
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "link failed, starts again in" in caplog.text
