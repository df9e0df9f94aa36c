"""One life of a dispatcher with a real journal: the connection is a list, and functions wait to be let go."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from agent.state import StateFile
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.served import Served, Table
from runtime.mqtt import Delivery, Message
from schemas.codec import decode_result
from schemas.messages import CommandState, Result
from schemas.topics import TopicSpace

WAIT_S = 30.0
MINE = "edge/v1/gw-1/result/work/me"


class Desk:
    """`published` is what went out while `is_connected`."""

    def __init__(self, folder: Path, served: Iterable[Served] = (), **more: Any) -> None:
        self.state = StateFile(folder / "state.db")
        self.published: list[Message] = []
        self.acknowledged: list[int] = []
        self.is_connected = True
        unbound = more.pop("unbound", {})
        self.dispatcher = Dispatcher(
            Table(served, unbound), self.state.journal, responder="gw-1", space=TopicSpace(), **more
        )
        self.dispatcher.answers.publish = self._publish
        self._mid = 0

    def _publish(self, message: Message) -> int | None:
        if not self.is_connected:
            return None
        self.published.append(message)
        return len(self.published)

    def send(self, function: str, payload: dict[str, Any], **more: Any) -> None:
        self._mid += 1
        text = json.dumps(payload).encode()
        delivery = Delivery(f"edge/v1/gw-1/cmd/{function}", text, 1, False, self._mid, **more)
        self.dispatcher.receive(delivery, function, lambda d: self.acknowledged.append(d.mid))

    def on(self, topic: str) -> list[Result]:
        return [decode_result(message.payload) for message in self.published if message.topic == topic]

    @property
    def answers(self) -> list[Result]:
        """On the result topics, the final ones."""
        topics = {message.topic for message in self.published if message.topic.count("/") == 4}
        return [result for topic in topics for result in self.on(topic) if result.state.final]

    def answer(self, identifier: str) -> Result | None:
        found = [result for result in self.answers if result.id == identifier]
        assert len(found) < 2, found
        return found[0] if found else None

    async def ask(self, function: str, payload: dict[str, Any], **more: Any) -> Result:
        """Sends with an id of its own, and the answer to it."""
        identifier = payload.get("_id") or f"ask-{self._mid}"
        self.send(function, {**payload, "_id": identifier}, **more)
        return await self.answered(identifier)

    async def answered(self, identifier: str) -> Result:
        await until(lambda: self.answer(identifier))
        found = self.answer(identifier)
        assert found is not None
        return found

    async def end(self) -> None:
        await self.dispatcher.stop()
        await asyncio.to_thread(self.state.close)


class Gate:
    """A function that waits until it is let go, and what became of its runs."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.begun = 0
        self.ended: Counter[str] = Counter()

    async def run(self, *given: object) -> dict[str, int]:
        self.begun += 1
        number = self.begun
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.ended["cancelled"] += 1
            raise
        self.ended["returned"] += 1
        return {"run": number}


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not true():
            await asyncio.sleep(0.005)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(WAIT_S):
            await scene()

    asyncio.run(main())


def code(result: Result) -> tuple[CommandState, str]:
    return result.state, result.error.code if result.error else ""
