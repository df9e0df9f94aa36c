"""Commands in, one result each out: journalled before they run, answered from the journal when they repeat."""

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Callable

from agent.commands.functions import CommandFailedError, CommandRejectedError, Functions
from agent.state import StateFile
from runtime.errors import EdgewrightError
from runtime.mqtt import Delivery, Message
from schemas.codec import decode_command, encode_result
from schemas.errors import LocalWireError, RemoteWireError
from schemas.messages import Command, CommandError, CommandState, Result
from schemas.topics import Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

IDENTIFIER_CHARS_MAX = 128
RUNNING_MAX = 16  # calls at a time; one more is rejected, so that a flood of commands cannot pile up
Publish = Callable[[Message], int | None]
"""Publishes now and returns the packet id, or None when there is no connection."""


class Dispatcher:
    """Owns the running calls. `acknowledge` tells the broker that a command is ours now."""

    def __init__(self, functions: Functions, state: StateFile, *, node: str, space: TopicSpace) -> None:
        self._functions = functions
        self._state = state
        self._node = node
        self._space = space
        self._running: set[asyncio.Task[None]] = set()
        self._delivering: dict[int, str] = {}  # packet id of a result -> command id
        self.publish: Publish = lambda message: None
        self.payload_bytes_max = sys.maxsize  # what the broker takes; the link says so at each connect
        self.refused_total = 0

    def receive(self, delivery: Delivery, function: str, acknowledge: Callable[[Delivery], None]) -> None:
        """Takes a command off the wire; everything else happens in a task of its own."""
        busy = len(self._running) >= RUNNING_MAX  # counted here: a burst of them arrives before any begins
        task = asyncio.create_task(self._handle(delivery, function, acknowledge, busy), name=f"command[{function}]")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def connected(self) -> None:
        """Delivers the answers that were not: commands cut off by a crash are reported as interrupted."""
        for known in await asyncio.wrap_future(self._state.unfinished()):
            payload = known.result
            if payload is None and known.id in self._state.cut_off:
                error = CommandError("interrupted", "the agent stopped while the command ran; it is not repeated")
                result = self._result(known.function, CommandState.FAILED, known.id, error=error)
                payload = encode_result(result, packed=known.packed)
                await asyncio.wrap_future(self._state.finish(known.id, CommandState.FAILED, payload))
            if payload is not None:
                self._deliver(known.function, known.id, payload)

    def disconnected(self) -> None:
        """Packet ids mean nothing any more; what they stood for is delivered again."""
        self._delivering.clear()

    def puback(self, mid: int) -> None:
        """The broker has a result: the command is done with."""
        identifier = self._delivering.pop(mid, None)
        if identifier is not None:
            self._state.answered(identifier)

    async def stop(self) -> None:
        """Cancels what runs; each is answered as interrupted after the next start."""
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _handle(
        self, delivery: Delivery, function: str, acknowledge: Callable[[Delivery], None], busy: bool
    ) -> None:
        arrived_s = time.monotonic()
        command = Command(function, {})
        try:
            command = decode_command(function, delivery.payload)
            if delivery.retain:
                raise CommandRejectedError(
                    "retained", "a retained command would run again at every connect; publish it without -r"
                )
            if busy:
                raise CommandRejectedError("busy", f"{RUNNING_MAX} commands are running already; try again later")
            identifier = _identifier(command, delivery)
            known = None
            if identifier:
                known = await asyncio.wrap_future(self._state.accept(identifier, function, packed=command.packed))
                if known is not None and known.function != function:
                    raise CommandRejectedError("id_in_use", f"this id was given to a {known.function} before", "_id")
        except (RemoteWireError, CommandRejectedError, EdgewrightError) as error:
            acknowledge(delivery)
            self._refuse(delivery, command, error)
            return
        acknowledge(delivery)
        if known is None:
            await self._run(delivery, command, identifier, arrived_s)
        elif known.result is not None:
            # A repetition: answered from the journal; while it still runs, its one answer is on the way.
            self._reply(delivery, known.function, known.result)

    def _refuse(self, delivery: Delivery, command: Command, error: Exception) -> None:
        self.refused_total += 1
        log.warning("command %s refused: %s", command.function, error)
        match error:
            case CommandRejectedError():
                problem = CommandError(error.code, str(error), error.field)
            case RemoteWireError():
                problem = CommandError("bad_message", str(error))
            case _:
                problem = CommandError("journal", f"the command cannot be journalled: {error}")
        refusal = self._result(command.function, CommandState.REJECTED, command.id, error=problem)
        self._reply(delivery, command.function, encode_result(refusal, packed=command.packed))

    async def _run(self, delivery: Delivery, command: Command, identifier: str, arrived_s: float) -> None:
        expires_s = command.expires_s if command.expires_s is not None else delivery.expiry_s
        if expires_s is not None:
            expires_s -= time.monotonic() - arrived_s
        result = await self._call(command, identifier, expires_s)
        result, payload = self._encoded(command, result)
        if identifier:
            try:
                await asyncio.wrap_future(self._state.finish(identifier, result.state, payload))
            except EdgewrightError as error:
                log.error("command %s: its answer cannot be journalled: %s", command.function, error)
            self._deliver(command.function, identifier, payload, delivery)
        else:
            self._reply(delivery, command.function, payload)

    def _encoded(self, command: Command, result: Result) -> tuple[Result, bytes]:
        """The result as it travels; one that cannot becomes a failure that says so."""
        limit = min(self.payload_bytes_max, Topic(Kind.RESULT, self._node, command.function).rule.payload_bytes_max)
        try:
            payload = encode_result(result, packed=command.packed)
            if len(payload) <= limit:
                return result, payload
            error = CommandError(
                "result_too_large", f"the result has {len(payload)} bytes; at most {limit} are allowed"
            )
        except LocalWireError as defect:
            log.error("command %s: its result cannot be sent: %s", command.function, defect)
            error = CommandError("defect", str(defect))
        result = self._result(command.function, CommandState.FAILED, command.id, error=error)
        return result, encode_result(result, packed=command.packed)

    async def _call(self, command: Command, identifier: str, expires_s: float | None) -> Result:
        name = command.function
        if expires_s is not None and expires_s <= 0:
            return self._result(
                name, CommandState.EXPIRED, command.id, error=CommandError("expired", "the command came too late")
            )
        try:
            function = self._functions.get(name)
            arguments = function.parse(command.arguments)
            if identifier:
                await asyncio.wrap_future(self._state.running(identifier))
            async with asyncio.timeout(function.timeout_s):
                value = await function.run(arguments)
        except CommandRejectedError as error:
            problem = CommandError(error.code, str(error), error.field)
            return self._result(name, CommandState.REJECTED, command.id, error=problem)
        except CommandFailedError as error:
            return self._result(name, CommandState.FAILED, command.id, error=CommandError(error.code, str(error)))
        except TimeoutError:
            problem = CommandError("timeout", f"{name} took longer than {function.timeout_s:g} s")
            return self._result(name, CommandState.FAILED, command.id, error=problem)
        except EdgewrightError as error:
            return self._result(name, CommandState.FAILED, command.id, error=CommandError("failed", str(error)))
        except Exception as error:
            # Supervision boundary: a defect in one function must not take the agent down, nor stay without answer.
            log.exception("command %s failed", name)
            problem = CommandError("defect", f"{type(error).__name__}: {error}")
            return self._result(name, CommandState.FAILED, command.id, error=problem)
        return self._result(name, CommandState.SUCCEEDED, command.id, value=value)

    def _result(
        self,
        function: str,
        state: CommandState,
        identifier: str = "",
        *,
        value: object = None,
        error: CommandError | None = None,
    ) -> Result:
        return Result(function, state, identifier, self._node, time.time_ns() // 1_000_000, value, error)

    def _deliver(self, function: str, identifier: str, payload: bytes, delivery: Delivery | None = None) -> None:
        mid = self._reply(delivery, function, payload)
        if mid is not None:
            self._delivering[mid] = identifier

    def _reply(self, delivery: Delivery | None, function: str, payload: bytes) -> int | None:
        """To `result/<function>`, and to the caller's own response topic where that lies beneath our results."""
        correlation = delivery.correlation if delivery else b""
        topic = self._space.text(Topic(Kind.RESULT, self._node, function))
        mid = self.publish(Message(topic, payload, correlation=correlation))
        asked = delivery.response_topic if delivery else ""
        own = asked.startswith(f"{self._space.root}/{self._node}/result/") and not set("+#") & set(asked)
        if own and asked != topic:
            self.publish(Message(asked, payload, correlation=correlation))
        return mid


def _identifier(command: Command, delivery: Delivery) -> str:
    """What the journal knows a command by, empty when the caller gave nothing: the command then runs at most once.

    Correlation data mean something only to their sender, so the response topic belongs to them.
    """
    if command.id or not delivery.correlation:
        return command.id
    text = f"{delivery.response_topic}#{delivery.correlation.hex()}"
    return text if len(text) <= IDENTIFIER_CHARS_MAX else hashlib.sha256(text.encode()).hexdigest()
