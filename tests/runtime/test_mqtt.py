import asyncio
import functools
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.mqtt import (
    READ_PACKETS_MAX,
    BrokerAddress,
    BrokerAuthError,
    BrokerRefusedError,
    BrokerUnreachableError,
    Connection,
    Delivery,
    Message,
)
from tests.broker import Broker, free_port, start_broker

WAIT_S = 20.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = start_broker(tmp_path_factory.mktemp("broker"))
    yield broker
    broker.stop()


def at(broker: Broker, **more: Any) -> BrokerAddress:
    return BrokerAddress(port=broker.port, **more)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():
            await asyncio.sleep(0.01)


class Peer:
    """A connection that keeps what it receives and acknowledges it, unless told to hold back."""

    def __init__(self, address: BrokerAddress, name: str = "peer", *, hold: bool = False, **more: Any) -> None:
        self.got: list[Delivery] = []
        self.pubacks: list[tuple[int, bool]] = []
        self._hold = hold
        self.connection = Connection(
            address, client_id=name, on_message=self._receive, on_puback=self._puback, **more
        )

    def _receive(self, delivery: Delivery) -> None:
        self.got.append(delivery)
        if not self._hold:
            self.connection.acknowledge(delivery)

    def _puback(self, mid: int, accepted: bool) -> None:
        self.pubacks.append((mid, accepted))


@asynccontextmanager
async def peer(address: BrokerAddress, name: str = "peer", *filters: str, **more: Any) -> AsyncIterator[Peer]:
    one = Peer(address, name, **more)
    await one.connection.connect()
    try:
        if filters:
            await one.connection.subscribe(dict.fromkeys(filters, 1))
        yield one
    finally:
        await one.connection.close()


# ---- connecting --------------------------------------------------------------------------------


def test_nothing_listens() -> None:
    async def test() -> None:
        one = Peer(BrokerAddress(port=free_port()))
        with pytest.raises(BrokerUnreachableError, match="refused"):
            await one.connection.connect()
        assert not one.connection.is_open
        await one.connection.close()

    run(test())


def test_somebody_listens_who_never_answers() -> None:
    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            one = Peer(BrokerAddress(port=server.getsockname()[1]))
            with pytest.raises(BrokerUnreachableError, match="no answer"):
                await one.connection.connect(0.3)
            assert not one.connection.is_open

            task = asyncio.create_task(Peer(BrokerAddress(port=server.getsockname()[1])).connection.connect())
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(test())


def test_somebody_listens_who_hangs_up() -> None:
    async def test() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(10)
            writer.close()

        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        one = Peer(BrokerAddress(port=server.sockets[0].getsockname()[1]))
        with pytest.raises(BrokerUnreachableError, match="before the broker accepted"):
            await one.connection.connect()
        server.close()

    run(test())


def test_a_wrong_password_is_told_from_an_absent_broker(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-b", "-c", str(passwords), "gw", "right"], check=True, timeout=20)
    passwords.chmod(0o644)
    tmp_path.chmod(0o755)
    broker = start_broker(tmp_path, extra_conf=f"allow_anonymous false\npassword_file {passwords}\nuser root")

    async def test() -> None:
        for password in ("wrong", ""):
            one = Peer(at(broker, username="gw", password=password))
            with pytest.raises(BrokerAuthError) as caught:
                await one.connection.connect()
            assert "wrong" not in str(caught.value)
            assert caught.value.code in (0x86, 0x87)
            assert not one.connection.is_open
        async with peer(at(broker, username="gw", password="right")) as one:
            assert one.connection.is_open

    try:
        run(test())
    finally:
        broker.stop()


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, timeout=30)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, other.pem (a CA nobody here trusts), server.pem and server.key for 127.0.0.1."""
    folder = tmp_path_factory.mktemp("tls")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    for name in ("ca", "other"):
        openssl(
            "req", "-x509", *new, "-subj", f"/CN={name}", "-keyout", f"{folder}/{name}.key", "-out",
            f"{folder}/{name}.pem",
            # Python asks for these since 3.13.
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
    openssl("req", *new, "-subj", "/CN=127.0.0.1", "-keyout", f"{folder}/server.key", "-out", f"{folder}/server.csr")
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n", encoding="utf-8")
    openssl(
        "x509", "-req", "-in", f"{folder}/server.csr", "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key",
        "-CAcreateserial", "-days", "2", "-extfile", f"{folder}/ext", "-out", f"{folder}/server.pem",
    )  # fmt: skip
    return folder


def test_tls(tmp_path: Path, certificates: Path) -> None:
    broker = start_broker(
        tmp_path,
        extra_conf=f"certfile {certificates}/server.pem\nkeyfile {certificates}/server.key\nuser root",
    )

    async def test() -> None:
        for ca_file in (certificates / "other.pem", None):
            one = Peer(at(broker, tls=True, ca_file=ca_file))
            with pytest.raises(BrokerAuthError, match="not trusted"):
                await one.connection.connect()
            assert not one.connection.is_open
        with pytest.raises(BrokerAuthError, match="certificate files"):
            await Peer(at(broker, tls=True, ca_file=certificates / "ext")).connection.connect()
        with pytest.raises(BrokerUnreachableError):
            await Peer(at(broker)).connection.connect(2.0)  # plain text on a TLS port
        good = at(broker, tls=True, ca_file=certificates / "ca.pem")
        # Small messages: many of them in one TLS record, more than are read in one turn of the loop.
        async with peer(good, "in", "t") as receiving, peer(good, "out") as sending:
            for n in range(20 * READ_PACKETS_MAX):
                sending.connection.publish(Message("t", b"%d" % n, qos=0))
            await until(lambda: len(receiving.got) == 20 * READ_PACKETS_MAX)
            sending.connection.publish(Message("t", bytes(900_000)))
            await until(lambda: len(receiving.got[-1].payload) == 900_000)

    try:
        run(test())
    finally:
        broker.stop()


def test_limits_are_what_the_broker_says(tmp_path: Path) -> None:
    broker = start_broker(tmp_path, extra_conf="max_packet_size 50000")

    async def test() -> None:
        async with peer(at(broker)) as one:
            assert one.connection.limits.packet_bytes_max == 50_000
            assert 0 < one.connection.limits.receive_max <= 65535
            # What is larger would end the connection, so it is refused here; what just fits is not.
            overhead = Message("t", b"").packet_bytes_max
            with pytest.raises(BrokerRefusedError, match=r"bytes on t are more than it takes: 50000"):
                one.connection.publish(Message("t", bytes(50_001 - overhead)))
            one.connection.publish(Message("t", bytes(50_000 - overhead)))
            await until(lambda: len(one.pubacks) == 1)
            assert one.connection.is_open

    try:
        run(test())
    finally:
        broker.stop()


def test_a_refused_subscription_is_named() -> None:
    """Mosquitto's own ACL file grants every subscription and withholds the messages, so this broker is ours."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(bytes.fromhex("20 03 00 00 00"))  # CONNACK: accepted
        subscribe = await reader.read(1000)
        writer.write(bytes.fromhex("90 05") + subscribe[2:4] + bytes.fromhex("00 01 87"))  # granted, not authorized
        await reader.read(1000)
        writer.close()

    async def test() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with peer(BrokerAddress(port=server.sockets[0].getsockname()[1])) as one:
            with pytest.raises(BrokerRefusedError, match=r"refused: forbidden/\+"):
                await one.connection.subscribe({"allowed": 1, "forbidden/+": 1})
            assert one.connection.is_open
        server.close()

    run(test())


def test_a_publish_that_the_acl_forbids_is_answered_as_refused(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read allowed\n", encoding="utf-8")
    broker = start_broker(tmp_path, extra_conf=f"acl_file {acl}\nuser root")

    async def test() -> None:
        async with peer(at(broker)) as one:
            mid = one.connection.publish(Message("allowed", b"x"))
            await until(lambda: bool(one.pubacks))
            assert one.pubacks == [(mid, False)]

    try:
        run(test())
    finally:
        broker.stop()


# ---- the end of a connection -------------------------------------------------------------------


def test_the_will_speaks_when_the_connection_breaks_and_not_after_a_goodbye(broker: Broker) -> None:
    async def test() -> None:
        async with peer(at(broker), "watcher", "will/+") as watcher:
            async with peer(at(broker), "polite", will=Message("will/polite", b"gone")):
                pass
            broken = Peer(at(broker), "broken", will=Message("will/broken", b"gone"))
            await broken.connection.connect()
            sock = broken.connection._client.socket()
            assert isinstance(sock, socket.socket)
            sock.shutdown(socket.SHUT_RDWR)
            assert await broken.connection.wait_closed() == "connection lost"
            await until(lambda: bool(watcher.got))
            assert [(one.topic, one.payload) for one in watcher.got] == [("will/broken", b"gone")]
            await broken.connection.close()

    run(test())


def test_a_goodbye_is_heard_though_messages_arrive_meanwhile(broker: Broker) -> None:
    async def test() -> None:
        async with peer(at(broker), "watcher", "will/#") as watcher, peer(at(broker), "flood") as flood:
            for n in range(6):
                leaving = Peer(at(broker), f"leaving{n}", will=Message(f"will/{n}", b"gone"))
                await leaving.connection.connect()
                await leaving.connection.subscribe({"flood": 1})
                leaving.connection.pause_reading()
                for _ in range(50):
                    flood.connection.publish(Message("flood", bytes(1000), qos=0))
                await asyncio.sleep(0.02)  # they are in the socket, unread
                for _ in range(5):
                    leaving.connection.publish(Message("farewell", b""))  # the broker answers each
                await leaving.connection.close()
            flood.connection.publish(Message("will/last", b""))
            await until(lambda: bool(watcher.got))
            assert [one.topic for one in watcher.got] == ["will/last"]

    run(test())


def test_close_is_harmless_when_repeated_and_ends_everything(broker: Broker) -> None:
    async def test() -> None:
        one = Peer(at(broker))
        await one.connection.close()
        await one.connection.connect()
        await one.connection.close()
        await one.connection.close()
        assert not one.connection.is_open
        assert await one.connection.wait_closed()
        with pytest.raises(BrokerUnreachableError, match="not connected"):
            one.connection.publish(Message("t", b""))
        with pytest.raises(BrokerUnreachableError):
            await one.connection.subscribe({"t": 1})
        one.connection.acknowledge(Delivery("t", b"", 1, False, 1))

    run(test())


def test_the_broker_dies(tmp_path: Path) -> None:
    broker = start_broker(tmp_path)

    async def test() -> None:
        async with peer(at(broker)) as one:
            broker.kill()
            assert await one.connection.wait_closed() == "connection lost"
            assert not one.connection.is_open

    run(test())


def test_a_second_client_of_the_same_name_takes_over(broker: Broker) -> None:
    async def test() -> None:
        async with peer(at(broker), "twin") as first, peer(at(broker), "twin") as second:
            assert await first.connection.wait_closed()
            assert second.connection.is_open

    run(test())


def test_a_broker_that_stands_still_is_noticed(tmp_path: Path) -> None:
    broker = start_broker(tmp_path)
    process = broker._process
    assert process is not None

    async def test() -> None:
        async with peer(at(broker, keepalive_s=1)) as one:
            process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(WAIT_S):
                    assert await one.connection.wait_closed() == "keep-alive timeout"
            finally:
                process.send_signal(signal.SIGCONT)

    try:
        run(test())
    finally:
        broker.kill()


def test_a_defect_in_a_handler_ends_the_connection(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        def broken(delivery: Delivery) -> None:
            raise ZeroDivisionError

        one = Connection(at(broker), client_id="defect", on_message=broken)
        await one.connect()
        await one.subscribe({"defect": 1})
        one.publish(Message("defect", b""))
        assert "defect" in await one.wait_closed()
        await one.close()

    run(test())
    assert "ZeroDivisionError" in caplog.text


# ---- traffic -----------------------------------------------------------------------------------


def test_the_receive_maximum_bounds_what_is_not_acknowledged(broker: Broker) -> None:
    async def test() -> None:
        async with (
            peer(at(broker), "slow", "flood", hold=True, receive_maximum=20) as slow,
            peer(at(broker), "fast") as fast,
        ):
            for n in range(100):
                fast.connection.publish(Message("flood", b"%d" % n))
            await until(lambda: len(slow.got) == 20)
            await asyncio.sleep(0.2)
            assert len(slow.got) == 20
            for n in range(100):
                await until(functools.partial(lambda n: len(slow.got) > n, n))
                slow.connection.acknowledge(slow.got[n])
            assert [int(one.payload) for one in slow.got] == list(range(100))

    run(test())


def test_a_sender_stays_within_the_brokers_receive_maximum(tmp_path: Path) -> None:
    broker = start_broker(tmp_path, extra_conf="max_inflight_messages 20")

    async def test() -> None:
        async with peer(at(broker), "in", "t") as receiving, peer(at(broker), "out") as sending:
            mids = [sending.connection.publish(Message("t", b"%d" % n)) for n in range(1000)]
            await until(lambda: len(receiving.got) == len(sending.pubacks) == 1000)
            assert sorted(sending.pubacks) == sorted((mid, True) for mid in mids)

    try:
        run(test())
    finally:
        broker.stop()


def test_what_was_not_acknowledged_is_not_kept_for_the_next_connection(broker: Broker) -> None:
    """Session expiry 0: the broker forgets, so only what was made durable may be acknowledged by the contract."""

    async def test() -> None:
        async with peer(at(broker), "forgotten", "expiry", hold=True) as one:
            one.connection.publish(Message("expiry", b"1"))
            await until(lambda: bool(one.got))
        async with peer(at(broker), "forgotten", "expiry") as again:
            again.connection.publish(Message("expiry", b"2"))
            await until(lambda: bool(again.got))
            assert [one.payload for one in again.got] == [b"2"]

    run(test())


def test_properties_arrive(broker: Broker) -> None:
    async def test() -> None:
        async with peer(at(broker), "both", "p") as one:
            one.connection.publish(
                Message("p", b"x", retain=True, correlation=b"\x00c", expiry_s=60, response_topic="answer/here")
            )
            one.connection.publish(Message("p", b"", qos=0, retain=True))
            await until(lambda: len(one.got) == 2)
            first = one.got[0]
            assert (first.correlation, first.response_topic) == (b"\x00c", "answer/here")
            assert first.expiry_s in range(61)
            assert len(one.pubacks) == 1  # of the QoS 1 message alone

    run(test())


def test_ten_megabytes_into_a_full_socket_neither_block_nor_get_lost(broker: Broker) -> None:
    async def test() -> None:
        async with peer(at(broker), "in", "big") as receiving, peer(at(broker), "out") as sending:
            process = broker._process
            assert process is not None
            process.send_signal(signal.SIGSTOP)
            try:
                for n in range(20):
                    sending.connection.publish(Message("big", bytes([n]) * 500_000))
                await asyncio.sleep(0.05)  # the loop still turns
                assert sending.connection._client.want_write()
            finally:
                process.send_signal(signal.SIGCONT)
            await until(lambda: len(receiving.got) == 20)
            assert [one.payload[:1] for one in receiving.got] == [bytes([n]) for n in range(20)]
            assert all(len(one.payload) == 500_000 for one in receiving.got)

    run(test())
