"""Commands in, one answer each out: journalled before they run, answered from the journal when they repeat.

The same for a node and for the coordinator. What runs is limited, all together and by function; `cancel` is always
let in, or nobody could end what holds the last place.
"""

import asyncio
import functools
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from runtime.calls.answers import Answers, Outcome, ended
from runtime.calls.errors import CallCancelledError, CallFailedError, CallRejectedError
from runtime.calls.journal import Journal, Journalled
from runtime.calls.running import Asked, Running
from runtime.calls.served import CANCEL, Call, Served, Table, arguments
from runtime.errors import EdgewrightError
from runtime.mqtt import Delivery
from schemas.codec import decode_command
from schemas.errors import RemoteWireError
from schemas.messages import Command, CommandState
from schemas.shape import Limit
from schemas.topics import TopicSpace

log = logging.getLogger(__name__)

T = TypeVar("T")
IDENTIFIER_CHARS_MAX = 128
RUNNING_MAX = 16  # calls at a time; one more is rejected, so that a flood of commands cannot pile up
CANCELS_MAX = 16  # calls of `cancel` at a time, beside the others
TASKS_MAX = 1100  # commands that wait for the journal; the broker has no more than its receive maximum under way
STOP_S = 1.0  # what functions get to end in when the process stops
UNKEPT_MAX = 100  # answers that the journal did not take
_NO_DELIVERY = Delivery("", b"", 0, retain=False, mid=0)  # of a call by this process itself


@dataclass(frozen=True, slots=True)
class CancelOf:
    """`{"id": "7"}`: the `_id` that the call was given."""

    id: Annotated[str, Limit(len_min=1, len_max=IDENTIFIER_CHARS_MAX)]


class Dispatcher:
    """Owns the running calls of one responder. Told by the link what arrives, and of each connection."""

    def __init__(
        self,
        table: Table,
        journal: Journal,
        *,
        responder: str,
        space: TopicSpace,
        parallel_max: int = RUNNING_MAX,
        links: int = 1,
    ) -> None:
        """`links`: over how many connections calls come; an answer of before this start is owed to each."""
        self._table = table
        self._journal = journal
        self._responder = responder
        self.answers = Answers(responder, space)
        self._parallel_max = parallel_max
        self._cancel = Served(CANCEL, arguments(CancelOf), self._run_cancel)
        self._tasks: set[asyncio.Task[None]] = set()
        self._places: set[Running] = set()
        self._cancels = 0
        self._by_id: dict[str, Running] = {}
        self._links = frozenset(range(links))
        self._delivering: dict[int, tuple[str, int]] = {}  # number of a published answer -> command id, link
        self._owed: dict[str, set[int]] = {}  # by command id: the links that its answer still has to go over
        self._cut_off = set(journal.cut_off)  # by an earlier start, and not answered yet
        self._unkept: dict[str, tuple[CommandState, bytes]] = {}  # by id; the oldest goes first
        self._stopped = False
        self.refused_total = 0

    @property
    def names(self) -> list[str]:
        """The functions that can be called, as announced."""
        return self._table.names

    # ---- told by the link -----------------------------------------------------------------------

    def receive(self, delivery: Delivery, function: str, acknowledge: Callable[[Delivery], None]) -> None:
        """Takes a command off the wire. `acknowledge` tells the broker that it is ours now."""
        command = Command(function, {})
        try:
            command = decode_command(function, delivery.payload)
            if delivery.retain:
                text = "a retained command would run again at every connect; publish it without -r"
                raise CallRejectedError("retained", text)
            if self._stopped:
                raise CallRejectedError("stopping", f"{self._responder} is stopping; try again when it is back")
            asked = self._asked(command, delivery)
            # Counted here, before any of a burst begins; a repetition is let through, it only needs its answer.
            busy = self._busy(function)
            if busy and (not asked.identifier or len(self._tasks) >= TASKS_MAX):
                raise CallRejectedError("busy", busy)
        except (RemoteWireError, CallRejectedError) as error:
            acknowledge(delivery)
            self._refuse(delivery, command, error)
            return
        running = Running(asked, functools.partial(self.answers.tell, asked))
        if function == CANCEL:
            self._cancels += 1
        elif not busy:
            self._places.add(running)
            if command.id:
                self._by_id.setdefault(command.id, running)
        task = asyncio.create_task(self._handle(running, acknowledge, busy), name=f"command[{function}]")
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._handled(task, running))

    async def call_here(self, function: str, given: Mapping[str, Any], timeout_s: float | None = None) -> Any:
        """A call by this process itself: it takes a place as any other does, and is not journalled.

        Raises CallRejectedError (`busy` and `stopping` too), CallFailedError, or what else of ours it raises.
        """
        if self._stopped:
            raise CallRejectedError("stopping", f"{self._responder} is stopping")
        if busy := self._busy(function):
            raise CallRejectedError("busy", busy)
        command = Command(function, dict(given), deadline_s=timeout_s)
        running = Running(Asked(command, _NO_DELIVERY, "", "", time.monotonic()), lambda progress: None)
        self._places.add(running)
        try:
            served = self._table.get(function)
            return served.encode(await running.work(served, served.parse(command.arguments)))
        except EdgewrightError:
            raise
        except Exception as error:  # supervision boundary, as for commands
            log.exception("a call of %s failed", function)
            raise CallFailedError("defect", f"{type(error).__name__}: {error}") from error
        finally:
            running.is_over = True
            self._leave(running)

    async def connected(self, link: int = 0) -> None:
        """Delivers the answers that were not: commands cut off by a crash are reported as interrupted."""
        for known in await _of(self._journal.unfinished()):
            if link not in self._owed.get(known.id, self._links):
                continue
            payload = await self._answer_to(known)
            if payload is not None:
                self._deliver(known.function, known.id, payload, link=link)

    def disconnected(self, link: int = 0) -> None:
        """The numbers of what was published mean nothing any more; it is delivered again."""
        self._delivering = {number: one for number, one in self._delivering.items() if one[1] != link}

    def puback(self, number: int) -> None:
        """The broker has an answer: once all have that are to have it, the command is done with."""
        identifier, link = self._delivering.pop(number, ("", 0))
        if not identifier:
            return
        owed = self._owed.setdefault(identifier, set(self._links))
        owed.discard(link)
        if not owed:
            del self._owed[identifier]
            self._journal.answered(identifier)

    async def stop(self) -> None:
        """Cancels what runs and takes nothing more; each is answered as interrupted after the next start."""
        self._stopped = True
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if left := [running.task for running in self._places if running.task is not None]:
            await asyncio.wait(left, timeout=STOP_S)

    # ---- a command's life -----------------------------------------------------------------------

    def _asked(self, command: Command, delivery: Delivery) -> Asked:
        caller = self.answers.caller(delivery)
        identifier = _identifier(command, delivery) if self._table.is_journalled(command.function) else ""
        return Asked(command, delivery, identifier, caller, time.monotonic())

    def _busy(self, function: str) -> str:
        """Why one more has no place; empty where it has."""
        if function == CANCEL:
            return f"{CANCELS_MAX} calls are being cancelled already" if self._cancels >= CANCELS_MAX else ""
        if len(self._places) >= self._parallel_max:
            return f"{self._parallel_max} commands are running already; try again later"
        limit = self._table.limit(function)
        if limit and sum(running.asked.command.function == function for running in self._places) >= limit:
            return f"{function} runs {limit} at a time, and so many are running already; try again later"
        return ""

    async def _handle(self, running: Running, acknowledge: Callable[[Delivery], None], busy: str) -> None:
        asked = running.asked
        command, delivery, known = asked.command, asked.delivery, None
        try:
            if busy:
                known = await _of(self._journal.find(asked.identifier))
            elif asked.identifier:
                accepting = self._journal.accept(asked.identifier, command.function, packed=command.packed)
                known = await _of(accepting)
            if known is not None and known.function != command.function:
                raise CallRejectedError("id_in_use", f"this id was given to a {known.function} before", "_id")
            if known is None and busy:
                raise CallRejectedError("busy", busy)
        except (CallRejectedError, EdgewrightError) as error:
            running.settle(taken=False)
            acknowledge(delivery)
            self._refuse(delivery, command, error)
            return
        running.settle(taken=known is None)
        acknowledge(delivery)
        if known is None:
            if asked.identifier:
                self._owed[asked.identifier] = {delivery.link}
            await self._run(running)
        elif (payload := await self._answer_to(known)) is not None:
            self.answers.reply(delivery, known.function, payload)  # a repetition

    def _handled(self, task: "asyncio.Task[None]", running: Running) -> None:
        self._tasks.discard(task)
        running.settle(taken=False)
        command = running.asked.command
        if self._by_id.get(command.id) is running:
            del self._by_id[command.id]
        if command.function == CANCEL:
            self._cancels -= 1
        self._leave(running)
        if not task.cancelled() and task.exception() is not None:
            log.error("command %s ended by a defect", command.function, exc_info=task.exception())

    def _leave(self, running: Running) -> None:
        """Its place is free, unless the function is still there: then once it has ended."""
        if running.task is not None and not running.task.done():
            running.task.add_done_callback(lambda task: self._places.discard(running))
        else:
            self._places.discard(running)

    async def _run(self, running: Running) -> None:
        asked = running.asked
        command, identifier = asked.command, asked.identifier
        outcome = await self._outcome(running)
        running.is_over = True
        state, payload = self.answers.encode(command, outcome)
        if identifier:
            await self._keep(identifier, state, payload)
        self._leave(running)  # first: whoever hears the answer may call again at once
        if identifier:
            self._deliver(command.function, identifier, payload, asked.delivery)
        else:
            self.answers.reply(asked.delivery, command.function, payload)

    async def _outcome(self, running: Running) -> Outcome:
        asked = running.asked
        name, expires_s = asked.command.function, asked.command.expires_s
        if expires_s is None:
            expires_s = asked.delivery.expiry_s
        if expires_s is not None and time.monotonic() - asked.arrived_s >= expires_s:
            return ended(CommandState.EXPIRED, "expired", "the command came too late")
        try:
            served = self._cancel if name == CANCEL else self._table.get(name)
            given = served.parse(asked.command.arguments)
            if asked.identifier:
                await _of(self._journal.running(asked.identifier))
            return Outcome(CommandState.SUCCEEDED, served.encode(await running.work(served, given)))
        except CallRejectedError as error:
            return ended(CommandState.REJECTED, error.code, str(error), error.field, error.value)
        except CallCancelledError as error:
            return ended(CommandState.CANCELLED, error.code, str(error))
        except CallFailedError as error:
            return ended(CommandState.FAILED, error.code, str(error), value=error.value)
        except EdgewrightError as error:
            return ended(CommandState.FAILED, "failed", str(error))
        except Exception as error:
            # Supervision boundary: a defect in one function must not take the process down, nor stay without answer.
            log.exception("command %s failed", name)
            return ended(CommandState.FAILED, "defect", f"{type(error).__name__}: {error}")

    async def _run_cancel(self, call: Call, given: CancelOf) -> dict[str, Any]:
        running = self._by_id.get(given.id)
        if running is not None and await asyncio.shield(running.taken) and running.cancel():
            return {"cancelled": True}
        known = await _of(self._journal.find(given.id))
        if known is None:
            why = f"no call with this id came to {self._responder}, or it is forgotten"
        elif known.result is None:
            why = f"this {known.function} is ending just now, or was interrupted"
        else:
            why = f"this {known.function} has ended already: {known.state.value}"
        return {"cancelled": False, "why": why}

    # ---- answers --------------------------------------------------------------------------------

    async def _answer_to(self, known: Journalled) -> bytes | None:
        """The one answer of a journalled command; None while it runs, for then it is on its way."""
        if known.result is not None:
            return known.result
        if (unkept := self._unkept.get(known.id)) is not None:
            state, payload = unkept
        elif known.id in self._cut_off:
            state, payload = self.answers.interrupted(known)
        else:
            return None
        await self._keep(known.id, state, payload)
        return payload

    async def _keep(self, identifier: str, state: CommandState, payload: bytes) -> None:
        """The answer goes into the journal, or waits here until that takes it."""
        try:
            await _of(self._journal.finish(identifier, state, payload))
        except EdgewrightError as error:
            log.error("command %s: its answer cannot be journalled: %s", identifier, error)
            self._unkept[identifier] = state, payload
            while len(self._unkept) > UNKEPT_MAX:
                del self._unkept[next(iter(self._unkept))]
        else:
            self._unkept.pop(identifier, None)
            self._cut_off.discard(identifier)

    def _deliver(
        self, function: str, identifier: str, payload: bytes, delivery: Delivery | None = None, link: int = 0
    ) -> None:
        number = self.answers.reply(delivery, function, payload, link=link)
        if number is not None:
            self._delivering[number] = identifier, delivery.link if delivery else link

    def _refuse(self, delivery: Delivery, command: Command, error: Exception) -> None:
        self.refused_total += 1
        log.warning("command %s refused: %s", command.function, error)
        match error:
            case CallRejectedError():
                refused = ended(CommandState.REJECTED, error.code, str(error), error.field)
            case RemoteWireError():
                refused = ended(CommandState.REJECTED, "bad_message", str(error))
            case _:
                refused = ended(CommandState.REJECTED, "journal", f"the command cannot be journalled: {error}")
        self.answers.reply(delivery, command.function, self.answers.encode(command, refused)[1])


async def _of(future: "Future[T]") -> T:
    return await asyncio.wrap_future(future)


def _identifier(command: Command, delivery: Delivery) -> str:
    """What the journal knows a command by, empty when the caller gave nothing: the command then runs at most once.

    Correlation data mean something only to their sender, so the response topic belongs to them.
    """
    if command.id or not delivery.correlation:
        return command.id
    text = f"{delivery.response_topic}#{delivery.correlation.hex()}"
    return text if len(text) <= IDENTIFIER_CHARS_MAX else hashlib.sha256(text.encode()).hexdigest()
