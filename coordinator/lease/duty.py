"""Asks for a lease again and again, and writes under it: what is refused was somebody else's by then."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from coordinator.fleet.registry import FleetEvent
from coordinator.lease.lease import Lease
from coordinator.store import leases
from coordinator.store.leases import LeaseLostError
from coordinator.store.sql import SqlStore
from runtime.database import Database, Job
from runtime.errors import TemporaryError

log = logging.getLogger(__name__)

T = TypeVar("T")
LASTS_S = 15.0


class Desk(Protocol):
    """Where leases are asked for."""

    async def run(self, job: Job[T]) -> T: ...


class Duty:
    """One duty of this process: `run` asks for it, `write` does what only its holder may."""

    def __init__(
        self, store: SqlStore, name: str, holder: str, *, lasts_s: float = LASTS_S, desk: Desk | None = None
    ) -> None:
        """`holder` names this process and no other one, before or after.

        `desk`: where the lease is asked for, so that nothing else that the store does holds it up; else in the store.
        """
        self._store = store
        self._desk: Desk = desk or store
        self._holder = holder
        self._lease = Lease(name, round(lasts_s * 1000))
        self._changed = asyncio.Event()
        self.on_change: Callable[[bool], None] = lambda held: None

    @property
    def name(self) -> str:
        return self._lease.duty

    @property
    def token(self) -> int:
        """That of the lease it last had; 0 where it knows of none."""
        return self._lease.token

    @property
    def is_held(self) -> bool:
        """As far as our clock can tell; what is written is judged by the database."""
        return self._lease.is_held(_now_ms())

    async def run(self) -> None:
        """For ever; gives the lease back at the end."""
        try:
            while True:
                await self.ask()
                await asyncio.sleep(max(0, self._lease.ask_at_ms(_now_ms()) - _now_ms()) / 1000)
        finally:
            if self._lease.token:
                token, self._lease = self._lease.token, self._lease.lost()
                try:
                    await self._desk.run(lambda db: leases.release(db, self.name, token))
                except TemporaryError as error:
                    log.debug("the lease %s was not given back, and ends by itself: %s", self.name, error)

    async def ask(self) -> None:
        """For the lease, or for more of it."""
        asked_ms = _now_ms()
        try:
            token = await self._desk.run(lambda db: leases.take(db, self.name, self._holder, self._lease.lasts_ms))
        except TemporaryError as error:
            log.debug("the lease %s cannot be asked for: %s", self.name, error)
            if not self.is_held and self._lease.token:
                self._set(self._lease.lost())
            return
        self._set(self._lease.given(token, asked_ms) if token else self._lease.lost())

    async def held(self) -> None:
        """Waits until it is ours."""
        while not self.is_held:
            self._changed.clear()
            await self._changed.wait()

    async def write(self, job: Job[T]) -> T:
        """Raises LeaseLostError, and nothing is written, where another has the duty; StorageError."""
        token = self._lease.token
        try:
            return await self._store.run(self._fenced(token, job))
        except LeaseLostError:
            await self._refused(token)
            raise

    async def write_telling(self, job: Job[tuple[T, list[FleetEvent]]]) -> T:
        """The same for something of which everybody is to be told."""
        token = self._lease.token
        try:
            return await self._store.run_telling(self._fenced(token, job))
        except LeaseLostError:
            await self._refused(token)
            raise

    def _fenced(self, token: int, job: Job[T]) -> Job[T]:
        def fenced(db: Database) -> T:
            leases.fence(db, self.name, token)
            return job(db)

        return fenced

    async def _refused(self, token: int) -> None:
        """It was ours, perhaps until we were stopped for a while, and is another's."""
        if token:
            log.warning("a write of the duty %s was refused: another has it by now", self.name)
            if self._lease.token == token:
                self._set(self._lease.lost())
            await self._store.run(lambda db: leases.note_refused(db, self.name, self._holder))

    def _set(self, lease: Lease) -> None:
        before, self._lease = self._lease, lease
        if bool(before.token) != bool(lease.token):
            log.info("the duty %s is %s", self.name, "ours" if lease.token else "another's")
            self.on_change(bool(lease.token))
        if self.is_held:  # not for each that is given: the answer may have come when its time was over
            self._changed.set()


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
