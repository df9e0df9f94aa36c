"""The node's own calls of the coordinator's functions, over whatever connection there is.

An answer comes on `coordinator/result/<function>/<node>`: one level deeper than results are, so that nobody else
hears it there. Calls have no id, so nobody journals them (P21): one at a time of a function, and only of functions
that may be asked again. A call that is not answered in time, or whose connection ends, is given up.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from runtime.calls.errors import NoAnswerError
from runtime.mqtt import Message
from schemas.codec import decode_result, encode_command
from schemas.errors import RemoteWireError
from schemas.messages import Command, Result
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A call under way. What `accepts` refuses is a late answer to an earlier one."""

    answer: "asyncio.Future[Result]"
    accepts: Callable[[Result], bool]


class Way(Protocol):
    """The link, as far as calls need it."""

    def publish(self, message: Message) -> int | None:
        """Out now; None when there is no connection."""

    def has_coordinator(self) -> bool:
        """There is a connection, and a coordinator at its other end."""

    def payload_bytes_max(self) -> int:
        """What the broker takes in one message."""


class Asking:
    """One node's."""

    def __init__(self, way: Way, node: str, space: TopicSpace) -> None:
        self._way = way
        self._node = node
        self._space = space
        self._prefix = f"{space.root}/{COORDINATOR}/{Kind.RESULT.value}/"
        self._waiting: dict[str, _Waiting] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    @property
    def filter(self) -> str:
        """The subscription that answers come by."""
        return f"{self._prefix}+/{self._node}"

    def payload_bytes_max(self) -> int:
        return self._way.payload_bytes_max()

    async def ask(
        self,
        function: str,
        arguments: Mapping[str, Any],
        *,
        timeout_s: float,
        accepts: Callable[[Result], bool] = lambda result: True,
    ) -> Result:
        """The coordinator's answer, whatever it says, to the call once it is its turn. Raises NoAnswerError."""
        async with self._turns.setdefault(function, asyncio.Lock()):
            if not self._way.has_coordinator():
                raise NoAnswerError(f"no coordinator to call {function} of")
            waiting = self._waiting[function] = _Waiting(asyncio.get_running_loop().create_future(), accepts)
            command = Command(function, dict(arguments), expires_s=timeout_s, packed=True)
            message = Message(
                self._space.text(Topic(Kind.CMD, COORDINATOR, function)),
                encode_command(command),
                response_topic=f"{self._prefix}{function}/{self._node}",
            )
            try:
                if self._way.publish(message) is None:
                    raise NoAnswerError(f"{function} could not be called: there is no connection")
                async with asyncio.timeout(timeout_s):
                    return await waiting.answer
            except TimeoutError as error:
                raise NoAnswerError(f"the coordinator did not answer {function} within {timeout_s:g} s") from error
            finally:
                del self._waiting[function]

    def received(self, topic: str, payload: bytes) -> bool:
        """True: it was an answer, or something where only answers are."""
        if not topic.startswith(self._prefix):
            return False
        try:
            result = decode_result(payload)
        except RemoteWireError:
            return True
        waiting = self._waiting.get(result.function)
        if waiting is not None and result.state.final and not waiting.answer.done() and waiting.accepts(result):
            waiting.answer.set_result(result)
        return True

    def disconnected(self) -> None:
        """The connection is gone, and with it what was answered."""
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(NoAnswerError("the connection ended before the answer came"))
