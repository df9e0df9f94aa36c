"""docs/protocol.md, calls that take long: each test carries the number it shows."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from runtime.calls.client import Client
from runtime.calls.errors import CallCancelledError, CallFailedError, CallRejectedError, NoAnswerError
from runtime.mqtt import BrokerAddress, Connection, Message
from schemas.messages import CallProgress, Command, CommandState
from tests.broker import broker
from tests.calls.processes import Ear, Slow, running, until

BOTH = pytest.mark.parametrize(("program", "node"), [("agent", "gw-1"), ("coordinator", "coordinator")])


@BOTH
def test_p45_progress(tmp_path: Path, program: str, node: str) -> None:
    async def scene(port: int) -> None:
        async with running(tmp_path, program, port) as (_, client, ear):
            told: list[CallProgress] = []
            more: list[CallProgress] = []
            arguments = {"steps": 4, "step_s": 0.4}
            calls = [
                client.call(node, "analyse", arguments, call_id="p", on_progress=told.append),
                client.call(node, "analyse", {"steps": 1, "step_s": 1.0}, call_id="q", on_progress=more.append),
            ]
            assert await asyncio.gather(*calls) == [{"steps": 4}, {"steps": 1}]
            assert told[0] == CallProgress(0.0, "step 1 of 4")
            shares = [progress.share for progress in told if progress.share is not None]
            assert shares == sorted(set(shares))
            assert {progress.text for progress in more} == {"step 1 of 1"}
            # Another connection may hear it a little later.
            await until(lambda: len(ear.of("p", node, "analyse")) == len(told) + 1)
            heard = ear.of("p", node, "analyse")
            assert [result.state for result in heard[:-1]] == [CommandState.RUNNING] * len(told)
            assert [result.progress for result in heard[:-1]] == told
            assert (heard[-1].state, heard[-1].progress) == (CommandState.SUCCEEDED, None)
            # Asked again it is answered from the journal, in which no progress is.
            count = len(told)
            assert await client.call(node, "analyse", {}, call_id="p", on_progress=told.append) == {"steps": 4}
            assert len(told) == count

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))


@BOTH
def test_p46_cancel(tmp_path: Path, program: str, node: str) -> None:
    async def scene(port: int) -> None:
        async with running(tmp_path, program, port) as (_, client, ear):
            calling = asyncio.create_task(client.call(node, "hold", call_id="h"))
            await until(lambda: ear.of("h", node, "hold"))
            assert await client.cancel(node, "h") == ""
            with pytest.raises(CallCancelledError):
                await calling
            assert "ended already: cancelled" in await client.cancel(node, "h")
            assert "no call with this id" in await client.cancel(node, "never")
            assert [result.state for result in ear.of("h", node, "hold") if result.state.final] == [
                CommandState.CANCELLED
            ]
            # Whoever waits and is cancelled cancels the call.
            calling = asyncio.create_task(client.call(node, "hold", call_id="i"))
            await until(lambda: ear.of("i", node, "hold"))
            calling.cancel()
            await until(lambda: ear.of("i", node, "hold")[-1].state is CommandState.CANCELLED)

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))


@BOTH
def test_p47_deadline(tmp_path: Path, program: str, node: str) -> None:
    async def scene(port: int) -> None:
        async with running(tmp_path, program, port) as (_, client, _ear):
            with pytest.raises(CallFailedError) as failed:
                await client.call(node, "hold", deadline_s=0.2)
            assert failed.value.code == "deadline"
            with pytest.raises(CallFailedError, match="not begun") as failed:
                await client.call(node, "hold", deadline_s=0.0)
            assert failed.value.code == "deadline"
            assert await client.call(node, "analyse", {"steps": 1}, deadline_s=30.0) == {"steps": 1}

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))


@BOTH
def test_p48_p49_limits_and_functions_that_are_not_bound(tmp_path: Path, program: str, node: str) -> None:
    async def scene(port: int) -> None:
        async with running(tmp_path, program, port) as (_, client, ear):
            calling = asyncio.create_task(client.call(node, "hold", call_id="h"))
            await until(lambda: ear.of("h", node, "hold"))
            with pytest.raises(CallRejectedError, match="hold runs 1 at a time") as refused:
                await client.call(node, "hold", call_id="second")
            assert refused.value.code == "busy"
            assert (await client.call(node, "status"))["uptime_s"] >= 0  # the others go on
            await client.cancel(node, "h")
            with pytest.raises(CallCancelledError):
                await calling
            # What was refused was not remembered.
            calling = asyncio.create_task(client.call(node, "hold", call_id="second"))
            await until(lambda: any(r.state is CommandState.RUNNING for r in ear.of("second", node, "hold")))
            await client.cancel(node, "second")
            with pytest.raises(CallCancelledError):
                await calling

            with pytest.raises(CallRejectedError, match="no function is bound to it") as refused:
                await client.call(node, "declared", {"x": 1})
            assert refused.value.code == "not_bound"
            with pytest.raises(CallRejectedError, match="did you mean analyse") as refused:
                await client.call(node, "analyze")
            assert refused.value.code == "unknown_function"
            if node != "coordinator":
                functions = await announced(port)
                assert "declared" not in functions
                assert {"analyse", "cancel", "hold"} <= set(functions)

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))


async def announced(port: int) -> list[str]:
    births: list[Any] = []
    connection = Connection(
        BrokerAddress(port=port), client_id="late", on_message=lambda d: births.append(json.loads(d.payload))
    )
    await connection.connect()
    await connection.subscribe({"edge/v1/gw-1/birth": 1})
    await until(lambda: births)
    await connection.close()
    return list(births[0]["functions"])


def test_p50_the_coordinator_runs_an_id_once_over_kills(tmp_path: Path) -> None:
    desired = {"node": "gw-1", "set": {"heartbeat_s": 5}}

    async def scene(port: int) -> None:
        coordinator = Slow(tmp_path, "coordinator", port)
        async with Ear(port) as ear, Client(BrokerAddress(port=port)) as client:
            await coordinator.start()
            first = await client.call("coordinator", "setDesired", desired, call_id="once")
            calling = asyncio.create_task(client.ask("coordinator", Command("hold", {}, "cut")))
            await until(lambda: ear.of("cut", "coordinator", "hold"))
            coordinator.kill()
            # Not here, so nobody has it: without an id it is gone, P21.
            with pytest.raises(NoAnswerError):
                await client.call("coordinator", "status", timeout_s=0.3)
            await coordinator.start()
            interrupted = await calling
            assert (interrupted.state, interrupted.error and interrupted.error.code) == (
                CommandState.FAILED, "interrupted",
            )  # fmt: skip
            # Asked again, both are answered from the journal: no second revision, no second run.
            assert await client.call("coordinator", "setDesired", desired, call_id="once") == first
            with pytest.raises(CallFailedError) as failed:
                await client.call("coordinator", "hold", call_id="cut")
            assert failed.value.code == "interrupted"
            again = await client.call("coordinator", "setDesired", {"node": "gw-1", "set": {"heartbeat_s": 6}})
            assert again["desired"]["revision"] == first["desired"]["revision"] + 1
            # A repetition in plain text, as mosquitto_pub sends it.
            other = Connection(BrokerAddress(port=port), client_id="by-hand", on_message=lambda delivery: None)
            await other.connect()
            before = len(ear.of("once", "coordinator", "setDesired"))
            other.publish(Message("edge/v1/coordinator/cmd/setDesired", b'{"_id":"once"}'))
            await until(lambda: len(ear.of("once", "coordinator", "setDesired")) > before)
            assert ear.of("once", "coordinator", "setDesired")[-1].result == first
            await other.close()
            assert coordinator.stop() == 0

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))
