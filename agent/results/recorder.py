"""Keeps results beside the hot path: taken on the loop, written in groups by a thread, given up before they delay.

The oldest waiting result is given up when too many wait, nothing is written while the disk is short, and a file that
is damaged is set aside and begun anew. Whatever is not kept is counted by reason.
"""

import asyncio
import logging
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.degrade.switches import Switch, Switches
from agent.results.aggregate import BOUNDS, Aggregate, Windows
from agent.results.result import FRAME, Result
from agent.results.retention import Tier, has_room
from agent.results.settings import ResultsSettings
from agent.results.store import ResultStore
from runtime.errors import EdgewrightError, TemporaryError
from runtime.sqlite import DiskFullError, StorageFormatError

log = logging.getLogger(__name__)

WAITING_MAX = 4000  # results in memory; beyond it the oldest is given up
FLUSH_S = 1.0
TRIM_S = 5.0
RETRY_S = 30.0  # a file that cannot be opened is tried again this often
COARSE_FACTOR = 10
_SUFFIXES = ("", "-wal", "-shm")


class Recorder:
    """Owns `results.db`. `keep` from the loop; `run` writes until cancelled, then writes what waits."""

    def __init__(
        self,
        path: Path,
        settings: ResultsSettings,
        switches: Switches,
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._path = path
        self._settings = settings
        self._switches = switches
        self._announce = announce
        self._store: ResultStore | None = None
        self._results: deque[Result] = deque()
        self._aggregates: deque[Aggregate] = deque()
        self._windows: dict[str, Windows] = {}
        self._dropped: Counter[tuple[str, str]] = Counter()  # not yet in the file
        self._run_s = 0.0
        self._began_s = time.monotonic()
        self._room = True
        self._complaint = ""
        self.on_keep: Callable[[Result], None] = lambda result: None  # told of each, on the loop
        self.kept_total = 0
        self.dropped_total: Counter[str] = Counter()  # by reason, since the start

    @property
    def path(self) -> Path:
        """Where the file is; it may be read while this writes."""
        return self._path

    @property
    def epoch(self) -> str:
        """Under which the file's numbers hold; empty while it is not open."""
        return "" if self._store is None else self._store.epoch

    # ---- on the loop ----------------------------------------------------------------------------

    def keep(self, result: Result) -> None:
        """Takes a result; a frame's also into the windows. Never waits."""
        self.on_keep(result)
        if result.type == FRAME:
            self._sum_up(result)
            if not self._settings.raw_hours:
                return
            if not self._switches.is_on(Switch.RAW_RESULTS):
                self._drop(Tier.RAW, "switched_off", 1)
                return
        self._results.append(result)
        if len(self._results) > WAITING_MAX:
            self._results.popleft()
            self._drop(Tier.RAW, "busy", 1)

    def _sum_up(self, result: Result) -> None:
        windows = self._windows.get(result.pipeline)
        if windows is None:
            windows = Windows(result.camera, result.pipeline, local_only=result.local_only)
            self._windows[result.pipeline] = windows
        fine = self._switches.is_on(Switch.FINE_AGGREGATES)
        window_s = self._settings.aggregate_s * (1 if fine else COARSE_FACTOR)
        done = windows.add(result.time_utc_ms, result.objects, window_s, BOUNDS)
        if done is not None:
            self._aggregates.append(done)

    def end(self, pipeline: str) -> None:
        """The pipeline has ended: its open window is kept as it is."""
        windows = self._windows.pop(pipeline, None)
        if windows is not None and (left := windows.finish()) is not None:
            self._aggregates.append(left)

    def _drop(self, tier: Tier, reason: str, rows: int) -> None:
        self._dropped[tier.value, reason] += rows
        self.dropped_total[reason] += rows

    # ---- the task -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Opens the file, writes and trims until cancelled. A disk that refuses is waited out."""
        trim_due_s = 0.0
        try:
            while True:
                if self._store is None and not await self._open():
                    await asyncio.sleep(RETRY_S)
                    continue
                await self._step(self._flush)
                if time.monotonic() >= trim_due_s:
                    trim_due_s = time.monotonic() + TRIM_S
                    await self._step(self._trim)
                await asyncio.sleep(FLUSH_S)
        finally:
            await self._end()

    async def _open(self) -> bool:
        try:
            self._store = await asyncio.to_thread(ResultStore, self._path)
        except StorageFormatError as error:
            return await self._begin_anew(str(error))
        except EdgewrightError as error:
            self._complain(str(error))
            self._drop_waiting("unwritable")
            return False
        self._run_s, self._began_s = self._store.run_s, time.monotonic()
        return True

    async def _begin_anew(self, reason: str) -> bool:
        """A damaged file, or one of a newer version, is set aside: it is kept, and the one set aside before goes."""
        store, self._store = self._store, None
        try:
            aside = await asyncio.to_thread(_set_aside, self._path, store)
        except OSError as error:
            self._complain(f"{self._path} cannot be set aside: {error}")
            return False
        log.error("results: %s; it is kept as %s, and a new one begun", reason, aside.name)
        self._announce("ResultsSetAside", "results", {"reason": reason, "file": aside.name})
        return await self._open()

    async def _step(self, step: Callable[[], Any]) -> None:
        try:
            await step()
        except StorageFormatError as error:
            await self._begin_anew(str(error))
        except EdgewrightError as error:
            self._complain(str(error))
        else:
            if self._complaint:
                log.warning("results: kept again")
                self._complaint = ""

    async def _flush(self) -> None:
        assert self._store is not None
        if not self._room:
            self._drop_waiting("disk")
        now_ms = time.time_ns() // 1_000_000
        for windows in self._windows.values():
            if (done := windows.due(now_ms)) is not None:
                self._aggregates.append(done)
        results, aggregates, dropped = list(self._results), list(self._aggregates), self._dropped
        if not (results or aggregates or dropped):
            return
        self._results.clear()
        self._aggregates.clear()
        self._dropped = Counter()
        try:
            await asyncio.wrap_future(self._store.write(results, aggregates, self._run_now_s(), dropped))
        except EdgewrightError:
            self._drop(Tier.RAW, "unwritable", len(results))
            self._drop(Tier.AGGREGATES, "unwritable", len(aggregates))
            self._dropped.update(dropped)
            raise
        self.kept_total += len(results)

    async def _trim(self) -> None:
        assert self._store is not None
        free = await asyncio.to_thread(_disk_free, self._path.parent)
        self._room = has_room(self._settings, free)
        try:
            gone = await asyncio.wrap_future(
                self._store.trim(
                    self._settings,
                    run_s=self._run_now_s(),
                    disk_free_bytes=free,
                    short=not self._switches.is_on(Switch.RAW_RETENTION),
                )
            )
            for (_, reason), rows in gone.items():
                self.dropped_total[reason] += rows
            await asyncio.wrap_future(self._store.give_back())
        except DiskFullError as error:
            # Not even to drop something is there room: the whole file gives way to what is worth more.
            log.error("results: %s; everything kept here is given up", error)
            store, self._store = self._store, None
            await asyncio.to_thread(_discard, self._path, store)
            self._announce("ResultsSetAside", "results", {"reason": str(error), "file": ""})

    async def _end(self) -> None:
        """Within the time that the supervisor leaves: what waits, and the open windows as they are."""
        for pipeline in list(self._windows):
            self.end(pipeline)
        if self._store is None:
            return
        try:
            await self._flush()
        except EdgewrightError as error:
            self._complain(str(error))

    def close(self) -> None:
        """Closes the file; blocks for as long as its last writes take."""
        if self._store is not None:
            try:
                self._store.close()
            except TemporaryError as error:
                self._complain(str(error))

    def _run_now_s(self) -> float:
        return self._run_s + time.monotonic() - self._began_s

    def _drop_waiting(self, reason: str) -> None:
        self._drop(Tier.RAW, reason, len(self._results))
        self._drop(Tier.AGGREGATES, reason, len(self._aggregates))
        self._results.clear()
        self._aggregates.clear()

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            log.error("results: not kept: %s", text)
            self._complaint = text

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "kept_total": self.kept_total,
            "waiting": len(self._results),
            "dropped_total": dict(self.dropped_total),
            "problem": self._complaint,
        }


def _disk_free(folder: Path) -> int:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _set_aside(path: Path, store: ResultStore | None) -> Path:
    """Closes what is open, keeps the file under another name; an older one that was kept so goes."""
    if store is not None:
        store.close()
    for old in path.parent.glob(f"{path.name}.damaged-*"):
        old.unlink()
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
    for suffix in _SUFFIXES:
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def _discard(path: Path, store: ResultStore) -> None:
    store.close()
    for suffix in _SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)
