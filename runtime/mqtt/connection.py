"""One MQTT 5 connection on the event loop: the only file of the two processes that imports paho.

A `Connection` lives once: connect, use, close; whoever wants another makes another, with a will of its own. Sessions
expire with the connection (expiry 0): what must survive is in the outbox and the journal, not in the broker.
Incoming QoS 1 messages are acknowledged by `acknowledge`, after the caller has made them durable, never before.

No thread: paho reads when the socket is readable and writes when `publish` is called.
"""

import asyncio
import contextlib
import functools
import logging
import os
import select
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from runtime.mqtt.address import BrokerAddress
from runtime.mqtt.errors import (
    KEEP_ALIVE_TIMEOUT,
    BrokerAuthError,
    BrokerRefusedError,
    BrokerUnreachableError,
    refusal,
)
from runtime.mqtt.messages import Delivery, Limits, Message

log = logging.getLogger(__name__)

READ_PACKETS_MAX = 64  # per turn of the loop, so that a flood cannot starve the other tasks
RECEIVE_MAXIMUM = 1000  # what we let the broker have in flight towards us
PACKET_BYTES_MAX = 1024 * 1024
LINGER_S = 1.0  # how long a goodbye waits for the broker to close its end


class Connection:
    """One connection's life. All methods run on the loop that called `connect`."""

    def __init__(
        self,
        address: BrokerAddress,
        *,
        client_id: str,
        will: Message | None = None,
        on_message: Callable[[Delivery], None],
        on_puback: Callable[[int, bool], None] | None = None,
        receive_maximum: int = RECEIVE_MAXIMUM,
    ) -> None:
        """`on_puback(mid, accepted)` reports each QoS 1 publish the broker answered."""
        self.address = address
        self.limits = Limits()
        self.closed: asyncio.Future[str] | None = None  # set with the reason when the connection has ended
        self._client_id = client_id
        self._will = will
        self._on_message = on_message
        self._on_puback = on_puback
        self._receive_maximum = receive_maximum
        self._subscriptions: dict[int, asyncio.Future[list[ReasonCode]]] = {}
        self._connack: asyncio.Future[tuple[ReasonCode, Properties | None]] | None = None
        self._poller = select.poll()
        self._misc: asyncio.Task[None] | None = None
        self._fd = -1
        self._writing = False
        self._handled = 0  # packets in this turn of the loop
        self._unanswered: set[int] = set()  # QoS 1 publishes without PUBACK
        self._paused = False
        self._client = self._make_client()

    # ---- life -----------------------------------------------------------------------------------

    async def connect(self, timeout_s: float = 10.0) -> Limits:
        """Connected and accepted, or BrokerUnreachableError / BrokerAuthError / BrokerRefusedError."""
        loop = asyncio.get_running_loop()
        self._loop = loop
        self.closed = loop.create_future()
        self._connack = loop.create_future()
        try:
            return await self._connect(loop, self._connack, timeout_s)
        except BaseException:
            self._drop("not connected")
            raise

    async def _connect(
        self,
        loop: asyncio.AbstractEventLoop,
        connack: "asyncio.Future[tuple[ReasonCode, Properties | None]]",
        timeout_s: float,
    ) -> Limits:
        context = self.address.tls_context()
        if context is not None:
            self._client.tls_set_context(context)
        opening = loop.run_in_executor(None, self._connect_blocking, timeout_s)
        try:
            await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(self._abandon)  # its thread cannot be stopped; what it opens is closed
            raise
        except ssl.SSLCertVerificationError as error:
            raise BrokerAuthError(
                f"{self.address}: the broker's certificate is not trusted: {error.verify_message}",
                hint="check broker.ca_file and that broker.host is the name in the certificate",
            ) from error
        except (OSError, ValueError) as error:
            raise BrokerUnreachableError(
                f"{self.address}: cannot connect: {error}", hint="is the broker running, and the address right?"
            ) from error
        self._attach()
        try:
            async with asyncio.timeout(timeout_s):
                reason, properties = await connack
        except TimeoutError as error:
            raise BrokerUnreachableError(f"{self.address}: no answer within {timeout_s:g} s") from error
        if reason.is_failure:
            raise refusal(self.address, self._client_id, reason.value, str(reason))
        self.limits = _limits(properties)
        # The callers' windows stay well below; a burst of small answers beyond the limit waits in paho's queue. Its
        # setter refuses an open connection, but only after the CONNACK the limit is known, and nothing is in flight.
        self._client._max_inflight_messages = self.limits.receive_max
        return self.limits

    async def close(self) -> None:
        """Says goodbye (the broker then drops the will) and lets go of the socket. Harmless when repeated.

        What still waits for a full socket is lost with it, and the goodbye too.
        """
        try:
            sock = self._client.socket()
            if self.is_open and sock is not None:
                lingering = socket.socket(fileno=os.dup(sock.fileno()))
                self._client.disconnect()  # paho closes its own descriptor once this is written
                self._flush()
                await _read_away(lingering)
        finally:
            self._drop("closed")

    @property
    def is_open(self) -> bool:
        return self.closed is not None and not self.closed.done()

    async def wait_closed(self) -> str:
        """Returns the reason once the connection has ended."""
        assert self.closed is not None, "connect first"
        return await asyncio.shield(self.closed)

    # ---- traffic --------------------------------------------------------------------------------

    def publish(self, message: Message) -> int:
        """Hands the message to the socket and returns its packet id. Raises BrokerUnreachableError, and
        BrokerRefusedError for what is larger than the broker takes: it would end the connection.

        The caller keeps to `limits.receive_max`; the broker's answer comes through `on_puback`.
        """
        if not self.is_open:
            raise BrokerUnreachableError(f"{self.address}: not connected")
        if message.packet_bytes_max > self.limits.packet_bytes_max:
            raise BrokerRefusedError(
                f"{self.address}: {len(message.payload)} bytes on {message.topic} are more than it takes: "
                f"{self.limits.packet_bytes_max} in a packet"
            )
        info = self._client.publish(
            message.topic, message.payload, message.qos, message.retain, _publish_properties(message)
        )
        if info.rc not in (paho.MQTT_ERR_SUCCESS, paho.MQTT_ERR_AGAIN):
            raise BrokerUnreachableError(f"{self.address}: publish failed: {paho.error_string(info.rc)}")
        if message.qos:
            self._unanswered.add(info.mid)
        self._watch_writes()
        return int(info.mid)

    async def subscribe(self, filters: Mapping[str, int], *, timeout_s: float = 10.0) -> None:
        """Subscribes to each filter at its QoS. Raises BrokerRefusedError naming what was refused."""
        wanted = [(text, SubscribeOptions(qos=qos)) for text, qos in filters.items()]
        _, mid = self._client.subscribe(wanted)
        if mid is None:
            raise BrokerUnreachableError(f"{self.address}: not connected")
        future: asyncio.Future[list[ReasonCode]] = self._loop.create_future()
        self._subscriptions[mid] = future
        self._watch_writes()
        assert self.closed is not None
        try:
            waiting: set[asyncio.Future[Any]] = {future, self.closed}
            await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._subscriptions.pop(mid, None)
        if not future.done():
            raise BrokerUnreachableError(f"{self.address}: no answer to a subscription")
        refused = [text for text, reason in zip(filters, future.result(), strict=True) if reason.is_failure]
        if refused:
            raise BrokerRefusedError(
                f"{self.address}: subscription refused: {', '.join(refused)}", hint="check the broker's ACL"
            )

    def acknowledge(self, *deliveries: Delivery) -> None:
        """Tells the broker that QoS 1 messages are ours now. Harmless once the connection has ended."""
        with self.together() if len(deliveries) > 1 else contextlib.nullcontext():
            for delivery in deliveries:
                if delivery.qos and self.is_open:
                    self._client.ack(delivery.mid, delivery.qos)
        self._watch_writes()

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is said inside, without awaiting, goes out in full segments: a burst of small packets costs a fraction
        of what each alone does, here and at the broker."""
        cork = getattr(socket, "TCP_CORK", None)  # Linux
        sock = cast("socket.socket | None", self._client.socket())  # a real one: it is a TCP connection
        if cork is None or sock is None:
            yield
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, cork, 1)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it may have ended meanwhile
                sock.setsockopt(socket.IPPROTO_TCP, cork, 0)

    def pause_reading(self) -> None:
        """Leaves what arrives in the socket, so that the broker has to hold it: Mosquitto 2.0.11 sends more than the
        receive maximum once some of it is acknowledged. Paused for longer than the keep-alive the connection ends.
        """
        if not self._paused and self._fd >= 0:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Undoes `pause_reading`."""
        if self._paused:
            self._paused = False
            if self._fd >= 0:
                self._loop.add_reader(self._fd, self._readable)
                self._loop.call_soon(self._read_buffered)

    # ---- paho -----------------------------------------------------------------------------------

    def _make_client(self) -> paho.Client:
        client = _Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        address = self.address
        if address.username:
            client.username_pw_set(address.username, address.password)
        if self._will is not None:
            will = self._will
            client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_socket_close = lambda client, userdata, sock: self._detach()
        client.on_connect = self._handle_connect
        client.on_disconnect = self._handle_disconnect
        client.on_message = self._handle_message
        client.on_publish = self._handle_publish
        client.on_subscribe = self._handle_subscribe
        return client

    def _connect_blocking(self, timeout_s: float) -> None:
        address = self.address
        self._client.connect_timeout = timeout_s
        properties = _properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = 0
        properties.ReceiveMaximum = self._receive_maximum
        properties.MaximumPacketSize = PACKET_BYTES_MAX
        self._client.connect(address.host, address.port, address.keepalive_s, clean_start=True, properties=properties)

    def _attach(self) -> None:
        sock = self._client.socket()
        if sock is None:
            raise BrokerUnreachableError(f"{self.address}: the connection was closed at once")
        # Without it an event waits for the network's acknowledgement of the packet before it: up to 40 ms.
        if isinstance(sock, socket.socket):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._fd = sock.fileno()
        self._poller.register(self._fd, select.POLLIN)
        self._loop.add_reader(self._fd, self._readable)
        self._watch_writes()
        self._misc = asyncio.create_task(self._keep_alive(), name=f"mqtt[{self._client_id}].keep-alive")

    async def _keep_alive(self) -> None:
        """paho's own timer work: pings, and noticing that an answer to one is overdue."""
        while self.is_open:
            await asyncio.sleep(1.0)
            self._client.loop_misc()
            self._watch_writes()

    def _readable(self) -> None:
        # A turn of paho's own reads as many packets as messages are in flight, so the packets are counted.
        self._handled = 0
        try:
            for _ in range(READ_PACKETS_MAX):
                self._client.loop_read()
                if (
                    self._fd < 0
                    or self._paused
                    or self._handled >= READ_PACKETS_MAX
                    or not (self._poller.poll(0) or self._tls_pending())
                ):
                    break
        except Exception:
            # Supervision boundary: paho would meet the same packet again at once and for ever.
            log.exception("%s: a received packet could not be handled", self.address)
            self._drop("defect while handling a received packet")
            return
        self._watch_writes()
        if self._fd >= 0 and self._tls_pending():
            self._loop.call_soon(self._read_buffered)

    def _read_buffered(self) -> None:
        """What TLS has decrypted already makes no socket readable."""
        if self._fd >= 0 and not self._paused and self._tls_pending():
            self._readable()

    def _tls_pending(self) -> bool:
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _flush(self) -> None:
        self._client.loop_write()
        self._watch_writes()

    def _watch_writes(self) -> None:
        """paho writes what it can at once; a packet queued from a callback or a full socket waits for us."""
        if self._fd < 0:
            return
        wanted = self._client.want_write()
        if wanted and not self._writing:
            self._loop.add_writer(self._fd, self._flush)
        elif not wanted and self._writing:
            self._loop.remove_writer(self._fd)
        self._writing = wanted

    def _detach(self) -> None:
        """Takes the socket out of the loop, while its descriptor is still open: paho tells before it closes it."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._loop.remove_reader(fd)
            self._loop.remove_writer(fd)
            self._poller.unregister(fd)
            self._writing = False

    def _drop(self, reason: str) -> None:
        self._detach()
        if self._misc is not None:
            self._misc.cancel()
        if self.closed is not None and not self.closed.done():
            self.closed.set_result(reason)
        sock = self._client.socket()
        if sock is not None:
            sock.close()

    def _abandon(self, opening: "asyncio.Future[None]") -> None:
        opening.exception()
        self._drop("not connected")

    def _handle_connect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if self._connack is not None and not self._connack.done():
            self._connack.set_result((reason, properties))

    def _handle_disconnect(
        self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Properties | None
    ) -> None:
        text = f"the broker says: {reason}" if flags.is_disconnect_packet_from_server else _lost(reason)
        if self._connack is not None and not self._connack.done():
            hint = "does the broker ask for a certificate? check broker.cert_file" if self.address.tls else ""
            self._connack.set_exception(
                BrokerUnreachableError(f"{self.address}: ended before the broker accepted us: {text}", hint=hint)
            )
        self._drop(text)

    def _handle_message(self, client: paho.Client, userdata: Any, message: paho.MQTTMessage) -> None:
        self._handled += 1
        properties = message.properties
        expiry_s: int | None = getattr(properties, "MessageExpiryInterval", None)
        self._on_message(
            Delivery(
                message.topic,
                bytes(message.payload),
                message.qos,
                message.retain,
                message.mid,
                getattr(properties, "ResponseTopic", ""),
                getattr(properties, "CorrelationData", b""),
                expiry_s,
            )
        )

    def _handle_publish(
        self, client: paho.Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._handled += 1
        if mid not in self._unanswered:
            return  # paho reports a QoS 0 message too, when it has left
        self._unanswered.discard(mid)
        if self._on_puback is not None:
            self._on_puback(mid, not reason.is_failure)

    def _handle_subscribe(
        self,
        client: paho.Client,
        userdata: Any,
        mid: int,
        reasons: list[ReasonCode],
        properties: Properties | None,
    ) -> None:
        future = self._subscriptions.get(mid)
        if future is not None and not future.done():
            future.set_result(reasons)


class _Client(paho.Client):
    """Closes the socket of a failed TLS handshake, which paho leaves to the garbage collector."""

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        tcp_sock.settimeout(self.connect_timeout)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(tcp_sock.close)
            wrapped = self._ssl_context.wrap_socket(tcp_sock, server_hostname=self.host)
            cleanup.pop_all()
        return wrapped


async def _read_away(sock: socket.socket) -> None:
    """Until the broker has closed its end. To close over bytes that nobody read resets the connection, and a goodbye
    that the broker has not read yet goes with it: then it would send the will.
    """
    loop = asyncio.get_running_loop()
    with contextlib.closing(sock), contextlib.suppress(OSError, TimeoutError):
        sock.setblocking(False)
        sock.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(LINGER_S):
            while await loop.sock_recv(sock, 64 * 1024):
                continue


def _lost(reason: ReasonCode) -> str:
    return "keep-alive timeout" if reason.value == KEEP_ALIVE_TIMEOUT else "connection lost"


def _publish_properties(message: Message) -> Properties | None:
    if not (message.correlation or message.expiry_s is not None or message.response_topic):
        return _content_type(message.content_type) if message.content_type else None
    properties = _properties(PacketTypes.PUBLISH)
    if message.content_type:
        properties.ContentType = message.content_type
    if message.correlation:
        properties.CorrelationData = message.correlation
    if message.expiry_s is not None:
        properties.MessageExpiryInterval = message.expiry_s
    if message.response_topic:
        properties.ResponseTopic = message.response_topic
    return properties


@functools.cache
def _content_type(content_type: str) -> Properties:
    """Made and packed once: paho's property sets cost more than all the rest of a small publish."""
    properties = _properties(PacketTypes.PUBLISH)
    properties.ContentType = content_type
    packed: bytes = properties.pack()  # type: ignore[no-untyped-call]
    object.__setattr__(properties, "pack", lambda: packed)  # its own __setattr__ knows the names of MQTT alone
    return properties


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _limits(properties: Properties | None) -> Limits:
    return Limits(
        receive_max=getattr(properties, "ReceiveMaximum", 65535),
        packet_bytes_max=getattr(properties, "MaximumPacketSize", 268_435_455),
    )
