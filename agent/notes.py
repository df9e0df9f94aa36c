"""What happens to the node itself, on its way to the outbox."""

import asyncio
import logging
import time
from typing import Any

from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from schemas.errors import LocalWireError
from schemas.identity import Lane

log = logging.getLogger(__name__)

WAITING_MAX = 1000  # more at once is a defect somewhere; the newest are dropped and counted
FINISH_S = 2.0


class Notes:
    """Events of the life-cycle lane. `announce` is for any thread, the rest is on the loop."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._waiting: asyncio.Queue[Draft] = asyncio.Queue(WAITING_MAX)
        self._loop = asyncio.get_running_loop()
        self.dropped_total = 0

    def announce(self, kind: str, subject: str, data: dict[str, Any]) -> None:
        """Something happened to the node itself."""
        draft = Draft(Lane.LIFECYCLE, kind, subject, time.time_ns() // 1_000_000, data)
        self._loop.call_soon_threadsafe(self._put, draft)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._keep(await self._waiting.get())

    async def finish(self) -> None:
        """Keeps what waits, within FINISH_S: a disk that refuses would hold us for ever."""
        try:
            async with asyncio.timeout(FINISH_S):
                while not self._waiting.empty():
                    await self._keep(self._waiting.get_nowait())
        except TimeoutError:  # what is not stored by now is lost with the process anyway
            log.error("%d life-cycle notes not kept: the outbox does not take them", self._waiting.qsize() + 1)

    def _put(self, draft: Draft) -> None:
        try:
            self._waiting.put_nowait(draft)
        except asyncio.QueueFull:
            self.dropped_total += 1
            log.error("life-cycle note dropped, %d wait already: %s %s", WAITING_MAX, draft.type, draft.subject)

    async def _keep(self, note: Draft) -> None:
        try:
            await self._outbox.append([note])
        except LocalWireError as error:
            self.dropped_total += 1
            log.error("life-cycle note %s of %s not kept: %s", note.type, note.subject, error)
