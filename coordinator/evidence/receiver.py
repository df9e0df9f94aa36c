"""Takes evidence in pieces: durable in the spool, then answered; whole, verified and in the index, then `complete`.

It has a queue of its own beside the inbox, so that files hold up no row. From the moment it says `complete` the file
is the coordinator's: in the spool until its place takes it, however long that is away.
"""

import asyncio
import logging
import time
from collections import deque
from dataclasses import asdict, dataclass

from coordinator.evidence.backend import Backend
from coordinator.evidence.room import Room, counted
from coordinator.evidence.settings import EvidenceTable, OnQuota
from coordinator.evidence.spool import Partial, Spool
from coordinator.ingest.inbox import Way
from coordinator.store import evidence
from coordinator.store.evidence import EvidenceRow
from coordinator.store.sql import SqlStore
from runtime.backoff import Backoff
from runtime.errors import EdgewrightError
from runtime.mqtt import Delivery, Message
from schemas.blobs import (
    RANGES_MAX,
    Chunk,
    Held,
    Offer,
    Reason,
    Refused,
    Spans,
    decode_up,
    encode_blob,
    is_digest,
    with_span,
)
from schemas.errors import RemoteWireError
from schemas.topics import Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

QUEUE_BYTES_MAX = 32 * 1024 * 1024  # pieces that wait; beyond it the newest is dropped, and its node sends it again
TAKE_MAX = 256  # messages answered together
TAKE_BYTES_MAX = 8 * 1024 * 1024  # written between two fsyncs
RETRY = Backoff(first_s=1.0, max_s=60.0)
RETRY_HASH_S = 5.0
RETRY_DISK_S = 30.0
SHED_AT_ONCE = 64

Key = tuple[str, str]
"""(node, sha256)."""
Answers = dict[Key, Held | Refused]
"""One for each file, however many messages of it came."""


@dataclass(slots=True)
class EvidenceCounters:
    """Since the start of the process."""

    files: int = 0  # taken, verified
    bytes: int = 0  # of pieces
    chunks: int = 0
    refused: int = 0  # messages, and offers
    dropped: int = 0  # pieces that found the queue full
    bad_hashes: int = 0
    moved: int = 0  # to their place
    shed: int = 0  # given up for a quota


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of a node."""

    key: Key
    delivery: Delivery
    wire: Way


class Receiver:
    """`put` from the link, `run` and `move` as tasks."""

    def __init__(
        self, table: EvidenceTable, spool: Spool, backend: Backend, store: SqlStore, space: TopicSpace
    ) -> None:
        self._table = table
        self._spool = spool
        self._backend = backend
        self._store = store
        self._space = space
        self._room = Room(table)
        self._waiting: deque[Incoming] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._parts: dict[Key, Partial] = {}
        self._to_move: deque[EvidenceRow] = deque()
        self._move_wake = asyncio.Event()
        self._loaded = asyncio.Event()
        self.counters = EvidenceCounters()
        self.problem = ""

    def put(self, delivery: Delivery, wire: Way) -> None:
        """A message on `blob/up`. Returns at once."""
        try:
            topic = self._space.parse(delivery.topic)
        except RemoteWireError as error:
            self._refuse(delivery, wire, str(error))
            return
        if topic.kind is not Kind.BLOB_UP or not is_digest(topic.leaf):
            self._refuse(delivery, wire, f"{delivery.topic[:200]} names no SHA-256")
        elif self._waiting_bytes + len(delivery.payload) > QUEUE_BYTES_MAX:
            self.counters.dropped += 1
            wire.acknowledge(delivery)
        else:
            self._waiting.append(Incoming((topic.node, topic.leaf), delivery, wire))
            self._waiting_bytes += len(delivery.payload)
            self._wake.set()

    def report(self) -> dict[str, float]:
        """For the counters of the process."""
        found = {f"evidence_{name}": float(value) for name, value in asdict(self.counters).items()}
        return found | {"evidence_arriving": float(len(self._parts)), "evidence_spooled": float(len(self._to_move))}

    # ---- taking ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        if not self._loaded.is_set():
            await self._load()
        while True:
            self._wake.clear()
            items = self._take()
            if not items:
                await self._wake.wait()
                continue
            try:
                await self._process(items)
            finally:  # what was not answered is sent again; the broker need not keep it
                for item in items:
                    item.wire.acknowledge(item.delivery)

    async def _load(self) -> None:
        found = await asyncio.to_thread(lambda: list(self._spool.load()))
        self._room.kept = await self._store.run(evidence.totals)
        self._to_move.extend(await self._store.run(evidence.spooled))
        verified = {(row.node, row.sha256) for row in self._to_move}
        self._parts = {key: part for part in found if (key := (part.node, part.sha256)) not in verified}
        self._loaded.set()

    def _take(self) -> list[Incoming]:
        taken: list[Incoming] = []
        left = TAKE_BYTES_MAX
        while self._waiting and left > 0 and len(taken) < TAKE_MAX:
            item = self._waiting.popleft()
            left -= len(item.delivery.payload)
            taken.append(item)
        self._waiting_bytes -= sum(len(item.delivery.payload) for item in taken)
        return taken

    async def _process(self, items: list[Incoming]) -> None:
        answers: Answers = {}
        chunks: dict[Key, list[Chunk]] = {}
        wires = {item.key: item.wire for item in items}
        for item in items:
            try:
                said = decode_up(item.delivery.payload)
            except RemoteWireError as error:
                self._complain(item.delivery.topic, str(error))
                continue
            if isinstance(said, Offer):
                await self._answer_offer(item.key, said, answers)
            else:
                self._sort(item.key, said, chunks, answers)
        for key, found in chunks.items():
            await self._answer_chunks(self._parts.get(key), found, key, answers)
        for key, answer in answers.items():
            if isinstance(answer, Refused):
                self.counters.refused += 1
            topic = self._space.text(Topic(Kind.BLOB_DOWN, *key))
            wires[key].publish(Message(topic, encode_blob(answer)))

    def _sort(self, key: Key, chunk: Chunk, chunks: dict[Key, list[Chunk]], answers: Answers) -> None:
        part = self._parts.get(key)
        if part is None:
            answers[key] = Refused(Reason.NOT_OFFERED, "offer it first")
        elif not chunk.data or chunk.at + len(chunk.data) > part.offer.size:
            detail = f"{len(chunk.data)} bytes from {chunk.at} on are no part of a file of {part.offer.size}"
            answers[key] = Refused(Reason.BAD_CHUNK, detail)
        else:
            chunks.setdefault(key, []).append(chunk)

    async def _answer_chunks(self, part: Partial | None, chunks: list[Chunk], key: Key, answers: Answers) -> None:
        if part is None or isinstance(answers.get(key), Refused):
            return
        try:
            await asyncio.to_thread(self._write, part, chunks)
        except EdgewrightError as error:
            answers[key] = await self._trouble(key, error)
            return
        self.counters.chunks += len(chunks)
        self.counters.bytes += sum(len(chunk.data) for chunk in chunks)
        await self._answer_part(part, answers)

    def _write(self, part: Partial, chunks: list[Chunk]) -> None:
        spans: Spans = part.spans
        for chunk in chunks:
            if with_span(spans, chunk.at, chunk.at + len(chunk.data)) != spans:  # else it is there already
                self._spool.write(part, chunk.at, chunk.data)
                spans = with_span(spans, chunk.at, chunk.at + len(chunk.data))
        if spans != part.spans:
            part.touched_utc_ms = _now_utc_ms()
            self._spool.sync(part, spans)

    async def _answer_part(self, part: Partial, answers: Answers) -> None:
        """How far it has come. Of a whole one nothing is said while the index cannot take it: it is asked again."""
        key = part.node, part.sha256
        if not part.is_whole:
            answers[key] = Held(part.offer.size, part.spans[:RANGES_MAX])
            return
        try:
            answers[key] = await self._completed(part)
            self._set_problem("")
        except EdgewrightError as error:
            await self._trouble(key, error)
            answers.pop(key, None)

    async def _completed(self, part: Partial) -> Held | Refused:
        offer, key = part.offer, (part.node, part.sha256)
        if not await asyncio.to_thread(self._spool.is_sound, part):
            self.counters.bad_hashes += 1
            log.warning("evidence %s of %s: all bytes came, and the hash is wrong", part.sha256[:12], part.node)
            await self._forget(key)
            return Refused(Reason.BAD_HASH, "all bytes came, and their hash is another one", RETRY_HASH_S)
        row = EvidenceRow(
            *key, offer.size, offer.content_type, offer.camera_id, offer.from_utc_ms, offer.to_utc_ms, offer.blurred,
            _now_utc_ms(), evidence.SPOOLED, tuple(offer.events),
        )  # fmt: skip
        await self._store.run(lambda db: evidence.insert(db, row))
        del self._parts[key]
        self._room.taken(part.node, offer.size)
        self.counters.files += 1
        self._to_move.append(row)
        self._move_wake.set()
        return Held(offer.size, [(0, offer.size)], complete=True)

    # ---- offers ---------------------------------------------------------------------------------

    async def _answer_offer(self, key: Key, offer: Offer, answers: Answers) -> None:
        node, sha256 = key
        try:
            known = await self._store.run(lambda db: evidence.size_of(db, node, sha256))
            if known is not None:
                await self._store.run(lambda db: evidence.bind(db, node, sha256, offer.events))
                answers[key] = Held(known, [(0, known)], complete=True)
                return
            part = self._parts.get(key)
            if part is None or part.offer.size != offer.size:
                if refusal := await self._find_room(node, offer.size):
                    answers[key] = refusal
                    return
                part = Partial(node, sha256, offer, [], _now_utc_ms())
                await asyncio.to_thread(self._spool.begin, part)
                self._parts[key] = part
            await self._answer_part(part, answers)
        except EdgewrightError as error:
            answers[key] = await self._trouble(key, error)

    async def _find_room(self, node: str, size: int) -> Refused | None:
        for old in self._room.to_forget(self._parts, node, size, _now_utc_ms()):
            await self._forget(old)
        free = await asyncio.to_thread(self._spool.free_bytes)
        waiting = sum(row.bytes for row in self._to_move)
        refusal = self._room.refusal(self._parts, node, size, free_bytes=free, spooled_bytes=waiting)
        if refusal is None or refusal.reason is not Reason.QUOTA or self._table.on_quota is OnQuota.REFUSE:
            return refusal
        for of, excess in self._room.excess(self._parts, node, size):
            await self._shed(of, excess)
        return self._room.refusal(self._parts, node, size, free_bytes=free, spooled_bytes=waiting)

    async def _shed(self, node: str, wanted: int) -> None:
        """Gives up the oldest files of a node, or of all, until so many bytes are free or nothing is left."""
        freed = 0
        while freed < wanted:
            old = await self._store.run(lambda db: evidence.oldest(db, node, SHED_AT_ONCE))
            for owner, sha256, size in old:
                if freed >= wanted:
                    break
                await asyncio.to_thread(self._backend.delete, owner, sha256)
                await self._store.run(lambda db, o=owner, s=sha256: evidence.remove(db, o, s))  # type: ignore[misc]
                self._room.given_up(owner, size)
                self.counters.shed += 1
                freed += counted(size)
            if not old:
                return

    async def _trouble(self, key: Key, error: EdgewrightError) -> Refused:
        """The disk or the store refuses. A part that is gone from the disk is begun anew."""
        self._set_problem(str(error))
        if not self._spool.path(*key).exists():
            await self._forget(key)
        return Refused(Reason.NO_ROOM, str(error)[:400], RETRY_DISK_S)

    async def _forget(self, key: Key) -> None:
        self._parts.pop(key, None)
        await asyncio.to_thread(self._spool.remove, *key)

    # ---- to their place -------------------------------------------------------------------------

    async def move(self) -> None:
        """From the spool to where files stay, until cancelled; a place that is away is tried again."""
        await self._loaded.wait()
        attempt = 0
        while True:
            self._move_wake.clear()
            if not self._to_move:
                await self._move_wake.wait()
                continue
            row = self._to_move.popleft()
            try:
                await self._move(row)
            except EdgewrightError as error:
                self._to_move.append(row)
                self._set_problem(str(error))
                await asyncio.sleep(RETRY.delay_s(attempt, 0.5))
                attempt += 1
            except BaseException:
                self._to_move.appendleft(row)
                raise
            else:
                attempt = 0
                self._set_problem("")

    async def _move(self, row: EvidenceRow) -> None:
        path = self._spool.path(row.node, row.sha256)
        state = evidence.STORED
        if path.exists():
            await asyncio.to_thread(self._backend.put, row.node, row.sha256, path, row.content_type)
            self.counters.moved += 1
        elif not await asyncio.to_thread(self._backend.has, row.node, row.sha256):
            log.error("evidence %s of %s is gone from the spool before it was stored", row.sha256, row.node)
            state = evidence.LOST  # its node is asked for it when it offers it again
            self._room.given_up(row.node, row.bytes)
        await self._store.run(lambda db: evidence.set_state(db, row.node, row.sha256, state))
        await asyncio.to_thread(self._spool.remove, row.node, row.sha256)

    # ---- small things ---------------------------------------------------------------------------

    def _set_problem(self, problem: str) -> None:
        if problem and not self.problem:
            log.error("%s; trying again", problem)
        elif self.problem and not problem:
            log.warning("evidence: storing again")
        self.problem = problem

    def _refuse(self, delivery: Delivery, wire: Way, reason: str) -> None:
        self._complain(delivery.topic, reason)
        wire.acknowledge(delivery)

    def _complain(self, topic: str, reason: str) -> None:
        self.counters.refused += 1
        log.debug("refused a message on %s: %s", topic, reason)


def _now_utc_ms() -> int:
    return time.time_ns() // 1_000_000
