"""One MQTT 5 connection on the event loop; with `quick.py` the only file of the two processes that imports paho.

A `Connection` lives once: connect, use, close; whoever wants another makes another, with a will of its own. Sessions
expire with the connection (expiry 0): what must survive is in the outbox and the journal, not in the broker.
Incoming QoS 1 messages are acknowledged by `acknowledge`, after the caller has made them durable, never before.

No thread: it reads when the socket is readable and writes when `publish` is called.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

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
from runtime.mqtt.packets import TEXT_BYTES_MAX, pubacks, publish
from runtime.mqtt.quick import QuickClient

log = logging.getLogger(__name__)

READ_PACKETS_MAX = 64  # per turn of the loop, so that a flood cannot starve the other tasks
# What we let the broker have in flight towards us. Mosquitto 2.0 looks through all of it at each acknowledgement: at
# 1000 that was nine tenths of its time in a storm. 500 are 10,000 messages a second where a commit takes 50 ms.
RECEIVE_MAXIMUM = 500
PACKET_BYTES_MAX = 1024 * 1024
HELD_BYTES_MAX = 64 * 1024  # said together: then it goes out
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
        self._misc: asyncio.Task[None] | None = None
        self._fd = -1
        self._writing = False
        self._unanswered: set[int] = set()  # QoS 1 publishes without PUBACK, with those that wait
        self._waiting: deque[bytes] = deque()  # packets beyond the broker's receive maximum
        self._held: list[bytes] | None = None  # packets said together, while more may follow
        self._held_bytes = 0
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
        """Hands the message to the socket and returns its packet id, 0 for QoS 0. Raises BrokerUnreachableError, and
        BrokerRefusedError for what is larger than the broker takes: it would end the connection.

        The callers' windows stay well below `limits.receive_max`; a burst of small answers beyond it waits here. The
        broker's answer comes through `on_puback`.
        """
        if not self.is_open:
            raise BrokerUnreachableError(f"{self.address}: not connected")
        if message.packet_bytes_max > self.limits.packet_bytes_max:
            raise BrokerRefusedError(
                f"{self.address}: {len(message.payload)} bytes on {message.topic} are more than it takes: "
                f"{self.limits.packet_bytes_max} in a packet"
            )
        mid = self._next_mid() if message.qos else 0
        packet = publish(message, mid)
        if message.qos:
            waits = len(self._unanswered) >= self.limits.receive_max
            self._unanswered.add(mid)
            if waits:
                self._waiting.append(packet)
                return mid
        if not self._say(packet):
            raise BrokerUnreachableError(f"{self.address}: publish failed: the connection has just ended")
        return mid

    async def subscribe(
        self, filters: Mapping[str, int], *, optional: Collection[str] = (), timeout_s: float = 10.0
    ) -> frozenset[str]:
        """Subscribes to each filter at its QoS; says which of the `optional` ones were refused. Raises
        BrokerRefusedError naming what else was."""
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
        failed = [text for text, reason in zip(filters, future.result(), strict=True) if reason.is_failure]
        if refused := [text for text in failed if text not in optional]:
            raise BrokerRefusedError(
                f"{self.address}: subscription refused: {', '.join(refused)}", hint="check the broker's ACL"
            )
        return frozenset(failed)

    def unsubscribe(self, *filters: str) -> None:
        """What was on its way by then still comes. Harmless once the connection has ended."""
        if self.is_open:
            self._client.unsubscribe(list(filters))
            self._watch_writes()

    def acknowledge(self, *deliveries: Delivery) -> None:
        """Tells the broker that QoS 1 messages are ours now. Harmless once the connection has ended."""
        mids = [delivery.mid for delivery in deliveries if delivery.qos]
        if mids and self.is_open:
            self._say(pubacks(mids))

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What is said inside, without awaiting, goes out at once: a burst of small packets costs a fraction of what
        each alone does, here and at the broker."""
        if self._held is not None:
            yield
            return
        self._held, self._held_bytes = [], 0
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self._say(b"".join(held))

    def _say(self, packets: bytes) -> bool:
        """False when the connection has just ended."""
        if self._held is None:
            said = self._client.write(packets)
            self._watch_writes()
            return said
        self._held.append(packets)
        self._held_bytes += len(packets)
        if self._held_bytes >= HELD_BYTES_MAX:
            held, self._held, self._held_bytes = self._held, [], 0
            self._client.write(b"".join(held))
        return True

    def _next_mid(self) -> int:
        if len(self._unanswered) >= TEXT_BYTES_MAX:
            raise BrokerUnreachableError(f"{self.address}: {len(self._unanswered)} messages wait for the broker")
        while (mid := self._client.next_mid()) in self._unanswered:
            pass
        return mid

    def pause_reading(self) -> None:
        """Leaves what arrives in the socket, so that the broker has to hold it: Mosquitto 2.0.11 sends more than the
        receive maximum once some of it is acknowledged. Paused for longer than the keep-alive the connection ends.
        """
        if not self._paused and self._fd >= 0:
            self._paused = self._client.paused = True
            self._loop.remove_reader(self._fd)

    def resume_reading(self) -> None:
        """Undoes `pause_reading`."""
        if self._paused:
            self._paused = self._client.paused = False
            if self._fd >= 0:
                self._loop.add_reader(self._fd, self._readable)
                self._loop.call_soon(self._read_on)

    # ---- paho -----------------------------------------------------------------------------------

    def _make_client(self) -> QuickClient:
        client = QuickClient(
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
        client.on_delivery = self._on_message
        client.on_confirmed = self._handle_puback
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
        """Takes what is there, up to a limit; the rest in another turn of the loop. What is said because of it goes
        out together."""
        try:
            with self.together():
                more = self._client.read(READ_PACKETS_MAX)
        except Exception:
            # Supervision boundary: what is to be done with one message must not end the process without a word.
            log.exception("%s: a received packet could not be handled", self.address)
            self._drop("defect while handling a received packet")
            return
        self._watch_writes()
        if self._fd >= 0 and not self._paused and (more or self._tls_pending()):
            self._loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """What was read or decrypted already makes no socket readable."""
        if self._fd >= 0 and not self._paused:
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

    def _handle_puback(self, mid: int, accepted: bool) -> None:
        if mid not in self._unanswered:
            return
        self._unanswered.discard(mid)
        if self._waiting:
            self._say(self._waiting.popleft())
        if self._on_puback is not None:
            self._on_puback(mid, accepted)

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


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]


def _limits(properties: Properties | None) -> Limits:
    return Limits(
        receive_max=getattr(properties, "ReceiveMaximum", 65535),
        packet_bytes_max=getattr(properties, "MaximumPacketSize", 268_435_455),
    )
