"""The coordinator's connection, one after another for as long as it lives.

On each: the will of this session, subscriptions, `online`, the fleet events not yet published. What arrives goes into
the inbox; commands are answered here. Lost and back are logged once each.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable

from coordinator.counters import Counters
from coordinator.ingest.inbox import Inbox, Item
from coordinator.link.announcements import Announcements
from coordinator.store.store import Store
from runtime.backoff import Backoff
from runtime.calls.dispatcher import Dispatcher
from runtime.errors import AuthError, EdgewrightError
from runtime.mqtt import BrokerAddress, BrokerRefusedError, Connection, Delivery, Message
from schemas.codec import decode_document, encode_document
from schemas.errors import RemoteWireError
from schemas.messages import Presence, Status
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

RETRY = Backoff(first_s=0.2, max_s=15.0)
RETRY_AUTH = Backoff(first_s=15.0, max_s=300.0)  # a person has to act: do not hammer the broker's log
STEADY_S = 30.0  # a connection that lasted this long starts the back-off anew
OUTGOING_MAX = 20_000  # answers that wait for the broker; the oldest go first, their rows are sent and answered again
INFLIGHT_MAX = 500
GOODBYE_S = 2.0
RESULT_BYTES_BESIDE = 1024  # topic, properties and headers of an answer, at most
ROOM_MAX = 100  # messages that may wait before those that can be put off stay where they are
PROBE = Topic(Kind.RESULT, COORDINATOR, "probe")  # our own messages to ourselves
_BLOB = f"/{Kind.BLOB_UP.value}/"
KINDS = (Kind.STATUS, Kind.BIRTH, Kind.HEARTBEAT, Kind.EVENT, Kind.ALERT, Kind.SYNC, Kind.RESULT, Kind.REPORTED)


class Channel:
    """What goes out over one connection, within the broker's receive maximum."""

    def __init__(self, connection: Connection, on_confirmed: Callable[[int], None]) -> None:
        """`on_confirmed` is told the token of each message published with one, once the broker has it."""
        self._connection = connection
        self._on_confirmed = on_confirmed
        self._waiting: deque[tuple[Message, int]] = deque(maxlen=OUTGOING_MAX)
        self._inflight: dict[int, int] = {}

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._inflight

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def packet_bytes_max(self) -> int:
        return self._connection.limits.packet_bytes_max

    def publish(self, message: Message, token: int = 0) -> None:
        self._waiting.append((message, token))
        self.pump()

    def acknowledge(self, *deliveries: Delivery) -> None:
        self._connection.acknowledge(*deliveries)

    def puback(self, mid: int, accepted: bool) -> None:
        token = self._inflight.pop(mid, 0)
        if token and accepted:
            self._on_confirmed(token)
        self.pump()

    def pump(self) -> None:
        room = min(INFLIGHT_MAX, max(1, self._connection.limits.receive_max // 2))
        while self._waiting and len(self._inflight) < room and self._connection.is_open:
            message, token = self._waiting.popleft()
            try:
                mid = self._connection.publish(message)
            except BrokerRefusedError as error:
                log.error("link: not published: %s", error)  # and what waits behind it may well be smaller
                continue
            except EdgewrightError as error:
                log.debug("link: %s", error)  # the end of the connection is reported by `run`
                return
            if message.qos:
                self._inflight[mid] = token


class Subscriber:
    """Owns the connection. `on_link(connected)` is told when it is up and when it is lost."""

    def __init__(
        self,
        address: BrokerAddress,
        inbox: Inbox,
        dispatcher: Dispatcher,
        counters: Counters,
        store: Store,
        *,
        client_id: str,
        space: TopicSpace,
    ) -> None:
        self._address = address
        self._inbox = inbox
        self._dispatcher = dispatcher
        self._counters = counters
        self._store = store
        self._client_id = client_id
        self._space = space
        self._own_prefix = f"{space.root}/{COORDINATOR}/"
        self._session = 0
        self._channel: Channel | None = None
        self._connection: Connection | None = None
        self._stopping = asyncio.Event()
        self._stopped = False
        self._complained = False
        self._random = random.Random()
        self._late: asyncio.Task[None] | None = None
        self._answers = 0  # numbers of answers, which are tokens below 0: fleet events have theirs above
        self._announcements = Announcements(store, space)
        self.problem = ""
        self.on_link: Callable[[bool], None] = lambda connected: None
        self.on_file: Callable[[Delivery, Channel], None] | None = None  # pieces of files, which are no rows
        self.on_probe: Callable[[bytes], None] = lambda payload: None  # what we say to ourselves
        inbox.on_pressure = self._pressed
        dispatcher.answers.publish = self._answer

    @property
    def is_connected(self) -> bool:
        return self._channel is not None

    async def run(self) -> None:
        """Connects for ever; returns after `stop`."""
        attempt = 0
        while not self._stopping.is_set():
            began_s = time.monotonic()
            policy = RETRY
            try:
                await self._one_session()
            except AuthError as error:
                policy = RETRY_AUTH
                self._complain(str(error))
            except EdgewrightError as error:
                self._complain(str(error))
            attempt = 0 if time.monotonic() - began_s > STEADY_S else attempt + 1
            await self._sleep(policy.delay_s(max(0, attempt - 1), self._random.random()))

    def stop(self) -> None:
        """Says `offline` and ends `run`."""
        self._stopping.set()

    @property
    def announced_seq(self) -> int:
        """Every fleet event up to here is with the broker."""
        return self._announcements.announced_seq

    def publish_status(self, reason: str = "") -> None:
        """Presence; `reason` says what hinders us while we are online."""
        if self._channel is not None and not self._stopping.is_set():
            self._channel.publish(self._status(Presence.ONLINE, reason))

    @property
    def has_room(self) -> bool:
        """True while connected and little waits: for what can be put off."""
        return self._channel is not None and self._channel.waiting < ROOM_MAX

    def publish(self, message: Message) -> None:
        """Publishes now, or not at all where there is no connection: whoever needs it does so after each connect."""
        if self._channel is not None:
            self._channel.publish(message)

    def _answer(self, message: Message) -> int | None:
        """Publishes what is said of a call; `_confirmed` is told the number, once the broker has it."""
        if self._channel is None:
            return None
        self._answers += 1
        self._channel.publish(message, token=-self._answers)
        return -self._answers

    def announce(self) -> None:
        """Publishes the fleet events that are stored and not yet with the broker."""
        if self._channel is not None:
            for seq, message in self._announcements.next(self._channel.packet_bytes_max):
                self._channel.publish(message, token=seq)

    # ---- one session ----------------------------------------------------------------------------

    async def _one_session(self) -> None:
        self._session += 1
        connection = Connection(
            self._address,
            client_id=self._client_id,
            will=self._status(Presence.OFFLINE, "connection lost", now_utc_ms=0),
            on_message=self._receive,
            on_puback=lambda mid, accepted: channel.puback(mid, accepted),
        )
        channel = Channel(connection, self._confirmed)
        await connection.connect()
        self._connection, self._channel = connection, channel
        self._announcements.connected()
        self._dispatcher.answers.payload_bytes_max = connection.limits.packet_bytes_max - RESULT_BYTES_BESIDE
        try:
            await connection.subscribe(self._subscriptions())
            self._welcome(channel)
            reason = await self._until_closed(connection)
            if reason:
                self._complain(f"{self._address}: connection ended: {reason}")
            else:
                await self._goodbye(channel)
        finally:
            self._connection = self._channel = None
            self.on_link(False)
            self._dispatcher.disconnected()
            if self._late is not None:
                self._late.cancel()
            await connection.close()

    def _welcome(self, channel: Channel) -> None:
        channel.publish(self._status(Presence.ONLINE, ""))
        self._counters.connects += 1
        level = logging.WARNING if self._complained else logging.INFO
        log.log(level, "%s: connected as %s, boot %d", self._address, self._client_id, self._store.boot)
        self._complained, self.problem = False, ""
        self.on_link(True)
        self.announce()
        self._late = asyncio.create_task(self._answer_late(), name="link.late-answers")

    async def _answer_late(self) -> None:
        """The answers that an earlier connection, or an earlier start, did not get through."""
        try:
            await self._dispatcher.connected()
        except EdgewrightError as error:
            log.error("link: old answers cannot be delivered now: %s", error)

    def _subscriptions(self) -> dict[str, int]:
        wanted = {self._space.filter(kind): kind_qos(kind) for kind in KINDS}
        wanted[self._space.filter(Kind.CMD, COORDINATOR)] = 1
        if self.on_file is not None:
            wanted[self._space.filter(Kind.BLOB_UP)] = 1
        return wanted

    async def _until_closed(self, connection: Connection) -> str:
        """The reason, or "" when we were asked to stop."""
        closed = asyncio.create_task(connection.wait_closed(), name="link.closed")
        stopping = asyncio.create_task(self._stopping.wait(), name="link.stopping")
        try:
            await asyncio.wait({closed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return closed.result() if closed.done() else ""
        finally:
            closed.cancel()
            stopping.cancel()

    async def _goodbye(self, channel: Channel) -> None:
        """The answers of the last batch are on their way; then our own `offline`, in that order."""
        channel.publish(self._status(Presence.OFFLINE, "stopped"))
        deadline_s = time.monotonic() + GOODBYE_S
        while not channel.idle and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    # ---- what arrives ---------------------------------------------------------------------------

    def _receive(self, delivery: Delivery) -> None:
        channel = self._channel
        if channel is None:
            return
        if delivery.topic.startswith(self._own_prefix):
            self._receive_own(channel, delivery)
            return
        if self.on_file is not None and _BLOB in delivery.topic:
            self.on_file(delivery, channel)
            return
        self._inbox.put(Item(delivery, channel, time.time_ns() // 1_000_000))

    def _pressed(self, pressed: bool) -> None:
        if self._connection is not None:
            (self._connection.pause_reading if pressed else self._connection.resume_reading)()

    def _receive_own(self, channel: Channel, delivery: Delivery) -> None:
        """A command to us, or what was said in our name."""
        try:
            topic = self._space.parse(delivery.topic)
            if topic.kind is Kind.CMD:
                self._dispatcher.receive(delivery, topic.leaf, channel.acknowledge)
                return
            channel.acknowledge(delivery)
            if topic == PROBE:
                self.on_probe(delivery.payload)
            elif topic.kind is Kind.STATUS and delivery.payload:
                self._see_status(channel, decode_document(Status, Kind.STATUS, delivery.payload))
        except RemoteWireError as error:
            channel.acknowledge(delivery)
            log.warning("refused a message on %s: %s", delivery.topic, error)

    def _see_status(self, channel: Channel, status: Status) -> None:
        ours = (self._store.boot, self._session)
        if (
            status.state is not Presence.ONLINE
            and (status.boot, status.session) < ours
            and not self._stopping.is_set()
        ):
            log.info("a stale status %s stood on our topic; published over", status.state.value)
            channel.publish(self._status(Presence.ONLINE, ""))

    def _confirmed(self, seq: int) -> None:
        if seq < 0:
            self._dispatcher.puback(seq)
            return
        self._announcements.confirmed(seq)
        self.announce()

    # ---- small things ---------------------------------------------------------------------------

    def _status(self, state: Presence, reason: str, now_utc_ms: int | None = None) -> Message:
        utc_ms = time.time_ns() // 1_000_000 if now_utc_ms is None else now_utc_ms
        status = Status(state, self._store.boot, self._session, utc_ms, reason[:500])
        topic = self._space.text(Topic(Kind.STATUS, COORDINATOR))
        return Message(topic, encode_document(status), retain=True)

    def _complain(self, text: str) -> None:
        """Once when lost; silence until it is back."""
        self.problem = text
        if not self._stopping.is_set():
            log.log(logging.DEBUG if self._complained else logging.WARNING, "%s; trying again", text)
            self._complained = True
            self.on_link(False)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):  # `wait_for` of Python 3.11 can forget a cancellation
                await self._stopping.wait()
        except TimeoutError:
            return


def kind_qos(kind: Kind) -> int:
    """We subscribe at the quality that the contract publishes with."""
    return 0 if kind is Kind.HEARTBEAT else 1
