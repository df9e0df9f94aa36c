"""What platforms listen to in the coordinator: events of the whole fleet as the store has them, and the time.

    events, up to the settled row ──► the next of a listener's types ──► called one after the other ──► its place kept

The store is the queue: each listener has a place in it, kept with the rest, and goes on there after a restart, or
where another coordinator leads. So an event is heard once, however often its node sent it; a process that is killed
may not have kept the last half second, which is heard again. A call that fails is passed over, as at a node; one that
could not reach the store is made again. One more than `BEHIND_MAX` rows behind passes over the oldest, counted.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from coordinator.hosting.host import kept
from coordinator.store import meta
from coordinator.store.facts import Fact, count_between, events_between
from coordinator.store.settled import Settled
from coordinator.store.sql import SqlStore
from platforms.listening import Ear, Listening
from runtime.database import Database
from runtime.errors import TemporaryError

log = logging.getLogger(__name__)

PAGE = 200
LOOK_EVERY_S = 0.5
KEEP_EVERY_S = 0.5
KEEP_ROWS = 10_000  # of others, that need not be looked through again
AGAIN_S = 1.0
BEHIND_MAX = 100_000
KEY = "heard."  # in `meta`, before the listener's name
Task = Callable[[], Coroutine[Any, Any, None]]


@dataclass(slots=True)
class _Place:
    """All rows up to `row` are heard, or of types that do not matter; `kept` is what the store knows of that."""

    row: int
    kept: int
    kept_s: float = 0.0


class FleetListening:
    """All on the loop. One that leads has one, for as long as it does."""

    def __init__(self, store: SqlStore, listening: Listening) -> None:
        self._store = store
        self._listening = listening
        self._settled = Settled()
        self._begin: int | None = None  # where the events stood when this began
        self._row = 0
        self._places: dict[str, _Place] = {}

    def started(self) -> None:
        """The start hooks have run."""
        self._listening.started()

    def tasks(self) -> Iterator[tuple[str, Task]]:
        """(name, what to run until cancelled)."""
        if self._listening.events:
            yield "events", self._look
        for ear in self._listening.events:
            yield ear.title, _bound(self._hear, ear)
        yield from self._listening.times()

    def report(self) -> dict[str, dict[str, int]]:
        """By listener, since this began to lead; `waiting` counts rows that it has not looked at."""
        found = self._listening.report()
        for title, place in self._places.items():
            found[title]["waiting"] = max(0, self._row - place.row)
        return found

    def figures(self) -> dict[str, int]:
        """Of all listeners together; nothing where there is none."""
        report = self.report()
        if not report:
            return {}
        return {
            f"listeners_{key}": sum(one[key] for one in report.values()) for key in ("calls", "waiting", "dropped")
        }

    async def _look(self) -> None:
        """How far the rows are there; then everybody looks for his own."""
        while True:
            try:
                row = await self._store.read(self._settled.look)
            except TemporaryError as error:
                log.debug("events cannot be looked for: %s", error)
                row = None
            if row is not None and (row != self._row or self._begin is None):
                self._begin = row if self._begin is None else self._begin
                self._row = row
                for ear in self._listening.events:
                    ear.there.set()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _hear(self, ear: Ear) -> None:
        await self._listening.until_started()
        said = ""
        while True:
            await ear.there.wait()
            ear.there.clear()
            try:
                place = await self._place(ear)
                await self._skip(ear, place)
                await self._catch_up(ear, place)
                said = ""
            except TemporaryError as error:  # the store is away, or another leads: the same again
                log.log(logging.DEBUG if said == str(error) else logging.WARNING, "%s waits: %s", ear.title, error)
                said = str(error)
                await asyncio.sleep(AGAIN_S)
                ear.there.set()

    async def _catch_up(self, ear: Ear, place: _Place) -> None:
        """Up to the settled row. Raises TemporaryError with the place before what is to be heard again."""
        try:
            while place.row < (until := self._row):
                page = await self._store.read(partial(_page, ear.listener.types, place.row, until))
                for row, fact in page:
                    await self._call(ear, place, row, kept(fact))
                if len(page) < PAGE:
                    place.row = until
                if page or place.row - place.kept > KEEP_ROWS:
                    await self._keep(ear, place)
        except asyncio.CancelledError:
            with contextlib.suppress(TemporaryError):  # who may not write any more need not
                await self._keep(ear, place)
            raise

    async def _call(self, ear: Ear, place: _Place, row: int, event: Any) -> None:
        """Raises what the call does: the supervisor says it and starts the task again, behind that event."""
        try:
            await self._listening.call(ear, event)
        except TemporaryError:
            raise
        except Exception:
            place.row = row
            ear.there.set()
            with contextlib.suppress(TemporaryError):
                await self._keep(ear, place)
            raise
        place.row = row
        if time.monotonic() - place.kept_s > KEEP_EVERY_S:
            await self._keep(ear, place)

    async def _place(self, ear: Ear) -> _Place:
        """Where it goes on. One that was never here begins with what comes from now on."""
        place = self._places.get(ear.title)
        if place is None:
            assert self._begin is not None  # nobody is woken before
            key = KEY + ear.title
            found = await self._store.read(lambda db: meta.get(db, key))
            row = self._begin if found is None else int(found)
            place = self._places[ear.title] = _Place(row, -1 if found is None else row)
            if found is None:
                await self._keep(ear, place)
        if place.row > self._row:  # SQLite begins again where retention took every row
            place.row = 0
        return place

    async def _skip(self, ear: Ear, place: _Place) -> None:
        until = self._row - BEHIND_MAX
        if place.row >= until:
            return
        types, after = ear.listener.types, place.row
        dropped = await self._store.read(lambda db: count_between(db, types, after, until))
        place.row = until
        if dropped:
            self._listening.dropped_total[ear.title] += dropped
            log.warning("%s is too far behind: %d events passed over", ear.title, dropped)

    async def _keep(self, ear: Ear, place: _Place) -> None:
        """Raises StorageError."""
        row, key = place.row, KEY + ear.title
        if row != place.kept:
            await self._store.run(lambda db: meta.put(db, key, str(row)))
            place.kept, place.kept_s = row, time.monotonic()


def _page(types: Sequence[str], after: int, until: int, db: Database) -> list[tuple[int, Fact]]:
    return events_between(db, types, after, until, PAGE)


def _bound(run: Callable[[Ear], Coroutine[Any, Any, None]], ear: Ear) -> Task:
    async def task() -> None:
        await run(ear)

    return task
