"""The platform state of a node: `StateView` for the functions that run here, and what makes it known elsewhere.

A write is in the file first, then in the outbox, then marked as such in the file. Killed in between, it is put into
the outbox again at the next start: a row that comes twice changes nothing. Where the outbox itself has lost rows (a
power cut, a damaged or replaced file, more waiting than there was room for), everything is said again.
"""

import asyncio
import logging
import time
from collections import Counter
from typing import Any

from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.platform_state import tables
from agent.platform_state.leaving import Leaving, Name
from agent.platform_state.settings import StateSettings
from agent.platform_state.store import ValuesFile
from agent.platform_state.tables import Kept, KeysFullError, Limits
from runtime.backoff import Backoff
from runtime.errors import TemporaryError
from runtime.machine_time import machine_time
from schemas.fields import Owner
from schemas.hlc import Stamp
from schemas.identity import Lane
from schemas.state import Collection, Collections, Entry, StateRefusedError
from schemas.state_registers import STATE_CHANGED, StateChange

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0  # whether the outbox has lost rows
AT_ONCE = 100  # entries in one transaction of the outbox
RETRY_S = 1.0
AGAIN = Backoff(first_s=30.0, max_s=3600.0)  # saying everything again does not help an outbox that is too small


class PlatformState:
    """One node's; see `StateView`. All methods belong to the loop."""

    def __init__(
        self, file: ValuesFile, collections: Collections, settings: StateSettings, outbox: Outbox, *, node: str
    ) -> None:
        self._file = file
        self._collections = collections
        self._settings = settings
        self._outbox = outbox
        self._node = node
        self._leaving = Leaving(settings.min_interval_s)
        self._wake = asyncio.Event()
        self._stopping = False
        self._asked = False  # to say everything again
        self._again_at_s, self._agains = 0.0, 0
        self._keys: dict[str, int] = {}
        self.rows_total = 0
        self.said_again_total = 0  # times that everything was
        self.refused: Counter[str] = Counter()  # by code

    # ---- StateView --------------------------------------------------------------------------------

    async def put(self, collection: str, key: str, value: Any) -> None:
        bytes_max = self._settings.value_bytes_max
        try:
            declared, text = self._collections.checked(collection, key, value, Owner.NODE, bytes_max=bytes_max)
            future = self._file.put((collection, key), text, self._now_ms(), self._limits(declared))
            leaves = await asyncio.wrap_future(future)
        except KeysFullError as error:
            self.refused["full"] += 1
            hint = "delete what is not needed, or raise state.keys_max"
            raise StateRefusedError("full", collection, key, f"there is no room: {error}; {hint}") from error
        except StateRefusedError as error:
            self.refused[error.code] += 1
            raise
        if leaves:
            self._changed(declared, key)

    async def delete(self, collection: str, key: str) -> bool:
        try:
            declared = self._collections.writable(collection, key, Owner.NODE)
        except StateRefusedError as error:
            self.refused[error.code] += 1
            raise
        future = self._file.delete((collection, key), self._now_ms(), self._limits(declared))
        deleted = await asyncio.wrap_future(future)
        if deleted:
            self._changed(declared, key)
        return deleted

    async def get(self, collection: str, key: str) -> Entry | None:
        self._collections.find(collection)
        kept = await asyncio.to_thread(self._file.read, lambda db: tables.get(db, collection, key))
        return None if kept is None else self._entry(kept)

    async def keys(self, collection: str, prefix: str = "") -> list[str]:
        return [entry.key for entry in await self.entries(collection, prefix)]

    async def entries(self, collection: str, prefix: str = "") -> list[Entry]:
        self._collections.find(collection)
        found = await asyncio.to_thread(self._file.read, lambda db: tables.entries(db, collection, prefix))
        return [self._entry(kept) for kept in found]

    def _entry(self, kept: Kept) -> Entry:
        age_s = max(0, self._now_ms() - kept.time_utc_ms) / 1000
        return Entry(kept.key, kept.value, kept.time_utc_ms, age_s, self._node)

    def _limits(self, declared: Collection) -> Limits:
        settings = self._settings
        return Limits(settings.keys_max, round(settings.refresh_s * 1000), leaves=not declared.personal)

    def _now_ms(self) -> int:
        return self._file.utc_ms(machine_time())

    # ---- leaving ----------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until `stop`, and then until all of it is in the outbox. Raises StorageFormatError."""
        await self._begin()
        looked_s = time.monotonic()
        while True:
            if self._asked:
                self._asked = False
                await self._say_again(await self._lost())
            names = self._leaving.due(time.monotonic(), AT_ONCE, all_of_them=self._stopping)
            if names:
                await self._send(names)
                continue
            if self._stopping:
                return
            await self._wait(self._leaving.wait_s(time.monotonic()))
            if time.monotonic() - looked_s >= LOOK_EVERY_S:
                looked_s = time.monotonic()
                await self._look()

    def stop(self) -> None:
        """What has changed leaves now, whatever its interval is."""
        self._stopping = True
        self._wake.set()

    def say_again(self) -> None:
        """Everything leaves once more, soon: the coordinator has lost it."""
        self._asked = True
        self._wake.set()

    def report(self) -> dict[str, Any]:
        """For `status`."""
        return {
            "keys": self._keys,
            "waiting": len(self._leaving),
            "rows_total": self.rows_total,
            "coalesced_total": self._leaving.coalesced_total,
            "said_again_total": self.said_again_total,
            "refused_total": dict(self.refused),
        }

    def close(self) -> None:
        self._file.close()

    def _changed(self, declared: Collection, key: str) -> None:
        if not declared.personal:
            self._leaving.changed((declared.path, key), time.monotonic())
            self._wake.set()

    async def _wait(self, timeout_s: float | None) -> None:
        try:
            async with asyncio.timeout(min(LOOK_EVERY_S, LOOK_EVERY_S if timeout_s is None else timeout_s)):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _begin(self) -> None:
        """What an earlier life did not get into the outbox, and what the outbox has lost since."""
        self._now_ms()  # from now on a jump of the wall clock is noticed
        if not self._collections:
            return
        await self._look_or_complain(at_start=True)
        self._put_all_into_leaving(await asyncio.to_thread(self._file.read, tables.unsent))

    def _put_all_into_leaving(self, names: list[Name]) -> None:
        declared = set(self._leavers())
        self._leaving.put_back([name for name in names if name[0] in declared], time.monotonic())

    def _leavers(self) -> list[str]:
        return [path for path, declared in self._collections.items() if not declared.personal]

    async def _send(self, names: list[Name]) -> None:
        try:
            kept = await asyncio.wrap_future(self._file.take(names))
            if not kept:
                return
            rows = await self._outbox.append([_draft(one, self._node) for one in kept])
            self.rows_total += len(rows)
            await asyncio.wrap_future(self._file.mark_sent(kept, rows[-1].seq))
        except TemporaryError as error:
            log.error("platform state: cannot leave: %s; trying again", error)
            self._leaving.put_back(names, time.monotonic())
            await asyncio.sleep(RETRY_S)

    # ---- what the outbox has lost -----------------------------------------------------------------

    async def _look(self) -> None:
        self._now_ms()  # small corrections of the wall clock are followed
        if self._collections:
            await self._look_or_complain(at_start=False)

    async def _look_or_complain(self, *, at_start: bool) -> None:
        try:
            self._keys = await asyncio.to_thread(self._file.read, tables.counts)
            lost = await self._lost()
            newest = self._outbox.file.newest().get(Lane.STATE, 0)
            if at_start and newest < self._file.last_seq:
                log.warning("platform state: the outbox has forgotten rows: everything is said again")
            elif time.monotonic() < self._again_at_s:
                return
            elif lost == self._file.lost:
                self._agains = 0
                return
            await self._say_again(lost)
        except TemporaryError as error:
            log.error("platform state: %s", error)

    async def _say_again(self, lost: int) -> None:
        newest = self._outbox.file.newest().get(Lane.STATE, 0)
        names = await asyncio.wrap_future(self._file.say_again(self._leavers(), newest, lost))
        self._file.last_seq, self._file.lost = newest, lost
        self.said_again_total += 1
        self._again_at_s = time.monotonic() + AGAIN.delay_s(self._agains, 1.0)
        self._agains += 1
        self._put_all_into_leaving(names)
        self._wake.set()

    async def _lost(self) -> int:
        """Rows of the lane that are at neither side any more."""
        accounts = await asyncio.to_thread(self._outbox.file.account)
        return sum(account.shed + account.damaged for account in accounts if account.lane == Lane.STATE.value)


def _draft(kept: Kept, node: str) -> Draft:
    change = StateChange(kept.collection, kept.key, kept.value, Stamp.parse(kept.at))
    return Draft(Lane.STATE, STATE_CHANGED, kept.key, kept.time_utc_ms, change.data())
