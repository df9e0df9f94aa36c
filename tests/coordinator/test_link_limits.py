"""What the link keeps to: the broker's receive maximum on the way out, our own pace on the way in."""

import asyncio
from pathlib import Path

import pytest

from coordinator.link.channel import Channel
from runtime.errors import TemporaryError
from runtime.mqtt import BrokerAddress, BrokerRefusedError, Connection, Delivery, Limits, Message
from tests.broker import broker
from tests.coordinator.sender import until


class ListConnection(Connection):
    """Publishes into a list; never connected."""

    def __init__(self, receive_max: int) -> None:
        super().__init__(BrokerAddress(), client_id="test", on_message=lambda delivery: None)
        self.limits = Limits(receive_max)
        self.sent: list[bytes] = []
        self.up = True

    @property
    def is_open(self) -> bool:
        return self.up

    def publish(self, message: Message) -> int:
        if not self.up:
            raise TemporaryError("lost")
        if message.packet_bytes_max > self.limits.packet_bytes_max:
            raise BrokerRefusedError("more than it takes")
        self.sent.append(message.payload)
        return len(self.sent)


def test_answers_wait_for_the_broker_and_keep_their_order() -> None:
    connection, confirmed = ListConnection(receive_max=10), list[int]()
    channel = Channel(connection, confirmed.append)
    for token in range(1, 13):
        channel.publish(Message("t", b"%d" % token), token=token)
    assert connection.sent == [b"1", b"2", b"3", b"4", b"5"]
    for mid in range(1, 13):
        channel.puback(mid, accepted=mid != 3)
    assert connection.sent == [b"%d" % token for token in range(1, 13)]
    assert confirmed == [1, 2, *range(4, 13)]
    assert channel.idle


def test_a_message_that_the_broker_never_takes_holds_up_none(caplog: pytest.LogCaptureFixture) -> None:
    connection = ListConnection(receive_max=2)
    connection.limits = Limits(2, packet_bytes_max=100)
    channel = Channel(connection, lambda token: None)
    for payload in (b"a", b"x" * 200, b"b"):
        channel.publish(Message("t", payload))
    channel.puback(1, accepted=True)
    assert connection.sent == [b"a", b"b"]
    assert "more than it takes" in caplog.text


def test_nothing_is_published_on_a_lost_connection() -> None:
    connection = ListConnection(receive_max=10)
    channel = Channel(connection, lambda token: None)
    connection.up = False
    channel.publish(Message("t", b"x"))
    assert connection.sent == []


def test_a_paused_connection_leaves_messages_with_the_broker_and_loses_none(tmp_path: Path) -> None:
    async def scene(port: int) -> None:
        got: list[Delivery] = []
        receiver = Connection(BrokerAddress(port=port), client_id="r", on_message=got.append)
        sender = Connection(BrokerAddress(port=port), client_id="s", on_message=got.append)
        await receiver.connect()
        await receiver.subscribe({"t": 1})
        await sender.connect()
        receiver.pause_reading()
        receiver.pause_reading()
        for n in range(300):
            sender.publish(Message("t", b"%d" % n))
        await asyncio.sleep(0.3)
        assert got == []
        receiver.resume_reading()
        receiver.resume_reading()
        await until(lambda: len(got) == 300)
        assert [delivery.payload for delivery in got] == [b"%d" % n for n in range(300)]
        await receiver.close()
        receiver.resume_reading()
        await sender.close()

    with broker(tmp_path) as mqtt:
        asyncio.run(scene(mqtt.port))
