"""The outbox as the agent sees it: `append` returns when the facts are on disk, then the link hears of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from agent.outbox.file import OutboxFile
from agent.outbox.rows import Draft, Row
from runtime.errors import TemporaryError
from runtime.mailbox import Mailbox

log = logging.getLogger(__name__)

RETRY_S = 1.0  # a full disk is asked again this often; meanwhile the caller waits with its facts in hand


class Outbox:
    """Append from the loop; committed rows are handed on at once, in commit order."""

    def __init__(self, file: OutboxFile) -> None:
        self.file = file
        self.on_committed: Callable[[list[Row]], None] = lambda rows: None
        self.on_append: Callable[[Sequence[Draft]], None] = lambda drafts: None  # before they are stored
        self.appended_total = 0
        self._loop = asyncio.get_running_loop()
        self._done: Mailbox[tuple[Future[list[Row]], asyncio.Future[None]]] = Mailbox(self._loop, self._resolve)
        self._held = 0  # appends that wait for the disk

    async def append(self, drafts: Sequence[Draft]) -> None:
        """Returns when all drafts are committed together. A disk that refuses is waited for, however long."""
        self.on_append(drafts)
        try:
            await self._append(drafts)
        except TemporaryError as error:
            if not self._held:
                log.error("outbox: cannot store, holding on until it works: %s", error)
            self._held += 1
            try:
                await self._append_again(drafts)
            finally:
                self._held -= 1
            if not self._held:
                log.warning("outbox: storing again")
        self.appended_total += len(drafts)

    async def _append_again(self, drafts: Sequence[Draft]) -> None:
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                return await self._append(drafts)
            except TemporaryError as error:
                log.debug("outbox: still cannot store: %s", error)

    def _append(self, drafts: Sequence[Draft]) -> "asyncio.Future[None]":
        waiter: asyncio.Future[None] = self._loop.create_future()

        # Runs in the writer's thread; the loop may be gone when the process is stopping.
        def on_writer(done: "Future[list[Row]]") -> None:
            try:
                self._done.put((done, waiter))
            except RuntimeError:
                log.debug("outbox: committed after the loop had closed")

        self.file.append(drafts).add_done_callback(on_writer)
        return waiter

    def _resolve(self, item: "tuple[Future[list[Row]], asyncio.Future[None]]") -> None:
        done, waiter = item
        error = done.exception()
        if error is not None:
            if not waiter.done():
                waiter.set_exception(error)
            return
        try:
            self.on_committed(done.result())
        finally:  # whatever the listener does, the facts are on disk
            if not waiter.done():
                waiter.set_result(None)
