"""`edgectl call` and `edgectl cancel` as a person uses them: processes of their own, and Ctrl-C."""

import asyncio
import io
import json
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from coordinator.ctl.call import Telling
from runtime.calls.client import Client
from schemas.messages import CallProgress, CommandState
from tests.broker import broker
from tests.calls.processes import Ear, Slow, edgectl, running, until


def play(folder: Path, scene: Callable[[Slow, Client, Ear], Awaitable[None]]) -> None:
    async def main(port: int) -> None:
        async with running(folder, "coordinator", port) as (process, client, ear):
            await scene(process, client, ear)

    with broker(folder) as mqtt:
        asyncio.run(main(mqtt.port))


async def ended(process: Slow, *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    call = edgectl(*arguments, config=process.config)
    out, error = await asyncio.to_thread(call.communicate, timeout=40)
    assert "Traceback" not in error
    return call.returncode, out, error


def test_progress_is_told_on_stderr_and_an_id_is_answered_again(tmp_path: Path) -> None:
    async def scene(process: Slow, client: Client, ear: Ear) -> None:
        arguments = ["call", "coordinator", "analyse", "steps=3", "step_s=0.7", "--id", "once"]
        status, out, error = await ended(process, *arguments)
        assert (status, json.loads(out)["result"]) == (0, {"steps": 3})
        assert "progress" not in json.loads(out)
        assert [line.strip() for line in error.splitlines()][::2] == ["0% step 1 of 3", "67% step 3 of 3"]
        status, again, error = await ended(process, *arguments)
        assert (status, again, error) == (0, out, "")
        status, out, error = await ended(process, "call", "coordinator", "hold", "--deadline", "0.2")
        assert (status, json.loads(out)["error"]["code"]) == (1, "deadline")

    play(tmp_path, scene)


def test_ctrl_c_cancels_the_call_and_says_so(tmp_path: Path) -> None:
    async def scene(process: Slow, client: Client, ear: Ear) -> None:
        call = edgectl("call", "coordinator", "hold", "--id", "h", config=process.config)
        await until(lambda: ear.of("h", "coordinator", "hold"))
        call.send_signal(signal.SIGINT)
        out, error = await asyncio.to_thread(call.communicate, timeout=40)
        assert (call.returncode, out) == (130, "")
        assert "interrupted; hold of coordinator (id h) is cancelled" in error
        assert "Traceback" not in error
        assert ear.of("h", "coordinator", "hold")[-1].state is CommandState.CANCELLED

    play(tmp_path, scene)


def test_cancel_ends_the_call_of_somebody_else(tmp_path: Path) -> None:
    async def scene(process: Slow, client: Client, ear: Ear) -> None:
        call = edgectl("call", "coordinator", "hold", "--id", "h", config=process.config)
        await until(lambda: ear.of("h", "coordinator", "hold"))
        assert await ended(process, "cancel", "coordinator", "h") == (0, "h is being cancelled\n", "")
        out, _ = await asyncio.to_thread(call.communicate, timeout=40)
        assert (call.returncode, json.loads(out)["state"]) == (1, "cancelled")
        status, out, error = await ended(process, "cancel", "coordinator", "h")
        assert (status, out) == (1, "")
        assert "not cancelled: this hold has ended already: cancelled" in error

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["cancel", "gw-1", "x" * 129], "1 to 128 characters"),
        (["call", "gw-1", "f", "--deadline", "0"], "more than 0"),
        (["call", "gw-1", "f", "--id", ""], "1 to 128 characters"),
    ],
)
def test_mistakes_are_one_message(tmp_path: Path, arguments: list[str], said: str) -> None:
    call = edgectl(*arguments, config=tmp_path / "none.toml")
    _, error = call.communicate(timeout=40)
    assert call.returncode == 2
    assert said in error


@pytest.mark.parametrize(
    ("is_terminal", "written"), [(True, "\r\x1b[K 40% two\ufffd\r\x1b[K"), (False, " 40% two\ufffd\n")]
)
def test_progress_is_one_line_of_a_terminal(is_terminal: bool, written: str) -> None:
    out = io.StringIO()
    out.isatty = lambda: is_terminal  # type: ignore[method-assign]
    with Telling(out) as telling:
        telling.say(CallProgress(0.4, "two\x1b"))
    assert out.getvalue() == written
