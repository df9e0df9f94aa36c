"""What is said to a caller: the answer as it travels, and where it goes."""

import logging
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from runtime.calls.journal import Journalled
from runtime.calls.running import Asked
from runtime.mqtt import Delivery, Message
from schemas.codec import encode_result
from schemas.errors import LocalWireError
from schemas.messages import CallProgress, Command, CommandError, CommandState, Result
from schemas.topics import RULES, Kind, TopicSpace

log = logging.getLogger(__name__)

MESSAGE_CHARS_MAX = 2000
Publish = Callable[[Message], int | None]
"""Publishes now and returns a number that `puback` will name, or None when there is no connection."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    state: CommandState
    value: Any = None
    error: CommandError | None = None


def ended(state: CommandState, code: str, text: str, field: str = "", value: Any = None) -> Outcome:
    """One that did not succeed."""
    return Outcome(state, value, CommandError(code, text[:MESSAGE_CHARS_MAX], field))


class Answers:
    """One responder's. The link gives `publish`, and at each connect what the broker takes. A responder with several
    links gives `publish_on`, which is told over which of them."""

    def __init__(self, responder: str, space: TopicSpace) -> None:
        self._responder = responder
        self._prefix = f"{space.root}/{responder}/{Kind.RESULT.value}/"
        self.publish: Publish = lambda message: None
        self.publish_on: Callable[[Message, int], int | None] = lambda message, link: self.publish(message)
        self.payload_bytes_max = sys.maxsize

    def encode(self, command: Command, outcome: Outcome) -> tuple[CommandState, bytes]:
        """The answer in the caller's encoding; one that cannot travel becomes a failure that says so."""
        limit = min(self.payload_bytes_max, RULES[Kind.RESULT].payload_bytes_max)
        try:
            payload = self._payload(command, outcome)
            if len(payload) <= limit:
                return outcome.state, payload
            text = f"the result has {len(payload)} bytes; at most {limit} are allowed"
            outcome = ended(CommandState.FAILED, "result_too_large", text)
        except LocalWireError as defect:
            log.error("command %s: its result cannot be sent: %s", command.function, defect)
            outcome = ended(CommandState.FAILED, "defect", str(defect))
        return outcome.state, self._payload(command, outcome)

    def interrupted(self, known: Journalled) -> tuple[CommandState, bytes]:
        """For a command that an earlier start accepted and did not finish."""
        text = f"{self._responder} stopped while the command ran; it is not repeated"
        command = Command(known.function, {}, known.id, packed=known.packed)
        return self.encode(command, ended(CommandState.FAILED, "interrupted", text))

    def tell(self, asked: Asked, progress: CallProgress) -> None:
        """How far a call is. Nobody needs it once the next has come: QoS 0."""
        payload = self._payload(asked.command, Outcome(CommandState.RUNNING), progress)
        self.reply(asked.delivery, asked.command.function, payload, qos=0)

    def reply(
        self, delivery: Delivery | None, function: str, payload: bytes, *, qos: int = 1, link: int = 0
    ) -> int | None:
        """To `result/<function>`, and to the caller's own response topic where that lies beneath our results.

        Over the link that the call came over, or `link` where there is no call any more."""
        correlation = delivery.correlation if delivery else b""
        link = delivery.link if delivery else link
        number = self.publish_on(Message(self._prefix + function, payload, qos, correlation=correlation), link)
        if delivery is not None and (caller := self.caller(delivery)) not in ("", function):
            self.publish_on(Message(self._prefix + caller, payload, qos, correlation=correlation), link)
        return number

    def caller(self, delivery: Delivery) -> str:
        """What the response topic says beneath our `result/`; empty for one that lies elsewhere."""
        topic = delivery.response_topic
        own = topic.startswith(self._prefix) and not set("+#") & set(topic)
        return topic.removeprefix(self._prefix) if own else ""

    def _payload(self, command: Command, outcome: Outcome, progress: CallProgress | None = None) -> bytes:
        result = Result(
            command.function, outcome.state, command.id, self._responder, time.time_ns() // 1_000_000,
            outcome.value, outcome.error, progress,
        )  # fmt: skip
        return encode_result(result, packed=command.packed)
