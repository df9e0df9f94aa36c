"""A receiver on real files and a real store, and a wire that is a list."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from coordinator.evidence import receiver as receiver_module
from coordinator.evidence.backend import Backend
from coordinator.evidence.places import SPOOL_NAME, open_backend
from coordinator.evidence.receiver import Receiver
from coordinator.evidence.settings import EvidenceTable
from coordinator.evidence.spool import Spool
from coordinator.store.evidence import EvidenceFilter, EvidenceRow
from coordinator.store.reader import Reader
from coordinator.store.sqlite import SqliteStore
from runtime.backoff import Backoff
from runtime.mqtt import Delivery, Message
from schemas.blobs import Chunk, Held, Offer, Refused, decode_down, encode_blob
from schemas.topics import TopicSpace
from tests.coordinator.sender import until

SPACE = TopicSpace()
TABLE = EvidenceTable(free_bytes_min=0)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Wire:
    """Keeps what is said and which messages the broker may forget."""

    packet_bytes_max = 1024 * 1024

    def __init__(self) -> None:
        self.said: list[tuple[str, Held | Refused]] = []
        self.acknowledged = 0

    def publish(self, message: Message) -> None:
        topic = SPACE.parse(message.topic)
        self.said.append((topic.leaf, decode_down(message.payload)))

    def acknowledge(self, *deliveries: Delivery) -> None:
        self.acknowledged += len(deliveries)

    def last(self, sha256: str) -> Held | Refused | None:
        return next((answer for name, answer in reversed(self.said) if name == sha256), None)


class Side:
    """One life of a coordinator's evidence."""

    def __init__(self, folder: Path, receiver: Receiver, store: SqliteStore, backend: Backend) -> None:
        self.folder = folder
        self.receiver = receiver
        self.store = store
        self.backend = backend
        self.wire = Wire()
        self._sent = 0

    def say(self, sha256: str, what: Offer | Chunk | bytes, node: str = "gw-1") -> None:
        payload = what if isinstance(what, bytes) else encode_blob(what)
        self._sent += 1
        self.receiver.put(Delivery(f"edge/v1/{node}/blob/up/{sha256}", payload, 1, False, self._sent), self.wire)

    async def ask(self, sha256: str, what: Offer | Chunk | bytes, node: str = "gw-1") -> Held | Refused:
        """Says it and waits for an answer."""
        before = len(self.wire.said)
        self.say(sha256, what, node)
        await until(lambda: len(self.wire.said) > before)
        _, answer = self.wire.said[-1]
        return answer

    async def send(self, data: bytes, node: str = "gw-1", *, chunk: int = 1000, **offer: Any) -> Held | Refused:
        """A whole file; the last answer."""
        sha256 = digest(data)
        answer = await self.ask(sha256, Offer(len(data), **offer), node)
        for at in range(0, len(data), chunk):
            if isinstance(answer, Refused) or answer.complete:
                break
            answer = await self.ask(sha256, Chunk(at, data[at : at + chunk]), node)
        return answer

    def rows(self, **wanted: str) -> list[EvidenceRow]:
        reader = Reader(self.folder)
        try:
            return reader.evidence(EvidenceFilter(**wanted), 1000)  # type: ignore[arg-type]
        finally:
            reader.close()

    async def stored(self, sha256: str) -> None:
        """Waits until the file is in its place."""
        await until(lambda: [row for row in self.rows(sha256=sha256) if row.state == "stored"])

    def read(self, sha256: str, node: str = "gw-1") -> bytes:
        return b"".join(self.backend.get(node, sha256))


@asynccontextmanager
async def side(folder: Path, backend: Backend | None = None, **settings: Any) -> AsyncIterator[Side]:
    """Ends as a killed process does: nothing is finished."""
    folder.mkdir(exist_ok=True)
    receiver_module.RETRY = Backoff(first_s=0.05, max_s=0.2)  # a place that is away is asked again soon
    table = replace(TABLE, **settings)
    store = SqliteStore(folder)
    place = backend or open_backend(table, folder)
    receiver = Receiver(table, Spool(folder / SPOOL_NAME), place, store, SPACE)
    tasks = [asyncio.create_task(receiver.run()), asyncio.create_task(receiver.move())]
    try:
        yield Side(folder, receiver, store, place)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        store.close()
