"""The standing policy at work: it is set, kept over restarts, asked at each result and at each message, and reported.

Of the configuration, a command and desired state the one that spoke last counts, also after a restart; taken back, it
is the configuration's again.
"""

import asyncio
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from agent.degrade.switches import Switch, Switches
from agent.link.gate import Gate
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.outbox.tables import LaneAccount
from agent.results.recorder import Recorder
from agent.state import StateFile
from agent.sync.cloud_sync import CloudSync
from agent.sync.gate import SyncGate
from agent.sync.metered import link_is_metered
from agent.sync.outlet import Act, Outlet
from runtime.errors import EdgewrightError
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.shape import ShapeError
from schemas.sync import Metered, SyncPolicy, parse_policy, plain

log = logging.getLogger(__name__)

TICK_S = 1.0
KEEP_BUDGET_S = 10.0  # how much spending a crash may forget
METERED_S = 60.0
_POLICY, _BUDGET, _FOLLOWED = "sync.policy", "sync.budget", "sync.followed"
Announce = Callable[[str, str, dict[str, Any]], None]


class Sync:
    """All of it on the loop. `gate` is what the sender asks, `outlet` what a pipeline gives its results to."""

    def __init__(
        self,
        configured: SyncPolicy,
        *,
        rate: Gate,
        outbox: Outbox,
        recorder: Recorder,
        state: StateFile,
        switches: Switches,
        act: Act,
        announce: Announce,
    ) -> None:
        self._configured = configured
        self._outbox = outbox
        self._recorder = recorder
        self._state = state
        self._switches = switches
        self._act = act
        self._announce = announce
        self._outlets: dict[str, Outlet] = {}
        self._gone: Counter[str] = Counter()  # of outlets that are no more
        self._late: list[Draft] = []  # of a policy that was replaced, on their way to the outbox
        budget = _mapping(state.recall(_BUDGET))
        run_s = budget.get("run_s", 0.0)
        self._run_base_s = (float(run_s) if isinstance(run_s, int | float) else 0.0) - time.monotonic()
        self.policy, self.source = self._standing()
        self._followed = state.recall(_FOLLOWED)  # what desired state last said
        self.gate = SyncGate(rate, self.policy, run_base_s=self._run_base_s)
        self.gate.meter.restore(budget)
        self._kept_budget: dict[str, Any] = self.gate.meter.state()
        self.on_policy: Callable[[SyncPolicy], None] = lambda policy: None
        self.cloud = CloudSync(
            recorder.path,
            outbox,
            state,
            epoch=lambda: recorder.epoch,
            may_send=lambda: switches.is_on(Switch.SAMPLES_SENT),
            run_s=self._run_s,
        )

    def _standing(self) -> tuple[SyncPolicy, str]:
        kept = _mapping(self._state.recall(_POLICY))
        if not kept.get("policy"):
            return self._configured, "configuration"
        try:
            return parse_policy(kept["policy"]), str(kept.get("source", ""))
        except ShapeError as error:
            log.error("sync: the policy that was set before cannot be used any more: %s", error)
            return self._configured, "configuration"

    def outlet(self, camera: str, pipeline: str, *, local_only: bool, recorded: bool) -> Outlet:
        """The way out of a pipeline that begins; it takes the place of an earlier one of this name."""
        before = self._outlets.get(pipeline)
        if before is not None:
            self._gone.update(before.counts)
        made = Outlet(
            camera,
            pipeline,
            self.policy,
            local_only=local_only,
            recorded=recorded,
            recorder=self._recorder,
            switches=self._switches,
            act=self._act,
        )
        self._outlets[pipeline] = made
        return made

    # ---- the policy -----------------------------------------------------------------------------

    def apply(self, policy: SyncPolicy | None, source: str = "desired") -> None:
        """The standing policy from now on, remembered over restarts; None takes it back to the configuration's.

        Where the disk refuses it holds until the next start, and the log says so.
        """
        self._remember(_POLICY, "" if policy is None else json.dumps({"policy": plain(policy), "source": source}))
        chosen, whose = (self._configured, "configuration") if policy is None else (policy, source)
        if chosen == self.policy:
            self.source = whose
            return
        self.policy, self.source = chosen, whose
        for outlet in self._outlets.values():
            self._late += outlet.change(chosen)
        self.gate.set_policy(chosen)
        self.on_policy(chosen)
        self._announce("SyncPolicyChanged", "sync", {"source": whose, "policy": plain(chosen)})
        log.info("sync: policy of the %s in force: mode %s", whose, chosen.mode)

    def follow(self, wanted: Mapping[str, Any]) -> list[str]:
        """The policy of desired state, {} for none. Returns its mistakes, and then nothing has changed.

        Said once more, as at each start, it changes nothing: a command may have spoken since.
        """
        text = json.dumps(wanted, sort_keys=True) if wanted else ""
        if text == self._followed:
            return []
        try:
            policy = parse_policy(wanted) if wanted else None
        except ShapeError as error:
            return list(error.mistakes)
        self._followed = text
        self._remember(_FOLLOWED, text)
        self.apply(policy)
        return []

    # ---- the task -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled: windows whose time is over leave, what was spent is remembered."""
        keep_due_s = metered_due_s = 0.0
        try:
            while True:
                now_s = time.monotonic()
                if now_s >= metered_due_s and self.policy.metered is Metered.AUTO:
                    metered_due_s = now_s + METERED_S
                    self.gate.found_metered(await link_is_metered())
                now_ms = time.time_ns() // 1_000_000
                await self._send(draft for outlet in self._outlets.values() for draft in outlet.due(now_ms))
                if now_s >= keep_due_s:
                    keep_due_s = now_s + KEEP_BUDGET_S
                    self._keep_budget()
                await asyncio.sleep(TICK_S)
        finally:
            self._keep_budget()

    async def _send(self, due: Iterable[Draft]) -> None:
        drafts, self._late = [*self._late, *due], []
        if not drafts:
            return
        try:
            await self._outbox.append(drafts)
        except LocalWireError as error:
            log.error("sync: %d rows not kept: %s", len(drafts), error)

    def _keep_budget(self) -> None:
        state = self.gate.meter.state()
        if state == self._kept_budget:
            return
        self._kept_budget = state
        self._remember(_BUDGET, json.dumps({**state, "run_s": self._run_s()}))

    def _remember(self, key: str, value: str) -> None:
        def done(future: "Future[None]") -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                log.error("%s is not remembered over a restart: %s", key, error)

        try:
            self._state.remember(key, value).add_done_callback(done)
        except EdgewrightError as error:
            log.error("%s is not remembered over a restart: %s", key, error)

    def _run_s(self) -> float:
        """For how long the agent has been running, over its starts, as far as it was remembered."""
        return self._run_base_s + time.monotonic()

    # ---- asked by others ------------------------------------------------------------------------

    def lanes(self, accounts: Sequence[LaneAccount], retried: Mapping[Lane, int]) -> dict[str, dict[str, int]]:
        """By lane, where there is anything: rows synced and failed since the outbox was made; rows retried and bytes
        sent since the agent started."""
        found = {
            account.lane: {
                "synced": account.stored,
                "failed": account.quarantined + account.shed + account.damaged,
                "retried": retried.get(Lane(account.lane), 0),
                "bytes": self.gate.bytes_total[Lane(account.lane)],
            }
            for account in accounts
        }
        return {lane: counts for lane, counts in found.items() if any(counts.values())}

    def report(self) -> dict[str, Any]:
        """For `status`: the policy and whose it is, what waits and why, how many results left, the sending."""
        counts = Counter(self._gone)
        for outlet in self._outlets.values():
            counts.update(outlet.counts)
        return {
            "policy": plain(self.policy),
            "source": self.source,
            **self.gate.report(time.monotonic()),
            "results": {name: counts[name] for name in ("produced", "left", "held", "local_only")},
            "cloud_sync": self.cloud.report(),
        }


def _mapping(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text) if text else {}
    except ValueError:
        return {}
    return raw if isinstance(raw, dict) else {}
