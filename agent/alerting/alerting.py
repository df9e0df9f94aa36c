"""Hears everything that the node keeps or tells, asks the engine, acts, keeps, tells: the driver of alerts.

    facts ─► heard ─► queue ─► engine ─┬─► actions, at once: no disk and no network is waited for
                                       └─► queue ─► alerts.db ─► outbox ─► state `alerts`

A full first queue loses its oldest event, a full second one the oldest step, both counted.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from agent.actions.settings import ActionSettings
from agent.alerting.alert import Alert, Now
from agent.alerting.check import declared_mistakes
from agent.alerting.engine import Engine, Step
from agent.alerting.rule import CALLED, Rule
from agent.alerting.settings import AlertingSettings
from agent.alerting.store import AlertsFile, Order
from agent.decide.settings import AlertRuleSettings
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from agent.results import store as results
from agent.results.result import FRAME, Result
from agent.results.store import NoResultsError
from platforms.conditions import ConditionError, Fact
from runtime.errors import EdgewrightError
from runtime.machine_time import machine_time
from runtime.supervision import RestartPolicy, Supervisor
from schemas.errors import LocalWireError
from schemas.identity import Lane
from schemas.language.schema import Schema
from schemas.state import StateRefusedError, StateView

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0  # for acknowledgements of `edge-agent alerts`, and what the wall clock says
SLICE_S = 0.002  # then others have their turn
TELL_MAX = 1000
FILL_MAX = 10_000  # events of before the start that fill windows, the newest
KEPT_APART = frozenset({FRAME, "StreamSample"})  # heard as they are kept: what leaves of them says the sync policy
SAID_EVERY_S = 60.0


class Watching(Protocol):
    """A camera with its pipelines."""

    def watch(self, rules: Mapping[str, AlertRuleSettings]) -> None:
        """From now on these rules beside the configured ones."""

    def watch_mistake(self, rule: AlertRuleSettings) -> str:
        """Why no pipeline of this camera can watch for it; empty where one can, or may."""


class Acting(Protocol):
    """The local actions."""

    def trigger(self, drafts: Sequence[Draft]) -> None: ...
    def bring(self, wanted: Mapping[str, ActionSettings]) -> None: ...


class Alerting:
    """One node's. Everything is on the loop but what touches a file."""

    def __init__(
        self,
        settings: AlertingSettings,
        rules: Iterable[Rule],
        file: AlertsFile,
        *,
        node: str,
        boot: int,
        outbox: Outbox,
        state: StateView,
        collections: Sequence[str],
        schemas: Sequence[Schema],
        streams: Mapping[str, Watching],
        actions: Acting,
        results_path: Path,
        taken: frozenset[str],
    ) -> None:
        """`rules`: those of agent.toml. `collections`: of the state, that hold alerts. `schemas`: of the platforms.
        `taken`: names of the pipelines' rules, which no rule of ours can bear."""
        self.taken = taken
        self.settings = settings
        self._file = file
        self._node = node
        self._outbox = outbox
        self._state = state
        self._collections = collections
        self._schemas = schemas
        self._streams = streams
        self._actions = actions
        self._results_path = results_path
        self._heard: deque[tuple[Fact, Draft | None]] = deque()
        self._steps: deque[tuple[Step, Draft | None]] = deque()
        self._ours: set[int] = set()  # drafts of ours on their way into the outbox
        self._wake, self._told = asyncio.Event(), asyncio.Event()
        self._stopping = self._begun = False
        self._changes = -1  # of the file, by others
        self._utc_ahead_ms = 0.0  # of the monotonic clock
        self._said: dict[str, float] = {}
        self.dropped_total = 0  # events that were not looked at
        self.untold_total = 0  # steps that nobody was told of
        self._look_at_clock()
        self.engine = Engine(settings, boot, file.alerts(), self.now())
        configured = list(rules)
        names = {rule.name for rule in configured}
        for rule in [*configured, *(one for one in file.rules() if one.name not in names)]:
            self._set_first(rule)
        self._follow_rules()

    def _set_first(self, rule: Rule) -> None:
        if len(self.engine.rules) >= self.settings.rules_max:
            log.error("alerts: rule %s is left out: alerting.rules_max allows %d", rule.name, self.settings.rules_max)
            return
        try:
            self.engine.set(rule, self.now())
        except ConditionError as error:
            log.error("alerts: rule %s cannot be used: %s", rule.name, error)
            return
        for text in (rule.condition, rule.clear):
            for wrong in self.mistakes_of(text) if text else ():
                log.warning("alerts: rule %s waits for what does not happen: %s", rule.name, wrong)

    def mistakes_of(self, condition: str) -> list[str]:
        """What a condition looks at and no platform here declares."""
        return declared_mistakes(condition, self._schemas)

    def watch_mistake(self, camera: str, rule: AlertRuleSettings) -> str:
        """Why no pipeline of the camera can watch for it."""
        return self._streams[camera].watch_mistake(rule)

    # ---- time -----------------------------------------------------------------------------------

    def now(self) -> Now:
        now_s = time.monotonic()
        return Now(now_s, round(now_s * 1000 + self._utc_ahead_ms))

    def _look_at_clock(self) -> None:
        self._utc_ahead_ms = self._file.utc_ms(machine_time()) - time.monotonic() * 1000

    # ---- hearing --------------------------------------------------------------------------------

    def heard(self, drafts: Sequence[Draft]) -> Sequence[Draft]:
        """Facts on their way to the outbox, or that stay here. Returns at once, with those that are not of our own
        making: on ours the actions have acted."""
        others = drafts
        if self._ours and any(id(draft) in self._ours for draft in drafts):
            others = [draft for draft in drafts if id(draft) not in self._ours]
        for draft in others:
            is_alert = draft.lane is Lane.ALERT and "alert_id" in draft.data
            if is_alert or (draft.type in self.engine.types and self._is_news(draft)):
                self._put(Fact(draft.type, draft.data, draft.subject), draft if is_alert else None)
        return others

    def kept(self, result: Result) -> None:
        """A result that is kept here. Returns at once."""
        if result.type in KEPT_APART and result.type in self.engine.types:
            self._put(Fact(result.type, result.data, result.subject), None)

    @staticmethod
    def _is_news(draft: Draft) -> bool:
        """Not one that is heard as it is kept, nor one that is sent once more because somebody asked for it."""
        return draft.type not in KEPT_APART and draft.data.get("sync_id") is None

    def _put(self, fact: Fact, alert: Draft | None) -> None:
        if len(self._heard) >= self.settings.queue_max:
            self._heard.popleft()
            self.dropped_total += 1
            self._say("alerts: %d events wait to be looked at, the oldest is dropped", len(self._heard) + 1)
        self._heard.append((fact, alert))
        self._wake.set()

    def named(self, draft: Draft) -> frozenset[str]:
        """The actions that an alert names."""
        return self.engine.actions(str(draft.data.get("rule", "")), str(draft.data.get("alert_id", "")))

    def supervise(self, supervisor: Supervisor, stage: int) -> None:
        """Starts both loops, each a named task."""
        for_ever = RestartPolicy(restarts_max=None)
        supervisor.supervise("alerts", self.run, for_ever, stage=stage)
        supervisor.supervise("alerts-tell", self.tell, for_ever, stage=stage, stop=self.stop)

    # ---- deciding -------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled; then what was heard by then is looked at."""
        if not self._begun:
            await self._fill()
            self._begun = True
        self._follow(self.engine.begin(self.now()))
        look_s = 0.0
        try:
            while True:
                if not self._heard:
                    await self._until(min(self.engine.due_s(), look_s))
                self._wake.clear()
                self._slice(time.monotonic() + SLICE_S)
                if time.monotonic() >= look_s:
                    look_s = time.monotonic() + LOOK_EVERY_S
                    self._look_at_clock()
                    await self._take_orders()
                await asyncio.sleep(0)
        finally:
            self._slice(math.inf)

    def _slice(self, until_s: float) -> None:
        while self._heard:
            fact, draft = self._heard.popleft()
            now = self.now()
            if draft is not None and draft.severity is not None:
                self._follow(self.engine.adopt(draft.data, draft.severity, now))
            self._follow(self.engine.hear(fact, now))
            if now.s >= until_s:
                break
        now = self.now()
        if self.engine.due_s() <= now.s:
            self._follow(self.engine.pass_time(now))

    async def _until(self, until_s: float) -> None:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return
        try:
            async with asyncio.timeout(left_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _follow(self, steps: Sequence[Step]) -> None:
        """Acts at once; the rest is done in its time."""
        for step in steps:
            draft = step.alert.draft(self.now().utc_ms) if step.tell else None
            if draft is not None:
                self._actions.trigger([draft])
            if len(self._steps) >= TELL_MAX:
                self._steps.popleft()
                self.untold_total += 1
                self._say("alerts: %d steps wait to be told, the oldest is dropped", TELL_MAX)
            self._steps.append((step, draft))
            self._told.set()
        if any(step.alert.given is not None and not step.alert.is_on for step in steps):
            self._actions.bring(self.engine.responses())

    async def _take_orders(self) -> None:
        try:
            changes = await asyncio.to_thread(self._file.changes)
            if changes == self._changes:
                return
            orders = await asyncio.to_thread(self._file.take_orders)
            self._changes = changes
        except EdgewrightError as error:
            self._say("alerts: acknowledgements at the node are not seen: %s", error)
            return
        for order in orders:
            alert = self.engine.find(order.alert_id)
            if alert is None:
                log.warning("alerts: %s is acknowledged at the node, and not known", order.alert_id)
            else:
                self.acknowledge(alert.alert_id, order)

    async def _fill(self) -> None:
        """Windows hold again what was kept here of the time before the start."""
        types, window_s = sorted(self.engine.types), self.engine.window_s
        if not types or not window_s:
            return
        now = self.now()
        try:
            found = await asyncio.to_thread(self._before, types, now.utc_ms - round(window_s * 1000), now.utc_ms)
        except EdgewrightError as error:
            self._say("alerts: what was before the start is not known: %s", error)
            return
        for n, one in enumerate(found):
            at_s = now.s - max(0, now.utc_ms - one.time_utc_ms) / 1000
            self.engine.fill(Fact(one.type, one.data, one.subject), at_s)
            if n % 100 == 99:
                await asyncio.sleep(0)

    def _before(self, types: Sequence[str], since_ms: int, until_ms: int) -> list[Result]:
        try:
            with results.opened(self._results_path) as db:
                return results.facts(db, types, (), since_ms, until_ms, FILL_MAX)
        except NoResultsError:
            return []

    # ---- telling --------------------------------------------------------------------------------

    async def tell(self) -> None:
        """Until `stop`, and then until everything is told."""
        while True:
            while self._steps:
                steps = [self._steps.popleft() for _ in range(min(len(self._steps), 100))]
                await self._tell(steps)
            if self._stopping:
                return
            await self._told.wait()
            self._told.clear()

    def stop(self) -> None:
        self._stopping = True
        self._told.set()

    async def _tell(self, steps: Sequence[tuple[Step, Draft | None]]) -> None:
        kept = {step.alert.alert_id: None if step.gone else step.alert for step, _ in steps}
        try:
            await asyncio.to_thread(self._file.keep_alerts, kept)
        except EdgewrightError as error:
            self._say("alerts: not kept over a restart: %s", error)
        if drafts := [draft for _, draft in steps if draft is not None]:
            self._ours.update(map(id, drafts))
            try:
                await self._outbox.append(drafts)
            except LocalWireError as error:
                self.untold_total += len(drafts)
                log.error("alerts: %d steps cannot be sent: %s", len(drafts), error)
            finally:
                self._ours.difference_update(map(id, drafts))
        for alert_id, alert in kept.items():
            await self._write(alert_id, alert)

    async def _write(self, alert_id: str, alert: Alert | None) -> None:
        for collection in self._collections:
            try:
                if alert is None:
                    await self._state.delete(collection, alert_id)
                else:
                    await self._state.put(collection, alert_id, alert.value(self._node))
            except (StateRefusedError, EdgewrightError) as error:
                self._say("alerts: the state %s does not have it: %s", collection, error)

    def _say(self, text: str, *values: object) -> None:
        """Once a minute each."""
        now_s = time.monotonic()
        if now_s - self._said.get(text, -math.inf) >= SAID_EVERY_S:
            self._said[text] = now_s
            log.error(text, *values)

    # ---- by calls ---------------------------------------------------------------------------------

    async def set_rule(self, rule: Rule) -> None:
        """From now on, and after restarts. Raises StorageError, and nothing has changed."""
        await asyncio.to_thread(self._file.keep_rule, rule)
        self._follow(self.engine.set(rule, self.now()))
        self._follow_rules()

    async def remove_rule(self, name: str) -> None:
        """As `set_rule`."""
        await asyncio.to_thread(self._file.drop_rule, name)
        self._follow(self.engine.remove(name, self.now()))
        self._follow_rules()

    def _follow_rules(self) -> None:
        seen = [made for rule in self.engine.rules.values() if (made := rule.picture_rule())]
        cameras = {rule.name: rule.seen.camera_id for rule in self.engine.rules.values() if rule.seen}
        for camera, stream in self._streams.items():
            stream.watch({one.name: one for one in seen if cameras[one.name] == camera})
        self._wake.set()

    def begin_actions(self) -> None:
        """Once the actions can be begun."""
        self._actions.bring(self.engine.responses())

    def trigger(self, rule: Rule) -> Alert | None:
        """At once; None where too many are on."""
        step = self.engine.trigger(rule, self.now())
        if step is None:
            return None
        self._actions.bring(self.engine.responses())
        self._follow([step])
        return step.alert

    def acknowledge(self, alert_id: str, order: Order) -> Alert:
        """The alert after it; it must be known. One that was acknowledged stays as it is."""
        step = self.engine.acknowledge(alert_id, order.by, order.note, self.now())
        if step is not None:
            self._follow([step])
        found = self.engine.find(alert_id)
        assert found is not None
        return found

    def mute(self, rules: frozenset[str]) -> None:
        """These rules raise no alert."""
        self.engine.mute(rules)

    # ---- for the owner ----------------------------------------------------------------------------

    def report(self) -> dict[str, Any]:
        """For `status`."""
        alerts = self.engine.alerts
        return {
            "rules": len(self.engine.rules),
            "called": sum(1 for rule in self.engine.rules.values() if rule.source == CALLED),
            "on": sum(1 for alert in alerts if alert.is_on),
            "unacknowledged": sum(1 for alert in alerts if not alert.is_acknowledged),
            "known": len(alerts),
            "waiting": len(self._heard),
            "dropped_total": self.dropped_total,
            "untold_total": self.untold_total,
            "clipped": self.engine.clipped,
            **asdict(self.engine.counts),
        }

    def close(self) -> None:
        self._file.close()
