"""Pieces from the coordinator: what an answer has to be, and what becomes of one that is not."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from agent.link.asking import Asking
from agent.models.over_mqtt import BUSY_S, MqttSource
from agent.models.sources import CutError, MissingError, WrongError
from runtime.calls.errors import NoAnswerError
from runtime.mqtt import Message
from schemas.codec import encode_result
from schemas.messages import CommandError, CommandState, Result
from schemas.topics import TopicSpace

SHA256 = "ab" * 32
DATA = bytes(range(256)) * 40


class Link:
    """The way, and a coordinator behind it that answers as told."""

    def __init__(self, *answers: Result | None, payload_bytes_max: int = 2**20) -> None:
        self.answers = list(answers)
        self.published: list[Message] = []
        self.late: list[Result] = []
        self._payload_bytes_max = payload_bytes_max
        self.asking = Asking(self, "gw-1", TopicSpace())

    def publish(self, message: Message) -> int | None:
        self.published.append(message)
        answer = self.answers.pop(0)
        if answer is None:
            asyncio.get_running_loop().call_soon(self.asking.disconnected)
            return 1
        for one in (*self.late, answer):
            asyncio.get_running_loop().call_soon(self._deliver, message.response_topic, one)
        return 1

    def _deliver(self, topic: str, result: Result) -> None:
        assert self.asking.received(topic, encode_result(result, packed=True))

    def has_coordinator(self) -> bool:
        return True

    def payload_bytes_max(self) -> int:
        return self._payload_bytes_max


def piece(offset: int = 0, data: bytes = DATA, size: int = len(DATA), **more: Any) -> Result:
    said = {"sha256": SHA256, "offset": offset, "size": size, "bytes_b64": base64.b64encode(data).decode()}
    return Result("readBlob", CommandState.SUCCEEDED, result=said | more)


def refusal(code: str, value: Any = None) -> Result:
    return Result("readBlob", CommandState.REJECTED, result=value, error=CommandError(code, f"it says {code}"))


def read(link: Link, offset: int = 0) -> bytes:
    got: list[bytes] = []
    source = MqttSource(link.asking)
    asyncio.run(source.blob(SHA256, len(DATA), offset, got.append))
    return b"".join(got)


def test_a_file_comes_in_pieces_as_large_as_the_broker_takes() -> None:
    link = Link(*(piece(n, DATA[n : n + 6144]) for n in range(0, len(DATA), 6144)), payload_bytes_max=8192 + 2048)
    assert read(link) == DATA
    assert {message.correlation for message in link.published} == {b""}  # no id: nothing is journalled
    assert {message.response_topic for message in link.published} == {"edge/v1/coordinator/result/readBlob/gw-1"}


def test_a_late_answer_to_an_earlier_call_is_passed_over() -> None:
    link = Link(piece(4096, DATA[4096:]))
    link.late = [piece(0, DATA), piece(8192, DATA[8192:])]
    assert read(link, 4096) == DATA[4096:]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (piece(size=len(DATA) + 1), WrongError),
        (piece(data=b""), CutError),
        (piece(data=DATA + b"more"), CutError),
        (piece(bytes_b64="?"), CutError),
        (piece(bytes_b64=None), CutError),
        (piece(size="many"), CutError),  # type: ignore[arg-type]
        (Result("readBlob", CommandState.SUCCEEDED, result=7), CutError),
        (refusal("unknown_blob"), MissingError),
        (refusal("unknown_function"), MissingError),
        (refusal("busy"), CutError),
        (Result("readBlob", CommandState.EXPIRED, error=CommandError("expired", "late")), CutError),
        (None, CutError),
    ],
)
def test_what_is_no_piece_is_no_harm(answer: Result | None, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(Link(answer))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ({"retry_after_s": 17}, 17),
        ({"retry_after_s": -1}, BUSY_S),
        ({"retry_after_s": "soon"}, BUSY_S),
        (None, BUSY_S),
    ],
)
def test_a_busy_coordinator_says_when_to_ask_again(value: Mapping[str, Any] | None, seconds: float) -> None:
    with pytest.raises(CutError) as cut:
        read(Link(refusal("busy", value)))
    assert cut.value.at_least_s == seconds


def test_a_signature_that_is_empty_is_none() -> None:
    def signature(said: Any) -> str:
        answer = Result("readSignature", CommandState.SUCCEEDED, result=said)
        return asyncio.run(MqttSource(Link(answer).asking).signature("finder", "1.0.0"))

    assert signature({"signature": "plant abc\n"}) == "plant abc"
    for said in ({"signature": ""}, {}, None):
        with pytest.raises(MissingError):
            signature(said)


def test_one_call_of_a_function_at_a_time_and_none_without_a_coordinator() -> None:
    link = Link(piece(), piece())

    async def twice() -> list[Result]:
        calls = [link.asking.ask("readBlob", {}, timeout_s=30) for _ in range(2)]
        return await asyncio.gather(*calls)

    assert len(asyncio.run(twice())) == 2
    gone: Callable[[], bool] = lambda: False  # noqa: E731
    link.has_coordinator = gone  # type: ignore[method-assign]
    with pytest.raises(NoAnswerError, match="no coordinator"):
        asyncio.run(link.asking.ask("readBlob", {}, timeout_s=30))
    assert not link.asking.received("edge/v1/gw-1/cmd/status", b"")
