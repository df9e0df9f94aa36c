"""Whatever comes, repeats, is cancelled, is cut off or gets lost: an id runs once at most and has one final answer.

A machine of Hypothesis plays a caller, a broker and a power switch around a dispatcher with a real journal.
"""

import asyncio
import json
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.state import StateFile
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.errors import CallFailedError, CallRejectedError
from runtime.calls.served import Call, Served, Table, arguments
from runtime.mqtt import Delivery, Message
from schemas.codec import decode_result
from schemas.messages import CommandState
from schemas.topics import TopicSpace

IDS = st.sampled_from(["a", "b", "c", "d", "e"])
ENDS = st.sampled_from(["return", "fail", "reject"])
# Answers to what was not taken: the id may be given again.
NOT_TAKEN = ("busy", "stopping", "journal")


@dataclass(frozen=True, slots=True)
class WorkOf:
    bad: bool = False


class OneAnswer(RuleBasedStateMachine):
    """The loop of asyncio turns only inside a rule, until nothing is left to do."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.runs: Counter[str] = Counter()
        self.finals: dict[str, set[bytes]] = {}
        self.states: dict[str, CommandState] = {}
        self.cancelled: set[str] = set()  # told so
        self.state: StateFile | None = None

    @initialize()
    def begin(self) -> None:
        self.start()

    def start(self) -> None:
        self.state = StateFile(Path(self.folder.name) / "state.db")
        served = Served("work", arguments(WorkOf), self.work, parallel=3)
        self.waiting: dict[str, asyncio.Future[str]] = {}
        self.unconfirmed: list[int] = []
        self.sent = 0
        self.is_connected = True

        async def make() -> Dispatcher:
            assert self.state is not None
            return Dispatcher(Table([served]), self.state.journal, responder="gw-1", space=TopicSpace())

        self.dispatcher = self.do(make())
        self.dispatcher.answers.publish = self.publish
        self.do(self.dispatcher.connected())

    async def work(self, call: Call, given: WorkOf) -> str:
        self.runs[call.id] += 1
        self.waiting[call.id] = self.loop.create_future()
        try:
            how = await self.waiting[call.id]
        finally:
            self.waiting.pop(call.id, None)
        if how == "fail":
            raise CallFailedError("failed", "as told")
        if how == "reject":
            raise CallRejectedError("not_now", "as told")
        return how

    def publish(self, message: Message) -> int | None:
        if not self.is_connected:
            return None
        self.sent += 1
        result = decode_result(message.payload)
        if result.state.final and result.function == "work":
            self.unconfirmed.append(self.sent)
            if result.error is None or result.error.code not in NOT_TAKEN:
                self.finals.setdefault(result.id, set()).add(message.payload)
                self.states[result.id] = result.state
        elif result.function == "cancel" and result.result["cancelled"]:
            self.cancelled.add(self.cancelling)
        return self.sent

    def do(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(what)

    async def settle(self) -> None:
        """Until every command that is not answered waits for a rule."""
        async with asyncio.timeout(60.0):
            while len(self.dispatcher._tasks) > len(self.waiting):
                await asyncio.sleep(0.0005)

    def send(self, function: str, payload: dict[str, Any], *, settled: bool = True) -> None:
        async def sending() -> None:
            text = json.dumps(payload).encode()
            delivery = Delivery(f"edge/v1/gw-1/cmd/{function}", text, 1, False, 1)
            self.dispatcher.receive(delivery, function, lambda delivery: None)
            if settled:
                await self.settle()

        self.do(sending())

    # ---- what can happen ------------------------------------------------------------------------

    @rule(identifier=IDS, bad=st.booleans(), settled=st.booleans(), late=st.booleans())
    def arrive(self, identifier: str, bad: bool, settled: bool, late: bool) -> None:
        """New, or again: the caller does not know either."""
        more = {"_expires_s": 0} if late else {}
        self.send("work", {"_id": identifier, "bad": 5 if bad else False, **more}, settled=settled)

    @rule(identifier=IDS)
    def cancel(self, identifier: str) -> None:
        self.cancelling = identifier
        self.send("cancel", {"id": identifier})

    @rule(end=ENDS)
    def finish(self, end: str) -> None:
        for identifier in list(self.waiting)[:1]:
            self.waiting.pop(identifier).set_result(end)
        self.do(self.settle())

    @rule()
    def lose_the_link(self) -> None:
        self.is_connected = False
        self.unconfirmed.clear()
        self.dispatcher.disconnected()

    @rule()
    def link_again(self) -> None:
        async def linking() -> None:
            await self.dispatcher.connected()
            await self.settle()

        if not self.is_connected:
            self.is_connected = True
            self.do(linking())

    @rule()
    def puback(self) -> None:
        if self.unconfirmed:
            self.dispatcher.puback(self.unconfirmed.pop(0))
            self.do(self.settle())

    @rule()
    def restart(self) -> None:
        self.is_connected = False
        self.do(self.dispatcher.stop())
        assert self.state is not None
        self.state.close()
        self.start()
        self.do(self.settle())

    # ---- what holds ------------------------------------------------------------------------------

    @invariant()
    def nothing_runs_twice_and_nothing_is_answered_twice(self) -> None:
        assert all(count == 1 for count in self.runs.values()), self.runs
        assert all(len(payloads) == 1 for payloads in self.finals.values()), self.finals

    @invariant()
    def what_was_told_to_be_cancelled_is(self) -> None:
        answered = self.cancelled & self.states.keys()
        assert {self.states[identifier] for identifier in answered} <= {CommandState.CANCELLED}

    def teardown(self) -> None:
        """In the end everybody has an answer."""
        if self.state is not None:
            self.do(self.settle())
            while self.waiting:
                self.finish("return")
            self.lose_the_link()
            self.link_again()
            assert self.runs.keys() <= self.finals.keys()
            self.nothing_runs_twice_and_nothing_is_answered_twice()
            self.do(self.dispatcher.stop())
            self.state.close()
        self.loop.close()
        self.folder.cleanup()


OneAnswer.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestOneAnswer = OneAnswer.TestCase
