"""What connects stages to the local broker: real brokers that come and go."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from agent.config import PipelineConfig
from agent.outbox.rows import Draft
from agent.stages import stages as module
from agent.stages.stages import Stages
from platforms.stages import Stage, StageKinds, StageTable, Wires
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from tests.broker import broker, free_port, start_broker

WAIT_S = 30.0


class Bell(Stage):
    """Publishes what it hears."""

    def __init__(self, table: StageTable) -> None:
        self.heard_all: list[bytes] = []
        self.topics = tuple(table.settings.get("topics", ()))

    @property
    def wires(self) -> Wires:
        return Wires(self.topics, publishes=True)

    def heard(self, topic: str, payload: bytes) -> None:
        self.heard_all.append(payload)
        if payload == b"break":
            raise ValueError("a stage that cannot deal with it")
        self.place.publish("line/answer", payload, retain=True)


KINDS = StageKinds({"acme.bell": Bell})


class Outbox:
    """Takes all."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []

    async def append(self, drafts: Sequence[Draft]) -> None:
        self.drafts += drafts


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.01)


def hosted(port: int) -> tuple[Stages, Bell]:
    table = {"kind": "acme.bell", "topics": ["line/signal"]}
    config = PipelineConfig("cam1", "model", "weld", stage=table)
    address = BrokerAddress("127.0.0.1", port)
    found = Stages(KINDS, [config], node="gw-1", broker=address, outbox=Outbox(), evidence=None)  # type: ignore[arg-type]
    (bell,) = found.of("acme.bell", "cam1")
    assert isinstance(bell, Bell)
    return found, bell


@pytest.mark.parametrize("too_late", [False, True])
def test_a_message_waits_for_the_local_broker_but_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, too_late: bool
) -> None:
    if too_late:
        monkeypatch.setattr(module, "HELD_S", -1.0)
    port = free_port()

    async def run() -> Stages:
        found, bell = hosted(port)
        try:
            bell.heard("line/signal", b"A1")
            assert found.report()["output"]["waiting"] == 1
            running = start_broker(tmp_path, port)
            task = asyncio.create_task(found._connect())
            await until(lambda: found.report()["output"]["waiting"] == 0)
            if not too_late:
                assert await retained(BrokerAddress("127.0.0.1", port)) == b"A1"
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            running.stop()
        finally:
            found.close()
        return found

    stats = asyncio.run(run()).stats
    assert (stats.published, stats.dropped) == ((0, 1) if too_late else (1, 0))


async def retained(address: BrokerAddress) -> bytes:
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def receive(delivery: Delivery) -> None:
        if not heard.done():
            heard.set_result(delivery.payload)

    connection = Connection(address, client_id="plc", on_message=receive)
    await connection.connect()
    await connection.subscribe({"line/answer": 1})
    try:
        return await asyncio.wait_for(heard, WAIT_S)
    finally:
        await connection.close()


def test_what_was_retained_is_of_the_past_and_what_a_stage_cannot_deal_with_ends_nothing(tmp_path: Path) -> None:
    async def run(port: int) -> tuple[int, list[bytes], int]:
        found, bell = hosted(port)
        task = asyncio.create_task(found._connect())
        line = Connection(BrokerAddress("127.0.0.1", port), client_id="line", on_message=lambda delivery: None)
        await line.connect()
        await until(lambda: found._broker.is_connected)
        before = len(bell.heard_all)
        for payload in (b"break", b"live"):
            line.publish(Message("line/signal", payload))
        await until(lambda: len(bell.heard_all) == 2)
        await line.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        found.close()
        return before, bell.heard_all, found.report()["stages"][0]["failures_total"]

    with broker(tmp_path) as running:

        async def leave_one() -> None:
            address = BrokerAddress("127.0.0.1", running.port)
            connection = Connection(address, client_id="old", on_message=lambda delivery: None)
            await connection.connect()
            connection.publish(Message("line/signal", b"old", retain=True))
            await asyncio.sleep(0.2)
            await connection.close()

        asyncio.run(leave_one())
        assert asyncio.run(run(running.port)) == (0, [b"break", b"live"], 1)
