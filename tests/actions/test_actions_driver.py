"""The actions of an agent: never waited for, counted, limited, reported."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.actions.actions import Actions
from agent.actions.local_broker import LocalBroker
from agent.actions.settings import ActionSettings, Do
from runtime.mqtt import BrokerAddress
from runtime.supervision import Supervisor
from tests.actions.test_settings_and_templates import alert

Told = list[tuple[str, str, dict[str, Any]]]


def driven(settings: list[ActionSettings], scenario: Callable[[Actions, Told], Awaitable[None]]) -> None:
    async def run() -> None:
        told: Told = []
        actions = Actions(
            settings,
            node="gw-1",
            boot=1,
            topic_root="edge/v1",
            broker=LocalBroker(BrokerAddress("127.0.0.1", 1), "x"),
            announce=lambda *what: told.append(what),
        )
        supervisor, stop = Supervisor(), asyncio.Event()
        actions.supervise(supervisor, 0)
        running = asyncio.create_task(supervisor.run(stop))
        try:
            await asyncio.wait_for(scenario(actions, told), 30.0)
        finally:
            stop.set()
            await running
            actions.close()

    asyncio.run(run())


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.01)


def test_a_slow_action_holds_up_no_other_and_loses_its_oldest(tmp_path: Path) -> None:
    slow = ActionSettings("slow", Do.COMMAND, command=("sleep", "60"), queue_max=2)
    quick = ActionSettings("quick", Do.COMMAND, command=("true",))

    async def scenario(actions: Actions, told: Told) -> None:
        actions.trigger([alert()])
        await until(lambda: actions.report()[0]["waiting"] == 0)  # under way now
        for _ in range(5):
            actions.trigger([alert()])
        await until(lambda: actions.report()[1]["done"] == 6)
        report = actions.report()[0]
        assert (report["triggered"], report["dropped"], report["waiting"], report["done"]) == (6, 3, 2, 0)
        ((kind, name, data),) = told
        assert (kind, name) == ("ActionFailed", "slow")
        assert "queue was full" in data["reason"]

    driven([slow, quick], scenario)


def test_failures_are_counted_each_and_said_once_a_minute() -> None:
    broken = ActionSettings("broken", Do.COMMAND, command=("sh", "-c", "echo why >&2; exit 1"))

    async def scenario(actions: Actions, told: Told) -> None:
        for _ in range(4):
            actions.trigger([alert()])
        await until(lambda: actions.report()[0]["failed"] == 4)
        assert len(told) == 1
        assert "status 1: why" in told[0][2]["reason"]
        assert "status 1: why" in actions.report()[0]["last_error"]

    driven([broken], scenario)


def test_what_takes_too_long_is_counted_apart() -> None:
    endless = ActionSettings("endless", Do.COMMAND, command=("sleep", "60"), timeout_s=0.2)

    async def scenario(actions: Actions, told: Told) -> None:
        actions.trigger([alert()])
        await until(lambda: actions.report()[0]["timed_out"] == 1)
        assert "within 0.2 s" in told[0][2]["reason"]

    driven([endless], scenario)


def test_a_line_that_cannot_be_had_is_reported_and_tried_at_each_event(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    pin = ActionSettings("lamp", Do.GPIO, chip=f"fake:{folder}/state.json", line=1, pulse_s=0.01)

    async def scenario(actions: Actions, told: Told) -> None:
        assert "later/state.json" in told[0][2]["reason"]
        folder.mkdir()
        actions.trigger([alert()])
        await until(lambda: actions.report()[0]["done"] == 1)

    driven([pin], scenario)


def test_parallel_programs_are_bounded(tmp_path: Path) -> None:
    text = 'cd "$1"; mkdir run.$$; ls -d run.* | wc -l >> seen; sleep 0.2; rmdir run.$$'
    action = ActionSettings("p", Do.COMMAND, command=("sh", "-c", text, "sh", str(tmp_path)), parallel=2)

    async def scenario(actions: Actions, told: Told) -> None:
        for _ in range(6):
            actions.trigger([alert()])
        await until(lambda: actions.report()[0]["done"] == 6)
        assert max(map(int, (tmp_path / "seen").read_text().split())) <= 2

    driven([action], scenario)


def test_what_the_end_itself_brings_is_still_done(tmp_path: Path) -> None:
    action = ActionSettings(
        "last", Do.COMMAND, command=("sh", "-c", 'sleep 0.2; touch "$1"', "sh", f"{tmp_path}/done")
    )

    async def scenario(actions: Actions, told: Told) -> None:
        actions.trigger([alert("cleared")])

    driven([action], scenario)
    assert (tmp_path / "done").exists()


def test_a_defect_of_an_action_that_a_rule_brought_costs_it_one_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.actions.actions.AGAIN_S", 0.01)
    brought = ActionSettings("brought", Do.COMMAND, command=("true",))

    async def scenario(actions: Actions, told: Told) -> None:
        actions.bring({"brought": brought})
        action = actions._brought["brought"][0]
        right = action.runner.run

        async def wrong(event: object) -> str:
            action.runner.run = right  # type: ignore[method-assign]
            raise ZeroDivisionError("a defect")

        action.runner.run = wrong  # type: ignore[method-assign]
        actions.trigger([alert()])
        actions.trigger([alert()])
        await until(lambda: actions.report()[0]["done"] == 1)
        assert actions.report()[0]["failed"] == 1

    driven([], scenario)
    assert "action brought failed by a defect" in caplog.text
