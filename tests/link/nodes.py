"""A node's outbox, sender and link in one process, on real brokers, and a coordinator that is a set."""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.link.brokers import BrokerRules
from agent.link.link import Link
from agent.link.sender import Sender
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.state import StateFile
from coordinator.fleet.registry import Fleet, FleetEvent, LivenessRules, Moment, NodeState
from runtime.calls.dispatcher import Dispatcher
from runtime.calls.served import Nothing, Table, plain
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_document, decode_event, decode_packed, encode_document, encode_packed
from schemas.identity import Lane
from schemas.messages import Ack, Birth, Closed, Heartbeat, LaneAck, Presence, Status, SyncBatch
from schemas.topics import COORDINATOR, Kind, Topic, TopicSpace
from tests.link.senders import draft

WAIT_S = 40.0
SPACE = TopicSpace()
RULES = BrokerRules(probe_s=0.2, return_after_s=1.0, silent_after_s=1.5)
Row = tuple[str, str, int]


async def until(true: Callable[[], object], what: Callable[[], object] = lambda: "waited in vain") -> None:
    deadline_s = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < deadline_s, what()
        await asyncio.sleep(0.01)


def now() -> Moment:
    return Moment(time.monotonic_ns() // 1_000_000, time.time_ns() // 1_000_000)


class Ears:
    """A coordinator attached to any number of brokers: keeps rows by identity, answers them, follows presence."""

    def __init__(self) -> None:
        self.arrived: list[Row] = []
        self.stored: set[Row] = set()
        self.closed: list[Closed] = []
        self.statuses: list[tuple[int, Status]] = []  # live ones, with the broker's port
        self.results: list[bytes] = []
        self.answers = True
        self.fleet = Fleet([], LivenessRules(hold_ms=100), now().steady_ms)
        self.told: list[FleetEvent] = []
        self.connections: dict[int, Connection] = {}

    async def attach(self, port: int, *, online: bool = True) -> None:
        await self.detach(port)
        connection = Connection(
            BrokerAddress(port=port),
            client_id=COORDINATOR,
            on_message=lambda delivery: self._hear(port, connection, delivery),
        )
        await connection.connect()
        await connection.subscribe({f"{SPACE.root}/+/{kind}": 1 for kind in ("status", "sync", "event/+", "alert/+")})
        await connection.subscribe({f"{SPACE.root}/+/result/+": 1})
        self.connections[port] = connection
        state = Presence.ONLINE if online else Presence.OFFLINE
        self.say(port, Topic(Kind.STATUS, COORDINATOR), encode_document(Status(state, 1, 1, 1)), retain=True)

    async def detach(self, port: int) -> None:
        if (connection := self.connections.pop(port, None)) is not None:
            await connection.close()

    async def close(self) -> None:
        for port in list(self.connections):
            await self.detach(port)

    def say(self, port: int, topic: Topic, payload: bytes, *, retain: bool = False) -> None:
        self.connections[port].publish(Message(SPACE.text(topic), payload, retain=retain))

    def command(self, port: int, function: str, payload: bytes = b"{}") -> None:
        self.say(port, Topic(Kind.CMD, "gw-1", function), payload)

    @property
    def duplicates(self) -> int:
        return len(self.arrived) - len(set(self.arrived))

    @property
    def node_state(self) -> NodeState | None:
        node = self.fleet.nodes.get("gw-1")
        return None if node is None else node.state

    def _hear(self, port: int, connection: Connection, delivery: Delivery) -> None:
        connection.acknowledge(delivery)
        topic = SPACE.parse(delivery.topic)
        if topic.kind is Kind.STATUS:
            if topic.node != COORDINATOR:
                self._see(port, decode_document(Status, Kind.STATUS, delivery.payload), live=not delivery.retain)
            return
        if topic.kind is Kind.RESULT:
            self.results.append(delivery.payload)
            return
        gaps = []
        if topic.kind is Kind.SYNC:
            batch = decode_packed(SyncBatch, Kind.SYNC, delivery.payload)
            rows = [(batch.stream, row.lane, row.seq) for row in batch.rows]
            gaps = [Closed(gap.stream, gap.lane, gap.first, gap.last, []) for gap in batch.gaps]
        else:
            identity = decode_event(topic.kind, topic.node, delivery.payload).identity
            rows = [(identity.stream, identity.lane, identity.seq)]
        self.arrived += rows
        self.closed += gaps
        if self.answers and connection.is_open:
            self.stored.update(rows)
            stored = [LaneAck(stream, lane, [(seq, seq)]) for stream, lane, seq in rows]
            payload = encode_packed(Ack(stored=stored, closed=gaps))
            connection.publish(Message(SPACE.text(Topic(Kind.ACK, topic.node)), payload))

    def _see(self, port: int, status: Status, *, live: bool) -> None:
        if live:
            self.statuses.append((port, status))
        change = self.fleet.draft()
        change.status("gw-1", status, now(), live=live)
        self.fleet.adopt(change)
        self.told += change.events


@dataclass
class Node:
    """`gw-1` as it is wired in the agent."""

    file: OutboxFile
    outbox: Outbox
    sender: Sender
    link: Link
    announced: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    runs: Counter[str] = field(default_factory=Counter)

    async def append(self, lane: Lane, count: int, text: str = "") -> None:
        await self.outbox.append([draft(lane, text) for _ in range(count)])

    def pending(self) -> int:
        return sum(account.pending for account in self.file.account())

    def uses(self, port: int) -> bool:
        return self.link.is_connected and str(self.link.state()["current"]).endswith(f":{port}")

    async def use(self, port: int) -> None:
        await until(lambda: self.uses(port), self.link.state)

    async def all_stored_in(self, ears: Ears) -> None:
        """Every row produced is stored, once, and the node's account says so too."""
        await until(lambda: self.pending() == 0, lambda: (self.file.account(), self.sender.state()))
        for account in self.file.account():
            stored = sorted(seq for stream, lane, seq in ears.stored if lane == account.lane)
            assert account.produced == account.stored + account.quarantined + account.shed
            assert len(stored) == account.stored
        assert ears.stored <= set(ears.arrived)


@asynccontextmanager
async def node(
    folder: Path, *addresses: BrokerAddress, rules: BrokerRules = RULES, **sending: Any
) -> AsyncIterator[Node]:
    """Runs until the block ends."""
    logging.getLogger("agent.link").setLevel(logging.INFO)
    state = StateFile(folder / "state.db")
    file = OutboxFile(folder / "outbox.db", node="gw-1", boot=state.boot)
    sender = Sender(file, node="gw-1", boot=state.boot, space=SPACE, **{"resend_after_s": 2.0} | sending)
    outbox = Outbox(file)
    outbox.on_committed = sender.committed
    announced: list[tuple[str, str, dict[str, Any]]] = []
    runs: Counter[str] = Counter()

    async def count(call: Nothing) -> dict[str, Any]:
        runs["count"] += 1
        return {"runs": runs["count"]}

    async def large(call: Nothing) -> dict[str, Any]:
        return {"text": "x" * 100_000}

    table = Table([plain("count", Nothing, count), plain("large", Nothing, large)])
    link = Link(
        addresses,
        sender,
        Dispatcher(table, state.journal, responder="gw-1", space=SPACE),
        node="gw-1",
        boot=state.boot,
        space=SPACE,
        birth=lambda: Birth(functions=table.names),
        heartbeat=lambda: Heartbeat(boot=state.boot, session=link.session),
        heartbeat_s=1.0,
        rules=rules,
        announce=lambda kind, subject, data: announced.append((kind, subject, data)),
    )
    running = asyncio.create_task(link.run(), name="link")
    try:
        yield Node(file, outbox, sender, link, announced, runs)
        assert not running.done()
    finally:
        await link.stop()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running, 10.0)
        file.close()
        state.close()


async def retained_status(port: int) -> Status | None:
    """What a broker keeps of the node."""
    heard: list[Delivery] = []
    connection = Connection(BrokerAddress(port=port), client_id="late", on_message=heard.append)
    await connection.connect()
    await connection.subscribe({f"{SPACE.root}/gw-1/status": 1})
    await asyncio.sleep(0.1)
    await connection.close()
    return decode_document(Status, Kind.STATUS, heard[0].payload) if heard else None


def brokers_at(*ports: int, keepalive_s: int = 20) -> Sequence[BrokerAddress]:
    return [BrokerAddress(port=port, keepalive_s=keepalive_s) for port in ports]
