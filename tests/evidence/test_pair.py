"""The real uploader and the real receiver, and between them a way that loses, repeats, reorders and is cut."""

import asyncio
import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from agent.evidence.settings import EvidenceSettings, UploadPolicy
from agent.evidence.store import EvidenceStore
from agent.evidence.tables import Binding, Piece, State
from agent.evidence.uploader import Uploader
from agent.link.gate import Gate, OpenGate
from runtime.mqtt import Delivery, Message
from schemas.blobs import Held, Reason, Refused, encode_blob
from schemas.identity import Lane
from schemas.topics import Kind, Topic
from tests.coordinator.sender import until
from tests.evidence.coordinator_side import SPACE, Side, digest, side

CHUNK = 1024
FILES = [random.Random(n).randbytes(size) for n, size in enumerate((1, CHUNK, 12_000, 5_555))]


class Way:
    """In the place of link and broker. `chance` of each harm to each message, by a seed."""

    def __init__(self, receiver: Side | None, seed: int, chance: float) -> None:
        self.receiver = receiver
        self.uploader: Uploader | None = None
        self.connected = True
        self.free = True
        self.sent: list[Message] = []
        self._random = random.Random(seed)
        self._chance = chance
        self._mid = 0
        self._late: set[asyncio.TimerHandle] = set()

    # what the uploader asks

    def publish(self, message: Message) -> int | None:
        if not self.connected:
            return None
        self.sent.append(message)
        self._mid += 1
        self._harm(lambda: self._deliver(message))
        return self._mid

    def payload_bytes_max(self) -> int:
        return 100_000

    def is_free(self) -> bool:
        return self.connected and self.free

    def has_coordinator(self) -> bool:
        return self.connected and self.receiver is not None

    # what the receiver asks

    def acknowledge(self, *deliveries: Delivery) -> None:
        return None

    def answer(self, message: Message) -> None:
        topic = SPACE.parse(message.topic)
        self._harm(lambda: self._hear(topic.leaf, message.payload))

    def _deliver(self, message: Message) -> None:
        if self.receiver is not None and self.connected:
            delivery = Delivery(message.topic, message.payload, 1, False, self._mid)
            self.receiver.receiver.put(delivery, Back(self))

    def _hear(self, sha256: str, payload: bytes) -> None:
        if self.uploader is not None and self.connected:
            self.uploader.received(sha256, payload)

    def _harm(self, deliver: Any) -> None:
        loop = asyncio.get_running_loop()
        if self._random.random() < self._chance:
            return
        copies = 2 if self._random.random() < self._chance else 1
        for _ in range(copies):
            late_s = self._random.random() * 0.05 if self._random.random() < self._chance else 0.0
            loop.call_later(late_s, deliver)


class Back:
    """The receiver's wire."""

    packet_bytes_max = 1024 * 1024

    def __init__(self, way: Way) -> None:
        self.publish = way.answer
        self.acknowledge = way.acknowledge


class Node:
    """A store with files, and an uploader, one life after another."""

    def __init__(self, folder: Path, way: Way, gate: Gate | None = None, **settings: Any) -> None:
        self.settings = EvidenceSettings(
            upload=settings.pop("upload", UploadPolicy.AUTO), chunk_bytes=CHUNK, free_bytes_min=0, **settings
        )
        self.store = EvidenceStore(folder, self.settings)
        self.way = way
        self.announced: list[tuple[str, dict[str, Any]]] = []
        self.uploader = way.uploader = Uploader(
            self.settings,
            self.store,
            way,
            gate or OpenGate(),
            node="gw-1",
            space=SPACE,
            resend_after_s=0.05,
            announce=lambda kind, subject, data: self.announced.append((kind, data)),
        )
        self._task = asyncio.create_task(self.uploader.run())

    def put(self, data: bytes, n: int = 0, kind: str = "image/jpeg") -> str:
        return self.store.put(
            data, Piece(kind, "cam1", n, n), Binding(f"s.alert.{n}", "AlertRaised", n, "", "warning")
        ).sha256

    def state(self, sha256: str) -> State | None:
        kept = self.store.get(sha256)
        return None if kept is None else kept.state

    async def end(self) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self.store.close()


@pytest.mark.parametrize("seed", [1, 2])
def test_every_file_arrives_whole_whatever_the_way_does(tmp_path: Path, seed: int) -> None:
    """The node and the coordinator are both ended in the middle, twice, beside."""

    async def scene() -> None:
        way = Way(None, seed, 0.15)
        for _ in range(2):
            async with side(tmp_path / "coordinator") as one:
                node = Node(tmp_path / "node", way)
                for n, data in enumerate(FILES):
                    node.put(data, n)
                way.receiver, way.connected = one, True
                node.uploader.wake()
                await until(lambda one=one: one.receiver.counters.chunks >= 3)  # type: ignore[misc]
                way.receiver, way.connected = None, False
                node.uploader.disconnected()
                await node.end()
        async with side(tmp_path / "coordinator") as last:
            node = Node(tmp_path / "node", way)
            way.receiver, way.connected = last, True
            node.uploader.wake()
            await until(lambda: all(node.state(digest(data)) is State.SENT for data in FILES))
            for data in FILES:
                await last.stored(digest(data))
                assert last.read(digest(data)) == data
            assert all(row.events == (f"s.alert.{row.from_utc_ms}",) for row in last.rows())
            assert last.receiver.counters.bad_hashes == 0
            await node.end()

    asyncio.run(scene())


class Counting:
    """A gate that counts, and says no when it is told to."""

    def __init__(self) -> None:
        self.open = True
        self.told: list[tuple[Lane, int]] = []

    def may_send(self, lane: Lane, size: int, now_s: float) -> bool:
        return self.open

    def look_again_s(self, lane: Lane, size: int, now_s: float) -> float:
        return now_s

    def sent(self, lane: Lane, size: int, now_s: float) -> None:
        self.told.append((lane, size))


def test_evidence_waits_for_the_gate_and_for_live_rows(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            way, gate = Way(one, 0, 0.0), Counting()
            gate.open = False
            node = Node(tmp_path / "n", way, gate)
            name = node.put(FILES[2])
            node.uploader.wake()
            await until(lambda: node.uploader.report()["sending"] == name)
            await asyncio.sleep(0.3)
            assert way.sent == []
            gate.open, way.free = True, False
            await asyncio.sleep(0.3)
            assert way.sent == []
            way.free = True
            await until(lambda: node.state(name) is State.SENT)
            assert gate.told == [(Lane.EVIDENCE, len(message.payload)) for message in way.sent]
            await node.end()

    asyncio.run(scene())


@pytest.mark.parametrize(
    ("policy", "asked", "sent"),
    [
        (UploadPolicy.NEVER, True, False),
        (UploadPolicy.ON_DEMAND, False, False),
        (UploadPolicy.ON_DEMAND, True, True),
        (UploadPolicy.AUTO, False, True),
    ],
)
def test_what_the_policy_lets_leave(tmp_path: Path, policy: UploadPolicy, asked: bool, sent: bool) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            node = Node(tmp_path / "n", Way(one, 0, 0.0), upload=policy)
            name = node.put(FILES[3])
            if asked:
                node.store.mark(name, State.ASKED)
                node.uploader.asked(name)
            node.uploader.wake()
            if sent:
                await until(lambda: node.state(name) is State.SENT)
            else:
                await asyncio.sleep(0.3)
                assert one.rows() == [] and node.way.sent == []
            await node.end()

    asyncio.run(scene())


def test_what_is_asked_for_overtakes_what_is_being_sent(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            way = Way(one, 0, 0.0)
            node = Node(tmp_path / "n", way, bytes_s_max=40_000)
            long, short = node.put(random.Random(5).randbytes(80_000), 1), node.put(FILES[1], 2, "video/mp4")
            node.uploader.wake()
            await until(lambda: node.uploader.report()["sending"] == long and len(way.sent) > 2)
            node.store.mark(short, State.ASKED)
            node.uploader.asked(short)
            await until(lambda: node.state(short) is State.SENT)
            assert node.state(long) is State.KEPT
            await until(lambda: node.state(long) is State.SENT)
            offers = [m for m in way.sent if SPACE.parse(m.topic).leaf == long]
            assert len(offers) < 80_000 / CHUNK + 6  # it went on where it was
            await node.end()

    asyncio.run(scene())


def test_a_file_that_belongs_to_a_further_event_meanwhile_is_bound_to_it_there_too(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            way = Way(one, 0, 0.0)
            node = Node(tmp_path / "n", way, bytes_s_max=40_000)
            name = node.put(FILES[2], 1)
            node.uploader.wake()
            await until(lambda: len(way.sent) > 2)
            node.put(FILES[2], 2)
            await until(lambda: node.state(name) is State.SENT)
            node.put(FILES[2], 3)
            node.uploader.wake()
            await until(lambda: [row.events for row in one.rows()] == [("s.alert.1", "s.alert.2", "s.alert.3")])
            assert len(way.sent) <= len(FILES[2]) / CHUNK + 5
            await node.end()

    asyncio.run(scene())


def test_a_damaged_file_is_never_offered_and_a_vanished_one_blocks_nobody(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            way = Way(one, 0, 0.0)
            way.free = False
            node = Node(tmp_path / "n", way)
            damaged, vanishes, good = (node.put(data, n) for n, data in enumerate(FILES[1:]))
            node.store.files.path(damaged).write_bytes(b"x" * CHUNK)
            node.uploader.wake()
            await until(lambda: node.uploader.report()["sending"] == vanishes)
            node.store.files.remove(vanishes)
            way.free = True
            await until(lambda: node.state(good) is State.SENT)
            assert {name for name, _ in ((data["sha256"], kind) for kind, data in node.announced)} == {
                damaged,
                vanishes,
            }
            assert [kind for kind, _ in node.announced] == ["EvidenceLost"] * 2
            assert [row.sha256 for row in one.rows()] == [good]
            assert node.store.count == 1
            await node.end()

    asyncio.run(scene())


def test_a_refusal_for_good_is_kept_with_its_reason_and_one_for_now_is_tried_again(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c", blob_bytes_max=8000) as one:
            way = Way(one, 0, 0.0)
            node = Node(tmp_path / "n", way)
            large = node.put(FILES[2], 1)
            fits = node.put(FILES[3], 2)
            node.uploader.wake()
            await until(lambda: node.state(large) is State.REFUSED)
            await until(lambda: node.state(fits) is State.SENT)
            kept = node.store.get(large)
            assert kept is not None and "too_large: 12000 bytes; at most 8000" in kept.piece.reason
            way.receiver = None
            later = node.put(FILES[1], 3)
            way.receiver = one
            way.free = False
            node.uploader.wake()
            await until(lambda: node.uploader.report()["sending"] == later)
            topic = SPACE.text(Topic(Kind.BLOB_UP, "gw-1", later))
            way.free = True
            await until(lambda: any(message.topic == topic for message in way.sent))
            way._hear(later, encode_blob(Refused(Reason.NO_ROOM, "", 1.0)))
            await until(lambda: node.state(later) is State.SENT)
            await node.end()

    asyncio.run(scene())


def test_hostile_answers_change_nothing(tmp_path: Path) -> None:
    async def scene() -> None:
        async with side(tmp_path / "c") as one:
            way = Way(one, 0, 0.0)
            way.free = False
            node = Node(tmp_path / "n", way)
            name = node.put(FILES[2])
            node.uploader.wake()
            await until(lambda: node.uploader.report()["sending"] == name)
            way._hear(name, encode_blob(Held(12_000, [(0, 12_000)], complete=True)))  # of something never offered
            way._hear("ab" * 32, encode_blob(Held(5, [(0, 5)], complete=True)))
            await asyncio.sleep(0.2)
            assert node.state(name) is State.KEPT
            way.free = True
            await until(lambda: node.state(name) is State.SENT)
            await one.stored(name)
            assert one.read(name) == FILES[2]
            await node.end()

    asyncio.run(scene())
