"""What a station says, as facts and as messages for a PLC. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from platforms.manufacturing.inspection.outcomes import Judged, Outcome, Problem
from platforms.manufacturing.inspection.settings import CODES, Form, OutputSettings
from platforms.manufacturing.inspection.verdict import Weighed
from platforms.stages import Fact, Picture
from schemas.identity import Lane

REASONS_MAX = 20
DEFECTS_MAX = 64  # events of one part; more are counted in its verdict

Pictures = Mapping[int, Picture]
"""Those that are held, by index."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says it. `run`: makes the ids of parts unique over restarts."""

    station: str
    run: str

    def part_id(self, number: int) -> str:
        return f"{self.run}-{number}" if number else ""


def facts(outcome: Outcome, speaker: Speaker, pictures: Pictures, decision_ms: float) -> list[Fact]:
    """The events of one outcome, the defects of a part before its verdict."""
    if isinstance(outcome, Problem):
        return [_problem(outcome, speaker)]
    if outcome.number == 0:
        return []  # its problem says it
    found = [_defect(one, n, outcome, speaker, pictures) for n, one in enumerate(outcome.defects[:DEFECTS_MAX], 1)]
    data = {
        "station": speaker.station,
        "part_id": speaker.part_id(outcome.number),
        "part": outcome.number,
        "serial": outcome.serial,
        "verdict": outcome.verdict.value,
        "reasons": list(outcome.reasons[:REASONS_MAX]),
        "defects": len(outcome.defects),
        "frames": outcome.frames,
        "repeat": outcome.repeat,
        "decision_ms": round(decision_ms, 3),
        **_given(length_mm=outcome.length_mm, place_px=outcome.place_px),
    }
    part_id = speaker.part_id(outcome.number)
    return [*found, Fact("PartInspected", part_id, data, pictures.get(outcome.index), outcome.time_s)]


def _defect(one: Weighed, number: int, part: Judged, speaker: Speaker, pictures: Pictures) -> Fact:
    defect = one.defect
    width, height = defect.size
    part_id = speaker.part_id(part.number)
    data = {
        "station": speaker.station,
        "defect_type": defect.label,
        "confidence": round(min(1.0, defect.confidence), 3),
        "object_id": f"{part_id}.{number}",
        "part_id": part_id,
        "serial": part.serial,
        "verdict": one.verdict.value,
        "box": [round(at, 1) for at in defect.box],
        "frame_width": width,
        "frame_height": height,
        **_given(length_mm=one.length_mm, width_mm=one.width_mm, area_mm2=one.area_mm2),
    }
    return Fact("DefectDetected", f"{part_id}.{number}", data, pictures.get(defect.index), defect.time_s)


def _problem(problem: Problem, speaker: Speaker) -> Fact:
    state = "" if problem.raised is None else "raised" if problem.raised else "cleared"
    data = {
        "station": speaker.station,
        "problem": str(problem.kind),
        "state": state,
        "part_id": speaker.part_id(problem.part),
        "serial": problem.serial,
        "detail": problem.detail,
    }
    lane = Lane.EVENT if problem.raised is None else Lane.LIFECYCLE
    return Fact("InspectionProblem", speaker.station, data, None, problem.time_s, lane)


def _given(**values: float | None) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


# ---- to the PLC ----------------------------------------------------------------------------------


def messages(judged: Judged, speaker: Speaker, output: OutputSettings, decision_ms: float) -> list[tuple[str, bytes]]:
    """Topics and payloads for the local broker about a part; also where a signal found none, for a PLC waits for an
    answer."""
    if not output.topic:
        return []
    values = plain(judged, speaker, decision_ms)
    if output.form is Form.JSON:
        payload = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        return [(output.topic, payload)]
    # The verdict comes last: who waits for it finds the other values there.
    order = [key for key in values if key != "verdict"] + ["verdict"]
    return [(f"{output.topic}/{key}", str(values[key]).encode()) for key in order]


def plain(judged: Judged, speaker: Speaker, decision_ms: float) -> Mapping[str, str | int | float]:
    """Flat and small: numbers and short texts only."""
    first = judged.defects[0] if judged.defects else None
    return {
        "station": speaker.station,
        "part": judged.number,
        "part_id": speaker.part_id(judged.number),
        "serial": judged.serial,
        "verdict": judged.verdict.value,
        "code": CODES[judged.verdict],
        "defects": len(judged.defects),
        "worst": "" if first is None else first.defect.label,
        "length_mm": 0.0 if first is None or first.length_mm is None else first.length_mm,
        "reason": judged.reasons[0] if judged.reasons else "",
        "ms": round(decision_ms, 2),
    }
