"""The codec over a socket to a real mosquitto, beside a client of somebody else."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from coordinator.simulate.mqtt5 import Reader, encode
from coordinator.simulate.packets import (
    ConnAck,
    Connect,
    Disconnect,
    Packet,
    PingReq,
    PingResp,
    Property,
    PubAck,
    Publish,
    SubAck,
    Subscribe,
    UnsubAck,
    Unsubscribe,
    Will,
)
from tests.broker import Broker, broker

WAIT_S = 30.0
OPENED: list[socket.socket] = []


class Raw:
    """A socket, and the packets that come over it."""

    def __init__(self, port: int, *first: Packet) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), WAIT_S)
        OPENED.append(self.socket)
        self._reader = Reader()
        self._got: list[Packet] = []
        self.send(*first)

    def send(self, *packets: Packet) -> None:
        self.socket.sendall(b"".join(map(encode, packets)))

    def get(self) -> Packet:
        while not self._got:
            data = self.socket.recv(7)  # in pieces
            assert data, "the broker has closed the connection"
            self._got = self._reader.feed(data)
        return self._got.pop(0)

    def is_closed_within(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            return True
        return True


class Other:
    """paho, subscribed to everything."""

    def __init__(self, port: int) -> None:
        self.got: list[mqtt.MQTTMessage] = []
        self._ready = threading.Event()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id="other", protocol=mqtt.MQTTv5)
        self.client.on_message = lambda client, userdata, message: self.got.append(message)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.connect("127.0.0.1", port)
        self.client.subscribe("#", qos=1)
        self.client.loop_start()
        assert self._ready.wait(WAIT_S)

    def wait(self, count: int) -> list[mqtt.MQTTMessage]:
        deadline_s = time.monotonic() + WAIT_S
        while len(self.got) < count:
            assert time.monotonic() < deadline_s, f"{len(self.got)} of {count} came"
            time.sleep(0.02)
        return self.got

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Whatever a test leaves open."""
    yield
    while OPENED:
        OPENED.pop().close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Broker]:
    with broker(tmp_path) as running:
        yield running


@pytest.fixture
def other(server: Broker) -> Iterator[Other]:
    client = Other(server.port)
    yield client
    client.close()


def test_the_broker_takes_us_and_says_its_limits(tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        raw = Raw(running.port, Connect("gw", properties={Property.SESSION_EXPIRY_S: 0}))
        answer = raw.get()
        assert isinstance(answer, ConnAck) and answer.reason == 0
        assert answer.properties[Property.RECEIVE_MAXIMUM] == 1000  # mosquitto.conf
        raw.send(PingReq())
        assert raw.get() == PingResp()
        raw.send(Disconnect())
        assert raw.is_closed_within(WAIT_S)


def test_another_client_hears_what_we_publish(server: Broker, other: Other) -> None:
    about = {
        Property.RESPONSE_TOPIC: "r",
        Property.CORRELATION_DATA: b"\x00\x01",
        Property.CONTENT_TYPE: "a/b",
        Property.USER: [("k", "ü"), ("k", "2")],
    }
    raw = Raw(server.port, Connect("gw"))
    raw.get()
    raw.send(Publish("a/ü", b"x" * 20_000, 1, mid=7, properties=about), Publish("b", b"", 0))
    assert raw.get() == PubAck(7)
    first, second = other.wait(2)
    assert (first.topic, len(first.payload), first.qos) == ("a/ü", 20_000, 1)
    heard = vars(first.properties)
    assert (heard["ResponseTopic"], heard["CorrelationData"]) == ("r", b"\x00\x01")
    assert (heard["ContentType"], heard["UserProperty"]) == ("a/b", [("k", "ü"), ("k", "2")])
    assert (second.topic, second.payload) == ("b", b"")


def test_we_hear_what_another_client_publishes(server: Broker, other: Other) -> None:
    raw = Raw(server.port, Connect("gw"), Subscribe(1, [("cmd/+", 1), ("plain", 0)]))
    assert isinstance(raw.get(), ConnAck)
    assert raw.get() == SubAck(1, [1, 0])
    about = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    about.ResponseTopic = "result/x"
    about.CorrelationData = b"id"
    about.UserProperty = [("a", "b")]
    other.client.publish("cmd/f", b"y" * 300, qos=1, properties=about)
    heard = raw.get()
    assert isinstance(heard, Publish)
    assert (heard.topic, len(heard.payload), heard.qos, heard.retain) == ("cmd/f", 300, 1, False)
    assert heard.properties == {
        Property.RESPONSE_TOPIC: "result/x",
        Property.CORRELATION_DATA: b"id",
        Property.USER: [("a", "b")],
    }
    raw.send(PubAck(heard.mid))
    other.client.publish("plain", b"1", qos=1)
    assert raw.get() == Publish("plain", b"1")


def test_what_was_given_up_does_not_come(server: Broker, other: Other) -> None:
    raw = Raw(
        server.port, Connect("gw"), Subscribe(1, [("a", 1), ("$share/gw/a", 1), ("b", 0)]), Unsubscribe(2, ["a", "c"])
    )
    assert [raw.get() for _ in range(3)][1:] == [SubAck(1, [1, 1, 0]), UnsubAck(2, [0, 0x11])]
    other.client.publish("a", b"1", qos=0)
    other.client.publish("b", b"2", qos=0)
    assert [raw.get() for _ in range(2)] == [Publish("a", b"1"), Publish("b", b"2")]  # each once


def test_the_will_is_said_for_who_vanishes_and_not_for_who_says_goodbye(server: Broker, other: Other) -> None:
    will = Will("status", b"gone", 1, True)
    raw = Raw(server.port, Connect("first", will=will))
    raw.get()
    raw.send(Disconnect())
    assert raw.is_closed_within(WAIT_S)
    raw = Raw(server.port, Connect("second", will=will))
    raw.get()
    raw.socket.close()
    (heard,) = other.wait(1)
    assert (heard.topic, heard.payload) == ("status", b"gone")
    late = Raw(server.port, Connect("third"), Subscribe(2, [("status", 1)]))
    assert [type(late.get()) for _ in range(2)] == [ConnAck, SubAck]
    kept = late.get()
    assert isinstance(kept, Publish) and kept.retain and kept.payload == b"gone"


def test_the_broker_ends_what_is_no_mqtt(server: Broker) -> None:
    raw = Raw(server.port, Connect("gw"))
    raw.get()
    raw.socket.sendall(b"\x00\x00")
    assert raw.is_closed_within(WAIT_S)
