"""The verdicts of a run against the truth of its line: a confusion matrix, parts × verdict. Idea."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from platforms.manufacturing.demo.scene import Passing, WeldStation
from platforms.manufacturing.inspection.settings import Verdict
from platforms.manufacturing.inspection.verdict import worst
from platforms.manufacturing.weld_parts import DefectKind

MEANS: Mapping[DefectKind, Verdict] = {
    DefectKind.CRACK: Verdict.REJECT,
    DefectKind.UNDERCUT: Verdict.REJECT,
    DefectKind.PORE: Verdict.REJECT,
    DefectKind.SPATTER: Verdict.REWORK,
}
"""The rules of the demonstration: what a defect of each class means for its part."""
FAULT = "camera at fault"
NONE = "none"
ROWS = (*(verdict.value for verdict in (Verdict.OK, Verdict.REWORK, Verdict.REJECT)), FAULT)
COLUMNS = (*(verdict.value for verdict in (Verdict.OK, Verdict.REWORK, Verdict.REJECT, Verdict.UNSURE)), NONE)
BORDER_S = 1.0  # around a fault: it is told when it has lasted, and pictures of before it may still do


@dataclass(slots=True)
class Matrix:
    """counts: by (truth, verdict). doubled: parts that were judged twice; unmatched: verdicts of no part."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    doubled: int = 0
    unmatched: int = 0

    def add(self, other: "Matrix") -> None:
        self.counts += other.counts
        self.doubled += other.doubled
        self.unmatched += other.unmatched

    @property
    def parts(self) -> int:
        return self.counts.total()

    def rows(self) -> dict[str, dict[str, int]]:
        """By truth, then by verdict."""
        return {row: {column: self.counts[row, column] for column in COLUMNS} for row in ROWS}

    def figures(self) -> dict[str, Any]:
        """Shares of the parts of which the camera could show something; None of none."""
        shown = {key: count for key, count in self.counts.items() if key[0] != FAULT}
        defective = {key: count for key, count in shown.items() if key[0] != Verdict.OK}
        good = {key: count for key, count in shown.items() if key[0] == Verdict.OK}
        return {
            "parts": self.parts,
            "right": _share(sum(count for (truth, said), count in shown.items() if truth == said), shown),
            "escaped": _share(sum(count for (_, said), count in defective.items() if said == Verdict.OK), defective),
            "false_rejects": _share(sum(good.get((Verdict.OK, v), 0) for v in _BAD), good),
            "rejected_at_fault": self.counts[FAULT, Verdict.REJECT],
            "doubled": self.doubled,
            "unmatched": self.unmatched,
        }

    def text(self) -> str:
        """For a terminal."""
        width = max(len(row) for row in ROWS)
        head = " " * width + "".join(f"{column:>9}" for column in COLUMNS)
        lines = [f"{row:<{width}}" + "".join(f"{self.counts[row, c]:>9}" for c in COLUMNS) for row in ROWS]
        return "\n".join([f"{'truth':<{width}}   verdict", head, *lines])


_BAD = (Verdict.REWORK, Verdict.REJECT)


def _share(part: int, of: Mapping[tuple[str, str], int]) -> float | None:
    total = sum(of.values())
    return round(part / total, 4) if total else None


def truth_of(part: Passing) -> str:
    """What its verdict should be."""
    return FAULT if part.fault is not None else worst([MEANS[defect.kind] for defect in part.defects]).value


def confusion(scene: WeldStation, events: Sequence[Mapping[str, Any]]) -> Matrix:
    """`events`: the data of the line's PartInspected, in any order. Of the stretch that they span, without its ends,
    each part counts once; close to the begin or the end of a fault it counts in the row of what was said."""
    matrix = Matrix()
    found: dict[int, list[str]] = {}
    for event in events:
        number = _part_of(scene, event)
        if number is None:
            matrix.unmatched += 1
        else:
            found.setdefault(number, []).append(str(event["verdict"]))
    matrix.doubled = sum(len(verdicts) - 1 for verdicts in found.values())
    for part in _between(scene, events):
        said = found.get(part.number, [NONE])[0]
        truth = truth_of(part)
        if said == Verdict.UNSURE and truth != FAULT and _is_near_fault(scene, part.index):
            truth = FAULT
        elif truth == FAULT and said == _seen(part) and _is_at_border(scene, part.index):
            truth = said
        matrix.counts[truth, said] += 1
    return matrix


def _seen(part: Passing) -> str:
    return worst([MEANS[defect.kind] for defect in part.defects]).value


def _between(scene: WeldStation, events: Sequence[Mapping[str, Any]]) -> Iterable[Passing]:
    times_s = [float(event["time_s"]) for event in events]
    if not times_s:
        return []
    return scene.passing(int(min(times_s) * scene.fps), int(max(times_s) * scene.fps) + 2)


def _part_of(scene: WeldStation, event: Mapping[str, Any]) -> int | None:
    """The part that was in the picture at that place; of one without a place, that nearest to the middle then."""
    index = round(float(event["time_s"]) * scene.fps)
    parts = scene.parts(index)
    at = event.get("place_px")
    if at is None:
        middle = scene.size[0] / 2
        near = min(parts, key=lambda part: abs((part.xyxy[0] + part.xyxy[2]) / 2 - middle), default=None)
        return None if near is None else near.number
    return next((part.number for part in parts if part.xyxy[0] <= at <= part.xyxy[2]), None)


def _is_near_fault(scene: WeldStation, index: float) -> bool:
    around = range(max(0, int(index - BORDER_S * scene.fps)), int(index + BORDER_S * scene.fps))
    return any(scene.fault_at(one) is not None for one in around)


def _is_at_border(scene: WeldStation, index: float) -> bool:
    around = range(max(0, int(index - BORDER_S * scene.fps)), int(index + BORDER_S * scene.fps))
    return any(scene.fault_at(one) is None for one in around)
