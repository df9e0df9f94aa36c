"""The client that people's own programs use: on a real broker, against a dispatcher in the same process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from agent.state import StateFile
from runtime.calls.client import Client, value_of
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.errors import (
    CallCancelledError,
    CallError,
    CallExpiredError,
    CallFailedError,
    CallRejectedError,
    NoAnswerError,
)
from runtime.calls.served import Call, Nothing, Served, Table, arguments, plain
from runtime.errors import TemporaryError
from runtime.mqtt import BrokerAddress, Connection
from schemas.messages import CallProgress, Command
from schemas.topics import TopicSpace
from tests.broker import Broker, broker
from tests.calls.desk import Gate, until
from tests.calls.processes import Ear


async def _refuse(call: Call, given: Nothing) -> None:
    raise CallRejectedError("stale", "revision 3 is now", "if_revision", {"revision": 3})


async def _fail(call: Call, given: Nothing) -> None:
    raise CallFailedError("half", "only half of it", [5])


async def _count(call: Call, given: Nothing) -> str:
    for n in range(3):
        call.progress(n / 3, call.caller)
        await asyncio.sleep(0.6)
    return call.caller


@contextlib.asynccontextmanager
async def responder(folder: Path, port: int, gate: Gate, space: TopicSpace) -> AsyncIterator[Connection]:
    """`gw-1`, with its own connection, for the length of a block."""
    state = StateFile(folder / "state.db")
    served = [
        Served("refuse", arguments(Nothing), _refuse),
        Served("fail", arguments(Nothing), _fail),
        Served("count", arguments(Nothing), _count),
        plain("hold", Nothing, gate.run),
    ]
    dispatcher = Dispatcher(Table(served), state.journal, responder="gw-1", space=space)
    connection = Connection(
        BrokerAddress(port=port),
        client_id="gw-1",
        on_message=lambda d: dispatcher.receive(d, d.topic.rsplit("/", 1)[-1], connection.acknowledge),
    )
    await connection.connect()
    await connection.subscribe({f"{space.root}/gw-1/cmd/+": 1})
    dispatcher.answers.publish = connection.publish
    try:
        yield connection
    finally:
        dispatcher.answers.publish = lambda message: None
        await dispatcher.stop()
        await connection.close()
        state.close()


Scene = Callable[[Client, Gate, Broker], Awaitable[None]]


def play(folder: Path, scene: Scene, space: TopicSpace | None = None) -> None:
    used = space or TopicSpace()

    async def main(mqtt: Broker) -> None:
        gate = Gate()
        async with (
            responder(folder, mqtt.port, gate, used),
            Client(BrokerAddress(port=mqtt.port), space=used) as client,
        ):
            await scene(client, gate, mqtt)

    with broker(folder) as mqtt:
        asyncio.run(main(mqtt))


@pytest.mark.parametrize(
    ("function", "raised", "code", "value"),
    [
        ("refuse", CallRejectedError, "stale", {"revision": 3}),
        ("fail", CallFailedError, "half", [5]),
        ("nowhere", CallRejectedError, "unknown_function", None),
    ],
)
def test_an_answer_that_is_an_error_is_raised_as_what_it_is(
    tmp_path: Path, function: str, raised: type[CallError], code: str, value: Any
) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        with pytest.raises(raised) as caught:
            await client.call("gw-1", function)
        assert (caught.value.code, caught.value.value) == (code, value)
        if isinstance(caught.value, CallRejectedError) and function == "refuse":
            assert caught.value.field == "if_revision"
        with pytest.raises(CallRejectedError) as refused:
            await client.call("gw-1", "fail", {"x": 1})
        assert (refused.value.code, refused.value.field) == ("bad_arguments", "x")

    play(tmp_path, scene)


def test_a_call_that_came_too_late_is_expired(tmp_path: Path) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        result = await client.ask("gw-1", Command("hold", {}, expires_s=0.0))
        with pytest.raises(CallExpiredError):
            value_of(result)
        assert gate.begun == 0

    play(tmp_path, scene)


def test_nobody_answers(tmp_path: Path) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        with pytest.raises(NoAnswerError, match="Its id was mine"):
            await client.call("gw-9", "hold", timeout_s=0.1, call_id="mine")
        with pytest.raises(TemporaryError):
            await client.call("gw-1", "hold", timeout_s=0.2, call_id="long")
        gate.open.set()  # it went on: asked again with the same id, it was run once
        assert await client.call("gw-1", "hold", call_id="long") == {"run": 1}
        assert gate.begun == 1

    play(tmp_path, scene)


def test_each_client_hears_its_own_progress_and_an_id_waits_once(tmp_path: Path) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        told: dict[str, list[CallProgress]] = {"a": [], "b": []}

        def keep(name: str) -> Callable[[CallProgress], None]:
            def on_progress(progress: CallProgress) -> None:
                told[name].append(progress)
                raise ZeroDivisionError("a defect of somebody's program")

            return on_progress

        async with Client(BrokerAddress(port=mqtt.port)) as other, Ear(mqtt.port) as ear:
            calls = [
                client.call("gw-1", "count", on_progress=keep("a"), call_id="a"),
                other.call("gw-1", "count", on_progress=keep("b"), call_id="b"),
            ]
            callers = await asyncio.gather(*calls)
            assert len(set(callers)) == 2
            for name, caller in zip("ab", callers, strict=True):
                assert caller.startswith("count/caller-")
                assert {progress.text for progress in told[name]} == {caller}
            await until(lambda: ear.of("a", "gw-1", "count")[-1:] and ear.of("a", "gw-1", "count")[-1].state.final)
        calling = asyncio.create_task(client.call("gw-1", "hold", call_id="h"))
        await until(lambda: gate.begun)
        with pytest.raises(CallRejectedError, match="waits for a call with the id h already"):
            await client.call("gw-1", "hold", call_id="h")
        assert await client.cancel("gw-1", "h") == ""
        with pytest.raises(CallCancelledError):
            await calling

    play(tmp_path, scene)


def test_a_task_that_is_cancelled_cancels_its_call_also_when_the_client_ends_with_it(tmp_path: Path) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        async def program() -> None:
            async with Client(BrokerAddress(port=mqtt.port)) as mine:
                await mine.call("gw-1", "hold")

        running = asyncio.create_task(program())
        await until(lambda: gate.begun)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        assert running.cancelled()
        await until(lambda: gate.ended == {"cancelled": 1})

    play(tmp_path, scene)


def test_a_lost_connection_is_said_and_made_again_by_the_next_call(tmp_path: Path) -> None:
    async def main(mqtt: Broker) -> None:
        gate = Gate()
        async with Client(BrokerAddress(port=mqtt.port)) as client:
            async with responder(tmp_path, mqtt.port, gate, TopicSpace()):
                calling = asyncio.create_task(client.call("gw-1", "hold", call_id="h"))
                await until(lambda: gate.begun)
                await asyncio.to_thread(mqtt.kill)
                with pytest.raises(NoAnswerError, match="connection ended before gw-1 answered hold"):
                    await calling
            mqtt.start()
            async with responder(tmp_path, mqtt.port, gate, TopicSpace()):
                with pytest.raises(CallFailedError) as failed:
                    await client.call("gw-1", "hold", call_id="h")
                assert failed.value.code == "interrupted"
                assert gate.begun == 1

    with broker(tmp_path) as mqtt:
        asyncio.run(main(mqtt))


def test_another_root(tmp_path: Path) -> None:
    async def scene(client: Client, gate: Gate, mqtt: Broker) -> None:
        gate.open.set()
        assert await client.call("gw-1", "hold") == {"run": 1}

    play(tmp_path, scene, TopicSpace("tenant/edge"))
