"""A sender on a wire that is a list."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

from agent.link.gate import Gate
from agent.link.sender import Sender
from agent.outbox.file import OutboxFile
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft
from runtime.mqtt import BrokerUnreachableError, Connection, Limits, Message
from schemas.codec import decode_event, decode_packed
from schemas.identity import Lane
from schemas.messages import Ack, LaneAck, Refusal, Severity, SyncBatch
from schemas.topics import RULES, Kind, TopicSpace

WAIT_S = 30.0
SPACE = TopicSpace()
Key = tuple[Lane, int]


class Wire:
    """What a `Connection` is for a sender: records what is published and hands out packet ids."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.is_open = True
        self.published: list[Message] = []
        self.unacked: list[int] = []  # packet ids without a PUBACK
        self.inflight_most = 0
        self.keys: list[list[Key]] = []  # the rows in each message

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        yield

    def publish(self, message: Message) -> int:
        if not self.is_open:
            raise BrokerUnreachableError("lost")
        self.published.append(message)
        self.keys.append(rows_in(message))
        self.unacked.append(len(self.published))
        self.inflight_most = max(self.inflight_most, len(self.unacked))
        return len(self.published)

    @property
    def rows(self) -> list[Key]:
        return [key for keys in self.keys for key in keys]


def rows_in(message: Message) -> list[Key]:
    topic = SPACE.parse(message.topic)
    assert len(message.payload) <= RULES[topic.kind].payload_bytes_max
    if topic.kind is Kind.SYNC:
        batch = decode_packed(SyncBatch, Kind.SYNC, message.payload)
        return [(Lane(row.lane), row.seq) for row in batch.rows]
    identity = decode_event(topic.kind, "gw-1", message.payload).identity
    return [(Lane(identity.lane), identity.seq)]


def draft(lane: Lane, text: str = "") -> Draft:
    severity = Severity.WARNING if lane is Lane.ALERT else None
    return Draft(lane, "ObjectSeen", "cam1", 1_700_000_000_000, {"text": text}, severity)


class Rig:
    """An outbox, its sender and one wire after another."""

    def __init__(
        self, folder: Path, *, resend_after_s: float = 60.0, limits: Limits | None = None, gate: Gate | None = None
    ) -> None:
        self.file = OutboxFile(folder / "outbox.db", node="gw-1", boot=1)
        self.outbox = Outbox(self.file)
        self.sender = Sender(self.file, node="gw-1", boot=1, space=SPACE, resend_after_s=resend_after_s, gate=gate)
        self.outbox.on_committed = self.sender.committed
        self.limits = limits
        self.wire = Wire(limits)
        self.wire.is_open = False
        self.task: asyncio.Task[None] | None = None

    async def connect(self) -> Wire:
        assert self.task is None
        self.wire = Wire(self.limits)
        self.task = asyncio.create_task(self.sender.run(cast(Connection, self.wire)))
        await asyncio.sleep(0)
        return self.wire

    async def lose(self) -> None:
        self.wire.is_open = False
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            self.task = None

    async def close(self) -> None:
        task = self.task
        await self.lose()
        assert task is None or task.cancelled() or task.exception() is None
        self.file.close()

    async def append(self, lane: Lane, count: int, text: str = "") -> None:
        await self.outbox.append([draft(lane, text) for _ in range(count)])

    def puback(self, count: int | None = None) -> None:
        taken = self.wire.unacked[:count]
        del self.wire.unacked[:count]
        for mid in taken:
            self.sender.puback(mid, True)

    async def answer(self, lane: Lane, *ranges: tuple[int, int]) -> None:
        await self.sender.answer(Ack(stored=[LaneAck(self.file.stream, lane.value, list(ranges))]))

    async def refuse(self, lane: Lane, seq: int) -> None:
        await self.sender.answer(Ack(refused=[Refusal(self.file.stream, lane.value, seq, "unknown type")]))

    def pending(self, lane: Lane) -> list[int]:
        return [row.seq for row in self.file.take(lane, 0, 100_000)]

    async def until(self, true: Callable[[], bool], what: str) -> None:
        """Lets the sender work, with PUBACKs as they are due."""
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not true():
            assert asyncio.get_running_loop().time() < deadline, f"{what}; published: {self.wire.rows[-20:]}"
            self.puback()
            await asyncio.sleep(0.005)

    async def settle(self) -> None:
        """Until the sender has nothing more to say."""
        quiet = 0
        before = -1
        while quiet < 4:
            self.puback()
            await asyncio.sleep(0.01)
            behind = self.sender.is_behind()
            now = len(self.wire.published)
            quiet = quiet + 1 if now == before and not behind and not self.sender._rewind_asked else 0
            before = now


def events(*seqs: int) -> list[Key]:
    return [(Lane.EVENT, seq) for seq in seqs]
