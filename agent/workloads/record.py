"""What is kept and told of workloads: their standings and notes in `workloads.db`, events, orders from the file."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from agent.workloads.machine import Machine, Order, Standing, Told
from agent.workloads.store import WorkloadsFile
from runtime.errors import EdgewrightError

log = logging.getLogger(__name__)

Announce = Callable[[str, str, dict[str, Any]], None]


class Record:
    """The file between two looks: what it does not take is written with the next change."""

    def __init__(self, store: WorkloadsFile, announce: Announce) -> None:
        """Raises StorageError."""
        self._store = store
        self._announce = announce
        self.kept = store.standings()  # as in the file
        self._notes: list[tuple[str, int, str]] = []
        self._seen = -1
        self._complaint = ""

    def tell(self, name: str, machine: Machine) -> None:
        """Its events, each once."""
        for told in machine.told:
            self.event(name, told)
        machine.told.clear()

    def event(self, name: str, told: Told) -> None:
        self._announce(told.kind, name, {"workload": name, **told.data})

    def news(self, now: Mapping[str, Standing], wanted: Collection[str]) -> dict[str, Standing | None]:
        """What differs from the file; None for what is to be forgotten."""
        found: dict[str, Standing | None] = {name: one for name, one in now.items() if self.kept.get(name) != one}
        return found | dict.fromkeys(self.kept.keys() - now.keys() - set(wanted))

    async def keep(self, news: Mapping[str, Standing | None]) -> None:
        """Writes it, with a note of each change of state."""
        now_ms = time.time_ns() // 1_000_000
        for name, one in news.items():
            before = self.kept.get(name)
            if one and (before is None or (before.state, before.reason) != (one.state, one.reason)):
                text = f"{one.state}, generation {one.generation}: {one.reason}".rstrip(": ")
                self._notes.append((name, now_ms, text))
        self.kept = {name: one for name, one in (self.kept | dict(news)).items() if one is not None}
        try:
            await asyncio.to_thread(self._store.keep, {**news}, self._notes)
        except EdgewrightError as error:
            self._complain(error)
            for name in news:
                self.kept.pop(name, None)  # so that it is news again
        else:
            self._notes, self._complaint = [], ""

    async def orders(self) -> list[tuple[str, Order]]:
        """Those that came since the last look."""
        try:
            changes = await asyncio.to_thread(self._store.changes)
            found = await asyncio.to_thread(self._store.take_orders) if changes != self._seen else []
        except EdgewrightError as error:
            self._complain(error)
            return []
        self._seen = changes
        return found

    async def notes(self, name: str, lines: int) -> list[str]:
        """What happened to a workload, the newest, oldest first. Raises StorageError."""
        return await asyncio.to_thread(self._store.notes, name, lines)

    def _complain(self, error: EdgewrightError) -> None:
        """Once, until it works again."""
        log.log(logging.DEBUG if self._complaint else logging.ERROR, "workloads: %s", error)
        self._complaint = str(error)
