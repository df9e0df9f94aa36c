"""Parts and defects of a line, from the results of its cameras. Pure.

A line counts its parts at an inspection (`PartInspected`, or an event that says a verdict in the same way), or where
they cross a line in a picture; then a part is good without a `DefectDetected` since the part before it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from platforms.context import KeptResult
from platforms.manufacturing.production.line import Part
from platforms.manufacturing.types import PartSource, ProductionLine

DEFECT, CROSSED, SAID, PLANNED = "DefectDetected", "LineCrossed", "StopExplained", "LinePlanChanged"
UNSPECIFIED = "unspecified"
GOOD, UNSURE = "ok", "unsure"
REMEMBERED_MAX = 5000


def types_of(line: ProductionLine) -> tuple[str, ...]:
    """The events that are needed for the line's figures."""
    part = line.inspected if line.source is PartSource.INSPECTIONS else CROSSED
    return (part, DEFECT, PLANNED)


class Reader:
    """Told of results in the order of their times."""

    def __init__(self, line_id: str, line: ProductionLine, known: Iterable[KeptResult] = ()) -> None:
        """`known`: results that are there already: defects of a part are found among them, whichever came first, and
        what held before the first change of the plan."""
        self._id, self._line = line_id, line
        self._ideal_s: float | None = None
        self._pending: list[str] = []  # defects since the last part
        self._defect_ids: OrderedDict[str, None] = OrderedDict()
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._by_part: OrderedDict[str, list[str]] = OrderedDict()
        for result in known:
            if result.type == DEFECT and self._is_ours(result):
                self._remember_defect(result.data)
            elif result.type == PLANNED and result.data.get("line_id") == line_id and self._ideal_s is None:
                self._ideal_s = _positive(result.data.get("ideal_cycle_s_before"))
        self._defect_ids.clear()
        self._pending.clear()

    def part(self, result: KeptResult) -> Part | None:
        """The part that a result tells of, if it does."""
        if result.type == PLANNED and result.data.get("line_id") == self._id:
            self._ideal_s = _positive(result.data.get("ideal_cycle_s"))
            return None
        if not self._is_ours(result):
            return None
        if result.type == DEFECT:
            self._remember_defect(result.data)
            return None
        if self._line.source is PartSource.INSPECTIONS:
            return self._inspected(result) if result.type == self._line.inspected else None
        return self._crossed(result) if result.type == CROSSED else None

    def _is_ours(self, result: KeptResult) -> bool:
        line = self._line
        return result.node == line.node_id and (not line.camera_id or result.camera == line.camera_id)

    def _remember_defect(self, data: Mapping[str, Any]) -> None:
        identity = str(data.get("object_id") or "")
        kind = str(data.get("defect_type") or UNSPECIFIED)
        if identity:
            if identity in self._defect_ids:
                return
            _note(self._defect_ids, identity, None)
        if part_id := str(data.get("part_id") or ""):
            if part_id not in self._by_part:
                _note(self._by_part, part_id, [])
            if kind not in self._by_part[part_id]:
                self._by_part[part_id].append(kind)
        else:
            self._pending.append(kind)

    def _inspected(self, result: KeptResult) -> Part:
        data = result.data
        verdict = str(data.get("verdict", GOOD))
        part_id = str(data.get("part_id") or "")
        again = bool(data.get("repeat")) or (bool(part_id) and part_id in self._seen)
        if part_id:
            _note(self._seen, part_id, None)
        is_good = verdict == GOOD
        pending, self._pending = self._pending, []
        defects = [*self._by_part.get(part_id, []), *pending]
        if not is_good and not defects:
            defects = [UNSURE if verdict == UNSURE else UNSPECIFIED]
        return Part(
            result.time_utc_ms / 1000,
            () if is_good else tuple(defects),
            rework=again,
            good=is_good,
            unsure=verdict == UNSURE,
            ideal_cycle_s=self._ideal_s,
        )

    def _crossed(self, result: KeptResult) -> Part | None:
        line, data = self._line, result.data
        if data.get("line") != line.crossing or data.get("direction") != line.direction.value:
            return None
        if line.classes and data.get("class") not in line.classes:
            return None
        identity = str(data.get("object_id") or "")
        if identity and identity in self._seen:
            return None
        if identity:
            _note(self._seen, identity, None)
        defects, self._pending = tuple(self._pending), []
        return Part(result.time_utc_ms / 1000, defects, ideal_cycle_s=self._ideal_s)


def measured(data: Mapping[str, Any], path: str) -> float | None:
    """A number in the data of an inspection: `length_mm`, `measurements.width`."""
    found: Any = data
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return float(found) if isinstance(found, int | float) and not isinstance(found, bool) else None


def explained(results: Sequence[KeptResult], line_id: str) -> list[tuple[float, str, bool]]:
    """(when, reason, planned) of what was said of the line's stops, in the order in which it was said."""
    return [
        (float(one.data["at"]) / 1000, str(one.data["reason"]), bool(one.data.get("planned")))
        for one in results
        if one.type == SAID and one.data.get("line_id") == line_id
    ]


def _positive(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _note(known: OrderedDict[str, Any], key: str, value: Any) -> None:
    known[key] = value
    while len(known) > REMEMBERED_MAX:
        known.popitem(last=False)
