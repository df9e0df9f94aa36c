"""One of several coordinators. It takes rows for as long as it lives, and leads while it has the duty to.

Who leads has everything else: the registry and liveness, documents, roll-outs, workloads, calls, evidence. That is a
`Coordinator` as it stands alone, made anew from the store for each term, over a store of its own whose every
transaction begins with the lease: one that was stopped for a while, and has been followed, writes nothing any more.
"""

import asyncio
import logging
import secrets
import time

from coordinator.config import CoordinatorConfig
from coordinator.coordinator import Coordinator
from coordinator.lease.duty import Duty
from coordinator.link.links import BrokerName
from coordinator.link.subscriber import Part
from coordinator.replica.rows import RowTaker
from coordinator.store import leases, replicas
from coordinator.store.leases import LeaseLostError
from coordinator.store.place import PostgresPlace, need_postgres
from platforms.assembly import Assembly
from runtime.database import Database
from runtime.errors import ConfigError, TemporaryError
from runtime.restart import RestartPolicy
from runtime.sdnotify import Notifier
from runtime.supervision import Supervisor, feed_watchdog, run_until_signalled
from schemas.topics import TopicSpace

log = logging.getLogger(__name__)

LEAD = "lead"
SEEN_EVERY_S = 5.0
TERM_ENDS_S = 20.0  # how long a term may take to finish what it holds when the process is asked to stop


class Replica:
    """See the module. `run` returns after a signal."""

    def __init__(self, config: CoordinatorConfig, assembly: Assembly) -> None:
        """Opens the store. Raises ConfigError, StorageError, or ForeignStoreError where a coordinator runs alone."""
        place = config.place
        if not isinstance(place, PostgresPlace):  # the configuration was checked
            raise ConfigError("several coordinators need a store in PostgreSQL", hint="set store.backend")
        need_postgres()
        from coordinator.store import postgres

        table = config.coordinator
        self._config, self._place, self._assembly = config, place, assembly
        self._open = postgres.PostgresStore
        self._lead_part, rows_part = postgres.Part.LEAD, postgres.Part.ROWS
        self._name = table.instance
        self._holder = f"{table.client_id} {secrets.token_hex(4)}"  # of this process, and of no other
        self._since_utc_ms = time.time_ns() // 1_000_000
        self._store = self._open(place, config.store_limits, part=rows_part)
        self._desk = postgres.LeaseDesk(place)
        self._duty = Duty(self._store, LEAD, self._holder, lasts_s=table.lease_s, desk=self._desk)
        self._duty.on_change = self._duty_changed
        self._term_over = asyncio.Event()
        self._stopping = asyncio.Event()
        self._leads = False
        self._entry_due = asyncio.Event()
        self._notifier = Notifier.from_environment()
        brokers = [BrokerName(one.name, one.address(at)) for at, one in config.named_brokers()]
        self._rows = RowTaker(
            brokers, self._store, assembly,
            client_id=table.client_id, space=TopicSpace(config.topic_root), limits=table.batch_limits,
        )  # fmt: skip

    async def run(self) -> None:
        """Stops in the order of the stages: the term, rows, their links, and last the lease is given back."""
        supervisor = Supervisor()
        for_ever = RestartPolicy(restarts_max=None)
        supervisor.supervise("term", self._lead, stage=0, stop=self._end_term, stop_timeout_s=TERM_ENDS_S)
        self._rows.start(supervisor, self._say)
        supervisor.supervise("entry", self._keep_entry, for_ever, stage=3)
        supervisor.supervise("lead-duty", self._duty.run, for_ever, stage=3)
        supervisor.supervise("watchdog", lambda: feed_watchdog(self._notifier, lambda: True), stage=3)
        self._notifier.ready(self._summary())
        try:
            await run_until_signalled(supervisor)
        finally:
            self._notifier.stopping()
            await self._write_entry(stopped=True)
            self._notifier.close()
            self._desk.close()
            self._store.close()

    # ---- a term ---------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """One term after another."""
        while await self._to_lead():
            self._term_over.clear()
            try:
                await self._term(self._duty.token)
            except LeaseLostError as error:
                log.warning("no term begins: %s", error)
                await self._duty.ask()

    async def _to_lead(self) -> bool:
        """Waits for the duty; False where the process is to stop."""
        waits = [
            asyncio.create_task(self._duty.held(), name="replica.held"),
            asyncio.create_task(self._stopping.wait(), name="replica.stopping"),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return not self._stopping.is_set()

    async def _term(self, token: int) -> None:
        """As the leader, until the lease is lost or the process is to stop."""

        loop = asyncio.get_running_loop()
        refused = asyncio.Event()

        def fence(db: Database) -> None:
            try:
                leases.fence(db, LEAD, token)
            except LeaseLostError:
                loop.call_soon_threadsafe(refused.set)
                loop.call_soon_threadsafe(self._term_over.set)
                raise

        limits, place = self._config.store_limits, self._place
        store = await asyncio.to_thread(lambda: self._open(place, limits, part=self._lead_part, fence=fence))
        try:
            coordinator = Coordinator(self._config, store, self._assembly, Part.FLEET)
            log.info("leading: boot %d", store.boot)
            self._set_leads(True)
            try:
                await coordinator.start().run(self._term_over)
            finally:
                await coordinator.end()
        finally:
            self._set_leads(False)
            log.info("not leading any more")
            await asyncio.to_thread(store.close)
            if refused.is_set():
                await self._note_refused()

    async def _note_refused(self) -> None:
        """For `edgectl leases`."""
        log.warning("a write as the leader was refused: another coordinator leads by now")
        try:
            await self._store.run(lambda db: leases.note_refused(db, LEAD, self._holder))
        except TemporaryError as error:
            log.debug("that was not noted: %s", error)

    def _duty_changed(self, held: bool) -> None:
        if not held:
            self._term_over.set()

    def _end_term(self) -> None:
        self._stopping.set()
        self._term_over.set()

    def _set_leads(self, leads: bool) -> None:
        self._leads = leads
        self._entry_due.set()
        self._say()

    # ---- what others see of it ------------------------------------------------------------------

    async def _keep_entry(self) -> None:
        while True:
            self._entry_due.clear()
            await self._write_entry()
            try:
                async with asyncio.timeout(SEEN_EVERY_S):
                    await self._entry_due.wait()
            except TimeoutError:
                continue

    async def _write_entry(self, *, stopped: bool = False) -> None:
        figures, leads = self._rows.figures(), self._leads
        name, holder, since = self._name, self._holder, self._since_utc_ms
        try:
            await self._store.run(
                lambda db: replicas.put(db, name, holder, since, figures, leads=leads, stopped=stopped)
            )
        except TemporaryError as error:
            log.debug("the entry of this coordinator was not written: %s", error)  # ingest says it, and loudly

    def _say(self) -> None:
        self._notifier.status(self._summary())

    def _summary(self) -> str:
        role = "leads" if self._leads else "takes rows; another leads, or nobody yet"
        return f"{role}; {self._rows.problem}" if self._rows.problem else role
