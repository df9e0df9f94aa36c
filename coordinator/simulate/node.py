"""One simulated node: what it says, when, and what it makes of what it hears. Pure: packets in, bytes out, timers on
the shared wheel. `line.py` moves the bytes.

It keeps the contract of docs/protocol.md as an agent does: presence, birth and report after each connect, heartbeats
with jitter, rows until they are answered, nothing beyond the broker's receive maximum.
"""

from coordinator.simulate.documents import Character, Papers, answer_to, character_of
from coordinator.simulate.hardware import birth_payload, birth_rest
from coordinator.simulate.models import Manner, Models, Outcome, is_of_models, manner_of, pipelines_of
from coordinator.simulate.mqtt5 import NO_PROPERTIES, encode, puback, publish
from coordinator.simulate.outbox import Outbox, payload_of, stream_of
from coordinator.simulate.packets import (
    ConnAck,
    Connect,
    Packet,
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
from coordinator.simulate.parts import write_properties
from coordinator.simulate.presence import heartbeat_payload, status_payload
from coordinator.simulate.session import RECEIVE_MAXIMUM, Session
from coordinator.simulate.work import Work
from coordinator.simulate.world import Timer, World
from schemas.codec import decode_document, decode_packed, document_hash
from schemas.documents import Desired, decode_desired
from schemas.errors import RemoteWireError
from schemas.identity import Lane
from schemas.messages import Ack, Presence, Status
from schemas.topics import COORDINATOR, Kind

JITTER = 0.1  # of the heartbeats, as an agent's
FIRST_HEARTBEATS_S = 3.0
EVENT_CONTENT = write_properties({Property.CONTENT_TYPE: "application/cloudevents+json"})
_ACK, _BIRTH, _CMD, _DESIRED = Kind.ACK.value, Kind.BIRTH.value, Kind.CMD.value, Kind.DESIRED.value
_HEARTBEAT, _REPORTED = Kind.HEARTBEAT.value, Kind.REPORTED.value
_RESULT, _STATUS = Kind.RESULT.value, Kind.STATUS.value


class Node:
    """Number `number` of the scenario. What it returns is to be sent, in that order."""

    __slots__ = (
        "_base", "_beats", "_birth_hash", "_birth_rest", "_heartbeat_s", "_models", "_outbox", "_papers", "_session",
        "_started_s", "_stream_boot", "_subscriptions", "_work", "_world", "boot", "name", "number", "session",
    )  # fmt: skip

    def __init__(self, world: World, number: int, boot: int) -> None:
        self._world = world
        self.number = number
        self.name = world.scenario.node(number)
        self._base = f"{world.space.root}/{self.name}/"  # of all its topics
        self._subscriptions = self._birth_rest = b""  # made once, when they are needed
        self.boot = boot - 1  # until it starts
        self.session = 0
        self._papers = Papers(character_of(world.scenario, number))
        self._work = Work()
        self._models = Models(manner_of(world.scenario, number), pipelines_of(world.scenario, number))
        self._outbox = Outbox(world.scenario.load.outbox_rows_max, world.scenario.load.rows_under_way_max)
        self._stream_boot = boot
        self._session: Session | None = None
        self._heartbeat_s = world.scenario.fleet.heartbeat_s
        self._birth_hash = ""

    @property
    def is_connected(self) -> bool:
        return self._session is not None

    @property
    def waiting(self) -> int:
        """Rows without an answer."""
        return len(self._outbox)

    # ---- its life -------------------------------------------------------------------------------

    def start(self, now_s: float, *, in_order: bool = True) -> None:
        """The next boot. An outbox that was not closed in order begins a new stream."""
        self.boot += 1
        self.session = self._beats = 0
        self._started_s = now_s
        self._papers.started(self.boot)
        self._work.rebooted(now_s, self._world.utc_ms(now_s), self._world.scenario.workloads, self._world.dice)
        if self._papers.report is not None or self._models.pipelines:
            self._tell(anew=False)
        if not in_order:
            self._stream_boot, self._birth_rest = self.boot, b""
        self._next_event(now_s)

    def stop(self, now_s: float) -> bytes:
        """What it says when it stops in order; its connection is to be closed then."""
        if self._session is None:
            return b""
        return self._say(Presence.DRAINING, now_s, "stopping") + self._say(Presence.OFFLINE, now_s, "stopped")

    def connect(self, now_s: float) -> bytes:
        """The first packet of a new session."""
        self.session += 1
        gone = status_payload(Presence.OFFLINE, self.boot, self.session, 0, "connection lost")
        will = Will(self._base + _STATUS, gone)
        password = self._world.password
        return encode(
            Connect(
                self.name,
                self._world.scenario.fleet.keepalive_s,
                True,
                will,
                self.name if password is not None else None,
                password,
                {Property.SESSION_EXPIRY_S: 0},
            )
        )

    def disconnected(self) -> None:
        """The connection is gone; rows under way go again with the next one."""
        self._session = None
        self._outbox.disconnected()

    # ---- what arrives ---------------------------------------------------------------------------

    def receive(self, packet: Packet, now_s: float) -> bytes:
        """What the node answers. Raises RemoteWireError for what nobody sends to a client."""
        if self._session is not None:
            self._session.heard_s = now_s
        match packet:
            case Publish():
                return (puback(packet.mid) if packet.qos else b"") + self._message(packet, now_s)
            case PubAck():
                if packet.reason >= 0x80:
                    self._world.figures.bad_messages += 1
                    self._world.complain(f"{self.name}: the broker refused a message: {packet.reason:#x}")
                assert self._session is not None, "packets come over a session"
                return self._session.confirmed(packet.mid) + self._rows(now_s)
            case PingResp():
                self._world.figures.idle_bytes += 2
                if self._session is not None:
                    self._session.ponged()
                return b""
            case ConnAck():
                return self._accepted(packet, now_s)
            case SubAck():
                if any(reason >= 0x80 for reason in packet.reasons[:-1]):
                    self._world.complain(f"{self.name}: the broker refused a subscription: {list(packet.reasons)}")
                return b"" if packet.reasons[-1] >= 0x80 else self._hears_coordinator(2)
            case UnsubAck():
                return b""
        raise RemoteWireError(f"{type(packet).__name__} from the broker")

    def _accepted(self, packet: ConnAck, now_s: float) -> bytes:
        receive_maximum = packet.properties.get(Property.RECEIVE_MAXIMUM, RECEIVE_MAXIMUM)
        session = self._session = Session(now_s, receive_maximum)
        out = self._subscribe(session) + self._say(Presence.ONLINE, now_s) + self._birth()
        if self._papers.report is not None:
            out += self._reported()
        out += self._heartbeat(session, now_s, min(FIRST_HEARTBEATS_S, self._heartbeat_s))
        self._put(now_s + self._world.scenario.fleet.keepalive_s, Timer.PING)
        return out + self._rows(now_s)

    def _subscribe(self, session: Session) -> bytes:
        mid = session.next_mid()
        assert mid == 1, "it is the first of its session, and so always the same"
        if not self._subscriptions:
            space = self._world.space
            filters = [space.filter(kind, self.name) for kind in (Kind.ACK, Kind.STATUS, Kind.DESIRED, Kind.CMD)]
            filters += [space.filter(Kind.STATUS, COORDINATOR), space.own_share(Kind.STATUS, COORDINATOR, self.name)]
            self._subscriptions = encode(Subscribe(mid, [(text, 1) for text in filters]))
        return self._subscriptions

    def _message(self, packet: Publish, now_s: float) -> bytes:
        try:
            if not packet.topic.startswith(self._base):
                return self._hears_coordinator(1)
            kind, _, leaf = packet.topic[len(self._base) :].partition("/")
            if kind == _ACK:
                self._answered(decode_packed(Ack, Kind.ACK, packet.payload), now_s)
                return self._rows(now_s)
            if kind == _DESIRED and packet.payload:
                self._wanted(decode_desired(packet.payload), now_s)
            elif kind == _STATUS and packet.payload:
                return self._seen(decode_document(Status, Kind.STATUS, packet.payload), now_s)
            elif kind == _CMD:
                return self._command(leaf, packet, now_s)
        except RemoteWireError as error:
            self._world.figures.bad_messages += 1
            self._world.complain(f"{packet.topic}: {error}")
        return b""

    def _hears_coordinator(self, what: int) -> bytes:
        """As an agent: brokers keep those who subscribe to one topic in a list."""
        session = self._session
        if session is None or not session.hears(what):
            return b""
        return encode(Unsubscribe(session.next_mid(), [self._world.space.filter(Kind.STATUS, COORDINATOR)]))

    def _seen(self, status: Status, now_s: float) -> bytes:
        """A late will of an earlier session stands on our topic: we say that we are here."""
        stale = status.state is not Presence.ONLINE and (status.boot, status.session) <= (self.boot, self.session)
        return self._say(Presence.ONLINE, now_s) if stale else b""

    def _command(self, function: str, packet: Publish, now_s: float) -> bytes:
        self._world.figures.commands += 1
        status = {"simulated": True, "boot": self.boot, "uptime_s": round(now_s - self._started_s, 1)}
        status["outbox_pending"] = len(self._outbox)
        answer = answer_to(
            function, packet.payload, packet.retain, packet.properties, f"{self._base}{_RESULT}/", self.name,
            self._world.utc_ms(now_s), status,
        )  # fmt: skip
        out = b""
        if _BIRTH in answer.publish:
            out += self._birth()
        if _REPORTED in answer.publish and self._papers.report is not None:
            out += self._reported()
        for leaf in answer.leaves:
            out += self._publish(f"{_RESULT}/{leaf}", answer.payload, properties=write_properties(answer.properties))
        return out

    # ---- desired and reported -------------------------------------------------------------------

    def _wanted(self, desired: Desired, now_s: float) -> None:
        character = self._papers.wanted(desired)
        if character is None:
            return
        self._world.figures.desired_received += 1
        is_mute = self._models.manner is Manner.SILENT and any(map(is_of_models, desired.fields))
        if character is Character.SILENT or is_mute:
            self._world.figures.desired_silent += 1
            return
        delay_s = self._world.scenario.desired.delay_s * self._world.dice.uniform(0.5, 1.5)
        self._put(now_s + delay_s, Timer.APPLY, self.boot)

    def _apply(self, now_s: float) -> bytes:
        desired = self._papers.apply(self.boot)
        if desired is None or self._papers.report is None:
            return b""
        if self._papers.report.refused:
            self._world.figures.desired_failed += 1
        else:
            self._world.figures.desired_applied += 1
            self._heartbeat_s = float(desired.fields.get("heartbeat_s", self._world.scenario.fleet.heartbeat_s))
            world, utc_ms = self._world, self._world.utc_ms(now_s)
            self._work.wanted(desired.fields, now_s, utc_ms, world.scenario.workloads, world.dice)
            news = self._models.wanted(desired.fields, now_s, world.scenario.models, world.dice)
            if news and self._models.manner is Manner.FLAPS:
                self._put(now_s + 1.0, Timer.FLAP)
            self._count(self._models.step(now_s, world.scenario.models, world.dice))
            self._tell(anew=False)
        return self._reported() if self._session is not None else b""

    def _tell(self, *, anew: bool) -> None:
        """The report has how workloads and models stand; what is due next wakes it."""
        self._papers.tell(self._work.facts(), self._models.standing(), self.boot, anew=anew)
        for next_s in (self._work.next_s, self._models.next_s):
            if next_s is not None:
                self._put(next_s, Timer.WORK, self.boot)

    def _worked(self, now_s: float) -> bytes:
        """Some workload runs, or has failed, or something has come of a model: that is reported."""
        world = self._world
        started = self._work.started(now_s, world.utc_ms(now_s), world.scenario.workloads, world.dice)
        outcome = self._models.step(now_s, world.scenario.models, world.dice)
        if not started and not outcome.changed:
            return b""
        world.figures.workloads_started += bool(started)
        self._count(outcome)
        self._tell(anew=True)
        return self._reported() if self._session is not None else b""

    def _count(self, outcome: Outcome) -> None:
        figures = self._world.figures
        figures.models_fetched += outcome.fetched
        figures.models_activated += outcome.activated
        figures.models_refused += outcome.refused

    def _reported(self) -> bytes:
        return self._publish(_REPORTED, self._papers.encode(), retain=True)

    # ---- rows -----------------------------------------------------------------------------------

    def _next_event(self, now_s: float) -> None:
        rate = self._world.scenario.load.events_per_node
        if rate:
            self._put(now_s + self._world.dice.expovariate(rate), Timer.EVENT, self.boot)

    def _event(self, now_s: float) -> bytes:
        world = self._world
        if not world.producing:
            return b""
        self._next_event(now_s)
        lane = Lane.ALERT if world.dice.random() < world.scenario.load.alerts else Lane.EVENT
        if self._outbox.append(lane, self._stream_boot, world.utc_ms(now_s)) is None:
            world.figures.held_back += 1
            return b""
        world.figures.produced += 1
        world.figures.waiting_now += 1
        return self._rows(now_s) if self._session is not None else b""

    def _rows(self, now_s: float) -> bytes:
        """As many of the rows to be sent as may be under way."""
        session, load, out = self._session, self._world.scenario.load, []
        assert session is not None, "rows are sent over a session"
        while self._outbox.room > 0 and session.room > 0:
            row = self._outbox.send(now_s)
            if row is None:
                break
            self._world.figures.sent += row.times == 1
            self._world.figures.resent += row.times > 1
            payload = payload_of(row, self._world.run, self.name)
            out.append(self._publish(row.below, payload, properties=EVENT_CONTENT))
        if out and not session.resend_set:
            session.resend_set = True
            self._put(now_s + load.resend_after_s, Timer.RESEND)
        return b"".join(out)

    def _resend(self, session: Session, now_s: float) -> bytes:
        next_s = self._outbox.overdue(now_s, self._world.scenario.load.resend_after_s)
        session.resend_set = next_s is not None
        if next_s is not None:
            self._put(next_s, Timer.RESEND)
        return self._rows(now_s)

    def _answered(self, ack: Ack, now_s: float) -> None:
        figures, utc_ms = self._world.figures, self._world.utc_ms(now_s)
        for lane in ack.stored:
            rows, again = self._outbox.answered(lane.lane, lane.ranges, now_s)
            figures.answered_again += again
            figures.acked += len(rows)
            figures.waiting_now -= len(rows)
            for row in rows:
                figures.answer.add(utc_ms - row.created_utc_ms)
                if row.times == 1:
                    figures.live.add(utc_ms - row.created_utc_ms)
        for refusal in ack.refused:
            rows, _ = self._outbox.answered(refusal.lane, [(refusal.seq, refusal.seq)], now_s)
            figures.refused += len(rows)
            figures.waiting_now -= len(rows)
            self._world.complain(f"{self.name}: a row was refused: {refusal.reason}")

    # ---- timers ---------------------------------------------------------------------------------

    def due(self, timer: Timer, of: int, now_s: float) -> bytes | None:
        """What a timer makes it send; None when the broker has not answered in time and the connection is to end."""
        if timer is Timer.EVENT:
            return self._event(now_s) if of == self.boot else b""
        if timer is Timer.APPLY:
            return self._apply(now_s) if of == self.boot else b""
        if timer is Timer.WORK:
            return self._worked(now_s) if of == self.boot else b""
        if self._session is None or of != self.session:
            return b""
        if timer is Timer.HEARTBEAT:
            return self._heartbeat(self._session, now_s, self._heartbeat_s)
        if timer is Timer.RESEND:
            return self._resend(self._session, now_s)
        return self._ping(self._session, now_s)

    def _ping(self, session: Session, now_s: float) -> bytes | None:
        out, next_s = session.ping(now_s, self._world.scenario.fleet.keepalive_s)
        if out is not None:
            self._put(next_s, Timer.PING)
            self._world.figures.idle_bytes += len(out)
        return out

    def _heartbeat(self, session: Session, now_s: float, pause_s: float) -> bytes:
        world = self._world
        self._beats += 1
        session.said_s = now_s
        world.figures.heartbeats += 1
        self._put(now_s + pause_s * world.dice.uniform(1 - JITTER, 1 + JITTER), Timer.HEARTBEAT)
        payload = heartbeat_payload(
            self.boot, self.session, self._beats, now_s - self._started_s, world.utc_ms(now_s), len(self._outbox),
            self._birth_hash, self._papers, self._work.cores, self._models.pipelines,
        )  # fmt: skip
        out = publish((self._base + _HEARTBEAT).encode(), payload)
        world.figures.idle_bytes += len(out)
        return out

    # ---- small things ---------------------------------------------------------------------------

    def _birth(self) -> bytes:
        if not self._birth_rest:
            stream = stream_of(self._world.run, self.name, self._stream_boot)
            self._birth_rest = birth_rest(self._world.scenario, self.number, stream)
        payload = birth_payload(self.boot, self.session, self._birth_rest)
        self._birth_hash = document_hash(payload)
        return self._publish(_BIRTH, payload, retain=True)

    def _say(self, state: Presence, now_s: float, reason: str = "") -> bytes:
        payload = status_payload(state, self.boot, self.session, self._world.utc_ms(now_s), reason)
        return self._publish(_STATUS, payload, retain=True)

    def _publish(
        self, below: str, payload: bytes, *, retain: bool = False, properties: bytes = NO_PROPERTIES
    ) -> bytes:
        assert self._session is not None, "nothing is published without a session"
        topic = (self._base + below).encode()
        return self._session.publish(topic, payload, retain=retain, properties=properties)

    def _put(self, at_s: float, timer: Timer, of: int | None = None) -> None:
        self._world.wheel.put(at_s, (self.number, timer, self.session if of is None else of))
