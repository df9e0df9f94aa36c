"""Sends evidence over whatever connection there is, one file at a time, whenever nothing more urgent waits.

It asks the link's gate and a bucket of its own before each piece, and sends none while live rows wait. What the
coordinator has is marked in the store; killed at any point the next start offers the file again and goes on where the
coordinator says.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from agent.evidence.settings import EvidenceSettings, UploadPolicy
from agent.evidence.store import EvidenceStore
from agent.evidence.tables import Kept, State
from agent.evidence.upload import Phase, Piece, Say, Upload
from agent.link.bucket import TokenBucket
from agent.link.gate import Gate
from runtime.errors import EdgewrightError
from runtime.mqtt import Message
from schemas.blobs import Chunk, Held, Offer, decode_down, encode_blob
from schemas.identity import Lane
from schemas.topics import Kind, Topic, TopicSpace

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0  # for something to send, when nobody says that there is something
AWAY_S = 0.5  # without a coordinator: whether there is one again
HELD_BACK_S = 0.1  # live rows that wait, or a connection that does not take it: looked at again so soon
LOOK_AGAIN_MIN_S = 0.01  # a gate that said no is not asked more often
HEAD_BYTES = 2048  # what a message holds beside a piece, at most
PIECE_BYTES_MIN = 256
RESTING_MAX = 256


class Way(Protocol):
    """The link, as far as evidence needs it."""

    def publish(self, message: Message) -> int | None:
        """Out now; None when there is no connection."""

    def payload_bytes_max(self) -> int:
        """What the broker takes in one message."""

    def is_free(self) -> bool:
        """A coordinator is there, and no live row waits to be sent."""

    def has_coordinator(self) -> bool:
        """There is a connection, and a coordinator at its other end."""


class Uploader:
    """One node's. `received` is for the link, `wake` for whoever made or asked for something."""

    def __init__(
        self,
        settings: EvidenceSettings,
        store: EvidenceStore,
        way: Way,
        gate: Gate,
        *,
        node: str,
        space: TopicSpace,
        resend_after_s: float,
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._settings = settings
        self._store = store
        self._way = way
        self._gate = gate
        self._bucket = TokenBucket(settings.bytes_s_max, max(settings.bytes_s_max, settings.chunk_bytes))
        self._node = node
        self._space = space
        self._resend_after_s = resend_after_s
        self._announce = announce
        self._wake = asyncio.Event()
        self._now: tuple[Kept, Upload] | None = None
        self._resting: dict[str, Upload] = {}  # refused for a while
        self.sent_total = 0  # files that the coordinator has
        self.sent_bytes = 0  # of pieces, those sent again included
        self.resent_total = 0
        self.refused_total = 0

    # ---- told by others -------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be there to be sent, or may go now that could not before."""
        self._wake.set()

    def asked(self, sha256: str) -> None:
        """Somebody wants this file now: a rest it may be in is over, and what is being sent goes on after it."""
        self._resting.pop(sha256, None)
        if self._now is not None and self._now[0].state is not State.ASKED:
            self._now = None  # the coordinator keeps what it has of it
        self._wake.set()

    def received(self, sha256: str, payload: bytes) -> None:
        """An answer. Raises RemoteWireError for one that is none."""
        answer = decode_down(payload)
        now = self._now
        if now is None or now[0].sha256 != sha256:
            return  # about a file that is done with, or not begun: the coordinator will be asked
        if isinstance(answer, Held):
            now[1].held(answer, time.monotonic())
        else:
            now[1].refused(answer, time.monotonic())
        self._wake.set()

    def disconnected(self) -> None:
        """The connection is gone."""
        if self._now is not None:
            self._now[1].cut()
        self._wake.set()

    # ---- one file after the other ---------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while self._settings.upload is not UploadPolicy.NEVER:
            self._wake.clear()
            try:
                wait_s = await self._step()
            except EdgewrightError as error:
                log.error("evidence: not sent just now: %s", error)
                wait_s = LOOK_EVERY_S
            if wait_s > 0:
                try:
                    # Not wait_for: in Python 3.11 it swallows a cancellation that comes together with the wake-up.
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    continue

    async def _step(self) -> float:
        """Does what can be done now; says after how many seconds to look again."""
        if not self._way.has_coordinator():
            if self._now is not None:
                self._now[1].cut()
            return AWAY_S
        if self._now is None:
            self._now = await self._chosen()
            if self._now is None:
                rests_s = (upload.rest_until_s - time.monotonic() for upload in self._resting.values())
                return max(HELD_BACK_S, min([LOOK_EVERY_S, *rests_s]))
        kept, upload = self._now
        if upload.is_over:
            await self._finish(kept, upload)
            return 0.0
        if not self._way.is_free():
            return HELD_BACK_S
        what = upload.next(time.monotonic())
        if what is None:
            return max(0.01, upload.wake_s(time.monotonic()))
        return await self._send(kept, upload, what)

    async def _chosen(self) -> tuple[Kept, Upload] | None:
        """The next file to send, read through once: what is offered is what its name says."""
        now_s = time.monotonic()
        resting = frozenset(sha256 for sha256, upload in self._resting.items() if not upload.rested(now_s))
        everything = self._settings.upload is UploadPolicy.AUTO
        kept = await asyncio.to_thread(self._store.next_to_send, all_of_it=everything, without=resting)
        if kept is None:
            return None
        if not await asyncio.to_thread(self._store.files.is_sound, kept.sha256):
            await self._lost(kept)
            self._wake.set()
            return None
        upload = self._resting.pop(kept.sha256, None)
        if upload is None or upload.phase is not Phase.OFFER:
            room = self._way.payload_bytes_max() - HEAD_BYTES
            pieces = max(PIECE_BYTES_MIN, min(self._settings.chunk_bytes, room))
            upload = Upload(kept.bytes, pieces, self._resend_after_s)
        return kept, upload

    async def _send(self, kept: Kept, upload: Upload, what: Say | Piece) -> float:
        size = HEAD_BYTES if isinstance(what, Say) else what.length
        now_s = time.monotonic()
        if not self._gate.may_send(Lane.EVIDENCE, size, now_s):
            wait_s = self._gate.look_again_s(Lane.EVIDENCE, size, now_s) - now_s
            return min(LOOK_EVERY_S, max(LOOK_AGAIN_MIN_S, wait_s))
        if not self._bucket.has(size, now_s):
            return min(LOOK_EVERY_S, max(LOOK_AGAIN_MIN_S, self._bucket.wait_s(size, now_s)))
        if isinstance(what, Say):
            payload = encode_blob(offer_of(kept))
        else:
            try:
                data = await asyncio.to_thread(self._store.files.read, kept.sha256, what.at, what.length)
            except OSError:
                data = b""
            if len(data) != what.length:  # given up for its room, or damaged, while it was being sent
                self._now = None
                if await asyncio.to_thread(self._store.get, kept.sha256) is not None:
                    await self._lost(kept)
                return 0.0
            payload = encode_blob(Chunk(what.at, data))
        now_s = time.monotonic()
        topic = self._space.text(Topic(Kind.BLOB_UP, self._node, kept.sha256))
        if self._way.publish(Message(topic, payload)) is None:
            return HELD_BACK_S
        self._gate.sent(Lane.EVIDENCE, len(payload), now_s)
        self._bucket.take(len(payload), now_s)
        self.sent_bytes += len(payload)
        upload.sent(what, now_s)
        return 0.0

    async def _finish(self, kept: Kept, upload: Upload) -> None:
        """It is there, or it will not be for now."""
        self._now = None
        self.resent_total += upload.resent_total
        upload.resent_total = 0
        if upload.phase is Phase.DONE:
            self.sent_total += 1
            if await asyncio.to_thread(self._store.sent, kept):
                return
            newest = await asyncio.to_thread(self._store.get, kept.sha256)
            if newest is not None:  # meanwhile it belongs to a further event: the coordinator is to know
                self._now = newest, Upload(kept.bytes, upload.chunk_bytes, self._resend_after_s)
            return
        self.refused_total += 1
        log.warning("evidence %s refused: %s", kept.sha256[:12], upload.reason)
        if upload.phase is Phase.REFUSED:
            await asyncio.to_thread(self._store.mark, kept.sha256, State.REFUSED, upload.reason)
            self._announce("EvidenceRefused", kept.piece.camera_id, {"sha256": kept.sha256, "reason": upload.reason})
        elif len(self._resting) < RESTING_MAX:
            self._resting[kept.sha256] = upload
        else:
            await asyncio.to_thread(self._store.mark, kept.sha256, State.REFUSED, upload.reason)

    async def _lost(self, kept: Kept) -> None:
        log.error("evidence %s is damaged on the disk and given up", kept.sha256)
        self._announce("EvidenceLost", kept.piece.camera_id, {"sha256": kept.sha256, "bytes": kept.bytes})
        await asyncio.to_thread(self._store.drop_damaged, kept.sha256)

    def report(self) -> dict[str, Any]:
        """For `status`."""
        kept, upload = self._now if self._now is not None else (None, None)
        return {
            "sending": kept.sha256 if kept else "",
            "held_bytes": upload.held_bytes if upload else 0,
            "resting": len(self._resting),
            "sent_total": self.sent_total,
            "sent_bytes": self.sent_bytes,
            "resent_total": self.resent_total,
            "refused_total": self.refused_total,
        }


def offer_of(kept: Kept) -> Offer:
    """What the coordinator is told of a file before its bytes."""
    piece = kept.piece
    return Offer(
        kept.bytes,
        piece.content_type,
        piece.camera_id,
        piece.from_utc_ms,
        piece.to_utc_ms,
        piece.blurred,
        [binding.event_id for binding in kept.events[-32:]],
    )
