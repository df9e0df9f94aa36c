"""One connection after another, for as long as the agent lives, to the best broker that can be used.

On each: the will of this session, subscriptions, `online`, the birth, the report, the answers not yet delivered;
then rows, heartbeats, answers and commands until it ends or another takes its place. Lost and back are logged once
each.

A move from one broker to another, while both answer, lets go of nothing before the other has accepted us: the new
session says `online` there, then the old one says `offline` here. The later session is true, so the node was never
away. Where the two pass messages on to each other, the new `online` comes to be seen here as well, and stands. Only
then are commands taken from the new broker, so that none comes twice.
"""

import asyncio
import functools
import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from agent.link.arrivals import Arrivals
from agent.link.brokers import BrokerRules, Brokers, Trouble
from agent.link.parcels import PACKET_BYTES_BESIDE
from agent.link.presence import Identity, heartbeat_payload
from agent.link.sender import Sender
from agent.link.session import Session, open_connection, probe
from agent.link.twin import Twin
from runtime.calls.dispatcher import Dispatcher
from runtime.errors import AuthError, EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Limits, Message
from schemas.messages import Birth, Heartbeat, Presence, Status
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

HEARTBEAT_JITTER = 0.1
FIRST_HEARTBEATS_S = 3.0
DRAIN_S = 3.0  # how long a stopping or moving agent waits for acknowledgements of what it has sent
FAREWELL_S = 0.5  # how long the broker's answer to the last status is waited for
HAND_OVER_S = 2.0  # and a moving one until its new status is known where it should be
LOOK_S = 1.0  # how often the other brokers are thought of
RESULT_BYTES_BESIDE = 1024  # topic, properties and headers of an answer, at most
Announce = Callable[[str, str, dict[str, Any]], None]


class Link:
    """Owns the connection; told to stop, it drains within `DRAIN_S` and says `offline` itself."""

    def __init__(
        self,
        addresses: Sequence[BrokerAddress],
        sender: Sender,
        dispatcher: Dispatcher,
        *,
        node: str,
        boot: int,
        space: TopicSpace,
        birth: Callable[[], Birth],
        heartbeat: Callable[[], Heartbeat],
        heartbeat_s: float,
        rules: BrokerRules | None = None,
        announce: Announce = lambda kind, subject, data: None,
        instance: str = "",
    ) -> None:
        """`addresses` in order of preference, one at least. `announce` tells of each change of the broker."""
        self._addresses = list(addresses)
        self._sender = sender
        self._dispatcher = dispatcher
        self._node = node
        self._boot = boot
        self._space = space
        self._instance = instance
        self.twin = Twin(instance, boot)
        self._birth = birth
        self._heartbeat = heartbeat
        self._heartbeat_s = heartbeat_s
        self._announce = announce
        self._brokers = Brokers(len(self._addresses), rules or BrokerRules())
        self._last_used = 0
        self._moved_because = ""  # empty: what was last used has failed
        self._sessions = 0
        self._session: Session | None = None
        self._successor: Session | None = None  # accepted by the broker that we move to
        self._stopping = asyncio.Event()
        self._random = random.Random()
        self._complaint = ""  # what was last complained of; empty while all is well
        self.reported: Callable[[], bytes] = lambda: b""  # the report as it travels; empty: there is none
        self.arrivals = Arrivals(space, sender, dispatcher.receive, self._see_status)
        dispatcher.answers.publish = self.publish

    @property
    def is_connected(self) -> bool:
        return self._session is not None and self._session.is_open

    @property
    def session(self) -> int:
        """The number of the session that speaks, or spoke last."""
        return self._sessions if self._session is None else self._session.identity.session

    @property
    def birth_hash(self) -> str:
        """Of the birth as it was last published."""
        return "" if self._session is None else self._session.birth_hash

    def state(self) -> dict[str, Any]:
        """Which broker is in use and how the others stand, for people."""
        now_s, current = time.monotonic(), self._brokers.current
        return {
            "current": None if current is None else str(self._addresses[current]),
            "preferred": current == 0,
            "since_s": None if current is None else round(now_s - self._brokers.since_s, 1),
            "moves_total": self._brokers.moves_total,
            "brokers": [
                {"address": str(address), "in_use": which == current} | self._brokers[which].report(now_s)
                for which, address in enumerate(self._addresses)
            ],
        }

    async def run(self) -> None:
        """Connects for ever; returns after `stop`."""
        session: Session | None = None
        while not self._stopping.is_set():
            session = await (self._first_to_accept() if session is None else self._use(session))
        if session is not None:
            await self._take_back(session)

    async def stop(self) -> None:
        """Says `draining`, waits for what is on its way, says `offline`, closes."""
        self._stopping.set()
        session = self._session
        if session is None:
            return
        if session.is_open:
            session.say(Presence.DRAINING, "stopping")
            await self._wait(session, DRAIN_S, lambda: not self._sender.waiting())
            session.say(Presence.OFFLINE, "stopped")
            await session.settled(FAREWELL_S)
        await session.connection.close()

    def publish(self, message: Message) -> int | None:
        """Out now; None when there is no connection, or the broker would not take it."""
        return None if self._session is None else self._session.publish(message)

    def payload_bytes_max(self) -> int:
        """What the broker takes in one message, its topic included."""
        limits = Limits() if self._session is None else self._session.connection.limits
        return limits.packet_bytes_max - PACKET_BYTES_BESIDE

    def has_coordinator(self) -> bool:
        """There is a connection, and a coordinator at its other end."""
        return self.is_connected and self._sender.coordinator_online

    def is_free(self) -> bool:
        """Nothing more urgent than files waits to be sent."""
        return self.has_coordinator() and not self._sender.is_behind()

    def announce(self) -> None:
        """Publishes the birth again: what the node is has changed."""
        if self._session is not None:
            self._session.announce(self._birth())

    def beat_every(self, heartbeat_s: float) -> None:
        """After the next heartbeat."""
        self._heartbeat_s = heartbeat_s

    def publish_reported(self) -> None:
        """Publishes the report, where there is one and a connection."""
        if payload := self.reported():
            topic = self._space.text(Topic(Kind.REPORTED, self._node))
            self.publish(Message(topic, payload, qos=1, retain=True))

    # ---- getting a connection -------------------------------------------------------------------

    async def _first_to_accept(self) -> Session | None:
        """Tries one broker after another; None when told to stop."""
        while not self._stopping.is_set():
            which, at_s = self._brokers.next(time.monotonic())
            await self._sleep(at_s - time.monotonic())
            if not self._stopping.is_set() and (session := await self._try(which)) is not None:
                return session
        return None

    async def _try(self, which: int) -> Session | None:
        """A session that the broker has accepted, nothing said yet; None, and reported, when there is none."""
        self._sessions += 1
        session = Session(which, Identity(self._node, self._boot, self._sessions, self._space, self._instance))
        session.connection = connection = Connection(
            self._addresses[which],
            client_id=self._node,
            will=session.identity.will(),
            on_message=functools.partial(self._receive, session),
            on_puback=functools.partial(self._puback, session),
        )
        try:
            if await open_connection(connection, self._stopping):
                return session
        except AuthError as error:
            self._failed(which, Trouble.AUTH, str(error))
        except EdgewrightError as error:
            self._failed(which, Trouble.UNREACHABLE, str(error))
        return None

    def _failed(self, which: int, trouble: Trouble, reason: str) -> None:
        self._brokers.failed(which, trouble, reason, time.monotonic(), self._random.random())
        if self._brokers.current is None:
            self._complain(trouble, reason)
        else:
            log.info("%s; staying with %s", reason, self._addresses[self._brokers.current])

    # ---- one connection -------------------------------------------------------------------------

    async def _use(self, session: Session) -> Session | None:
        """Everything over this connection, until it ends or another takes its place: that one."""
        connection = session.connection
        self._session = session
        self._brokers.connected(session.which, time.monotonic())
        self._dispatcher.answers.payload_bytes_max = connection.limits.packet_bytes_max - RESULT_BYTES_BESIDE
        reason = f"{connection.address}: given up"
        try:
            await self._subscribe(session)
            self._introduce(session)
            self.publish_reported()
            self._tell_connected(session)
            try:
                await self._dispatcher.connected()
            except EdgewrightError as error:
                log.error("link: old answers cannot be delivered now: %s", error)
            await self._work(session)
            if self._successor is not None and not self._stopping.is_set():
                await self._hand_over(session, self._successor)
            elif not connection.is_open:
                reason = f"{connection.address}: connection ended: {await connection.wait_closed()}"
        except EdgewrightError as error:
            reason = str(error)
        finally:
            if connection.is_open and session.state is not Presence.OFFLINE and not session.superseded:
                session.say(Presence.OFFLINE, "stopped")  # a goodbye takes the will with it
            if self._session is session:
                self._session = None
                self._lost(reason)
            self._dispatcher.disconnected()
            self.arrivals.disconnected()
            await connection.close()
            successor, self._successor = self._successor, None
            if successor is not None and self._session is None:
                await self._take_back(successor)
        return self._session

    async def _work(self, session: Session) -> None:
        """Returns when the connection has ended or `_successor` is there to take its place."""
        connection = session.connection
        async with asyncio.TaskGroup() as tasks:
            working = [
                tasks.create_task(self._sender.run(connection), name="link.send"),
                tasks.create_task(self._beat(session), name="link.heartbeat"),
            ]
            ends: list[asyncio.Task[Any]] = [tasks.create_task(connection.wait_closed(), name="link.closed")]
            if len(self._addresses) > 1:
                ends.append(tasks.create_task(self._look_elsewhere(session), name="link.look"))
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*working, *ends):
                task.cancel()

    async def _look_elsewhere(self, session: Session) -> None:
        """Probes the better brokers; returns once another one has accepted us and is to be used."""
        while True:
            await asyncio.sleep(LOOK_S * (0.5 + 0.5 * self._random.random()))
            better = self._brokers.probe(time.monotonic())
            if better is not None:
                problem = await probe(self._addresses[better], self._node)
                self._brokers.probed(better, problem, time.monotonic(), self._random.random())
            if self._sender.is_answered:
                self._brokers.answered()
            move = self._brokers.move(self._sender.silent_s(), time.monotonic())
            if move is None:
                continue
            reason = f"no coordinator has answered for {self._sender.silent_s():.0f} s"
            if move.returns:
                reason = f"{self._addresses[move.to]} answers again"
            self._moved_because = reason
            self._successor = await self._try(move.to)
            if self._successor is None or not await self._serves(self._successor):
                self._successor, self._moved_because = None, ""
                continue
            self._introduce(self._successor)
            await self._successor.settled(HAND_OVER_S)
            await self._wait(session, HAND_OVER_S, lambda: session.superseded)
            if move.returns:
                self._sender.rest()
                await self._wait(session, DRAIN_S, lambda: self._sender.is_settled)
            else:
                self._brokers.failed(session.which, Trouble.SILENT, reason, time.monotonic(), self._random.random())
            return

    async def _serves(self, session: Session) -> bool:
        """Whether the broker does more than accept us. Once the new session is `online` there is no way back to this
        one: it would be believed no more."""
        try:
            await self._subscribe(session, commands=False)
        except EdgewrightError as error:
            await session.connection.close()
            self._failed(session.which, Trouble.UNREACHABLE, str(error))
            return False
        return True

    async def _hand_over(self, old: Session, new: Session) -> None:
        """It is `online` there; here, unless that is known here too, it is now gone."""
        self._session = new
        if not old.superseded:
            old.say(Presence.OFFLINE, f"moved to {new.connection.address}")
            await old.settled(FAREWELL_S)

    async def _take_back(self, session: Session) -> None:
        """It was accepted, and is not needed any more."""
        if session.introduced and session.state is not Presence.OFFLINE:
            session.say(Presence.OFFLINE, "stopped")
        await session.connection.close()

    async def _wait(self, session: Session, timeout_s: float, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not done() and time.monotonic() < deadline_s and session.is_open:
            await asyncio.sleep(0.02)

    def _introduce(self, session: Session) -> None:
        if not session.introduced:
            session.introduced = True
            session.say(Presence.ONLINE)
            session.announce(self._birth())

    async def _subscribe(self, session: Session, *, commands: bool = True) -> None:
        """Raises EdgewrightError."""
        filters, space = self._subscriptions(), self._space
        if not commands:
            del filters[space.filter(Kind.CMD, self._node)]
        alone = space.own_share(Kind.STATUS, COORDINATOR, self._node)
        await session.subscribe(filters, space.text(Topic(Kind.STATUS, COORDINATOR)), alone)

    def _subscriptions(self) -> dict[str, int]:
        space, node = self._space, self._node
        wanted = {space.filter(Kind.BLOB_DOWN, node): 1} if self.arrivals.files else {}
        wanted |= {self.arrivals.calls.filter: 1} if self.arrivals.calls else {}
        return wanted | {space.filter(kind, node): 1 for kind in (Kind.ACK, Kind.STATUS, Kind.DESIRED, Kind.CMD)}

    async def _beat(self, session: Session) -> None:
        topic = self._space.text(Topic(Kind.HEARTBEAT, self._node))
        pause_s = min(FIRST_HEARTBEATS_S, self._heartbeat_s)  # the first figures of a start say nothing yet
        while True:
            session.publish(Message(topic, heartbeat_payload(self._heartbeat()), qos=0))
            jitter = 1.0 + HEARTBEAT_JITTER * (2.0 * self._random.random() - 1.0)
            await asyncio.sleep(pause_s * jitter)
            pause_s = self._heartbeat_s

    # ---- what arrives ---------------------------------------------------------------------------

    def _receive(self, session: Session, delivery: Delivery) -> None:
        if session is self._session:
            self.arrivals.take(session, delivery)
        else:
            session.connection.acknowledge(delivery)  # or it would take one of the places the broker has towards us

    def _see_status(self, session: Session, node: str, status: Status, live: bool) -> None:
        if node == COORDINATOR:
            session.heard_coordinator()
            self._sender.coordinator(status.state is Presence.ONLINE)
            return
        if self.twin.seen(status, session.identity.session, time.monotonic(), live=live):
            log.error(
                "another agent is online as %s: instance %s, boot %d, session %d; ours is %s, boot %d; give one of "
                "them another node.id",
                *(node, status.instance, status.boot, status.session, self._instance, self._boot),
            )
        next_session = 0 if self._successor is None else self._successor.identity.session
        if (status.boot, status.session) == (self._boot, next_session):
            session.superseded = True
        if not self._stopping.is_set() and session.state is Presence.ONLINE and session.identity.overrules(status):
            level = logging.INFO if status.boot == self._boot else logging.DEBUG  # after a restart it is expected
            log.log(level, "a stale status %s stood on our topic; published over", status.state.value)
            session.say(Presence.ONLINE)

    def _puback(self, session: Session, mid: int, accepted: bool) -> None:
        session.puback(mid)
        if session is self._session:
            self._sender.puback(mid, accepted)
            self._dispatcher.puback(mid)

    # ---- small things ---------------------------------------------------------------------------

    def _tell_connected(self, session: Session) -> None:
        """Once for each change."""
        address, before = self._addresses[session.which], self._addresses[self._last_used]
        if session.which != self._last_used:
            reason = self._moved_because or self._brokers[self._last_used].reason
            log.warning("%s: connected instead of %s: %s", address, before, reason)
            data = {"from": str(before), "to": str(address), "preferred": session.which == 0, "reason": reason[:500]}
            self._announce("BrokerChanged", "link", data)
        elif self._complaint:
            log.warning("%s: connected", address)
        else:
            log.info("%s: connected as %s, boot %d", address, self._node, self._boot)
        self._last_used, self._complaint, self._moved_because = session.which, "", ""

    def _lost(self, reason: str) -> None:
        self._brokers.lost(reason, time.monotonic(), self._random.random())
        self._complain(Trouble.LOST, reason)

    def _complain(self, trouble: Trouble, text: str) -> None:
        """Once when lost, and again only when a person has to act; silence until it is back."""
        if self._stopping.is_set():
            return
        news = not self._complaint or (trouble is Trouble.AUTH and self._complaint != trouble.value)
        log.log(logging.WARNING if news else logging.DEBUG, "%s; trying again", text)
        self._complaint = trouble.value

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(max(0.0, seconds)):  # `wait_for` of Python 3.11 can forget a cancellation
                await self._stopping.wait()
        except TimeoutError:
            return
