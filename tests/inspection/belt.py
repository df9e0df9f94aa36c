"""A belt for the station's tests: parts of known place and defects, as pictures and findings."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from platforms.manufacturing.inspection.outcomes import Judged, Outcome, Problem
from platforms.manufacturing.inspection.picture import Fault, Look, Span
from platforms.manufacturing.inspection.station import Station
from platforms.stages import Found

WIDTH, HEIGHT = 640, 360
FPS = 20.0


@dataclass(frozen=True, slots=True)
class BeltPart:
    """`at`: pixels of its beginning at time 0. defects: (label, confidence, x from its beginning)."""

    at: float
    length: float = 300.0
    defects: tuple[tuple[str, float, float], ...] = ()


@dataclass(slots=True)
class Belt:
    """Runs to the right at `speed` pixels a second."""

    station: Station
    parts: list[BeltPart]
    speed: float = 200.0
    model: str = "m"
    faults: frozenset[Fault] = frozenset()
    shifted: bool = False
    edge_px: float | None = 2.5
    outcomes: list[Outcome] = field(default_factory=list)
    travelled: float = 0.0
    index: int = -1
    time_s: float = 0.0

    def run(self, seconds: float, models: Iterable[str] = ()) -> list[Outcome]:
        """What the station says meanwhile."""
        said: list[Outcome] = []
        for _ in range(round(seconds * FPS)):
            self.index += 1
            self.time_s = self.index / FPS
            self.travelled += self.speed / FPS
            look = Look(
                WIDTH, HEIGHT, (0.0, float(WIDTH)), tuple(self._spans()), self.edge_px, frozenset(self.faults)
            )
            for model in models or (self.model,):
                said += self.station.frame(
                    model, self.index, self.time_s, look, self._findings(), shifted=self.shifted
                )
        self.outcomes += said
        return said

    def _spans(self) -> Iterable[Span]:
        if self.faults & {Fault.BLACK, Fault.WHITE}:
            return
        for part in self.parts:
            start, end = part.at + self.travelled, part.at + part.length + self.travelled
            if end > 13 and start < WIDTH - 13:
                yield Span(max(start, 0.0), min(end, float(WIDTH)), start <= 1, end >= WIDTH - 1)

    def _findings(self) -> list[Found]:
        if self.faults & {Fault.BLACK, Fault.WHITE}:
            return []
        found = []
        for part in self.parts:
            for label, confidence, x in part.defects:
                at = part.at + x + self.travelled
                if at - 10 >= 0 and at + 10 <= WIDTH:
                    found.append(Found(label, confidence, (at - 10, 170.0, at + 10, 180.0)))
        return found

    @property
    def judged(self) -> list[Judged]:
        return [one for one in self.outcomes if isinstance(one, Judged)]

    @property
    def problems(self) -> list[Problem]:
        return [one for one in self.outcomes if isinstance(one, Problem)]
