"""Models from the coordinator in pieces, by its functions `readBlob` and `readSignature`: where HTTP fails."""

import asyncio
import base64
import binascii
from collections.abc import Callable
from typing import Any

from agent.link.asking import Asking
from agent.models.sources import CutError, MissingError, Sink, WrongError
from runtime.calls.errors import NoAnswerError
from schemas.messages import CommandState, Result
from schemas.release import DOCUMENT_BYTES_MAX

PIECE_BYTES_MAX = 256 * 1024
PIECE_BYTES_MIN = 1024
BESIDE_BYTES = 2048  # of an answer, beside its bytes
ANSWER_S = 30.0
BUSY_S = 5.0  # where it is not said how long
BUSY_S_MAX = 600.0
NOT_NOW = frozenset({"busy", "not_now", "interrupted", "timeout", "deadline", "result_too_large", "defect"})


class MqttSource:
    """The coordinator at the other end of the link. `pause` as for HTTP."""

    name = "the coordinator over MQTT"

    def __init__(self, asking: Asking, *, pause: Callable[[int], float] = lambda count: 0.0) -> None:
        self._asking = asking
        self._pause = pause

    async def document(self, name: str, version: str, digest: str, sink: Sink) -> None:
        await self._read(digest, 0, 0, sink)

    async def signature(self, name: str, version: str) -> str:
        answer = self._value(await self._ask("readSignature", {"name": name, "version": version}))
        text = answer.get("signature") if isinstance(answer, dict) else answer
        if not isinstance(text, str) or not text:
            raise MissingError("it has no signature of it")
        return text.strip()

    async def blob(self, sha256: str, size: int, offset: int, sink: Sink) -> None:
        await self._read(sha256, size, offset, sink)

    async def _read(self, sha256: str, size: int, offset: int, sink: Sink) -> None:
        """`size` 0: not known, and at most that of a document."""
        while True:
            length = self._piece_bytes()

            def of_this(result: Result, at: int = offset) -> bool:
                said = result.result if result.state is CommandState.SUCCEEDED else None
                return not isinstance(said, dict) or (said.get("sha256"), said.get("offset")) == (sha256, at)

            arguments = {"sha256": sha256, "offset": offset, "length": length}
            answer = self._value(await self._ask("readBlob", arguments, of_this))
            data, total = _piece(answer, length)
            if total != (size or total) or (not size and total > DOCUMENT_BYTES_MAX):
                raise WrongError(f"what it has is {total} bytes long, wanted are {size or DOCUMENT_BYTES_MAX}")
            if offset + len(data) > total or (not data and offset < total):
                raise CutError("it answers with other bytes than those it was asked for")
            if data:
                await asyncio.to_thread(sink, data)
            offset += len(data)
            if offset >= total:
                return
            if (pause_s := self._pause(len(data))) > 0:
                await asyncio.sleep(pause_s)

    def _piece_bytes(self) -> int:
        """As much as the broker takes: base64 makes four bytes of three."""
        room = (self._asking.payload_bytes_max() - BESIDE_BYTES) * 3 // 4
        return max(PIECE_BYTES_MIN, min(PIECE_BYTES_MAX, room))

    async def _ask(
        self, function: str, arguments: dict[str, Any], accepts: Callable[[Result], bool] = lambda result: True
    ) -> Result:
        try:
            return await self._asking.ask(function, arguments, timeout_s=ANSWER_S, accepts=accepts)
        except NoAnswerError as error:
            raise CutError(str(error)) from error

    @staticmethod
    def _value(result: Result) -> Any:
        if result.state is CommandState.SUCCEEDED:
            return result.result
        code, text = (result.error.code, result.error.message) if result.error else ("", result.state.value)
        if code in NOT_NOW or result.state is CommandState.EXPIRED:
            later = result.result.get("retry_after_s") if isinstance(result.result, dict) else None
            sound = isinstance(later, int | float) and 0 <= later <= BUSY_S_MAX
            raise CutError(text, at_least_s=later if sound and later is not None else BUSY_S)
        raise MissingError(text)


def _piece(answer: Any, length: int) -> tuple[bytes, int]:
    """(bytes, size of the whole) of an answer to `readBlob`."""
    try:
        data, total = base64.b64decode(answer["bytes_b64"], validate=True), answer["size"]
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise CutError("its answer is no piece of a file") from error
    if type(total) is not int or total < 0 or len(data) > length:
        raise CutError("its answer is no piece of a file")
    return data, total
