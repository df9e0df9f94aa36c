"""Sends results that were kept here, once, through the outbox: what the command `syncDataToCloud` asks for.

A few hundred at a time, and never more than a few chunks unanswered, so that it fills nothing. How far it has come is
remembered after each chunk: it goes on after a restart, and a chunk that a crash interrupted may go twice, each row
with the number of its result. One runs at a time; a newer one ends it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from agent.results import store
from agent.results.result import Result, narrowed
from agent.state import StateFile
from agent.sync.outlet import draft_of_result
from agent.sync.progress import Ended, Progress, filter_id, unpacked
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.errors import EdgewrightError
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.sync import DataFilter

log = logging.getLogger(__name__)

CHUNK_ROWS = 200
CHUNKS_UNANSWERED_MAX = 4
SCAN_ROWS = 2000  # looked at in one go
POLL_S = 0.2
FINISH_S = 2.0  # what a step may take to end when the agent does
COMPLETED = "CloudSyncCompleted"
_RUN, _ENDED = "sync.run", "sync.ended"


class CloudSync:
    """`start` and `cancel` from the loop; `run` does the work until it is cancelled."""

    def __init__(
        self,
        path: Path,
        outbox: Outbox,
        state: StateFile,
        *,
        epoch: Callable[[], str],
        may_send: Callable[[], bool],
        run_s: Callable[[], float],
    ) -> None:
        """`epoch` of the results' file, empty while it is not open; `may_send`: false holds the work up."""
        self._path = path
        self._outbox = outbox
        self._state = state
        self._epoch = epoch
        self._may_send = may_send
        self._run_s = run_s
        self._now: Progress | None = unpacked(state.recall(_RUN))
        self._ended = Ended(state.recall(_ENDED))
        self._last: dict[str, Any] | None = None
        self._cancelled = False
        self._next: Progress | None = None
        self._wake = asyncio.Event()
        if self._now is not None:
            self._wake.set()

    # ---- asked by others ------------------------------------------------------------------------

    async def start(self, data_filter: DataFilter, sync_id: str) -> dict[str, Any]:
        """Begins, or goes on with, a sending; one that runs under another id ends. Raises CallRejectedError where
        the id belongs to another filter, CallFailedError where nothing can be read now."""
        sync_id = sync_id or filter_id(data_filter)
        running = self._next or self._now
        if running is not None and running.sync_id == sync_id and running.data_filter == data_filter:
            return {"state": "running already", **self._report(running)}
        is_running_otherwise = running is not None and running.sync_id == sync_id
        if is_running_otherwise or self._ended.is_another(sync_id, data_filter):
            raise CallRejectedError(
                "id_in_use", f"sync_id: {sync_id!r} was given to another filter before; give a new one", "sync_id"
            )
        epoch = self._epoch()
        if not epoch:
            raise CallFailedError("not_ready", "the results kept here are not open yet; try again in a moment")
        upto = await asyncio.to_thread(_last_id, self._path)
        self._next = Progress(sync_id, data_filter, epoch, self._ended.cursor(sync_id, epoch), upto, self._run_s())
        self._wake.set()
        return {"state": "running", **self._report(self._next)}

    def cancel(self) -> str:
        """Ends the sending that runs; says which, empty for none."""
        running = self._next or self._now
        if running is None:
            return ""
        self._next, self._cancelled = None, self._now is not None
        self._wake.set()
        return running.sync_id

    def report(self) -> dict[str, Any]:
        """For `status`: the one that runs, and how the last one ended."""
        running = self._next or self._now
        return {"running": None if running is None else self._report(running), "last": self._last}

    def _report(self, progress: Progress) -> dict[str, Any]:
        return {
            **{key: value for key, value in progress.result(self._run_s(), "").items() if key != "outcome"},
            "results_left": max(0, progress.upto - progress.cursor),
            "chunks_unanswered": len(progress.ranges),
        }

    # ---- the task -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Works until cancelled; a disk that refuses is asked again."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._whole_step():
                    pass
            except EdgewrightError as error:
                log.warning("sync: cannot go on now: %s", error)
                await asyncio.sleep(5 * POLL_S)
                self._wake.set()

    async def _whole_step(self) -> bool:
        """A step is not cut off between what it sends and what it remembers, but for a disk that refuses."""
        step = asyncio.create_task(self._work(), name="cloud-sync.step")
        try:
            return await asyncio.shield(step)
        except asyncio.CancelledError:
            await asyncio.wait({step}, timeout=FINISH_S)
            step.cancel()
            await asyncio.gather(step, return_exceptions=True)
            raise

    async def _work(self) -> bool:
        """One step. True when another can follow."""
        if self._now is not None and (self._next is not None or self._cancelled):
            await self._end(self._now, "cancelled")
        self._cancelled = False
        if self._now is None:
            self._now, self._next = self._next, None
            if self._now is None:
                return False
            await self._remember()
        progress = self._now
        await self._forget_answered(progress)
        is_done = progress.epoch == self._epoch() and progress.cursor >= progress.upto
        is_renewed = self._epoch() not in ("", progress.epoch)  # what was meant is gone with its file
        if (is_done or is_renewed) and not progress.ranges:
            await self._end(progress, "completed" if is_done else "results_lost")
        elif is_done or is_renewed or len(progress.ranges) >= CHUNKS_UNANSWERED_MAX or not self._can_go_on(progress):
            await asyncio.sleep(POLL_S)
        else:
            await self._send_chunk(progress)
        return True

    def _can_go_on(self, progress: Progress) -> bool:
        return self._may_send() and self._epoch() == progress.epoch

    async def _send_chunk(self, progress: Progress) -> None:
        chunk, cursor, skipped = await asyncio.to_thread(_chunk, self._path, progress)
        rows: list[Row] = []
        if chunk:
            drafts = [draft_of_result(_marked(each, progress.sync_id), Lane.SAMPLE) for each in chunk]
            rows, refused = await self._append(drafts)
            skipped += refused
        progress.cursor = cursor
        progress.skipped += skipped
        progress.rows += len(rows)
        progress.bytes += sum(len(row.payload) for row in rows)
        if rows:
            progress.ranges.append((rows[0].lane.value, rows[0].seq, rows[-1].seq))
        await self._remember()

    async def _append(self, drafts: list[Draft]) -> tuple[list[Row], int]:
        """The rows they became, and how many cannot be rows."""
        try:
            return await self._outbox.append(drafts), 0
        except LocalWireError:
            rows, refused = [], 0
        for draft in drafts:
            try:
                rows += await self._outbox.append([draft])
            except LocalWireError as error:
                log.error("sync: %s", error)
                refused += 1
        return rows, refused

    async def _forget_answered(self, progress: Progress) -> None:
        """Takes the chunks off of which no row waits for the coordinator any more."""
        before = len(progress.ranges)
        while progress.ranges:
            lane, first, last = progress.ranges[0]
            waiting = await asyncio.to_thread(self._outbox.file.take, Lane(lane), first - 1, 1)
            if waiting and waiting[0].seq <= last:
                break
            progress.ranges.pop(0)
        if len(progress.ranges) < before:
            await self._remember()

    async def _end(self, progress: Progress, outcome: str) -> None:
        self._last = progress.result(self._run_s(), outcome)
        now_ms = time.time_ns() // 1_000_000
        await self._outbox.append([Draft(Lane.EVENT, COMPLETED, progress.sync_id, now_ms, self._last)])
        self._ended.add(progress)
        self._now = None
        await _done(self._state.remember(_ENDED, self._ended.packed()))
        await _done(self._state.remember(_RUN, ""))
        log.info("sync %s %s: %d rows", progress.sync_id, outcome, progress.rows)

    async def _remember(self) -> None:
        if self._now is not None:
            await _done(self._state.remember(_RUN, self._now.packed()))


async def _done(future: "Future[None]") -> None:
    await asyncio.wrap_future(future)


def _last_id(path: Path) -> int:
    with store.opened(path) as db:
        return store.last_id(db)


def _chunk(path: Path, progress: Progress) -> tuple[list[tuple[int, Result]], int, int]:
    """The next results that leave, up to where results have been looked at, and how many must not leave."""
    found: list[tuple[int, Result]] = []
    cursor, skipped, looked = progress.cursor, 0, 0
    with store.opened(path) as db:
        wanted = store.results(
            db, progress.data_filter, after_id=progress.cursor, upto_id=progress.upto, count_max=SCAN_ROWS
        )
        for each in wanted:
            cursor, looked = each.id, looked + 1
            result = narrowed(progress.data_filter, each.result)
            if result is not None and result.local_only:
                skipped += 1
            elif result is not None:
                found.append((each.id, result))
            if len(found) == CHUNK_ROWS:
                return found, cursor, skipped
    return found, progress.upto if looked < SCAN_ROWS else cursor, skipped


def _marked(numbered: tuple[int, Result], sync_id: str) -> Result:
    number, result = numbered
    return replace(result, data={**result.data, "sync_id": sync_id, "row": number})
