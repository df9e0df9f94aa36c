"""The outbox as the agent sees it: `append` returns when the facts are on disk, then the link hears of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from agent.outbox.file import OutboxFile
from agent.outbox.rows import LANES, Draft, Row
from runtime.errors import TemporaryError
from runtime.mailbox import Mailbox
from runtime.sqlite import DiskFullError
from schemas.identity import Lane

log = logging.getLogger(__name__)

PATIENCE_S = 10.0  # a full disk may pass; beyond that old rows give way to new ones of the same lane
TICK_S = 10.0  # how often the run time is written down and old rows are looked for
RETRY_S = 1.0  # a full disk is asked again this often; meanwhile the caller waits with its facts in hand


class Outbox:
    """Append from the loop; committed rows are handed on at once, in commit order."""

    def __init__(self, file: OutboxFile) -> None:
        self.file = file
        self.on_committed: Callable[[list[Row]], None] = lambda rows: None
        self.on_append: Callable[[Sequence[Draft]], None] = lambda drafts: None  # before they are stored
        self.checked: Callable[[Sequence[Draft]], Sequence[Draft]] = lambda drafts: drafts  # what is stored of them
        self.appended_total = 0
        self._loop = asyncio.get_running_loop()
        self._done: Mailbox[tuple[Future[list[Row]], asyncio.Future[list[Row]]]] = Mailbox(self._loop, self._resolve)
        self._held = 0  # appends that wait for the disk

    async def append(self, drafts: Sequence[Draft]) -> list[Row]:
        """Returns when all drafts are committed together, the rows that they became. A disk that refuses is waited
        for, however long."""
        self.on_append(drafts)
        drafts = self.checked(drafts)
        try:
            rows = await self._append(drafts)
        except TemporaryError as error:
            if not self._held:
                log.error("outbox: cannot store, holding on until it works: %s", error)
            self._held += 1
            try:
                rows = await self._append_again(drafts, error)
            finally:
                self._held -= 1
            if not self._held:
                log.warning("outbox: storing again")
        self.appended_total += len(drafts)
        return rows

    async def _append_again(self, drafts: Sequence[Draft], error: TemporaryError) -> list[Row]:
        blocked = min((draft.lane for draft in drafts), key=LANES.index)
        began_s = self._loop.time()
        while True:
            patient = self._loop.time() - began_s < PATIENCE_S
            if not (isinstance(error, DiskFullError) and await self._relieved(blocked, own_lane=not patient)):
                await asyncio.sleep(RETRY_S)
            try:
                return await self._append(drafts)
            except TemporaryError as again:
                log.debug("outbox: still cannot store: %s", again)
                error = again

    async def _relieved(self, blocked: Lane, *, own_lane: bool) -> bool:
        """True when something was given up for the sake of what has to be stored now."""
        try:
            freed: int = await asyncio.wrap_future(self.file.relieve(blocked, own_lane=own_lane))
        except TemporaryError as error:
            log.debug("outbox: cannot even give something up: %s", error)
            return False
        if freed:
            log.warning("outbox: the disk is full, %d rows given up for what is worth more", freed)
        return freed > 0

    async def keep_limits(self) -> None:
        """Until cancelled: writes the run time down and gives up what is older than its lane allows."""
        while True:
            await asyncio.sleep(TICK_S)
            try:
                await asyncio.wrap_future(self.file.tick())
            except TemporaryError as error:
                log.debug("outbox: limits not looked at: %s", error)

    def _append(self, drafts: Sequence[Draft]) -> "asyncio.Future[list[Row]]":
        waiter: asyncio.Future[list[Row]] = self._loop.create_future()

        # Runs in the writer's thread; the loop may be gone when the process is stopping.
        def on_writer(done: "Future[list[Row]]") -> None:
            try:
                self._done.put((done, waiter))
            except RuntimeError:
                log.debug("outbox: committed after the loop had closed")

        self.file.append(drafts).add_done_callback(on_writer)
        return waiter

    def _resolve(self, item: "tuple[Future[list[Row]], asyncio.Future[list[Row]]]") -> None:
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
                waiter.set_result(done.result())
