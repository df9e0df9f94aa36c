"""Calls functions of nodes and of the coordinator, for people's own programs and for `edgectl`.

    async with Client(BrokerAddress("broker.example")) as client:
        picture = await client.call("gw-1", "snapshot", {"camera_id": "cam1"}, timeout_s=30)

The answer comes on a response topic of this client's own beneath the responder's `result/`, and so does the progress
that the responder tells. What it says after a restart comes on `result/<function>`, which is listened to as well.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType, TracebackType
from typing import Any

from runtime.calls.errors import (
    CallCancelledError,
    CallExpiredError,
    CallFailedError,
    CallRejectedError,
    NoAnswerError,
)
from runtime.calls.served import CANCEL
from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_result, encode_command
from schemas.errors import RemoteWireError
from schemas.messages import CallProgress, Command, CommandError, CommandState, Result
from schemas.topics import Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

CONNECT_S = 10.0
CANCEL_S = 10.0
NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class _Waiting:
    """One call under way."""

    function: str
    answer: "asyncio.Future[Result]"
    on_progress: Callable[[CallProgress], None]


class Client:
    """One connection, made by `async with` and again by a call that finds it lost. Any number of calls at a time."""

    def __init__(self, address: BrokerAddress, *, space: TopicSpace | None = None, name: str = "") -> None:
        """`name` begins the client id that the broker sees."""
        self._address = address
        self._space = space or TopicSpace()
        self._id = f"{name or 'caller'}-{secrets.token_hex(4)}"
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()
        self._subscribed: set[str] = set()
        self._waiting: dict[str, _Waiting] = {}

    async def __aenter__(self) -> "Client":
        await self._open(CONNECT_S)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Calls still under way end with NoAnswerError; they run on where they run."""
        if self._connection is not None:
            await self._connection.close()

    async def call(
        self,
        node: str,
        function: str,
        arguments: Mapping[str, Any] = NO_ARGUMENTS,
        *,
        timeout_s: float = 30.0,
        deadline_s: float | None = None,
        call_id: str = "",
        on_progress: Callable[[CallProgress], None] = lambda progress: None,
    ) -> Any:
        """What the function returned. `node` may be `coordinator`.

        Raises CallRejectedError, CallFailedError, CallExpiredError or CallCancelledError as it was answered, and
        NoAnswerError after `timeout_s`: the call may then still run, and goes on. Asked again with the same `call_id`
        it runs once all the same. With `deadline_s` it is ended there when that is over. A task that is cancelled
        while it waits here cancels the call.
        """
        command = Command(function, dict(arguments), call_id, deadline_s=deadline_s)
        result = await self.ask(node, command, timeout_s=timeout_s, on_progress=on_progress)
        return value_of(result)

    async def ask(
        self,
        node: str,
        command: Command,
        *,
        timeout_s: float = 30.0,
        on_progress: Callable[[CallProgress], None] = lambda progress: None,
    ) -> Result:
        """The one answer, whatever it says. A command without an id gets one, without `expires_s` the time-out."""
        identifier = command.id or secrets.token_hex(8)
        if identifier in self._waiting:
            raise CallRejectedError("id_in_use", f"this client waits for a call with the id {identifier} already")
        command = Command(
            command.function, command.arguments, identifier,
            timeout_s if command.expires_s is None else command.expires_s, command.packed, command.deadline_s,
        )  # fmt: skip
        waiting = _Waiting(command.function, asyncio.get_running_loop().create_future(), on_progress)
        self._waiting[identifier] = waiting
        is_sent = False
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._ready(node, command.function, timeout_s)
                self._send(connection, node, command)
                is_sent = True
                return await self._answer(connection, waiting, node, identifier)
        except TimeoutError as error:
            raise NoAnswerError(
                f"{node} did not answer {command.function} within {timeout_s:g} s",
                hint=f"is it online? Its id was {identifier}: asked again with it, it runs once",
            ) from error
        except asyncio.CancelledError:
            if is_sent:
                self._cancel_unheard(node, identifier)
            raise
        finally:
            del self._waiting[identifier]

    async def cancel(self, node: str, call_id: str, *, timeout_s: float = CANCEL_S) -> str:
        """Ends the call of that id, whoever made it: "" when it is being cancelled, else why it is not."""
        answer = await self.call(node, CANCEL, {"id": call_id}, timeout_s=timeout_s)
        return "" if answer["cancelled"] else str(answer["why"])

    # ---- the connection -------------------------------------------------------------------------

    async def _open(self, timeout_s: float) -> Connection:
        async with self._connecting:
            if self._connection is not None and self._connection.is_open:
                return self._connection
            connection = Connection(self._address, client_id=self._id, on_message=self._receive)
            await connection.connect(min(CONNECT_S, timeout_s))
            self._connection = connection
            self._subscribed.clear()
            return connection

    async def _ready(self, node: str, function: str, timeout_s: float) -> Connection:
        connection = await self._open(timeout_s)
        wanted = {self._space.text(Topic(Kind.RESULT, node, function)), self._response_topic(node, function)}
        if wanted - self._subscribed:
            await connection.subscribe(dict.fromkeys(wanted, 1))
            self._subscribed |= wanted
        return connection

    def _response_topic(self, node: str, function: str) -> str:
        """One level deeper than results are: whoever listens to those hears each answer once."""
        return f"{self._space.text(Topic(Kind.RESULT, node, function))}/{self._id}"

    def _send(self, connection: Connection, node: str, command: Command) -> None:
        connection.publish(
            Message(
                self._space.text(Topic(Kind.CMD, node, command.function)),
                encode_command(command),
                correlation=command.id.encode(),
                response_topic=self._response_topic(node, command.function),
            )
        )

    async def _answer(self, connection: Connection, waiting: _Waiting, node: str, identifier: str) -> Result:
        assert connection.closed is not None
        ends: set[asyncio.Future[Any]] = {waiting.answer, connection.closed}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if waiting.answer.done():
            return waiting.answer.result()
        raise NoAnswerError(
            f"the connection ended before {node} answered {waiting.function}: {connection.closed.result()}",
            hint=f"its id was {identifier}: asked again with it, it runs once",
        )

    def _cancel_unheard(self, node: str, identifier: str) -> None:
        """Whoever waits is being cancelled, so nobody waits for the answer to this."""
        connection = self._connection
        if connection is None or not connection.is_open:
            return
        try:
            self._send(connection, node, Command(CANCEL, {"id": identifier}, expires_s=CANCEL_S))
        except EdgewrightError as error:
            log.warning("the call %s to %s goes on: it cannot be cancelled: %s", identifier, node, error)

    # ---- what arrives ---------------------------------------------------------------------------

    def _receive(self, delivery: Delivery) -> None:
        if self._connection is not None:
            self._connection.acknowledge(delivery)
        try:
            result = decode_result(delivery.payload)
        except RemoteWireError as error:
            log.debug("passed over on %s: %s", delivery.topic, error)
            return
        waiting = self._waiting.get(result.id)
        if waiting is None or waiting.function != result.function or waiting.answer.done():
            return
        if result.state.final:
            waiting.answer.set_result(result)
        elif result.progress is not None and delivery.topic.endswith(f"/{self._id}"):
            self._tell(waiting, result.progress)

    def _tell(self, waiting: _Waiting, progress: CallProgress) -> None:
        try:
            waiting.on_progress(progress)
        except Exception:
            # Supervision boundary: a defect in somebody's program must not end the connection of its other calls.
            log.exception("on_progress of %s failed", waiting.function)


def value_of(result: Result) -> Any:
    """What a succeeded call returned; the error of any other."""
    error = result.error or CommandError("unknown", f"{result.function} ended as {result.state.value}")
    match result.state:
        case CommandState.SUCCEEDED:
            return result.result
        case CommandState.REJECTED:
            raise CallRejectedError(error.code, error.message, error.field, result.result)
        case CommandState.EXPIRED:
            raise CallExpiredError(error.code, error.message, result.result)
        case CommandState.CANCELLED:
            raise CallCancelledError(error.code, error.message, result.result)
        case _:
            raise CallFailedError(error.code, error.message, result.result)
