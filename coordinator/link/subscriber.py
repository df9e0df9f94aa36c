"""The coordinator's link to one broker, one session after another for as long as it lives.

In each: a connection to say things over, then one with the will of this session, subscriptions, `online`. What
arrives goes into the inbox; commands are answered here. Lost and back are logged once each; `links.py` has them all.
"""

import asyncio
import enum
import logging
import random
import time
from collections.abc import Callable
from dataclasses import replace

from coordinator.counters import Counters
from coordinator.ingest.inbox import Inbox, Item
from coordinator.link.announcements import Announcements, Encoded
from coordinator.link.channel import Channel
from coordinator.link.outgoing import Rank
from coordinator.store.store import Store
from runtime.backoff import Backoff
from runtime.calls.dispatcher import Dispatcher
from runtime.errors import AuthError, EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_document, encode_document
from schemas.errors import RemoteWireError
from schemas.messages import Presence, Status
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

RETRY = Backoff(first_s=0.2, max_s=15.0)
RETRY_AUTH = Backoff(first_s=15.0, max_s=300.0)  # a person has to act: do not hammer the broker's log
STEADY_S = 30.0  # a connection that lasted this long starts the back-off anew
GOODBYE_S = 2.0
ROOM_MAX = 100  # documents that may wait before the others stay where they are
SAYING = ".out"  # after the client id: the connection that things are said over
PROBE = Topic(Kind.RESULT, COORDINATOR, "probe")  # our own messages to ourselves
_BLOB = f"/{Kind.BLOB_UP.value}/"
OF_FLEET = (Kind.STATUS, Kind.BIRTH, Kind.HEARTBEAT, Kind.RESULT, Kind.REPORTED)
OF_ROWS = (Kind.EVENT, Kind.ALERT, Kind.SYNC)
SHARE = "edge-coordinators"  # the broker gives each message of rows to one of this group


class Part(enum.Enum):
    """What of the traffic is a process's."""

    WHOLE = "whole"  # it is the only coordinator
    FLEET = "fleet"  # it leads: all but rows
    ROWS = "rows"  # rows, shared out among several; it says nothing but answers


class Subscriber:
    """Owns the two connections of a session: they begin and end together. `on_link(connected)` is told of both."""

    def __init__(
        self,
        address: BrokerAddress,
        inbox: Inbox,
        dispatcher: Dispatcher | None,
        counters: Counters,
        store: Store,
        *,
        client_id: str,
        space: TopicSpace,
        index: int = 0,
        encoded: Encoded | None = None,
        part: Part = Part.WHOLE,
    ) -> None:
        """`index`: which of the coordinator's brokers this is. `encoded` is shared by all of them.

        Only `Part.ROWS` does without a dispatcher.
        """
        self._part = part
        self._index = index
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
        self._announcements = Announcements(store, encoded or Encoded(space))
        self.problem = ""
        self.on_link: Callable[[bool], None] = lambda connected: None
        self.on_file: Callable[[Delivery, Channel], None] | None = None  # pieces of files, which are no rows
        self.on_probe: Callable[[bytes], None] = lambda payload: None  # what we say to ourselves
        self.on_answered: Callable[[int], None] = lambda number: None

    @property
    def is_connected(self) -> bool:
        return self._channel is not None

    @property
    def _speaks(self) -> bool:
        """For the coordinator: presence and fleet events."""
        return self._part is not Part.ROWS

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

    @property
    def missed_total(self) -> int:
        """Fleet events that this broker did not get."""
        return self._announcements.missed_total

    def publish_status(self, reason: str = "") -> None:
        """Presence; `reason` says what hinders us while we are online."""
        if self._channel is not None and not self._stopping.is_set() and self._speaks:
            self._tell(self._status(Presence.ONLINE, reason))

    @property
    def has_room(self) -> bool:
        """True while connected and few documents wait: for what can be put off."""
        return self._channel is not None and self._channel.outgoing.waiting(Rank.DOCUMENT) < ROOM_MAX

    @property
    def payload_bytes_max(self) -> int | None:
        """What the broker takes in a packet; None without a connection."""
        return None if self._channel is None else self._channel.packet_bytes_max

    @property
    def outgoing(self) -> dict[str, int]:
        """What waits to be said, and what was done about it in this session."""
        if self._channel is None:
            return {"waiting": 0, "merged": 0, "dropped": 0}
        queue = self._channel.outgoing
        return {"waiting": len(queue), "merged": queue.merged_total, "dropped": queue.dropped_total}

    def publish(self, message: Message, rank: Rank = Rank.DOCUMENT) -> None:
        """Publishes now, or not at all where there is no connection: whoever needs it does so after each connect."""
        if self._channel is not None:
            self._channel.publish(message, rank=rank)

    def say(self, message: Message, number: int) -> bool:
        """Publishes what is said of a call; `on_answered` is told the number, once the broker has it."""
        if self._channel is None:
            return False
        self._channel.publish(message, token=-number, rank=Rank.CALL)
        return True

    def pause(self, paused: bool) -> None:
        """Leaves what arrives with the broker, or takes it again."""
        if self._connection is not None:
            (self._connection.pause_reading if paused else self._connection.resume_reading)()

    def announce(self) -> None:
        """Publishes the fleet events that are stored and not yet with the broker."""
        if self._channel is not None and self._speaks:
            for seq, message in self._announcements.next(self._channel.packet_bytes_max):
                self._channel.publish(message, token=seq, rank=Rank.EVENT)

    # ---- one session ----------------------------------------------------------------------------

    async def _one_session(self) -> None:
        self._session += 1
        intake = Connection(
            self._address,
            client_id=self._client_id,
            will=self._status(Presence.OFFLINE, "connection lost", now_utc_ms=0) if self._speaks else None,
            on_message=self._receive,
        )
        saying = Connection(
            self._address,
            client_id=self._client_id + SAYING,
            on_message=lambda delivery: None,  # it subscribes to nothing
            on_puback=lambda mid, accepted: channel.puback(mid, accepted),
        )
        channel = Channel(saying, self._confirmed, intake=intake, space=self._space, index=self._index)
        try:
            await saying.connect()
            await intake.connect()
            self._connection, self._channel = intake, channel
            self._announcements.connected()
            await intake.subscribe(self._subscriptions())
            self._welcome(channel)
            reason = await self._until_closed(intake, saying)
            if reason:
                self._complain(f"{self._address}: connection ended: {reason}")
            else:
                await self._goodbye(channel)
        finally:
            had_it, self._connection, self._channel = self._channel is not None, None, None
            self.on_link(False)
            if had_it and self._dispatcher is not None:
                self._dispatcher.disconnected(self._index)
            if self._late is not None:
                self._late.cancel()
            if intake.is_open and self._speaks:
                self._leave(intake)
            await intake.close()
            await saying.close()

    def _welcome(self, channel: Channel) -> None:
        self.publish_status()
        self._counters.connects += 1
        level = logging.WARNING if self._complained else logging.INFO
        log.log(level, "%s: connected as %s, boot %d", self._address, self._client_id, self._store.boot)
        self._complained, self.problem = False, ""
        self.on_link(True)
        self.announce()
        if self._dispatcher is not None:
            self._late = asyncio.create_task(self._answer_late(self._dispatcher), name="link.late-answers")

    async def _answer_late(self, dispatcher: Dispatcher) -> None:
        """The answers that an earlier connection, or an earlier start, did not get through."""
        try:
            await dispatcher.connected(self._index)
        except EdgewrightError as error:
            log.error("link: old answers cannot be delivered now: %s", error)

    def _subscriptions(self) -> dict[str, int]:
        if self._part is Part.ROWS:
            return {f"$share/{SHARE}/{self._space.filter(kind)}": kind_qos(kind) for kind in OF_ROWS}
        kinds = OF_FLEET if self._part is Part.FLEET else (*OF_FLEET, *OF_ROWS)
        wanted = {self._space.filter(kind): kind_qos(kind) for kind in kinds}
        wanted[self._space.filter(Kind.CMD, COORDINATOR)] = 1
        if self.on_file is not None:
            wanted[self._space.filter(Kind.BLOB_UP)] = 1
        return wanted

    async def _until_closed(self, *connections: Connection) -> str:
        """The reason for which one of them ended, or "" when we were asked to stop."""
        closed = [asyncio.create_task(one.wait_closed(), name="link.closed") for one in connections]
        stopping = asyncio.create_task(self._stopping.wait(), name="link.stopping")
        try:
            await asyncio.wait({*closed, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return next((one.result() for one in closed if one.done()), "")
        finally:
            for task in (*closed, stopping):
                task.cancel()

    async def _goodbye(self, channel: Channel) -> None:
        """The answers of the last batch are on their way; our own `offline` follows."""
        deadline_s = time.monotonic() + GOODBYE_S
        while not channel.idle and time.monotonic() < deadline_s:
            await asyncio.sleep(0.01)

    def _leave(self, intake: Connection) -> None:
        """We close it ourselves, so that there will be no will: `offline` in its place."""
        reason = "stopped" if self._stopping.is_set() else "connection lost"
        try:
            intake.publish(self._status(Presence.OFFLINE, reason))
        except EdgewrightError as error:
            log.debug("link: %s", error)

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

    def _receive_own(self, channel: Channel, delivery: Delivery) -> None:
        """A command to us, or what was said in our name."""
        try:
            topic = self._space.parse(delivery.topic)
            if topic.kind is Kind.CMD and self._dispatcher is not None:
                call = replace(delivery, link=self._index)
                self._dispatcher.receive(call, topic.leaf, channel.acknowledge)
                return
            channel.acknowledge(delivery)
            if topic == PROBE:
                self.on_probe(delivery.payload)
            elif topic.kind is Kind.STATUS and delivery.payload:
                self._see_status(decode_document(Status, Kind.STATUS, delivery.payload))
        except RemoteWireError as error:
            channel.acknowledge(delivery)
            log.warning("refused a message on %s: %s", delivery.topic, error)

    def _see_status(self, status: Status) -> None:
        ours = (self._store.boot, self._session)
        if (
            status.state is not Presence.ONLINE
            and (status.boot, status.session) < ours
            and not self._stopping.is_set()
        ):
            log.info("a stale status %s stood on our topic; published over", status.state.value)
            self._tell(self._status(Presence.ONLINE, ""))

    def _tell(self, status: Message) -> None:
        """Presence goes over the connection whose will it belongs to, in order with that."""
        if self._connection is None:
            return
        try:
            self._connection.publish(status)
        except EdgewrightError as error:
            log.debug("link: %s", error)  # the end of the connection is reported by `run`

    def _confirmed(self, seq: int) -> None:
        if seq < 0:
            self.on_answered(-seq)
            return
        self._announcements.confirmed(seq)
        if self._announcements.wants_more:
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
