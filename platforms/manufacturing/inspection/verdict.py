"""Defects to a verdict: each rule says what so many of these classes, this large and this sure, mean."""

from collections.abc import Sequence
from dataclasses import dataclass

from platforms.calibration import Calibration
from platforms.manufacturing.inspection.findings import Defect
from platforms.manufacturing.inspection.settings import RuleSettings, Verdict

ORDER = (Verdict.OK, Verdict.REWORK, Verdict.UNSURE, Verdict.REJECT)  # the worse, the later


@dataclass(frozen=True, slots=True)
class Weighed:
    """A defect with its size, mm and mm² (None: there is no calibration), and what it means by itself."""

    defect: Defect
    verdict: Verdict
    length_mm: float | None = None
    width_mm: float | None = None
    area_mm2: float | None = None

    def words(self) -> str:
        length = f" {self.length_mm:.1f} mm" if self.length_mm is not None else ""
        return f"{self.defect.label}{length}"


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The worst of them; of none, ok."""
    return max(verdicts, key=ORDER.index, default=Verdict.OK)


def weigh(
    defects: Sequence[Defect],
    rules: Sequence[RuleSettings],
    unlisted: Verdict,
    calibration: Calibration | None,
    confidence_min: float = 0.5,
) -> tuple[Verdict, list[Weighed]]:
    """The part's verdict, and each defect that bears on it, the worst first.

    The first rule for a class that a defect is large enough for decides about it; a class of no rule at all counts
    as `unlisted` from `confidence_min` on.
    """
    sized = [(defect, _sizes(defect, calibration)) for defect in defects]
    weighed: list[Weighed] = []
    hits: dict[int, list[Weighed]] = {}
    for defect, sizes in sized:
        found = _rule(defect, sizes, rules)
        if found is not None:
            number, verdict = found
            one = Weighed(defect, verdict, *sizes)
            if verdict is rules[number].verdict:
                hits.setdefault(number, []).append(one)
            else:
                weighed.append(one)
        elif not any(_concerns(rule, defect) for rule in rules) and defect.confidence >= confidence_min:
            weighed.append(Weighed(defect, unlisted, *sizes))
    for number, ones in hits.items():
        if len(ones) >= rules[number].count_min:
            weighed += ones
    weighed = [one for one in weighed if one.verdict is not Verdict.OK]
    weighed.sort(key=lambda one: (-ORDER.index(one.verdict), -one.defect.confidence))
    return worst([one.verdict for one in weighed]), weighed


def _rule(
    defect: Defect, sizes: tuple[float | None, float | None, float | None], rules: Sequence[RuleSettings]
) -> tuple[int, Verdict] | None:
    """The first rule that it fulfils, with what that says; unsure where it does but for its confidence."""
    doubtful: int | None = None
    for number, rule in enumerate(rules):
        if not _concerns(rule, defect) or not _is_large(rule, sizes):
            continue
        if defect.confidence >= rule.confidence_min:
            return number, rule.verdict
        if rule.unsure_from and defect.confidence >= rule.unsure_from and doubtful is None:
            doubtful = number
    return None if doubtful is None else (doubtful, Verdict.UNSURE)


def _concerns(rule: RuleSettings, defect: Defect) -> bool:
    return not rule.classes or defect.label in rule.classes


def _is_large(rule: RuleSettings, sizes: tuple[float | None, float | None, float | None]) -> bool:
    length_mm, _, area_mm2 = sizes
    return (length_mm is None or length_mm >= rule.length_mm_min) and (
        area_mm2 is None or area_mm2 >= rule.area_mm2_min
    )


def _sizes(defect: Defect, calibration: Calibration | None) -> tuple[float | None, float | None, float | None]:
    if calibration is None:
        return None, None, None
    length, width, area = calibration.size_of(defect.box, *defect.size)
    return round(length, 2), round(width, 2), round(area, 2)
