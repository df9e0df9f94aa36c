"""One inspection station on the frame path.

    camera thread        event loop
    ─────────────        ──────────
    look(frame)  ─►      seen(model, frame, detections) ─► Station ─► outcomes ─► PLC at once, outbox after
                         signal, given (local broker, input line, command) ─┘

The picture is looked at while the model runs on it. A station lives as long as its camera runs;
`begin` makes the next.
"""

import asyncio
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

from agent.capture.frame import Frame
from agent.capture.picture import luma
from agent.infer.detections import Detections
from agent.inspection.codes import read_codes
from agent.inspection.files import load_calibration, load_reference
from agent.inspection.telling import Speaker
from agent.sync.outlet import Outlet
from platforms.manufacturing.inspection.calibration import Calibration
from platforms.manufacturing.inspection.findings import Finding, Sighting
from platforms.manufacturing.inspection.outcomes import Judged, Outcome
from platforms.manufacturing.inspection.picture import Look, Reference, is_shifted, look_at
from platforms.manufacturing.inspection.settings import CODES, InspectionSettings, Moves
from platforms.manufacturing.inspection.station import Station

log = logging.getLogger(__name__)

LOOKS_MAX = 64  # pictures looked at and not yet asked for
SHIFT_EVERY_S = 0.25
READS_MAX = 4  # attempts to read the code of one part, on different pictures


@dataclass(frozen=True, slots=True)
class Said:
    """Outcomes with what telling them needs. frames: the pictures they are about, by index."""

    stage: "Stage"
    outlet: Outlet | None  # None: the camera was never started, so nobody takes facts
    speaker: Speaker
    outcomes: Sequence[Outcome]
    decision_ms: float
    last: Frame | None
    frames: dict[int, Frame]

    def utc_ms(self, index: int, time_s: float) -> int:
        """Of a picture; of one that is not held, by the last one's clock."""
        frame = self.frames.get(index)
        if frame is not None:
            return frame.captured_utc_ms
        if self.last is None:
            return time.time_ns() // 1_000_000
        return self.last.captured_utc_ms + round((time_s - self.last.time_s) * 1000)


class Stage:
    """A station of this node. `look` is for the camera's thread, everything else for the loop."""

    def __init__(
        self,
        settings: InspectionSettings,
        camera_id: str,
        pipeline: str,
        *,
        say: Callable[[Said], None],
        readers: Executor,
    ) -> None:
        self.settings = settings
        self.camera_id = camera_id
        self.pipeline = pipeline
        self.name = settings.station or pipeline
        self.models = (pipeline, *settings.also)
        self._say = say
        self._readers = readers
        self._loop = asyncio.get_running_loop()
        self._station: Station | None = None
        self._speaker = Speaker(self.name, camera_id, pipeline, pipeline)
        self._outlet: Outlet | None = None
        self._reference: Reference | None = None
        self._files: tuple[Calibration | None, Reference | None] | None = None
        self._live = True
        self._looks: OrderedDict[int, tuple[Look, bool]] = OrderedDict()
        self._shift_due_s = 0.0
        self._shifted = False
        self._frames: dict[int, Frame] = {}
        self._last: Frame | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._tried: OrderedDict[int, set[int]] = OrderedDict()  # pictures that a part's code was looked for in
        self._reading: set[int] = set()
        self._answers: dict[float, asyncio.Future[Judged]] = {}  # by the camera time of the signal
        self.last: Judged | None = None
        self.looked_late_total = 0  # pictures that the loop had to look at itself

    def load(self) -> None:
        """Reads the station's files; for a thread. Raises ConfigError."""
        self._files = load_calibration(self.settings.calibration), load_reference(self.settings.camera)

    def begin(self, run: str, outlet: Outlet, *, live: bool) -> None:
        """The camera starts: parts are counted anew, under the name of this run. Raises ConfigError."""
        if self._files is None:
            self.load()
        assert self._files is not None
        calibration, self._reference = self._files
        self._station = Station(self.settings, self.models, calibration)
        self._speaker = Speaker(self.name, self.camera_id, self.pipeline, run)
        self._outlet, self._live = outlet, live
        self._looks.clear()
        self._frames.clear()
        self._tried.clear()
        self._last, self._shift_due_s, self._shifted = None, 0.0, False

    # ---- camera thread --------------------------------------------------------------------------

    def look(self, frame: Frame) -> None:
        """How the picture is, and where parts are in it; once, whichever pipeline comes first."""
        if frame.index in self._looks:
            return
        looked = self._looked(frame)
        self._looks[frame.index] = looked
        while len(self._looks) > LOOKS_MAX:
            self._looks.popitem(last=False)

    def _looked(self, frame: Frame) -> tuple[Look, bool]:
        settings, plane = self.settings, luma(frame.picture)
        look = look_at(plane, settings.part, settings.camera, settings.region)
        if self._reference is not None and not look.faults and abs(frame.time_s - self._shift_due_s) >= SHIFT_EVERY_S:
            self._shift_due_s = frame.time_s
            self._shifted = is_shifted(self._reference.shift(plane), settings.camera)
        return look, self._shifted

    # ---- event loop: told -----------------------------------------------------------------------

    def seen(self, model: str, frame: Frame, labels: Sequence[str], detections: Detections) -> None:
        """What a model found in a picture."""
        station = self._station
        if station is None:
            return
        looked = self._looks.get(frame.index)
        if looked is None:
            self.looked_late_total += 1
            looked = self._looked(frame)
        found = [
            Finding(labels[class_id] if class_id < len(labels) else f"class_{class_id}", confidence, tuple(box))
            for class_id, confidence, box in zip(
                detections.class_id.tolist(), detections.confidence.tolist(), detections.xyxy.tolist(), strict=True
            )
        ]
        if self._last is None or frame.index > self._last.index:
            self._last = frame
        self._frames[frame.index] = frame
        self._told(station.frame(model, frame.index, frame.time_s, looked[0], found, shifted=looked[1]))
        self._read_codes()

    def signal(self, at_mono_ns: int, serial: str = "") -> bool:
        """A part is there. False: the camera has given no picture yet; that is said."""
        if self._station is None or self._last is None:
            station = self._station or Station(self.settings, self.models, None)
            nothing = list(station.nothing(0.0, serial, 0.0, 0.0))
            self._say(Said(self, self._outlet, self._speaker, nothing, 0.0, None, {}))
            return False
        self._told(self._station.signal(self._camera_time_s(at_mono_ns), serial))
        self._read_codes()
        return True

    def given(self, serial: str) -> None:
        """The serial number of the next part."""
        if self._station is not None and self._last is not None:
            self._told(self._station.given(self._now_s(), serial))

    async def answer(self, at_mono_ns: int, serial: str, wait_s: float) -> Judged | None:
        """As `signal`, and what comes of it; None: nothing within `wait_s`, or the same part again."""
        if self._last is None:
            return None
        at_s = self._camera_time_s(at_mono_ns)
        waiting: asyncio.Future[Judged] = self._loop.create_future()
        self._answers[at_s] = waiting
        try:
            self.signal(at_mono_ns, serial)
            async with asyncio.timeout(wait_s):
                return await waiting
        except TimeoutError:
            return None
        finally:
            self._answers.pop(at_s, None)

    def _told(self, outcomes: Sequence[Outcome]) -> None:
        station, last = self._station, self._last
        assert station is not None and last is not None
        if outcomes and self._outlet is not None:
            for outcome in outcomes:
                if isinstance(outcome, Judged):
                    self.last = outcome
                    waiting = self._answers.get(outcome.asked_s)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(outcome)
            judged = [one for one in outcomes if isinstance(one, Judged)]
            decision_ms = (self._now_s() - judged[0].asked_s) * 1000 if judged else 0.0
            self._say(
                Said(self, self._outlet, self._speaker, outcomes, max(0.0, decision_ms), last, dict(self._frames))
            )
        wanted = station.wanted()
        self._frames = {index: frame for index, frame in self._frames.items() if index in wanted}
        self._arm(station)

    # ---- event loop: time -----------------------------------------------------------------------

    def _arm(self, station: Station) -> None:
        """What waits for time to pass is asked again then; the time of a recording passes with its frames."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s = station.wake_at()
        if due_s is not None and due_s != float("inf") and self._live:
            self._timer = self._loop.call_later(max(0.001, due_s - self._now_s()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._station is not None:
            self._told(self._station.tick(self._now_s()))

    def _now_s(self) -> float:
        return self._camera_time_s(time.monotonic_ns())

    def _camera_time_s(self, at_mono_ns: int) -> float:
        """What the camera's clock showed at that moment, going by its last frame."""
        last = self._last
        assert last is not None
        if not self._live:
            return last.time_s
        return last.time_s + (at_mono_ns - last.captured_mono_ns) / 1e9

    # ---- event loop: codes ----------------------------------------------------------------------

    def _read_codes(self) -> None:
        """Looks for the code of each part that has none yet, in a thread, on the best picture not tried yet."""
        station = self._station
        assert station is not None
        for part, sightings in station.unread():
            if part in self._reading:
                continue
            tried = self._tried.setdefault(part, set())
            fresh = [one for one in sightings if one.index in self._frames and one.index not in tried]
            if not fresh or len(tried) >= READS_MAX:
                continue
            best = max(fresh, key=lambda one: one.quality)
            tried.add(best.index)
            while len(self._tried) > LOOKS_MAX:
                self._tried.popitem(last=False)
            self._reading.add(part)
            reading = self._loop.run_in_executor(self._readers, self._read, self._frames[best.index], best)
            reading.add_done_callback(functools.partial(self._was_read, station, part))

    def _read(self, frame: Frame, sighting: Sighting) -> str:
        """In a thread: the first code on the part; empty: there is none."""
        plane = luma(frame.picture)
        if sighting.span is not None:
            a, b = max(0, int(sighting.span.start) - 8), int(sighting.span.end) + 8
            plane = plane[a:b] if self.settings.part.moves in (Moves.UP, Moves.DOWN) else plane[:, a:b]
        return next(iter(read_codes(plane)), "")

    def _was_read(self, station: Station, part: int, done: "asyncio.Future[str]") -> None:
        self._reading.discard(part)
        if done.cancelled() or station is not self._station:
            return
        if done.exception() is not None:
            log.error("inspection %s: reading codes failed", self.name, exc_info=done.exception())
            return
        if done.result():
            self._told(station.read(part, done.result()))
        else:
            self._read_codes()

    # ---- asked ----------------------------------------------------------------------------------

    @property
    def speaker(self) -> Speaker:
        return self._speaker

    def report(self) -> dict[str, Any]:
        """For `status`."""
        station, last = self._station, self.last
        totals = station.totals if station else None
        return {
            "station": self.name,
            "camera": self.camera_id,
            "pipelines": list(self.models),
            "parts": totals.parts if totals else 0,
            "verdicts": dict(totals.verdicts) if totals else {},
            "defects": dict(totals.defects) if totals else {},
            "problems": {str(kind): count for kind, count in totals.problems.items()} if totals else {},
            "camera_faults": station.camera_faults if station else [],
            "waiting": station.waiting if station else 0,
            "last_verdict": last.verdict.value if last else "",
            "last_code": CODES[last.verdict] if last else 0,
            "looked_late_total": self.looked_late_total,
        }


@dataclass(frozen=True, slots=True)
class Seat:
    """A pipeline's place at a station: what its frame path calls."""

    stage: Stage
    model: str

    def look(self, frame: Frame) -> None:
        """In the camera's thread, once the model has its input."""
        self.stage.look(frame)

    def seen(self, frame: Frame, labels: Sequence[str], detections: Detections) -> None:
        self.stage.seen(self.model, frame, labels, detections)
