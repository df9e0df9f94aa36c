"""PUBLISH and PUBACK by `runtime/mqtt/packets.py`, read and written by the simulator's own implementation too."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion

from coordinator.simulate.mqtt5 import Reader, encode
from coordinator.simulate.packets import Property as Name
from coordinator.simulate.packets import PubAck, Publish
from runtime.mqtt import Delivery, Message
from runtime.mqtt.packets import MalformedError, pubacks, publish, read_puback, read_publish, read_size
from runtime.mqtt.quick import QuickClient

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0+#"), max_size=40)
TOPICS = TEXTS.filter(bool)
MIDS = st.integers(1, 65_535)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    return Message(
        draw(TOPICS),
        draw(st.binary(max_size=300)),
        draw(st.integers(0, 1)),
        draw(st.booleans()),
        draw(TEXTS),
        draw(st.binary(max_size=20)),
        draw(st.none() | st.integers(0, 2**32 - 1)),
        draw(TEXTS),
    )


def body_of(packet: bytes) -> tuple[int, bytes]:
    size, at = read_size(packet, 1, len(packet))
    assert at + size == len(packet)
    return packet[0], packet[at:]


@settings(max_examples=50)
@given(messages(), MIDS)
def test_a_message_is_read_as_it_was_sent(message: Message, mid: int) -> None:
    packet = publish(message, mid)
    first, body = body_of(packet)
    (found,) = Reader().feed(packet)
    assert isinstance(found, Publish)
    mid = mid if message.qos else 0
    assert (found.topic, found.payload, found.qos, found.retain, found.mid) == (
        message.topic, message.payload, message.qos, message.retain, mid,
    )  # fmt: skip
    assert found.properties.get(Name.CONTENT_TYPE, "") == message.content_type
    assert read_publish(first, body, 0, len(body)) == Delivery(
        message.topic, message.payload, message.qos, message.retain, mid,
        message.response_topic, message.correlation, message.expiry_s,
    )  # fmt: skip


@given(TOPICS, st.binary(max_size=50), st.lists(st.tuples(TEXTS, TEXTS), max_size=3), MIDS)
def test_properties_that_we_do_not_know_are_passed_over(
    topic: str, payload: bytes, user: list[tuple[str, str]], mid: int
) -> None:
    properties: dict[Any, Any] = {Name.PAYLOAD_FORMAT: 1, Name.USER: user, Name.SUBSCRIPTION_IDENTIFIER: 300}
    packet = encode(Publish(topic, payload, 1, False, mid, properties={k: v for k, v in properties.items() if v}))
    first, body = body_of(packet)
    assert read_publish(first, body, 0, len(body)) == Delivery(topic, payload, 1, False, mid)


@given(st.integers(0x30, 0x3F), st.binary(max_size=60))
def test_whatever_comes_is_a_message_or_malformed(first: int, body: bytes) -> None:
    try:
        assert isinstance(read_publish(first, body, 0, len(body)), Delivery)
    except MalformedError:
        pass


@given(MIDS, st.integers(0, 255))
def test_an_acknowledgement_is_read_with_its_reason(mid: int, reason: int) -> None:
    _, body = body_of(encode(PubAck(mid, reason)))
    assert read_puback(body, 0, len(body)) == (mid, reason < 0x80)
    assert Reader().feed(pubacks([mid, 1])) == [PubAck(mid), PubAck(1)]


@settings(max_examples=40)
@given(st.lists(messages(), min_size=1, max_size=6), st.lists(st.integers(1, 50), max_size=40))
def test_packets_come_whole_from_whatever_pieces(sent: list[Message], cuts: list[int]) -> None:
    data = b"".join(publish(message, n) for n, message in enumerate(sent, start=1))
    edges = sorted({0, len(data), *(min(sum(cuts[:n]), len(data)) for n in range(len(cuts)))})
    client, got = QuickClient(CallbackAPIVersion.VERSION2), list[Delivery]()
    client.on_delivery = got.append
    client._sock = Pieces([data[a:b] for a, b in pairwise(edges)])  # type: ignore[assignment]
    for _ in range(len(edges) + len(sent)):
        client.read(2)
    client._sock = None
    assert [one.payload for one in got] == [message.payload for message in sent]


class Pieces:
    """A socket from which these can be read, one after the other."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def recv(self, size: int) -> bytes:
        if not self._pieces:
            raise BlockingIOError
        return self._pieces.pop(0)


@pytest.mark.parametrize("topic", ["", "a/#", "a/+/b", "\0", "x" * 65_536])
def test_nothing_is_published_on_what_is_no_topic(topic: str) -> None:
    with pytest.raises(ValueError, match="nothing can be published"):
        publish(Message(topic, b""), 1)
