"""One connection after another, for as long as the agent lives.

On each: the will of this session, subscriptions, `online`, the birth, the report, the answers not yet delivered; then
rows, heartbeats, acknowledgements and commands until it ends. Lost and back are logged once each.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable

from agent.commands.dispatcher import Dispatcher
from agent.link.presence import Identity, heartbeat_payload
from agent.link.sender import Sender
from runtime.backoff import Backoff
from runtime.errors import AuthError, EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_document, decode_packed, document_hash
from schemas.errors import RemoteWireError
from schemas.messages import Ack, Birth, Heartbeat, Presence, Status
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

RETRY = Backoff(first_s=0.5, max_s=60.0)
RETRY_AUTH = Backoff(first_s=30.0, max_s=600.0)  # a person has to act: do not hammer the broker's log
STEADY_S = 30.0  # a connection that lasted this long starts the back-off anew
HEARTBEAT_JITTER = 0.1
FIRST_HEARTBEATS_S = 3.0
DRAIN_S = 3.0  # how long a stopping agent waits for acknowledgements of what it has sent


class Link:
    """Owns the connection; told to stop, it drains within `DRAIN_S` and says `offline` itself."""

    def __init__(
        self,
        address: BrokerAddress,
        sender: Sender,
        dispatcher: Dispatcher,
        *,
        node: str,
        boot: int,
        space: TopicSpace,
        birth: Callable[[], Birth],
        heartbeat: Callable[[], Heartbeat],
        heartbeat_s: float,
    ) -> None:
        self._address = address
        self._sender = sender
        self._dispatcher = dispatcher
        self._node = node
        self._boot = boot
        self._space = space
        self._birth = birth
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._session = 0
        self._connection: Connection | None = None
        self._answers: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._random = random.Random()
        self._complaint = ""  # what was last complained of; empty while all is well
        self._draining = self._said_offline = False
        self.birth_hash = ""
        self.bad_messages_total = 0
        self.on_desired: Callable[[bytes], None] = lambda payload: None
        self.reported: Callable[[], bytes] = lambda: b""  # the report as it travels; empty: there is none
        dispatcher.publish = self._publish_now

    @property
    def is_connected(self) -> bool:
        return self._connection is not None and self._connection.is_open

    @property
    def session(self) -> int:
        return self._session

    async def run(self) -> None:
        """Connects for ever; returns after `stop`."""
        attempt = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            policy = RETRY
            try:
                reason = await self._one_session()
                self._complain("ended", f"{self._address}: connection ended: {reason}")
            except AuthError as error:
                policy = RETRY_AUTH
                self._complain("auth", str(error))
            except EdgewrightError as error:
                self._complain("unreachable", str(error))
            attempt = 0 if time.monotonic() - began_s > STEADY_S else attempt + 1
            await self._sleep(policy.delay_s(max(0, attempt - 1), self._random.random()))

    async def stop(self) -> None:
        """Says `draining`, waits for what is on its way, says `offline`, closes."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and connection.is_open:
            self._publish_status(Presence.DRAINING, "stopping")
            deadline_s = time.monotonic() + DRAIN_S
            while self._sender.waiting() and time.monotonic() < deadline_s and connection.is_open:
                await asyncio.sleep(0.02)
            self._publish_status(Presence.OFFLINE, "stopped")
            await asyncio.sleep(0.05)
        if connection is not None:
            await connection.close()

    def announce(self) -> None:
        """Publishes the birth again: what the node is has changed."""
        if self._connection is not None:
            message = self._identity().birth(self._birth())
            self.birth_hash = document_hash(message.payload)
            self._publish_now(message)

    def beat_every(self, heartbeat_s: float) -> None:
        """After the next heartbeat."""
        self._heartbeat_s = heartbeat_s

    def publish_reported(self) -> None:
        """Publishes the report, where there is one and a connection."""
        if payload := self.reported():
            topic = self._space.text(Topic(Kind.REPORTED, self._node))
            self._publish_now(Message(topic, payload, qos=1, retain=True))

    # ---- one session ----------------------------------------------------------------------------

    async def _one_session(self) -> str:
        self._session += 1
        connection = Connection(
            self._address,
            client_id=self._node,
            will=self._identity().will(),
            on_message=self._receive,
            on_puback=self._puback,
        )
        if not await self._connect(connection):
            return "stopping"
        self._connection = connection
        self._said_offline = False
        try:
            await connection.subscribe(self._subscriptions())
            self._publish_status(Presence.ONLINE)
            self.announce()
            self.publish_reported()
            if self._complaint:
                log.warning("%s: connected", self._address)
            else:
                log.info("%s: connected as %s, boot %d", self._address, self._node, self._boot)
            self._complaint = ""
            try:
                await self._dispatcher.connected()
            except EdgewrightError as error:
                log.error("link: old answers cannot be delivered now: %s", error)
            async with asyncio.TaskGroup() as tasks:
                sending = tasks.create_task(self._sender.run(connection), name="link.send")
                beating = tasks.create_task(self._beat(), name="link.heartbeat")
                reason = await connection.wait_closed()
                sending.cancel()
                beating.cancel()
            return reason
        finally:
            if connection.is_open and not self._said_offline:
                self._publish_status(Presence.OFFLINE, "stopped")  # a goodbye takes the will with it
            self._connection = None
            self._dispatcher.disconnected()
            await connection.close()

    async def _connect(self, connection: Connection) -> bool:
        """False when told to stop meanwhile: a broker that does not answer must not hold up the end."""
        connecting = asyncio.create_task(connection.connect(), name="link.connect")
        stopping = asyncio.create_task(self._stopping.wait(), name="link.connect.stopping")
        try:
            await asyncio.wait({connecting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if not self._stopping.is_set():
                await connecting
                return True
        finally:
            stopping.cancel()
            connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await connection.close()
        return False

    def _subscriptions(self) -> dict[str, int]:
        space, node = self._space, self._node
        return {
            space.filter(Kind.CMD, node): 1,
            space.filter(Kind.ACK, node): 1,
            space.filter(Kind.STATUS, node): 1,
            space.filter(Kind.DESIRED, node): 1,
            space.text(Topic(Kind.STATUS, COORDINATOR)): 1,
        }

    async def _beat(self) -> None:
        topic = self._space.text(Topic(Kind.HEARTBEAT, self._node))
        pause_s = min(FIRST_HEARTBEATS_S, self._heartbeat_s)  # the first figures of a start say nothing yet
        while True:
            self._publish_now(Message(topic, heartbeat_payload(self._heartbeat()), qos=0))
            jitter = 1.0 + HEARTBEAT_JITTER * (2.0 * self._random.random() - 1.0)
            await asyncio.sleep(pause_s * jitter)
            pause_s = self._heartbeat_s

    # ---- what arrives ---------------------------------------------------------------------------

    def _receive(self, delivery: Delivery) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            topic = self._space.parse(delivery.topic)
            if topic.kind is Kind.CMD:
                self._dispatcher.receive(delivery, topic.leaf, connection.acknowledge)
                return
            connection.acknowledge(delivery)
            if topic.kind is Kind.ACK:
                self._answer(decode_packed(Ack, Kind.ACK, delivery.payload))
            elif topic.kind is Kind.DESIRED and delivery.payload:
                self.on_desired(delivery.payload)
            elif topic.kind is Kind.STATUS and delivery.payload:
                self._see_status(topic.node, decode_document(Status, Kind.STATUS, delivery.payload))
        except RemoteWireError as error:
            self.bad_messages_total += 1
            connection.acknowledge(delivery)
            log.warning("refused a message on %s: %s", delivery.topic, error)

    def _answer(self, ack: Ack) -> None:
        task = asyncio.create_task(self._sender.answer(ack), name="link.answer")
        self._answers.add(task)
        task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self._answers.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # The rows stay in the file and are sent and answered again.
            log.error("outbox: an acknowledgement could not be kept: %s", task.exception())

    def _see_status(self, node: str, status: Status) -> None:
        if node == COORDINATOR:
            self._sender.coordinator(status.state is Presence.ONLINE)
        elif not self._stopping.is_set() and self._identity().overrules(status) and not self._draining:
            level = logging.INFO if status.boot == self._boot else logging.DEBUG  # after a restart it is expected
            log.log(level, "a stale status %s stood on our topic; published over", status.state.value)
            self._publish_status(Presence.ONLINE)

    def _puback(self, mid: int, accepted: bool) -> None:
        self._sender.puback(mid, accepted)
        self._dispatcher.puback(mid)

    # ---- what leaves ----------------------------------------------------------------------------

    def _publish_status(self, state: Presence, reason: str = "") -> None:
        self._draining = state is not Presence.ONLINE
        self._said_offline = state is Presence.OFFLINE
        self._publish_now(self._identity().status(state, time.time_ns() // 1_000_000, reason))

    def _publish_now(self, message: Message) -> int | None:
        if self._connection is None:
            return None
        try:
            return self._connection.publish(message)
        except EdgewrightError as error:
            log.debug("link: not published: %s", error)
            return None

    def _identity(self) -> Identity:
        return Identity(self._node, self._boot, self._session, self._space)

    # ---- waiting --------------------------------------------------------------------------------

    def _complain(self, kind: str, text: str) -> None:
        """Once when lost, and again only when a person has to act; silence until it is back."""
        if self._stopping.is_set():
            return
        news = not self._complaint or (kind == "auth" != self._complaint)
        log.log(logging.WARNING if news else logging.DEBUG, "%s; trying again", text)
        self._complaint = kind

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return
