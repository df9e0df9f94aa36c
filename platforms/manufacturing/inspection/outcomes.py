"""What an inspection station says: a part is judged, or something is not as it should be."""

from dataclasses import dataclass, field
from enum import StrEnum

from platforms.manufacturing.inspection.settings import Verdict
from platforms.manufacturing.inspection.verdict import Weighed


class ProblemKind(StrEnum):
    """Beside the faults of a camera and the problems of serial numbers."""

    NO_PART = "no_part"  # a signal came, and no part
    NO_PICTURE = "no_picture"  # a signal came, and the camera gives no pictures
    PART_TWICE = "part_twice"  # the same part again: it is not counted a second time
    SIGNAL_UNHEARD = "signal_unheard"  # too many parts wait to be judged


@dataclass(frozen=True, slots=True)
class Problem:
    """kind: of ProblemKind, SerialProblem, or `camera_` and a Fault. raised: False when a fault is over; None: it is
    no state."""

    kind: str
    time_s: float
    detail: str = ""
    part: int = 0
    serial: str = ""
    raised: bool | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A part's verdict. number: of the part, 0 where a signal found none. index, time_s: of its best picture.
    asked_s: when it passed the gate, or its signal came.

    reasons: why it is not ok; what pictures could not show comes first and begins with `camera_`, `model_` or `part_`
    repeat:  its serial number was here before
    """

    number: int
    verdict: Verdict
    time_s: float
    asked_s: float
    reasons: tuple[str, ...] = ()
    defects: tuple[Weighed, ...] = ()
    serial: str = ""
    frames: int = 0
    index: int = -1
    repeat: bool = False
    length_mm: float | None = None
    place_px: float | None = None  # of the part's middle along its way, in the best picture


Outcome = Judged | Problem


@dataclass(slots=True)
class Totals:
    """Of a station since it began; each part counts once. `unsure` has those that pictures could not show."""

    parts: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    defects: dict[str, int] = field(default_factory=dict)
    problems: dict[str, int] = field(default_factory=dict)

    def count(self, outcome: Outcome) -> None:
        if isinstance(outcome, Problem):
            if outcome.raised is not False:
                self.problems[outcome.kind] = self.problems.get(outcome.kind, 0) + 1
            return
        if outcome.number == 0 or outcome.repeat:
            return
        self.parts += 1
        self.verdicts[outcome.verdict.value] = self.verdicts.get(outcome.verdict.value, 0) + 1
        for one in outcome.defects:
            self.defects[one.defect.label] = self.defects.get(one.defect.label, 0) + 1
