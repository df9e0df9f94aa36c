"""Commands to the coordinator itself: what is asked and what is answered. Pure but for the functions it is given."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.errors import EdgewrightError
from runtime.mqtt import Delivery, Message
from schemas.codec import decode_command, encode_result
from schemas.errors import RemoteWireError
from schemas.messages import Command, CommandError, CommandState, Result
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

Function = Callable[[Mapping[str, Any]], Awaitable[Any]]


class CommandRefusedError(Exception):
    """A function does not do it: `code` is for programs, `value` what helps the caller."""

    def __init__(self, code: str, text: str, value: Any = None) -> None:
        super().__init__(text)
        self.code = code
        self.value = value


@dataclass(frozen=True, slots=True)
class Commands:
    """The functions that the coordinator serves, by name."""

    space: TopicSpace
    functions: Mapping[str, Function]

    async def answer(self, topic: Topic, delivery: Delivery, now_utc_ms: int, *, busy: bool = False) -> list[Message]:
        """The result on our own topic, and on the caller's response topic if that lies beneath ours."""
        function, identifier, packed = topic.leaf, _text(delivery.correlation), False
        try:
            command = decode_command(function, delivery.payload)
            identifier, packed = command.id or identifier, command.packed
            state, value, error = await self._call(command, retained=delivery.retain, busy=busy)
        except RemoteWireError as wrong:
            state, value, error = CommandState.REJECTED, None, CommandError("bad_payload", str(wrong)[:500])
        result = Result(function, state, identifier, COORDINATOR, now_utc_ms, value, error)
        payload = encode_result(result, packed=packed)
        own = self.space.text(Topic(Kind.RESULT, COORDINATOR, function))
        messages = [Message(own, payload, correlation=delivery.correlation)]
        beneath = f"{self.space.root}/{COORDINATOR}/{Kind.RESULT.value}/"
        asked = delivery.response_topic
        if asked.startswith(beneath) and asked != own and not set(asked) & {"+", "#"}:
            messages.append(Message(asked, payload, correlation=delivery.correlation))
        return messages

    async def _call(
        self, command: Command, *, retained: bool, busy: bool
    ) -> tuple[CommandState, Any, CommandError | None]:
        if retained:
            text = "a retained command would run again at every connect; publish it without retain"
            return CommandState.REJECTED, None, CommandError("retained", text)
        run = self.functions.get(command.function)
        if run is None:
            text = f"there is no function {command.function!r}; there are: {', '.join(sorted(self.functions))}"
            return CommandState.REJECTED, None, CommandError("unknown_function", text)
        if busy:
            return CommandState.REJECTED, None, CommandError("busy", "too many commands are running; try again later")
        try:
            return CommandState.SUCCEEDED, await run(command.arguments), None
        except CommandRefusedError as refused:
            return CommandState.REJECTED, refused.value, CommandError(refused.code, str(refused)[:2000])
        except EdgewrightError as error:
            return CommandState.FAILED, None, CommandError("failed", str(error)[:2000])


def _text(correlation: bytes) -> str:
    try:
        return correlation[:128].decode()
    except UnicodeDecodeError:
        return correlation[:64].hex()
