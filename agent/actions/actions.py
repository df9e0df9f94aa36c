"""Local actions as the agent runs them: told of each event in the loop, done by tasks of their own.

    facts ─┬─► outbox.append ─► ...
           └─► trigger ─► queue of each action that is meant ─► its worker ─► mqtt, webhook, command, gpio

`trigger` only sorts and queues: it waits for no disk, no network and no other action. A full queue loses its oldest.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agent.actions.choose import Trigger
from agent.actions.event import LocalEvent
from agent.actions.local_broker import LocalBroker
from agent.actions.make import runner_of
from agent.actions.runner import ActionTimeoutError, Runner
from agent.actions.settings import FAILED, ActionSettings, Do
from agent.outbox.rows import Draft
from runtime.errors import EdgewrightError
from runtime.supervision import Supervisor
from schemas.identity import Lane

log = logging.getLogger(__name__)

AGAIN_S = 1.0  # pause after a defect of an action that a rule brought along
LAST_S = 2.0  # at the end of the agent, for what still waits
FAILURES_SAID_EVERY_S = 60.0  # per action; those between are counted in the next
Announce = Callable[[str, str, dict[str, Any]], None]


@dataclass(slots=True)
class ActionStats:
    """Since the agent started. triggered = done + failed + timed_out + dropped + those waiting or under way."""

    triggered: int = 0
    done: int = 0
    failed: int = 0
    timed_out: int = 0
    dropped: int = 0  # its queue was full
    last_error: str = ""
    last_ms: float = 0.0  # from the event's hand-over to done


class _Action:
    """One action: filter, queue, technology, figures."""

    def __init__(self, settings: ActionSettings, runner: Runner, announce: Announce) -> None:
        self.settings = settings
        self.trigger = Trigger(settings)
        self.stats = ActionStats()
        self.runner = runner
        self.queue: asyncio.Queue[tuple[float, LocalEvent]] = asyncio.Queue()
        self._announce = announce
        self._said_s: float | None = None
        self.under_way = 0
        self._unsaid = 0

    def put(self, now_s: float, event: LocalEvent) -> None:
        self.stats.triggered += 1
        if self.queue.qsize() >= self.settings.queue_max:
            self.queue.get_nowait()
            self.stats.dropped += 1
            self._say("its queue was full, the oldest event was dropped", now_s)
        self.queue.put_nowait((now_s, event))

    def open(self) -> None:
        """What is missing now may be there at the first event."""
        try:
            self.runner.open()
        except EdgewrightError as error:
            self.stats.last_error = str(error)
            self._say(str(error), time.monotonic())

    async def run(self) -> None:
        """One event after the other until cancelled."""
        while True:
            handed_s, event = await self.queue.get()
            self.under_way += 1
            try:
                async with asyncio.timeout(self.runner.limit_s):
                    said = await self.runner.run(event)
            except (TimeoutError, ActionTimeoutError) as error:
                self.stats.timed_out += 1
                self._failed(str(error) or f"not done within {self.settings.timeout_s:g} s, ended")
            except EdgewrightError as error:
                self.stats.failed += 1
                self._failed(str(error))
            except Exception:
                self.stats.failed += 1  # counted before the supervisor reports the defect and starts this task again
                raise
            else:
                self.stats.done += 1
                self.stats.last_ms = round((time.monotonic() - handed_s) * 1000, 3)
                log.debug("action %s: %s", self.settings.name, said)
            finally:
                self.under_way -= 1

    def _failed(self, reason: str) -> None:
        self.stats.last_error = reason
        self._say(reason, time.monotonic())

    def _say(self, reason: str, now_s: float) -> None:
        if self._said_s is not None and now_s - self._said_s < FAILURES_SAID_EVERY_S:
            self._unsaid += 1
            return
        log.warning("action %s failed: %s", self.settings.name, reason)
        data = {"action": self.settings.name, "do": self.settings.do.value, "reason": reason, "unsaid": self._unsaid}
        self._announce(FAILED, self.settings.name, data)
        self._said_s, self._unsaid = now_s, 0


class Actions:
    """All local actions of the node. Everything is on the loop."""

    def __init__(
        self,
        settings: Sequence[ActionSettings],
        *,
        node: str,
        boot: int,
        topic_root: str,
        broker: LocalBroker,
        announce: Announce,
    ) -> None:
        self._node, self._boot, self._root = node, boot, topic_root
        self._broker = broker
        self._actions = [_Action(each, runner_of(each, broker), announce) for each in settings]
        self._needs_broker = any(each.do is Do.MQTT for each in settings)
        self._announce = announce
        self._brought: dict[str, tuple[_Action, asyncio.Task[None]]] = {}  # by rules of alerts, by name
        self._broker_task: asyncio.Task[None] | None = None
        self._seen = 0
        self.named: Callable[[Draft], Collection[str]] = lambda draft: ()  # the actions that an alert names

    @property
    def names(self) -> list[str]:
        """Of the configured ones."""
        return [action.settings.name for action in self._actions]

    def trigger(self, drafts: Sequence[Draft]) -> None:
        """Facts on their way to the outbox. Returns at once."""
        actions = [*self._actions, *(action for action, _ in self._brought.values())]
        if not actions:
            return
        now_s = time.monotonic()
        for draft in drafts:
            self._seen += 1
            event: LocalEvent | None = None
            named = self.named(draft) if draft.lane is Lane.ALERT else ()
            for action in actions:
                if action.trigger.fires(draft, now_s, named=action.settings.name in named):
                    event = event or LocalEvent(self._node, self._root, f"{self._boot}.{self._seen}", draft)
                    action.put(now_s, event)

    def supervise(self, supervisor: Supervisor, stage: int) -> None:
        """Starts the workers, each a named task."""
        supervisor.supervise("actions-last", self._finish, stage=stage, stop_timeout_s=LAST_S + 1)
        if self._needs_broker:
            supervisor.supervise("local-broker", self._broker.run, stage=stage)
        for action in self._actions:
            action.open()
            for n in range(action.settings.parallel):
                supervisor.supervise(f"action[{action.settings.name}].{n}", action.run, stage=stage)

    def bring(self, wanted: Mapping[str, ActionSettings]) -> None:
        """Actions that rules of alerts bring along, by name: from now on these and no others. One that is not wanted
        any more goes when it has done what waits for it."""
        for name, (action, worker) in list(self._brought.items()):
            if name not in wanted and not action.queue.qsize() and not action.under_way:
                worker.cancel()
                del self._brought[name]
        for name, settings in wanted.items():
            if name in self._brought:
                continue
            if settings.do is Do.MQTT and not self._needs_broker and self._broker_task is None:
                self._broker_task = asyncio.create_task(self._broker.run(), name="local-broker")
                self._broker_task.add_done_callback(_ended)
            action = _Action(settings, runner_of(settings, self._broker), self._announce)
            self._brought[name] = action, asyncio.create_task(_kept_running(action), name=f"action[{name}]")

    async def _finish(self) -> None:
        """The first of them to be stopped: gives the others a moment for what the end itself brought."""
        try:
            await asyncio.Event().wait()
        finally:
            deadline_s = time.monotonic() + LAST_S
            every = [*self._actions, *(action for action, _ in self._brought.values())]
            while left := sum(action.queue.qsize() + action.under_way for action in every):
                if time.monotonic() > deadline_s:
                    log.warning("%d events are not acted on any more: the agent stops", left)
                    break
                await asyncio.sleep(0.02)
            tasks = [worker for _, worker in self._brought.values()]
            for task in [*tasks, *([self._broker_task] if self._broker_task else [])]:
                task.cancel()

    def close(self) -> None:
        """Everything in its safe state; the workers have ended."""
        for action in self._actions:
            try:
                action.runner.close()
            except EdgewrightError as error:
                log.error("action %s: %s", action.settings.name, error)

    def report(self) -> list[dict[str, Any]]:
        """For `status`."""
        return [
            {
                "name": action.settings.name,
                "do": action.settings.do.value,
                **asdict(action.stats),
                "cooled": action.trigger.cooled_total,
                "waiting": action.queue.qsize(),
            }
            for action in [*self._actions, *(action for action, _ in self._brought.values())]
        ]


async def _kept_running(action: _Action) -> None:
    """The supervision of an action that comes and goes with a rule: a defect costs it one event, not those after."""
    while True:
        try:
            await action.run()
        except Exception:
            log.exception("action %s failed by a defect, starts again in %g s", action.settings.name, AGAIN_S)
            await asyncio.sleep(AGAIN_S)


def _ended(task: "asyncio.Task[None]") -> None:
    """A worker runs until it is cancelled: anything else is a defect, said here and kept to its action."""
    if not task.cancelled() and task.exception() is not None:
        log.error("%s ended by a defect", task.get_name(), exc_info=task.exception())
