"""The dispatcher with a real journal; the connection is a list."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.state import StateFile
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.served import Nothing, Table, plain
from runtime.mqtt import Delivery, Message
from runtime.sqlite import StorageError
from schemas.codec import decode_result
from schemas.messages import CommandState, Result
from schemas.topics import TopicSpace

WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Times:
    times: int = 1


class Desk:
    """One life of a dispatcher: `connected` or not, what it published, and a function that waits to be let go."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFile(folder / "state.db")
        self.go = asyncio.Event()
        self.runs = 0
        self.published: list[Message] = []
        self.acknowledged: list[int] = []
        self.is_connected = True
        functions = [
            plain("work", Times, self._work),
            plain("slow", Nothing, self._work, timeout_s=0.05),
            plain("odd", Nothing, self._odd),
            plain("broken", Nothing, self._broken),
        ]
        self.dispatcher = Dispatcher(Table(functions), self.state.journal, responder="gw-1", space=TopicSpace())
        self.dispatcher.answers.publish = self._publish
        self._mid = 0

    async def _work(self, call: object) -> dict[str, int]:
        self.runs += 1
        await self.go.wait()
        return {"runs": self.runs}

    async def _odd(self, call: Nothing) -> float:
        return math.nan

    async def _broken(self, call: Nothing) -> None:
        raise ZeroDivisionError("a defect")

    def _publish(self, message: Message) -> int | None:
        if not self.is_connected:
            return None
        self.published.append(message)
        return len(self.published)

    def send(self, payload: str, function: str = "work", **more: Any) -> None:
        self._mid += 1
        delivery = Delivery(f"edge/v1/gw-1/cmd/{function}", payload.encode(), 1, False, self._mid, **more)
        self.dispatcher.receive(delivery, function, lambda d: self.acknowledged.append(d.mid))

    @property
    def results(self) -> list[Result]:
        return [decode_result(message.payload) for message in self.published]

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.005)

    async def end(self) -> None:
        await self.dispatcher.stop()
        self.state.close()


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await asyncio.wait_for(scenario(), WAIT_S)

    asyncio.run(main())


def test_it_is_acknowledged_once_journalled_and_before_it_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.send('{"_id":"a"}')
        await desk.until(lambda: desk.runs)
        assert desk.acknowledged == [1]
        desk.send('{"_id":"a"}')  # a repetition while it runs: the one answer is on its way
        await desk.until(lambda: desk.acknowledged == [1, 2])
        desk.go.set()
        await desk.until(lambda: desk.published)
        await asyncio.sleep(0.05)
        assert [(result.id, result.state) for result in desk.results] == [("a", CommandState.SUCCEEDED)]
        assert desk.runs == 1
        await desk.end()

    run(scenario)


def test_what_runs_through_a_reconnect_is_answered_once_and_not_as_interrupted(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.send('{"_id":"a"}')
        await desk.until(lambda: desk.runs)
        desk.dispatcher.disconnected()
        await desk.dispatcher.connected()
        assert desk.published == []
        desk.is_connected = False
        desk.go.set()
        await desk.until(lambda: not desk.dispatcher._tasks)
        desk.is_connected = True
        await desk.dispatcher.connected()
        assert [(result.id, result.state) for result in desk.results] == [("a", CommandState.SUCCEEDED)]
        await desk.end()

    run(scenario)


def test_an_answer_is_delivered_until_the_broker_has_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.go.set()
        desk.send('{"_id":"a"}')
        await desk.until(lambda: desk.published)
        desk.dispatcher.disconnected()
        desk.dispatcher.puback(1)  # a packet id of another connection
        await desk.dispatcher.connected()
        assert desk.results[0] == desk.results[1]
        desk.dispatcher.puback(2)
        await desk.dispatcher.connected()
        assert len(desk.published) == 2
        await desk.end()

    run(scenario)


def test_only_what_an_earlier_life_left_open_is_interrupted(tmp_path: Path) -> None:
    async def first() -> None:
        desk = Desk(tmp_path)
        desk.send('{"_id":"cut-off"}')
        desk.send("{}")  # without an id: at most once, and nobody is told
        await desk.until(lambda: desk.runs == 2)
        await desk.end()

    async def second() -> None:
        desk = Desk(tmp_path)
        desk.send('{"_id":"new"}')
        await desk.until(lambda: desk.runs)
        await desk.dispatcher.connected()
        (result,) = desk.results
        assert (result.id, result.state, result.function) == ("cut-off", CommandState.FAILED, "work")
        assert result.error is not None
        assert result.error.code == "interrupted"
        desk.go.set()
        await desk.until(lambda: len(desk.published) == 2)
        assert (desk.results[1].id, desk.results[1].state) == ("new", CommandState.SUCCEEDED)
        await desk.end()

    run(first)
    run(second)


def test_a_journal_that_refuses_is_an_answer_and_no_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> "Future[None]":
        future: Future[None] = Future()
        future.set_exception(StorageError("disk full"))
        return future

    async def scenario() -> None:
        desk = Desk(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(desk.state.journal, "accept", full)
            desk.send('{"_id":"a"}')
            await desk.until(lambda: desk.published)
        assert desk.acknowledged == [1]
        assert desk.runs == 0
        assert desk.results[0].error is not None
        assert (desk.results[0].id, desk.results[0].error.code) == ("a", "journal")
        desk.go.set()
        with monkeypatch.context() as patch:
            patch.setattr(desk.state.journal, "finish", full)
            desk.send('{"_id":"a"}')
            await desk.until(lambda: len(desk.published) == 2)
        assert desk.results[1].state is CommandState.SUCCEEDED
        await desk.end()

    run(scenario)


@pytest.mark.parametrize(
    ("function", "code"), [("slow", "timeout"), ("broken", "defect"), ("odd", "defect"), ("none", "unknown_function")]
)
def test_whatever_happens_there_is_one_answer(tmp_path: Path, function: str, code: str) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        for number, payload in enumerate(("{}", '{"_id":"a"}'), 1):
            desk.send(payload, function)
            await desk.until(lambda number=number: len(desk.published) == number)  # type: ignore[misc]
        assert [result.error.code for result in desk.results if result.error] == [code, code]
        await desk.end()

    run(scenario)


def test_a_caller_that_speaks_msgpack_is_refused_in_msgpack(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        delivery = Delivery("edge/v1/gw-1/cmd/work", b"\x82\xa3_id\xa1a\xa5times\xa1x", 1, False, 1)
        desk.dispatcher.receive(delivery, "work", lambda d: None)
        await desk.until(lambda: desk.published)
        assert desk.published[0].payload[:1] != b"{"
        assert desk.results[0].error is not None
        assert (desk.results[0].id, desk.results[0].error.field) == ("a", "times")
        await desk.end()

    run(scenario)


def test_long_correlation_data_do_not_bloat_the_journal(tmp_path: Path) -> None:
    async def scenario() -> None:
        desk = Desk(tmp_path)
        desk.go.set()
        for _ in range(2):
            desk.send("{}", correlation=b"x" * 60_000, response_topic="edge/v1/gw-1/result/me")
        await desk.until(lambda: len(desk.acknowledged) == 2 and not desk.dispatcher._tasks)
        assert desk.runs == 1
        (known,) = await asyncio.wrap_future(desk.state.journal.unfinished())
        assert len(known.id) <= 128
        assert all(message.correlation == b"x" * 60_000 for message in desk.published)
        await desk.end()

    run(scenario)
