"""A responder over several links: a call is answered over its own; what an earlier start owes goes over each."""

import asyncio
from pathlib import Path

from runtime.calls.served import Nothing, plain
from runtime.mqtt import Message
from schemas.codec import decode_result
from tests.calls.desk import Desk, until


class Wide(Desk):
    """Over two links. `said` has (link, id) of each answer; those of links in `away` are not published."""

    def __init__(self, folder: Path) -> None:
        self.go = asyncio.Event()
        super().__init__(folder, [plain("work", Nothing, self._work)], links=2)
        self.said: list[tuple[int, str]] = []
        self.away: set[int] = set()
        self.dispatcher.answers.publish_on = self._say

    async def _work(self, call: Nothing) -> int:
        await self.go.wait()
        return 1

    def _say(self, message: Message, link: int) -> int | None:
        if link in self.away:
            return None
        self.said.append((link, decode_result(message.payload).id))
        return len(self.said)

    def confirm(self) -> None:
        for number in range(1, len(self.said) + 1):
            self.dispatcher.puback(number)


def test_a_call_is_answered_over_its_own_link_and_again_over_that_alone(tmp_path: Path) -> None:
    async def scene() -> None:
        desk = Wide(tmp_path)
        desk.go.set()
        desk.away = {1}
        desk.send("work", {"_id": "a"}, link=1)
        desk.send("work", {"_id": "b"}, link=0)
        await until(lambda: desk.said == [(0, "b")])
        await desk.dispatcher.connected(0)
        assert desk.said == [(0, "b"), (0, "b")]  # not confirmed yet
        desk.confirm()
        desk.away = set()
        await desk.dispatcher.connected(1)
        assert desk.said[2:] == [(1, "a")]
        desk.dispatcher.disconnected(0)  # that the other link is gone does not matter to it
        desk.confirm()
        await desk.dispatcher.connected(1)
        await desk.dispatcher.connected(0)
        assert desk.said[3:] == []
        desk.state.close()

    asyncio.run(scene())


def test_what_an_earlier_start_owes_goes_over_each_link(tmp_path: Path) -> None:
    async def scene() -> None:
        before = Wide(tmp_path)
        before.send("work", {"_id": "a"}, link=1)
        await until(lambda: before.acknowledged == [1])
        await before.dispatcher.stop()
        before.state.close()

        after = Wide(tmp_path)
        await after.dispatcher.connected(0)
        after.confirm()
        await after.dispatcher.connected(0)  # it has it
        assert after.said == [(0, "a")]
        await after.dispatcher.connected(1)
        assert after.said == [(0, "a"), (1, "a")]
        after.confirm()
        await after.dispatcher.connected(1)
        assert after.said == [(0, "a"), (1, "a")]
        after.state.close()

    asyncio.run(scene())


def test_a_repetition_is_answered_where_it_comes_from(tmp_path: Path) -> None:
    async def scene() -> None:
        desk = Wide(tmp_path)
        desk.go.set()
        desk.send("work", {"_id": "a"}, link=0)
        await until(lambda: desk.said == [(0, "a")])
        desk.send("work", {"_id": "a"}, link=1)
        await until(lambda: desk.said == [(0, "a"), (1, "a")])
        desk.state.close()

    asyncio.run(scene())
