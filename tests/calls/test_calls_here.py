"""Calls that a process makes itself: the same places, limits and errors, and no journal."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from runtime.calls.errors import CallError, CallFailedError, CallRejectedError
from runtime.calls.served import Call, Nothing, Served, arguments, plain
from schemas.messages import CommandState
from tests.calls.desk import Desk, Gate, code, play, until


async def odd(call: Call, given: Nothing) -> None:
    raise KeyError("a defect")


async def slow(call: Call, given: Nothing) -> None:
    await asyncio.sleep(60)


async def sound(call: Call, given: Nothing) -> dict[str, Any]:
    return {"caller": call.caller, "id": call.id}


def served(run: Any, **more: Any) -> Served:
    return Served("work", arguments(Nothing), run, **more)


@pytest.mark.parametrize(
    ("run", "given", "kind", "expected"),
    [
        (odd, {}, CallFailedError, "defect"),
        (slow, {}, CallFailedError, "deadline"),
        (sound, {"a": 1}, CallRejectedError, "bad_arguments"),
    ],
)
def test_how_it_ends_is_raised(
    tmp_path: Path, run: Any, given: dict[str, Any], kind: type[CallError], expected: str
) -> None:
    async def scene() -> None:
        desk = Desk(tmp_path, [served(run)])
        with pytest.raises(kind) as raised:
            await desk.dispatcher.call_here("work", given, 0.05 if run is slow else None)
        assert raised.value.code == expected
        with pytest.raises(CallRejectedError, match="no function 'fly'"):
            await desk.dispatcher.call_here("fly", {})
        await desk.end()

    play(scene)


def test_it_takes_a_place_and_gives_it_back(tmp_path: Path) -> None:
    async def scene() -> None:
        gate = Gate()
        desk = Desk(tmp_path, [plain("work", Nothing, gate.run)], parallel_max=1)
        ours = asyncio.create_task(desk.dispatcher.call_here("work", {}))
        await until(lambda: gate.begun == 1)
        assert code(await desk.ask("work", {})) == (CommandState.REJECTED, "busy")
        with pytest.raises(CallRejectedError) as raised:
            await desk.dispatcher.call_here("work", {})
        assert raised.value.code == "busy"
        ours.cancel()
        await asyncio.gather(ours, return_exceptions=True)
        gate.open.set()
        await until(lambda: not desk.dispatcher._places)
        await desk.dispatcher.call_here("work", {})
        assert await asyncio.wrap_future(desk.state.journal.unfinished()) == []
        await desk.dispatcher.stop()
        with pytest.raises(CallRejectedError) as raised:
            await desk.dispatcher.call_here("work", {})
        assert raised.value.code == "stopping"
        await desk.end()

    play(scene)


def test_what_it_returns_is_the_answer(tmp_path: Path) -> None:
    async def scene() -> None:
        desk = Desk(tmp_path, [served(sound)])
        assert await desk.dispatcher.call_here("work", {}) == {"caller": "", "id": ""}
        assert desk.published == []
        await desk.end()

    play(scene)
