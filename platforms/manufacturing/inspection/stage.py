"""An inspection station on the frame path: the stage `manufacturing.inspection`.

    camera thread        event loop
    ─────────────        ──────────
    look(picture) ─►     seen(pipeline, picture, found) ─► Station ─► outcomes ─► PLC at once, outbox after
                         signal, given (local broker, input line, call) ─┘

The picture is looked at while the model runs on it. A `Station` lives as long as its camera runs; `begin` makes the
next.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from platforms.calibration import Calibration
from platforms.functions import stage
from platforms.manufacturing.inspection.codes import read_codes
from platforms.manufacturing.inspection.files import load_calibration, load_reference, station_mistakes
from platforms.manufacturing.inspection.findings import Sighting
from platforms.manufacturing.inspection.outcomes import Judged, Outcome
from platforms.manufacturing.inspection.picture import Look, Reference, is_shifted, look_at
from platforms.manufacturing.inspection.settings import (
    CODES,
    InspectionSettings,
    Moves,
    Trigger,
    inspection_mistakes,
)
from platforms.manufacturing.inspection.station import Station
from platforms.manufacturing.inspection.telling import Speaker, facts, messages, plain
from platforms.stages import Found, InputLine, Machine, Picture, Place, Stage, StageTable, Timer, Wires

KIND = "manufacturing.inspection"
LOOKS_MAX = 64  # pictures looked at and not yet asked for
SHIFT_EVERY_S = 0.25
READS_MAX = 4  # attempts to read the code of one part, on different pictures
PAYLOAD_BYTES_MAX = 4096


@stage("inspection")
def inspection(table: StageTable) -> "InspectionStage":
    """Of `[pipelines.stage]`. Raises StageError."""
    settings = table.read(InspectionSettings, inspection_mistakes)
    file, reference = settings.calibration.file, settings.camera.reference
    settings = replace(
        settings,
        calibration=replace(settings.calibration, file=table.folder / file if file else None),
        camera=replace(settings.camera, reference=table.folder / reference if reference else None),
    )
    return InspectionStage(settings, table.pipelines)


class InspectionStage(Stage):
    """A station of this node."""

    def __init__(self, settings: InspectionSettings, models: Sequence[str]) -> None:
        """`models`: the pipelines that look, the station's own first."""
        self.settings = settings
        self.name = settings.station or models[0]
        self.models = tuple(models)
        self._station: Station | None = None
        self._speaker = Speaker(self.name, models[0])
        self._reference: Reference | None = None
        self._files: tuple[Calibration | None, Reference | None] = None, None
        self._looks: OrderedDict[int, tuple[Look, bool]] = OrderedDict()
        self._shift_due_s = 0.0
        self._shifted = False
        self._pictures: dict[int, Picture] = {}
        self._timer: Timer | None = None
        self._tried: OrderedDict[int, set[int]] = OrderedDict()  # pictures that a part's code was looked for in
        self._reading: set[int] = set()
        self._answers: dict[float, asyncio.Future[Judged]] = {}  # by the camera time of the signal
        self.last: Judged | None = None
        self.looked_late_total = 0  # pictures that the loop had to look at itself

    @property
    def wires(self) -> Wires:
        signal, serial = self.settings.signal, self.settings.serial
        return Wires(
            topics=tuple(dict.fromkeys(topic for topic in (signal.topic, serial.topic) if topic)),
            line=InputLine(signal.chip, signal.line, signal.active_low) if signal.line != "" else None,
            publishes=bool(self.settings.output.topic),
        )

    def mistakes(self, machine: Machine, labels: Collection[str]) -> list[str]:
        return station_mistakes(self.settings, machine, labels)

    def open(self, place: Place) -> None:
        super().open(place)
        self._speaker = Speaker(self.name, place.run)

    def load(self, machine: Machine) -> None:
        self._files = load_calibration(self.settings.calibration), load_reference(self.settings.camera, machine)

    def begin(self) -> None:
        """Parts are counted anew, under the name of this run."""
        calibration, self._reference = self._files
        self._station = Station(self.settings, self.models, calibration)
        self._speaker = Speaker(self.name, self.place.run)
        for kept in (self._looks, self._pictures, self._tried, self._reading):
            kept.clear()
        self._timer, self._shift_due_s, self._shifted = None, 0.0, False

    # ---- camera thread --------------------------------------------------------------------------

    def look(self, picture: Picture) -> None:
        """How the picture is, and where parts are in it."""
        self._looks[picture.index] = self._looked(picture)
        while len(self._looks) > LOOKS_MAX:
            self._looks.popitem(last=False)

    def _looked(self, picture: Picture) -> tuple[Look, bool]:
        settings, plane = self.settings, picture.luma()
        look = look_at(plane, settings.part, settings.camera, settings.region)
        due = abs(picture.time_s - self._shift_due_s) >= SHIFT_EVERY_S
        if self._reference is not None and not look.faults and due:
            self._shift_due_s = picture.time_s
            self._shifted = is_shifted(self._reference.shift(plane), settings.camera)
        return look, self._shifted

    # ---- event loop: told -----------------------------------------------------------------------

    def seen(self, pipeline: str, picture: Picture, found: Sequence[Found]) -> None:
        station = self._station
        if station is None:
            return
        looked = self._looks.get(picture.index)
        if looked is None:
            self.looked_late_total += 1
            looked = self._looked(picture)
        self._pictures[picture.index] = picture
        self._told(station.frame(pipeline, picture.index, picture.time_s, looked[0], found, shifted=looked[1]))
        self._read_codes()

    def heard(self, topic: str, payload: bytes) -> None:
        serial = serial_in(payload)
        if topic == self.settings.signal.topic:
            self.signal(time.monotonic_ns(), serial)
        if topic == self.settings.serial.topic and serial:
            self.given(serial)

    def line(self, at_mono_ns: int) -> None:
        self.signal(at_mono_ns)

    def signal(self, at_mono_ns: int, serial: str = "") -> bool:
        """A part is there. False: the camera has given no picture yet; that is said."""
        at_s = self.place.time_s(at_mono_ns)
        if self._station is None or at_s is None:
            station = self._station or Station(self.settings, self.models, None)
            self._say(list(station.nothing(0.0, serial, 0.0, 0.0)), 0.0)
            return False
        self._told(self._station.signal(at_s, serial))
        self._read_codes()
        return True

    def given(self, serial: str) -> None:
        """The serial number of the next part."""
        now_s = self.place.time_s()
        if self._station is not None and now_s is not None:
            self._told(self._station.given(now_s, serial))

    async def answer(self, at_mono_ns: int, serial: str, wait_s: float) -> Judged | None:
        """As `signal`, and what comes of it; None: nothing within `wait_s`, or the same part again."""
        at_s = self.place.time_s(at_mono_ns)
        if self._station is None or at_s is None:
            return None
        waiting: asyncio.Future[Judged] = asyncio.get_running_loop().create_future()
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
        station = self._station
        assert station is not None
        judged = [one for one in outcomes if isinstance(one, Judged)]
        for outcome in judged:
            self.last = outcome
            waiting = self._answers.get(outcome.asked_s)
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)
        if outcomes:
            now_s = self.place.time_s()
            took_s = now_s - judged[0].asked_s if judged and now_s is not None else 0.0
            self._say(outcomes, max(0.0, took_s * 1000))
        wanted = station.wanted()
        self._pictures = {index: picture for index, picture in self._pictures.items() if index in wanted}
        self._arm(station)

    def _say(self, outcomes: Sequence[Outcome], decision_ms: float) -> None:
        """To the PLC first."""
        output = self.settings.output
        for outcome in outcomes:
            if isinstance(outcome, Judged):
                for topic, payload in messages(outcome, self._speaker, output, decision_ms):
                    self.place.publish(topic, payload, retain=output.retain)
        said = [fact for one in outcomes for fact in facts(one, self._speaker, self._pictures, decision_ms)]
        self.place.say(said)

    # ---- event loop: time -----------------------------------------------------------------------

    def _arm(self, station: Station) -> None:
        """What waits for time to pass is asked again then; the time of a recording passes with its pictures."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_s, now_s = station.wake_at(), self.place.time_s()
        if due_s is not None and due_s != float("inf") and now_s is not None and self.place.live:
            self._timer = self.place.call_later(max(0.001, due_s - now_s), self._tick)

    def _tick(self) -> None:
        self._timer = None
        now_s = self.place.time_s()
        if self._station is not None and now_s is not None:
            self._told(self._station.tick(now_s))

    # ---- event loop: codes ----------------------------------------------------------------------

    def _read_codes(self) -> None:
        """Looks for the code of each part that has none yet, in a thread, on the best picture not tried yet."""
        station = self._station
        assert station is not None
        for part, sightings in station.unread():
            if part in self._reading:
                continue
            tried = self._tried.setdefault(part, set())
            fresh = [one for one in sightings if one.index in self._pictures and one.index not in tried]
            if not fresh or len(tried) >= READS_MAX:
                continue
            best = max(fresh, key=lambda one: one.quality)
            tried.add(best.index)
            while len(self._tried) > LOOKS_MAX:
                self._tried.popitem(last=False)
            self._read(part, self._pictures[best.index], best)

    def _read(self, part: int, picture: Picture, sighting: Sighting) -> None:
        if self.place.in_thread(lambda: self._code(picture, sighting), lambda serial: self._was_read(part, serial)):
            self._reading.add(part)

    def _code(self, picture: Picture, sighting: Sighting) -> str:
        """In a thread: the first code on the part; empty: there is none."""
        plane = picture.luma()
        if sighting.span is not None:
            a, b = max(0, int(sighting.span.start) - 8), int(sighting.span.end) + 8
            plane = plane[a:b] if self.settings.part.moves in (Moves.UP, Moves.DOWN) else plane[:, a:b]
        return next(iter(read_codes(plane)), "")

    def _was_read(self, part: int, serial: str) -> None:
        self._reading.discard(part)
        if serial and self._station is not None:
            self._told(self._station.read(part, serial))
        else:
            self._read_codes()

    # ---- asked ----------------------------------------------------------------------------------

    @property
    def takes_signals(self) -> bool:
        return self.settings.trigger is Trigger.SIGNAL

    def answered(self, judged: Judged) -> dict[str, Any]:
        """A verdict as `inspectPart` answers it."""
        said = plain(judged, self._speaker, 0.0)
        kept = {name: said[name] for name in ("station", "verdict", "part", "part_id", "serial", "defects")}
        return {**kept, "reasons": judged.reasons}

    def report(self) -> Mapping[str, Any]:
        station, last = self._station, self.last
        totals = station.totals if station else None
        return {
            "station": self.name,
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


def serial_in(payload: bytes) -> str:
    """A plain text, or `serial` of a JSON object; empty: there is none."""
    text = payload[:PAYLOAD_BYTES_MAX].decode("utf-8", errors="replace").strip()
    if not text.startswith("{"):
        return text
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    serial = found.get("serial", "") if isinstance(found, Mapping) else ""
    return str(serial) if isinstance(serial, str | int) else ""
