"""One inspection station: told of pictures, findings, signals and serial numbers; says what becomes of each part.

    pictures ─► follow the parts ─► keep the best sightings ─► due? ─► merge the findings ─► rules ─► verdict
    signals  ────────────────────────────────────────────────┘

All times are those of the camera, in seconds. What cannot be decided yet is asked for again: `wake_at`, then `tick`.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from platforms.calibration import Calibration
from platforms.manufacturing.inspection.findings import Sighting, best, merged, together
from platforms.manufacturing.inspection.following import Followed, Follower
from platforms.manufacturing.inspection.outcomes import Judged, Outcome, Problem, ProblemKind, Totals
from platforms.manufacturing.inspection.picture import CameraWatch, Fault, Look, Span
from platforms.manufacturing.inspection.serials import Serials, cleaned
from platforms.manufacturing.inspection.settings import (
    Find,
    InspectionSettings,
    Moves,
    SerialSource,
    Trigger,
    Verdict,
)
from platforms.manufacturing.inspection.verdict import weigh, worst
from platforms.stages import Found

PICTURES_MAX = 128  # remembered: for models that answer late, and for signals
OPEN_MAX = 16  # parts that wait to be judged
GIVEN_MAX = 16  # serial numbers that wait for their part
JUDGED_MAX = 64
INCOMPLETE = 0.3  # quality of a picture that does not show all of the part
EDGE_PX_GOOD = 3.0


@dataclass(slots=True)
class _Picture:
    """One picture: where each followed part is in it, and what is wrong with it."""

    time_s: float
    look: Look
    places: dict[int, tuple[Span, float]]  # by the follower's number: its stretch, and where it begins
    faults: frozenset[Fault]


@dataclass(slots=True)
class _Open:
    """A part that is not judged yet. until_s: of a signal, up to when pictures of it may come."""

    key: int  # of a followed part its number there; of a signal a negative one
    began_s: float
    followed: int = 0
    until_s: float | None = None
    from_s: float = float("-inf")
    due_s: float | None = None  # since when everything but late models and serials is there
    serial: str = ""
    complete: bool = False
    faults: set[Fault] = field(default_factory=set)
    sightings: dict[str, list[Sighting]] = field(default_factory=dict)


class Station:
    """One station. `models`: names of the pipelines that look at each part; the first also brings the pictures."""

    def __init__(self, settings: InspectionSettings, models: Sequence[str], calibration: Calibration | None) -> None:
        self.settings = settings
        self.totals = Totals()
        self._models = tuple(models)
        self._calibration = calibration
        self._follower = Follower(settings.part)
        self._watch = CameraWatch(settings.camera.hold_s)
        self._serials = Serials(settings.serial)
        self._pictures: OrderedDict[int, _Picture] = OrderedDict()
        self._recent: deque[tuple[str, int, tuple[Found, ...]]] = deque(maxlen=PICTURES_MAX)
        self._open: dict[int, _Open] = {}
        self._met: set[int] = set()  # followed parts in view that are known, also those that are not to be judged
        self._judged: deque[int] = deque(maxlen=JUDGED_MAX)  # followed numbers that have their verdict
        self._given: deque[tuple[float, str]] = deque(maxlen=GIVEN_MAX)
        self._signal_s: float | None = None
        self._next = 1
        self._signals = 0
        self._now_s = float("-inf")
        self._upright = settings.part.moves in (Moves.UP, Moves.DOWN)

    # ---- told -----------------------------------------------------------------------------------

    def frame(
        self,
        model: str,
        index: int,
        time_s: float,
        look: Look,
        findings: Sequence[Found],
        *,
        shifted: bool = False,
    ) -> list[Outcome]:
        """What a model found in a picture. Each model tells its pictures in order, some of them."""
        said: list[Outcome] = []
        self._pass(time_s)
        if index not in self._pictures:
            said += self._picture(index, time_s, look, shifted)
        kept = tuple(one for one in findings if self._is_in_region(one, look))
        self._recent.append((model, index, kept))
        for part in self._open.values():
            self._sight(part, model, index, kept)
        return self._told(said + self._settle())

    def signal(self, time_s: float, serial: str = "") -> list[Outcome]:
        """A part is there, says something outside."""
        settings = self.settings.signal
        self._pass(time_s)
        before_s, self._signal_s = self._signal_s, time_s
        if before_s is not None and 0 <= time_s - before_s < settings.debounce_s:
            detail = f"a second signal after {time_s - before_s:.3f} s"
            return self._told([Problem(ProblemKind.PART_TWICE, time_s, detail)])
        if len(self._open) >= OPEN_MAX:
            return self._told([Problem(ProblemKind.SIGNAL_UNHEARD, time_s, f"{OPEN_MAX} parts wait already")])
        self._signals += 1
        part = _Open(-self._signals, time_s, until_s=time_s + settings.after_s, from_s=time_s - settings.before_s)
        part.serial = cleaned(serial)
        self._open[part.key] = part
        for model, index, findings in self._recent:
            self._sight(part, model, index, findings)
        return self._told(self._settle())

    def given(self, time_s: float, serial: str) -> list[Outcome]:
        """The serial number of the next part that has none."""
        self._pass(time_s)
        self._given.append((time_s, cleaned(serial)))
        return self._told(self._settle())

    def read(self, part: int, serial: str) -> list[Outcome]:
        """A code was read on a part that `unread` named."""
        if part in self._open and not self._open[part].serial:
            self._open[part].serial = cleaned(serial)
        return self._told(self._settle())

    def tick(self, time_s: float) -> list[Outcome]:
        """Time has passed without a picture."""
        self._pass(time_s)
        return self._told(self._settle())

    # ---- asked ----------------------------------------------------------------------------------

    def wake_at(self) -> float | None:
        """When `tick` should be called at the latest; None: no need."""
        return min((self._deadline(part) for part in self._open.values() if self._waits(part)), default=None)

    def wanted(self) -> set[int]:
        """The pictures that may still be shown or read: the best of each part that is not judged. With a signal to
        come, the newest ones."""
        found = {one.index for part in self._open.values() for kept in part.sightings.values() for one in kept}
        if self.settings.trigger is Trigger.SIGNAL:
            newest = [index for _, index, _ in self._recent]
            found |= set(newest[-self.settings.part.frames :])
        return found

    def unread(self) -> list[tuple[int, list[Sighting]]]:
        """Parts whose code is not read yet, with their best pictures; none where no codes are read."""
        if self.settings.serial.source is not SerialSource.CODE:
            return []
        lead = self._models[0]
        return [
            (n, part.sightings[lead]) for n, part in self._open.items() if not part.serial and lead in part.sightings
        ]

    @property
    def camera_faults(self) -> list[str]:
        """Those that were told and are not over."""
        return sorted(fault.value for fault in self._watch.told)

    @property
    def waiting(self) -> int:
        return len(self._open)

    # ---- pictures -------------------------------------------------------------------------------

    def _pass(self, time_s: float) -> None:
        self._now_s = max(self._now_s, time_s)

    def _picture(self, index: int, time_s: float, look: Look, shifted: bool) -> list[Outcome]:
        faults = look.faults | {Fault.SHIFTED} if shifted else look.faults
        places: dict[int, tuple[Span, float]] = {}
        said: list[Outcome] = []
        if not faults & {Fault.BLACK, Fault.WHITE} and self.settings.part.find is not Find.NONE:
            here, gone = self._follower.see(time_s, look)
            for followed in here:
                places[followed.number] = followed.span, followed.offset(followed.span)
                if self.settings.trigger is Trigger.MOTION:
                    said += self._meet(followed, time_s)
            for followed in gone:
                self._leave(followed, time_s)
        self._pictures[index] = _Picture(time_s, look, places, frozenset(faults))
        while len(self._pictures) > PICTURES_MAX:
            self._pictures.popitem(last=False)
        # What shows no edges says nothing of blur: it stays as it was told.
        unknown = {Fault.BLURRED} if look.edge_px is None else set()
        for change in self._watch.see(time_s, faults | (self._watch.told & unknown)):
            detail = "" if look.edge_px is None else f"edges are {look.edge_px:.1f} px wide"
            kind = f"camera_{change.fault.value}"
            said.append(Problem(kind, time_s, detail if change.fault is Fault.BLURRED else "", raised=change.raised))
        return said

    def _meet(self, followed: Followed, time_s: float) -> list[Outcome]:
        """A followed part becomes one to be judged, when it comes and when it passes the gate."""
        if followed.number not in self._met:
            self._met.add(followed.number)
            return self._begin(followed, time_s)
        part = self._open.get(followed.number)
        if part is None:
            return []
        if followed.late:  # which way it goes is known only now
            del self._open[part.key]
            return []
        part.complete = part.complete or followed.span.complete
        if part.due_s is None and self._follower.passed_gate(followed):
            part.due_s = time_s
        return []

    def _begin(self, followed: Followed, time_s: float) -> list[Outcome]:
        if followed.late or followed.returned or len(self._open) >= OPEN_MAX:
            if not followed.returned:
                return []
            return [Problem(ProblemKind.PART_TWICE, time_s, "a part has come back in where parts go out")]
        part = _Open(followed.number, time_s, followed.number, complete=followed.span.complete)
        self._open[part.key] = part
        if self._follower.passed_gate(followed):
            part.due_s = time_s
        return []

    def _leave(self, followed: Followed, time_s: float) -> None:
        self._met.discard(followed.number)
        part = self._open.get(followed.number)
        if part is not None and part.due_s is None:
            if self._follower.vanished(followed):
                del self._open[part.key]
            else:  # it passed the gate while nobody could see it
                part.due_s = time_s

    def _sight(self, part: _Open, model: str, index: int, findings: tuple[Found, ...]) -> None:
        """Keeps a picture of a part if it is one of the best."""
        picture = self._pictures.get(index)
        if picture is None:
            return
        if part.until_s is not None and not part.from_s <= picture.time_s <= part.until_s:
            return
        place = self._place(part, picture)
        if picture.faults:
            if place is not None or part.until_s is not None:
                part.faults |= picture.faults
            return
        if place is None:
            return
        span, begins = place
        start, end = picture.look.extent
        share = (span.middle - start) / max(end - start, 1.0)
        quality = max(0.05, 1.0 - abs(share - 0.5)) * (1.0 if span.complete else INCOMPLETE)
        if picture.look.edge_px:
            quality *= min(1.0, EDGE_PX_GOOD / picture.look.edge_px)
        if part.until_s is not None:
            part.complete = part.complete or span.complete
        on_part = tuple(one for one in findings if self._is_on(one, span))
        offset = (0.0, begins) if self._upright else (begins, 0.0)
        size = (picture.look.width, picture.look.height)
        # A part that stands still is seen at one place: then pictures count apart by their time alone.
        at = share if part.until_s is None else picture.time_s
        sighting = Sighting(index, picture.time_s, quality, on_part, offset, at, span, size)
        apart = self.settings.part.apart if part.until_s is None else 0.0
        kept = part.sightings.get(model, [])
        part.sightings[model] = best(kept, sighting, self.settings.part.frames, apart)

    def _place(self, part: _Open, picture: _Picture) -> tuple[Span, float] | None:
        """Where the part is in a picture; of a signal it is the stretch nearest to the middle."""
        if part.until_s is None:
            return picture.places.get(part.followed)
        start, end = picture.look.extent
        if self.settings.part.find is Find.NONE:
            return Span(start, end), start
        middle = (start + end) / 2
        near = min(picture.places.items(), key=lambda one: abs(one[1][0].middle - middle), default=None)
        if near is None or not near[1][0].start <= middle <= near[1][0].end:
            return None
        part.followed = near[0]
        return near[1]

    def _is_on(self, finding: Found, span: Span) -> bool:
        at = (finding.box[1] + finding.box[3]) / 2 if self._upright else (finding.box[0] + finding.box[2]) / 2
        return span.start <= at <= span.end

    def _is_in_region(self, finding: Found, look: Look) -> bool:
        x = (finding.box[0] + finding.box[2]) / 2 / max(look.width, 1)
        y = (finding.box[1] + finding.box[3]) / 2 / max(look.height, 1)
        x0, y0, x1, y1 = self.settings.region
        return x0 <= x <= x1 and y0 <= y <= y1

    # ---- verdicts -------------------------------------------------------------------------------

    def _settle(self) -> list[Outcome]:
        """Judges what can be judged now, the oldest part first."""
        said: list[Outcome] = []
        for part in sorted(self._open.values(), key=lambda one: (one.began_s, abs(one.key))):
            if part.until_s is not None and part.due_s is None:
                enough = all(len(part.sightings.get(m, ())) >= self.settings.part.frames for m in self._models)
                if enough or self._watch.told or self._now_s >= part.until_s:
                    part.due_s = min(self._now_s, part.until_s)
            if part.due_s is None or (self._waits(part) and self._now_s < self._deadline(part)):
                continue
            self._take_given(part)
            del self._open[part.key]
            said += self._judge(part)
        return said

    def _waits(self, part: _Open) -> bool:
        """Whether more may come: pictures for a signal, the answer of a model, a serial number."""
        if part.due_s is None:
            return part.until_s is not None
        return self._lacks_model(part) or self._lacks_serial(part)

    def _deadline(self, part: _Open) -> float:
        if part.due_s is None:
            return part.until_s if part.until_s is not None else float("inf")
        waits = [self.settings.wait_s] if self._lacks_model(part) else []
        waits += [self.settings.serial.wait_s] if self._lacks_serial(part) else []
        return part.due_s + max(waits, default=0.0)

    def _lacks_model(self, part: _Open) -> bool:
        return bool(part.sightings) and not all(part.sightings.get(model) for model in self._models)

    def _lacks_serial(self, part: _Open) -> bool:
        awaited = self.settings.serial.source is not SerialSource.NONE
        return awaited and not part.serial and not self._has_given() and bool(part.sightings)

    def _has_given(self) -> bool:
        while self._given and self._now_s - self._given[0][0] > self.settings.serial.window_s:
            self._given.popleft()
        return bool(self._given)

    def _take_given(self, part: _Open) -> None:
        if not part.serial and self._has_given():
            part.serial = self._given.popleft()[1]

    def _judge(self, part: _Open) -> Iterable[Outcome]:
        settings = self.settings
        asked_s = part.began_s if part.until_s is not None or part.due_s is None else part.due_s
        if part.until_s is not None:
            if not part.sightings and not part.faults and not self._watch.told:
                yield from self.nothing(part.began_s, part.serial, part.from_s, part.until_s)
                return
            if part.followed and part.followed in self._judged:
                detail = "the part in view has its verdict already"
                yield Problem(ProblemKind.PART_TWICE, part.began_s, detail, serial=part.serial)
                return
        number, self._next = self._next, self._next + 1
        if part.followed:
            self._judged.append(part.followed)
        wrong = self._serials.check(part.serial, number)
        if wrong is not None:
            yield Problem(wrong[0], self._now_s, wrong[1], number, part.serial)
        by_model = [part.sightings.get(model, []) for model in self._models]
        defects = together([merged(kept) for kept in by_model])
        verdict, weighed = weigh(defects, settings.rules, settings.unlisted, self._calibration)
        doubts = self._doubts(part)
        spoilt = bool(self._watch.told) or not any(by_model)
        if spoilt:
            verdict, weighed = Verdict.UNSURE, []
        elif doubts:
            verdict = worst([verdict, Verdict.UNSURE])
        sure = max((one for kept in by_model for one in kept), key=lambda one: one.quality, default=None)
        yield Judged(
            number,
            verdict,
            asked_s if sure is None else sure.time_s,
            asked_s,
            (*doubts, *(one.words() for one in weighed)),
            tuple(weighed),
            part.serial,
            sum(len(kept) for kept in by_model),
            -1 if sure is None else sure.index,
            repeat=wrong is not None and wrong[0].value == "duplicate_serial",
            length_mm=self._length_mm(sure),
            place_px=None if sure is None or sure.span is None else round(sure.span.middle, 1),
        )

    def nothing(self, at_s: float, serial: str, from_s: float, until_s: float) -> Iterable[Outcome]:
        """A signal that nothing came of: no part in the pictures, or no pictures."""
        looked = any(from_s <= picture.time_s <= until_s for picture in self._pictures.values())
        kind = ProblemKind.NO_PART if looked else ProblemKind.NO_PICTURE
        what = "no part is in view" if looked else "the camera gives no picture"
        yield Problem(kind, at_s, f"a signal came, and {what}")
        yield Judged(0, Verdict.UNSURE, at_s, at_s, (kind.value,), serial=serial)

    def _doubts(self, part: _Open) -> list[str]:
        """Why nobody can be sure of the part."""
        faults = self._watch.told or (part.faults if not part.sightings else set())
        doubts = [f"camera_{fault.value}" for fault in sorted(faults)]
        if part.sightings and not part.complete:
            doubts.append("part_incomplete")
        doubts += [
            f"model_silent {model}" for model in self._models if part.sightings and model not in part.sightings
        ]
        if not part.sightings and not doubts:
            doubts.append("part_not_seen")
        return doubts

    def _length_mm(self, sighting: Sighting | None) -> float | None:
        if sighting is None or sighting.span is None or self._calibration is None or not sighting.span.complete:
            return None
        width, height = sighting.size
        a, b = sighting.span.start, sighting.span.end
        ends = [(width / 2, a), (width / 2, b)] if self._upright else [(a, height / 2), (b, height / 2)]
        first, last = self._calibration.millimetres(ends, width, height)
        return round(float(((first - last) ** 2).sum() ** 0.5), 1)

    def _told(self, said: list[Outcome]) -> list[Outcome]:
        for outcome in said:
            self.totals.count(outcome)
        return said
