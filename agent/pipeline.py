"""One frame's life, top to bottom. Read this file first.

    camera thread          infer thread             event loop
    ─────────────          ────────────             ──────────
    offer(frame)    ─►     (newest frame wins)  ─►  deliver(result)
      prepare tensor         invoke                   decode ─► track ─► decide ─► outlet ─► outbox.append

A pipeline is one model on one camera. While the loop decides about one frame, the model already runs on the next.
Another model may take the place of the first between two frames: each frame says which *edition* it is prepared for.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.capture.frame import Frame
from agent.capture.slot import Keep, Slot
from agent.decide.decider import Decider
from agent.decide.facts import EventFact, Fact
from agent.decide.settings import AlertRuleSettings
from agent.degrade.switches import Switch, Switches
from agent.degrade.throttle import Throttle
from agent.infer.decode import Decoder
from agent.infer.detections import Detections
from agent.infer.preprocess import Preprocessor
from agent.infer.worker import Result, Work
from agent.outbox.outbox import Outbox
from agent.outbox.rows import Draft, draft_of
from agent.stages.place import Seat
from agent.sync.outlet import Outlet
from agent.track.tracker import Tracker
from agent.track.tracks import Tracks
from runtime.mailbox import Mailbox
from schemas.errors import LocalWireError
from schemas.identity import Lane

log = logging.getLogger(__name__)

RESULTS_MAX = 8  # results waiting for loop or disk; then the inference thread waits, and newer frames win
LATENCY_WINDOW = 1000
Decided = Callable[[tuple[str, ...], Frame, Detections, Tracks, Sequence[Draft]], None]
"""Told of each frame with the labels by class id, what was seen in it and decided from it; returns at once."""


@dataclass(frozen=True, slots=True)
class PipelineStats:
    """Figures since the pipeline began; latencies over the last LATENCY_WINDOW frames."""

    frames_total: int = 0  # decided and committed
    detections_total: int = 0
    refused_total: int = 0  # facts that could not be sent, each reported in the log
    latency_ms_p50: float = 0.0  # captured to committed
    latency_ms_p99: float = 0.0


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the outputs of one edition of the model are read."""

    decoder: Decoder
    classes: NDArray[np.int32] | None = None  # the pipeline's class for each of the model's; None: the same


class Pipeline:
    """Takes frames from a camera thread and raw results from the inference thread; everything else is on the loop."""

    def __init__(
        self,
        name: str,
        *,
        slot: Slot[Work],
        preprocessor: Preprocessor,
        decoder: Decoder,
        tracker: Tracker,
        decider: Decider,
        outbox: Outbox,
        labels: tuple[str, ...],
        stopped: Callable[[], bool],
        sample_interval_s: float,
        live: bool,
        throttle: Throttle,
        switches: Switches,
        outlet: Outlet,
        decided: Decided | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.name = name
        self._slot = slot
        self._prepared_for = (0, preprocessor)  # edition of the model; read as one by the camera thread
        self._readings = {0: _Reading(decoder)}  # by edition, the newest last
        self._tracker = tracker
        self._decider = decider
        self._outbox = outbox
        self._labels = labels
        self._by_class = np.zeros(len(labels) + 1, np.int64)
        self._stopped = stopped
        self._sample_interval_s = sample_interval_s
        self._live = live
        self._throttle = throttle
        self._switches = switches
        self._outlet = outlet
        self._on_decided = decided
        self._seat = seat  # at a platform's stage
        self._results: asyncio.Queue[Result] = asyncio.Queue()
        self._arrived = Mailbox(asyncio.get_running_loop(), self._results.put_nowait)
        self._room = threading.Semaphore(RESULTS_MAX)
        self._last: Frame | None = None
        self._sample_due_s: float | None = None
        self._decided = self._committed = self._detections = self._refused = 0
        self._offered = self._delivered = 0
        self._given_up = 0  # results the loop had no room for when the camera was stopped
        self._latencies_ms: deque[float] = deque(maxlen=LATENCY_WINDOW)

    # ---- camera thread --------------------------------------------------------------------------

    def offer(self, frame: Frame) -> None:
        """Prepares the model's input and leaves it for the inference thread."""
        if self._throttle.disabled or not self._throttle.is_due(frame.time_s):
            return
        if self._slot.keep is Keep.NEWEST and not self._throttle.takes():  # a replay is complete, however slow
            return
        edition, preprocessor = self._prepared_for
        tensor, placement = preprocessor.prepare(frame.picture)
        if self._slot.put(Work(self.name, frame, tensor, placement, edition), self._stopped):
            self._offered += 1
            if self._seat is not None:
                self._seat.look(frame)  # while the model runs

    # ---- inference thread -----------------------------------------------------------------------

    def deliver(self, result: Result) -> None:
        """Hands a raw result to the loop; waits while the loop is RESULTS_MAX behind."""
        while not self._room.acquire(timeout=0.1):
            if self._stopped():
                self._given_up += 1
                return
        self._delivered += 1
        self._arrived.put(result)

    # ---- event loop -----------------------------------------------------------------------------

    async def run(self) -> None:
        """Decides about one frame after the other until cancelled; commits overlap, in order."""
        async with asyncio.TaskGroup() as commits:
            while True:
                result = await self._next()
                if result is None:
                    await self._tick()
                    continue
                drafts = self._decide(result)
                commits.create_task(self._commit(drafts, result.frame), name=f"pipeline[{self.name}].commit")

    def _decide(self, result: Result) -> list[Draft]:
        frame = result.frame
        width, height = frame.picture.width, frame.picture.height
        detections = self._read(result, width, height)
        if self._seat is not None:
            self._seat.seen(frame, self._labels, detections)  # first: a part on the belt does not wait
        tracks = self._tracker.update(detections, frame.time_s)
        facts = self._decider.update(tracks, frame.time_s, width, height)
        self._last = frame
        self._decided += 1
        self._detections += len(detections)
        np.add.at(self._by_class, detections.class_id, 1)
        drafts = [self._draft(fact, frame, result.invoke_ms) for fact in facts]
        if sample := self._sample(frame):
            drafts.append(sample)
        leaving = [*self._outlet.leaving(drafts), *self._outlet.frame(self._decider.view, frame)]
        if self._on_decided is not None:
            self._on_decided(self._labels, frame, detections, tracks, leaving)
        return leaving

    def _read(self, result: Result, width: int, height: int) -> Detections:
        while next(iter(self._readings)) < result.edition:  # in order: none of an earlier edition comes any more
            del self._readings[next(iter(self._readings))]
        reading = self._readings[result.edition]
        found = reading.decoder.decode(result.outputs, result.placement, width, height)
        if reading.classes is None:
            return found
        return replace(found, class_id=reading.classes[found.class_id])

    async def _commit(self, drafts: list[Draft], frame: Frame) -> None:
        try:
            await self._keep(drafts, frame)
            self._committed += 1
            self._latencies_ms.append((time.monotonic_ns() - frame.captured_mono_ns) / 1e6)
        finally:
            self._room.release()

    async def _keep(self, drafts: list[Draft], frame: Frame) -> None:
        """Returns when the drafts are on disk."""
        if not drafts:
            return
        try:
            await self._outbox.append(drafts)
        except LocalWireError as error:
            self._refused += len(drafts)
            log.error("pipeline %s: frame %d: %d facts not kept: %s", self.name, frame.index, len(drafts), error)

    def _draft(self, fact: Fact, frame: Frame, invoke_ms: float = 0.0) -> Draft:
        late_ms = round((fact.time_s - frame.time_s) * 1000)
        draft = draft_of(fact, camera_id=frame.camera_id, time_utc_ms=frame.captured_utc_ms + late_ms)
        if isinstance(fact, EventFact) and fact.type == "FrameAnalyzed":
            timing = {"captured_mono_ns": frame.captured_mono_ns, "invoke_ms": round(invoke_ms, 3)}
            return Draft(draft.lane, draft.type, draft.subject, draft.time_utc_ms, {**draft.data, "timing": timing})
        return draft

    def _sample(self, frame: Frame) -> Draft | None:
        """The routine figures of this camera, now and then; they travel in batches."""
        if self._sample_interval_s <= 0:
            return None
        if self._sample_due_s is None:
            self._sample_due_s = frame.time_s + self._sample_interval_s
        if frame.time_s < self._sample_due_s:
            return None
        self._sample_due_s = frame.time_s + self._sample_interval_s
        if not self._switches.is_on(Switch.SAMPLES):
            return None
        data = {
            "camera_id": frame.camera_id,
            "pipeline": self.name,
            "time_s": round(frame.time_s, 3),
            "frames_total": self._decided,
            "detections_total": self._detections,
            "totals": self._decider.counts(),
            "now": self._decider.occupancy(),
        }
        return Draft(Lane.SAMPLE, "StreamSample", frame.camera_id, frame.captured_utc_ms, data)

    # ---- time without frames --------------------------------------------------------------------

    async def _next(self) -> Result | None:
        """The next result; None when a decision falls due before one comes (live cameras only)."""
        due_s = self._decider.wake_at() if self._live else None
        if due_s is None or self._last is None or not self._results.empty():
            return await self._results.get()
        try:
            async with asyncio.timeout(max(0.05, due_s - self._camera_time_s(self._last))):
                return await self._results.get()
        except TimeoutError:
            return None

    async def _tick(self) -> None:
        assert self._last is not None
        facts = self._decider.tick(self._camera_time_s(self._last))
        drafts = [self._draft(fact, self._last) for fact in facts]
        await self._keep(self._outlet.leaving(drafts), self._last)

    @staticmethod
    def _camera_time_s(last: Frame) -> float:
        """What the camera's clock shows now, going by its last frame."""
        return last.time_s + (time.monotonic_ns() - last.captured_mono_ns) / 1e9

    # ---- for the owner --------------------------------------------------------------------------

    async def finish(self, *, failed: Callable[[], int], deadline_s: float = 10.0) -> None:
        """The camera has ended: waits for the frames on their way, then ends its objects and alerts.

        `failed` counts the frames the inference thread took and gave up.
        """
        until_s = time.monotonic() + deadline_s
        while time.monotonic() < until_s:
            under_way = self._offered - self._slot.replaced - failed() - self._delivered - self._given_up
            if under_way <= 0 and self._results.empty() and self._committed >= self._delivered:
                break
            await asyncio.sleep(0.02)
        if self._last is not None:
            facts = self._decider.finish(self._last.time_s)
            drafts = [self._draft(fact, self._last) for fact in facts]
            await self._keep([*self._outlet.leaving(drafts), *self._outlet.finish()], self._last)

    def decode_with(self, decoder: Decoder) -> None:
        """From the next frame on: another threshold, or other classes."""
        newest = max(self._readings)
        self._readings[newest] = replace(self._readings[newest], decoder=decoder)

    def change_model(
        self, edition: int, preprocessor: Preprocessor, decoder: Decoder, labels: tuple[str, ...]
    ) -> None:
        """From the next frame on it is prepared for another model, which whoever infers has as `edition` already.

        Classes are the same by their names: tracks, counts and alerts go on.
        """
        self._labels += tuple(label for label in dict.fromkeys(labels) if label not in self._labels)
        self._by_class = np.pad(self._by_class, (0, len(self._labels) + 1 - len(self._by_class)))
        self._decider.know(self._labels)
        same = labels == self._labels[: len(labels)]
        classes = None if same else np.array([self._labels.index(label) for label in labels], np.int32)
        self._readings[edition] = _Reading(decoder, classes)
        self._prepared_for = (edition, preprocessor)

    def mute(self, rules: frozenset[str]) -> None:
        """From the next frame on these alert rules, and no others, raise no alert."""
        self._decider.mute(rules)

    def watch(self, rules: Mapping[str, AlertRuleSettings]) -> None:
        """From the next frame on these alert rules too, and no others beside the configured ones."""
        self._decider.watch(rules)

    def watch_mistakes(self, rule: AlertRuleSettings) -> list[str]:
        """Why it cannot watch for a rule; empty where it can."""
        return self._decider.watch_mistakes(rule)

    def stats(self) -> PipelineStats:
        """Figures for the heartbeat."""
        p50, p99 = np.percentile(self._latencies_ms, (50, 99)) if self._latencies_ms else (0.0, 0.0)
        return PipelineStats(self._committed, self._detections, self._refused, float(p50), float(p99))

    @property
    def class_counts(self) -> dict[str, int]:
        """Detections by class since the pipeline began."""
        return {
            self._labels[class_id]: count
            for class_id, count in enumerate(self._by_class.tolist())
            if count and class_id < len(self._labels)
        }

    @property
    def dropped_total(self) -> int:
        """Frames replaced by a newer one before the model was free."""
        return self._slot.replaced
