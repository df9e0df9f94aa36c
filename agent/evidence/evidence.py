"""Evidence as the agent runs it: seconds in memory, and of what happens a picture and a clip on disk.

    camera thread          ring thread             event loop                        maker thread
    ─────────────          ───────────             ──────────                        ────────────
    frame ──► rate ──► ◄── small JPEG ──► ring     decided: boxes of people
                                                   expect, committed: collect ──►    hide, encode, store (fsync)
                                                   outbox.append(EvidenceStored) ◄──

Both threads have the lowest priority. What they have no time for is left out and counted; nobody waits for them.
"""

import asyncio
import json
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from agent.capture.frame import Frame
from agent.capture.pyav import jpeg
from agent.degrade.switches import Switch, Switches
from agent.evidence.choose import Chooser
from agent.evidence.maker import Maker
from agent.evidence.ring import Collection, RingFrame
from agent.evidence.settings import Blur, EvidenceSettings
from agent.evidence.store import EvidenceStore
from agent.evidence.tables import Binding, Kept
from agent.evidence.watched import Watched
from agent.infer.detections import Detections, Heat
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, Row
from agent.track.tracks import Tracks
from runtime.errors import EdgewrightError
from schemas.codec import format_utc
from schemas.errors import LocalWireError
from schemas.identity import Lane

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.1
TICK_S = 30.0
GRACE_S = 3.0  # beyond post_s a camera that gives no more frames is not waited for
RING_WAITING_MAX = 4  # frames of a camera on their way into the ring; the newest is left out beyond it
WANTED_MAX = 32  # pieces to be made; the newest is left out beyond it
EXPECTED_MAX = 64  # chosen events on their way to disk
RING_QUALITY = 80
NICE = 15
PRIVATE = "a pipeline of this camera is local_only"

Key = tuple[str, str, str]
"""Type, subject and time of an event: it has no number before it is committed."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A chosen event that is being committed."""

    camera_id: str
    time_s: float | None
    draft: Draft
    frame: Frame | None
    heat: Heat | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """A piece to be made as soon as what it needs is there, or `until_s` has come."""

    watched: Watched
    binding: Binding
    time_s: float
    until_s: float
    frame: Frame | None = None
    collection: Collection | None = None
    heat: Heat | None = None


class Evidence:
    """All evidence of one node. `frame` is for the camera threads, everything else for the loop."""

    def __init__(
        self,
        settings: EvidenceSettings,
        store: EvidenceStore,
        cameras: Sequence[str],
        *,
        private: frozenset[str] = frozenset(),
        outbox: Outbox,
        switches: Switches,
        announce: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self.settings = settings
        self.store = store
        self._outbox = outbox
        self._switches = switches
        self._announce = announce
        self._private = private
        self._cameras = {camera_id: Watched(camera_id, settings) for camera_id in cameras}
        self._chooser = Chooser(settings.on, settings.cooldown_s)
        self._maker = Maker(settings)
        self._expected: OrderedDict[Key, Expected] = OrderedDict()
        self._wanted: list[Wanted] = []
        self._ring_thread = ThreadPoolExecutor(1, "evidence-ring", initializer=_low_priority)
        self._maker_thread = ThreadPoolExecutor(1, "evidence-make", initializer=_low_priority)
        self._stopping = False
        self._complaint = ""
        self.on_stored: Callable[[], None] = lambda: None  # something new is in the store
        self.on_asked: Callable[[str], None] = lambda sha256: None  # somebody wants this file
        self.stored_total = 0
        self.dropped_total = 0  # pieces left out because too many were being made
        self.failed_total = 0  # pieces that could not be made or kept
        self.clips_left_out_total = 0  # degradation, or too many clips of one camera at a time
        self.ring_dropped_total = 0  # frames the ring had no time for

    # ---- camera threads -------------------------------------------------------------------------

    def frame(self, frame: Frame) -> None:
        """Each frame of a camera. Returns at once."""
        watched = self._cameras.get(frame.camera_id)
        if watched is None or not watched.wants(frame) or self._stopping:
            return
        if watched.waiting >= RING_WAITING_MAX:
            self.ring_dropped_total += 1
            return
        watched.waiting += 1
        try:
            self._ring_thread.submit(self._keep_in_ring, watched, frame)
        except RuntimeError:  # the agent stops: the pool is closed
            watched.waiting -= 1

    def _keep_in_ring(self, watched: Watched, frame: Frame) -> None:
        try:
            data = jpeg(frame.picture, RING_QUALITY, self.settings.clip_width)
            watched.put(RingFrame(frame.time_s, frame.captured_utc_ms, data))
        except Exception:
            # A thread's boundary: one picture that cannot be encoded must not end the ring.
            self.ring_dropped_total += 1
            log.debug("evidence: a frame of %s is not in the ring", watched.camera_id, exc_info=True)
        finally:
            watched.waiting -= 1

    # ---- event loop: told by the pipelines and the outbox ---------------------------------------

    def decided(
        self,
        labels: tuple[str, ...],
        frame: Frame,
        detections: Detections,
        tracks: Tracks,
        drafts: Sequence[Draft],
    ) -> None:
        """What a model saw in a frame, and what was decided from it."""
        watched = self._cameras.get(frame.camera_id)
        if watched is None:
            return
        watched.found(frame, labels, detections, tracks)
        watched.let_go(frame.time_s)
        if self.settings.jpeg and any(self._chooser.concerns(draft) for draft in drafts):
            watched.hold(frame)

    def show(self, drafts: Sequence[Draft], frames: Iterable[Frame]) -> None:
        """Facts about pictures that were before: those are held until the facts are committed."""
        times_ms = {draft.time_utc_ms for draft in drafts if self._chooser.concerns(draft)}
        for frame in frames:
            watched = self._cameras.get(frame.camera_id)
            if watched is not None and self.settings.jpeg and frame.captured_utc_ms in times_ms:
                watched.hold(frame)

    def expect(self, drafts: Sequence[Draft]) -> None:
        """Facts on their way to the outbox."""
        for draft in drafts:
            if not self._chooser.concerns(draft):
                continue
            watched = self._cameras.get(str(draft.data.get("camera_id")))
            if watched is None or not self._chooser.takes(draft, time.monotonic()):
                continue
            time_s = draft.data.get("time_s")
            at_s = float(time_s) if isinstance(time_s, int | float) else None
            frame = watched.held(draft.time_utc_ms)
            self._expected[_key(draft)] = Expected(
                watched.camera_id, at_s, draft, frame, watched.heat(draft.time_utc_ms)
            )
            if len(self._expected) > EXPECTED_MAX:
                self._expected.popitem(last=False)
                self.dropped_total += 1

    def committed(self, rows: Sequence[Row]) -> None:
        """Rows with the numbers they got."""
        if not self._expected:
            return
        kinds = {kind for kind, _, _ in self._expected}
        for row in rows:
            if row.type in kinds and row.payload[:1] == b"{":
                fields = json.loads(row.payload)
                expected = self._expected.pop((row.type, fields["subject"], fields["time"]), None)
                if expected is not None:
                    self._begin(expected, fields["id"])

    def _begin(self, expected: Expected, event_id: str) -> None:
        watched, draft, settings = self._cameras[expected.camera_id], expected.draft, self.settings
        time_s = watched.newest_s if expected.time_s is None else expected.time_s
        if time_s is None:  # an event about a camera that has given no picture
            return
        severity = draft.severity.value if draft.severity else ""
        alert_id = str(draft.data.get("alert_id", ""))
        binding = Binding(event_id, draft.type, draft.time_utc_ms, alert_id, severity)
        now_s = time.monotonic()
        if settings.jpeg:
            self._want(Wanted(watched, binding, time_s, now_s + GRACE_S, expected.frame, heat=expected.heat))
        if not settings.clip:
            return
        collection = watched.collect(time_s) if self._switches.is_on(Switch.EVIDENCE_CLIPS) else None
        if collection is None:
            self.clips_left_out_total += 1
        else:
            until_s = now_s + settings.post_s + GRACE_S
            self._want(Wanted(watched, binding, time_s, until_s, collection=collection))

    def _want(self, wanted: Wanted) -> None:
        if len(self._wanted) < WANTED_MAX:
            self._wanted.append(wanted)
            return
        self.dropped_total += 1
        if wanted.collection is not None:
            wanted.watched.collected(wanted.collection)

    # ---- event loop: making ---------------------------------------------------------------------

    async def run(self) -> None:
        """Mends what the last end left behind, then makes one piece after the other until cancelled."""
        healed = await asyncio.to_thread(self.store.heal)
        if healed.anything:
            log.warning("evidence: mended at the start: %s", asdict(healed))
            self._announce("EvidenceHealed", "evidence", asdict(healed))
        await self._tell()
        tick_due_s = 0.0
        while True:
            now_s = time.monotonic()
            if now_s >= tick_due_s:
                tick_due_s = now_s + TICK_S
                await self._tick()
            ready = next((wanted for wanted in self._wanted if self._is_ready(wanted, now_s)), None)
            if ready is None:
                await asyncio.sleep(LOOK_EVERY_S)
                continue
            await self._make(ready)
            self._wanted.remove(ready)

    def _is_ready(self, wanted: Wanted, now_s: float) -> bool:
        if now_s >= wanted.until_s:
            return True
        if wanted.collection is not None:
            return wanted.collection.complete
        if self.settings.blur is not Blur.NONE and not wanted.watched.looked_beyond(wanted.time_s):
            return False
        return wanted.frame is not None or wanted.watched.nearest(wanted.time_s) is not None

    async def _make(self, wanted: Wanted) -> None:
        if wanted.collection is not None:
            wanted.watched.collected(wanted.collection)
        loop = asyncio.get_running_loop()
        try:
            made = await loop.run_in_executor(self._maker_thread, self._made, wanted)
        except EdgewrightError as error:
            self._failed(str(error))
        except Exception as error:
            # A picture that the codec does not take is not worth the agent.
            log.exception("evidence of %s cannot be made", wanted.watched.camera_id)
            self._failed(f"defect: {error!r}")
        else:
            if not made:
                self._failed(f"camera {wanted.watched.camera_id} has no picture of that moment")
                return
            self.stored_total += made
            self._complaint = ""
        await self._tell()

    def _made(self, wanted: Wanted) -> int:
        """In the maker's thread: makes and stores; says how many files it were."""
        watched, boxes = wanted.watched, wanted.watched.boxes()
        if wanted.collection is not None:
            if not wanted.collection.frames:
                return 0
            pieces = self._maker.clip(watched.camera_id, wanted.collection.frames, boxes.at)
        else:
            source = wanted.frame or watched.nearest(wanted.time_s)
            if source is None:
                return 0
            pieces = self._maker.still(watched.camera_id, source, boxes.at, wanted.heat)
        count = 0
        for made in pieces:
            piece = made.piece
            if watched.camera_id in self._private:
                piece = replace(piece, local_only=True, reason=PRIVATE)
            self.store.put(made.data, piece, wanted.binding)
            count += 1
        return count

    async def _tell(self) -> None:
        """The event of each piece that is stored and not yet told of, also from before the start."""
        try:
            for kept, binding in await asyncio.to_thread(self.store.untold):
                await self._outbox.append([stored_event(kept, binding)])
                await asyncio.to_thread(self.store.told, kept.sha256, binding.event_id)
        except (EdgewrightError, LocalWireError) as error:
            self._failed(f"EvidenceStored not told: {error}")
        self.on_stored()

    async def _tick(self) -> None:
        try:
            shed = await asyncio.to_thread(self.store.tick)
        except EdgewrightError as error:
            self._failed(str(error))
            return
        if shed:
            log.info("evidence: %d pieces given up: too old, or room was needed", shed)

    def _failed(self, reason: str) -> None:
        self.failed_total += 1
        if reason != self._complaint:  # said once, however often it happens
            log.error("%s", reason)
            self._announce("EvidenceFailed", "evidence", {"reason": reason})
        self._complaint = reason

    # ---- for the owner --------------------------------------------------------------------------

    def close(self) -> None:
        """Blocks until the piece in hand is made, then lets go of the store."""
        self._stopping = True
        self._ring_thread.shutdown(cancel_futures=True)
        self._maker_thread.shutdown(cancel_futures=True)
        self.store.close()

    def report(self) -> dict[str, Any]:
        """For `status`; blocks shortly for the store."""
        return {
            **self.store.figures(),
            "stored_total": self.stored_total,
            "making": len(self._wanted),
            "dropped_total": self.dropped_total,
            "failed_total": self.failed_total,
            "clips_left_out_total": self.clips_left_out_total,
            "ring_dropped_total": self.ring_dropped_total,
            "cooled_total": self._chooser.cooled_total,
            "frames_unknown_total": self._maker.frames_unknown_total,
            "problem": self._complaint,
        }


def stored_event(kept: Kept, binding: Binding) -> Draft:
    """`EvidenceStored`: this file is kept here and belongs to that event."""
    piece = kept.piece
    data = {
        "sha256": kept.sha256,
        "bytes": kept.bytes,
        "content_type": piece.content_type,
        "camera_id": piece.camera_id,
        "event_id": binding.event_id,
        "event_type": binding.event_type,
        "alert_id": binding.alert_id,
        "from_utc_ms": piece.from_utc_ms,
        "to_utc_ms": piece.to_utc_ms,
        "width": piece.width,
        "height": piece.height,
        "blurred": piece.blurred,
        "local_only": piece.local_only,
        "reason": piece.reason,
        "view": piece.view,
    }
    return Draft(Lane.EVIDENCE, "EvidenceStored", piece.camera_id, binding.time_utc_ms, data)


def _key(draft: Draft) -> Key:
    return draft.type, draft.subject, format_utc(draft.time_utc_ms)


def _low_priority() -> None:
    """On Linux the niceness belongs to the thread. Where it does not, everything goes on as it is."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    except OSError:
        log.debug("evidence: the thread keeps its priority")
