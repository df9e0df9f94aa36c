"""A node as the coordinator sees one: it keeps every row until it is answered, and sends it again until then."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any

from runtime.errors import EdgewrightError
from runtime.mqtt import BrokerAddress, Connection, Delivery, Message
from schemas.codec import decode_packed, encode_document, encode_event
from schemas.identity import Identity
from schemas.messages import Ack, Birth, Event, Presence, Severity, Status
from schemas.topics import Kind

WAIT_S = 30.0


def event_payload(node: str, seq: int, *, stream: str = "s1", lane: str = "event", **changes: Any) -> bytes:
    data = {"camera_id": "cam1", "box": [0, 0, 1, 1], "n": seq}
    event = Event(Identity(node, stream, lane, seq), "ObjectSeen", "cam1", 1_764_000_000_000 + seq, data, 1)
    for name, value in changes.items():
        object.__setattr__(event, name, value)
    return encode_event(event)


def alert_payload(node: str, seq: int, severity: Severity = Severity.WARNING) -> bytes:
    data = {"rule": "somebody", "alert_id": f"a{seq}"}
    return event_payload(node, seq, lane="alert", type="AlertRaised", data=data, severity=severity)


class TestNode:
    """Connects as `node`; `send` rows are published again after `resend_s` until `ack` names them."""

    __test__ = False

    def __init__(self, port: int, node: str = "gw-1", *, resend_s: float = 0.7) -> None:
        self.node = node
        self.port = port
        self.resend_s = resend_s
        self.waiting: dict[int, bytes] = {}
        self.sent_s: dict[int, float] = {}
        self.acks: list[Ack] = []
        self.others: list[Delivery] = []
        self.connection: Connection | None = None
        self._inflight: set[int] = set()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "TestNode":
        self._task = asyncio.create_task(self._run(), name="test-node")
        await until(lambda: self.connection is not None)
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def send(self, seqs: Iterable[int]) -> None:
        self.waiting.update({seq: event_payload(self.node, seq) for seq in seqs})

    def publish(self, below: str, payload: bytes, *, retain: bool = False, qos: int = 1, whole: bool = False) -> None:
        assert self.connection is not None
        topic = below if whole else f"edge/v1/{self.node}/{below}"
        self._inflight.add(self.connection.publish(Message(topic, payload, qos, retain)))

    def present(self, state: Presence = Presence.ONLINE, boot: int = 1, session: int = 1, utc_ms: int = 1) -> None:
        self.publish("status", encode_document(Status(state, boot, session, utc_ms)), retain=True)

    def born(self, boot: int = 1, session: int = 1, **fields: Any) -> None:
        self.publish("birth", encode_document(Birth(boot, session, **fields)), retain=True)

    @property
    def refusals(self) -> dict[int, str]:
        return {item.seq: item.reason for ack in self.acks for item in ack.refused}

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(EdgewrightError):
                await self._session()
            await asyncio.sleep(0.1)

    async def _session(self) -> None:
        connection = Connection(
            BrokerAddress(port=self.port),
            client_id=f"test-{self.node}",
            on_message=lambda delivery: self._receive(connection, delivery),
            on_puback=lambda mid, accepted: self._inflight.discard(mid),
        )
        await connection.connect(3.0)
        self._inflight.clear()
        self.sent_s.clear()
        topics = ("ack", "result/+", "status")
        wanted = {f"edge/v1/{self.node}/{topic}": 1 for topic in topics[:2]}
        wanted |= {"edge/v1/coordinator/status": 1, "edge/v1/coordinator/result/+": 1, "edge/v1/fleet/event/+": 1}
        try:
            await connection.subscribe(wanted, timeout_s=3.0)
            self.connection = connection
            while connection.is_open:
                self._send_due()
                await asyncio.sleep(0.01)
        finally:
            self.connection = None
            await connection.close()

    def _send_due(self) -> None:
        now_s = time.monotonic()
        for seq, payload in list(self.waiting.items()):
            if len(self._inflight) >= 100:
                return
            if now_s - self.sent_s.get(seq, -1e9) >= self.resend_s:
                self.publish("event/ObjectSeen", payload)
                self.sent_s[seq] = now_s

    def _receive(self, connection: Connection, delivery: Delivery) -> None:
        connection.acknowledge(delivery)
        if not delivery.topic.endswith("/ack"):
            self.others.append(delivery)
            return
        ack = decode_packed(Ack, Kind.ACK, delivery.payload)
        self.acks.append(ack)
        for lane in ack.stored:
            for first, last in lane.ranges if lane.lane == "event" else ():
                for seq in range(first, last + 1):
                    self.waiting.pop(seq, None)


async def until(done: Callable[[], object], timeout_s: float = WAIT_S) -> None:
    """Waits for `done()` to be true."""
    deadline_s = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < deadline_s, f"waited {timeout_s} s in vain"
        await asyncio.sleep(0.02)
