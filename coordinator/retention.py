"""Lets old rows go, a little at a time, so that what comes need not wait for it."""

import asyncio
import logging
import time

from coordinator.lease.duty import Duty
from coordinator.store import partitions, retention
from coordinator.store.keep import Keep, excess, parts_over
from coordinator.store.sql import SqlStore
from runtime.errors import TemporaryError

log = logging.getLogger(__name__)

ROUND_S = 60.0
ROWS_AT_ONCE = 2000
PAUSE_S = 0.05  # between two such deletions: the writer has others to serve
AT_ONCE_MAX = 500  # deletions of one round


class Retention:
    """The task that does it."""

    def __init__(self, store: SqlStore, duty: Duty, keep: dict[str, Keep]) -> None:
        """`keep`: by table. `duty`: one of all coordinators does it."""
        self._store = store
        self._duty = duty
        self._keep = keep
        self._dropped = dict.fromkeys(retention.TABLES, 0)
        self._parts = 0

    def figures(self) -> dict[str, int]:
        """Rows that went since the start, and parts that went whole."""
        return {
            **{f"{table}_shed": count for table, count in self._dropped.items()},
            **({"samples_parts_shed": self._parts} if self._store.has_parts else {}),
        }

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._duty.held()
            try:
                await self.one_round(time.time_ns() // 1_000_000)
            except TemporaryError as error:  # ingest says so, and loudly
                log.debug("retention waits for the store: %s", error)
            await asyncio.sleep(ROUND_S)

    async def one_round(self, now_utc_ms: int) -> None:
        """Everything that is over goes, or as much as a round may take."""
        if self._store.has_parts:
            await self._duty.write(lambda db: partitions.make_ahead(db, now_utc_ms))
            await self._drop_parts(now_utc_ms)
        for table, keep in self._keep.items():
            in_parts = self._store.has_parts and table == "samples"
            extent = await self._store.read(lambda db, t=table: retention.extent(db, t))  # type: ignore[misc]
            over = excess(keep, extent, now_utc_ms, whole_ms=partitions.DAY_MS if in_parts else 1)
            gone = await self._delete(table, over.before_utc_ms) if over.before_utc_ms else 0
            await self._delete(table, 0, over.rows - gone)

    async def _drop_parts(self, now_utc_ms: int) -> None:
        found = await self._store.read(partitions.parts)
        for part in parts_over(self._keep["samples"], found, now_utc_ms):
            count = await self._duty.write(lambda db, p=part: partitions.drop(db, p))  # type: ignore[misc]
            self._dropped["samples"] += count
            self._parts += 1
            log.info("samples: the part %s went with %d rows", part.name, count)

    async def _delete(self, table: str, before_utc_ms: int, rows: int = ROWS_AT_ONCE * AT_ONCE_MAX) -> int:
        """The oldest rows that came before a time, or with 0 whichever. Counts them."""
        total = 0
        while total < rows:
            limit = min(ROWS_AT_ONCE, rows - total)
            gone = await self._duty.write(lambda db, n=limit: retention.delete(db, table, before_utc_ms, n))  # type: ignore[misc]
            total += gone
            self._dropped[table] += gone
            if gone < limit:
                break
            await asyncio.sleep(PAUSE_S)
        return total
