"""What the node should be, kept on disk, put into force, and reported: the driver of both documents.

A desired document is journalled first, then applied, then reported; killed in between, the next start applies it,
with or without a network. What was written at the node takes the same way: `edge-agent local` writes it into the
journal, which is looked at every second.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from agent.documents.journal import Journal, Journalled
from agent.documents.plan import Here, Plan, plan, spec_path, without
from agent.documents.report import make_report
from agent.documents.standing import Standing, with_standings
from runtime.errors import EdgewrightError
from runtime.machine_time import machine_time
from runtime.sqlite import StorageError
from schemas.documents import Desired, Reported, decode_desired, encode
from schemas.errors import RemoteWireError
from schemas.resolve import resolve
from schemas.workloads import WorkloadSpec

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
WAITING_MAX = 8  # desired documents that wait for the disk; the newest stay, the coordinator's order is in them

SyncPolicy = Callable[[Mapping[str, Any]], list[str]]
"""Puts a sync policy into force; {}: the configured one. Returns what is wrong with it, and then nothing changes."""


RunWorkloads = Callable[[Mapping[str, WorkloadSpec], frozenset[str]], dict[str, str]]
"""Runs these and no others; the names are of named pipelines. Returns why some are not run, by name."""


class Documents:
    """One node's. `apply` and `mute` put into force what they are given, on the loop, as often as they are called."""

    def __init__(
        self,
        journal: Journal,
        here: Here,
        *,
        boot: int,
        apply: Callable[[Plan], None],
        mute: Callable[[frozenset[str]], None],
    ) -> None:
        self._journal = journal
        self._here = here
        self._boot = boot
        self._apply = apply
        self._mute = mute
        self._journalled = Journalled()
        self._plan = Plan()
        self._report = Reported(boot)
        self._muted: frozenset[str] | None = None
        self._sync: Mapping[str, Any] | None = None  # as last put into force
        self._seen_changes = -1
        self._received: deque[bytes] = deque(maxlen=WAITING_MAX)
        self._wake = asyncio.Event()
        self._complaint = ""
        self.refused_total = 0  # desired documents: of a wrong shape or hash, or not later than ours
        self.on_sync_policy: SyncPolicy | None = None
        self.standings: list[Callable[[], Standing]] = []  # of the parts that serve fields in their own time
        self.on_workloads: RunWorkloads | None = None
        self.publish: Callable[[], None] = lambda: None  # the report has changed, or is asked for

    @property
    def desired_hash(self) -> str:
        """Of the desired document that is journalled; empty before the first."""
        return self._journalled.known.desired.hash

    @property
    def reported(self) -> Reported:
        return self._report

    @property
    def plan(self) -> Plan:
        """What is in force."""
        return self._plan

    def state(self) -> dict[str, Any]:
        """For `status`."""
        epoch, revision = self._report.version
        refused = sorted(self._report.refused)
        return {"epoch": epoch, "revision": revision, "refused": refused, "refused_total": self.refused_total}

    def payload(self) -> bytes:
        """The report as it travels."""
        return encode(self._report)

    def begin(self) -> None:
        """Applies what is journalled: before the first frame and without a network. Raises StorageError."""
        try:
            self._journal.keep_time(machine_time())
        except StorageError as error:  # a full disk is no reason not to start
            log.error("documents: %s", error)
        self._seen_changes = self._journal.changes()
        self._put_into_force(self._journal.journalled())
        self._keep_mutes(self._journal.utc_ms(machine_time()))

    def receive(self, payload: bytes) -> None:
        """A desired document as it came; looked at soon."""
        self._received.append(payload)
        self._wake.set()

    async def write(self, path: str, value: Any) -> bool:
        """As `edge-agent local set`, or `unset` with None: on the disk and in force when this returns. False: there
        was nothing to take back. Raises StorageError, and nothing has changed."""
        changed = await asyncio.to_thread(self._journal.write, path, value, machine_time())
        if changed:
            self._put_into_force(await asyncio.to_thread(self._journal.journalled))
        return changed

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_EVERY_S):  # wait_for of Python 3.11 can lose a cancellation
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            try:
                await self._look()
            except EdgewrightError as error:
                self._complain(f"documents: {error}")  # what was not journalled is not applied; it is sent again
            else:
                self._complaint = ""

    # ---- one look -------------------------------------------------------------------------------

    async def _look(self) -> None:
        while self._received:
            if await self._take(self._received.popleft()):
                self._put_into_force(await asyncio.to_thread(self._journal.journalled))
        changes = await asyncio.to_thread(self._journal.changes)
        if changes != self._seen_changes:
            self._put_into_force(await asyncio.to_thread(self._journal.journalled))
            self._seen_changes = changes
        if self._plan.muted_until_utc_ms or self._muted:
            self._keep_mutes(await asyncio.to_thread(self._journal.utc_ms, machine_time()))

    async def _take(self, payload: bytes) -> bool:
        """True when it is journalled now."""
        try:
            desired = decode_desired(payload)
        except RemoteWireError as error:
            self._refuse(str(error))
            return False
        if await asyncio.to_thread(self._journal.accept, desired, machine_time()):
            return True
        ours = self._journalled.known.desired
        if desired.hash != ours.hash:
            self._refuse(f"desired: {_version(desired)} is not later than {_version(ours)}, which we have")
            self.publish()  # so that the coordinator sees what we have
        return False

    def _put_into_force(self, journalled: Journalled) -> None:
        before = journalled.known.desired.version != self._journalled.known.desired.version
        self._journalled = journalled
        made = self._with_workloads(self._with_sync(plan(resolve(journalled.known), self._here)))
        if made != self._plan or before:
            self._plan = made
            self._apply(made)
            self._muted = None
            log.info("documents: %s is in force", _version(journalled.known.desired))
            for path, reason in made.refused.items():
                log.warning("documents: %s is not applied: %s", path, reason)
        self.restate()

    def restate(self) -> None:
        """Reports anew, where something has changed: a part that serves fields in its own time calls it."""
        said, pending = with_standings(self._plan, [standing() for standing in self.standings])
        report = make_report(self._journalled, said, self._boot, self._report, pending)
        if report != self._report:
            self._report = report
            self.publish()

    def _with_workloads(self, made: Plan) -> Plan:
        """Workloads are run by whoever runs them; each is refused alone."""
        if self.on_workloads is None:
            refused = dict.fromkeys(made.workloads, "this agent runs no workloads")
        else:
            refused = self.on_workloads(made.workloads, made.named)
        for name, why in refused.items():
            made = without(made, spec_path(name, named=name in made.named), [why])
        return made

    def _with_sync(self, made: Plan) -> Plan:
        """The sync policy is put into force by whoever serves it."""
        if self.on_sync_policy is None:
            return made if made.sync is None else without(made, "sync", ["this agent has no sync policies"])
        wanted = made.sync or {}
        if wanted == self._sync:
            return made
        if wrong := self.on_sync_policy(wanted):
            return without(made, "sync", wrong)
        self._sync = wanted
        return made

    def _keep_mutes(self, now_utc_ms: int) -> None:
        muted = self._plan.muted(now_utc_ms)
        if muted != self._muted:
            self._muted = muted
            self._mute(muted)

    def _refuse(self, reason: str) -> None:
        self.refused_total += 1
        log.warning("refused a desired document: %s", reason)

    def _complain(self, text: str) -> None:
        """Once, until it works again."""
        log.log(logging.DEBUG if self._complaint else logging.ERROR, "%s", text)
        self._complaint = text


def _version(desired: Desired) -> str:
    return f"epoch {desired.epoch}, revision {desired.revision}" if desired.revision else "the configuration alone"
