"""What a station says, as facts for the outbox and as messages for a PLC. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.outbox.rows import Draft
from platforms.manufacturing.inspection.outcomes import Judged, Outcome, Problem
from platforms.manufacturing.inspection.settings import CODES, Form, OutputSettings
from platforms.manufacturing.inspection.verdict import Weighed
from runtime.mqtt import Message
from schemas.identity import Lane

REASONS_MAX = 20
DEFECTS_MAX = 64  # events of one part; more are counted in its verdict

Times = Callable[[int, float], int]
"""(index of a picture, its camera time) to UTC milliseconds."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says it. `run`: makes the ids of parts unique over restarts."""

    station: str
    camera_id: str
    pipeline: str
    run: str

    def part_id(self, number: int) -> str:
        return f"{self.run}-{number}" if number else ""


def drafts(outcome: Outcome, speaker: Speaker, utc_ms: Times, decision_ms: float) -> list[Draft]:
    """The events of one outcome, the defects of a part before its verdict."""
    if isinstance(outcome, Problem):
        return [_problem(outcome, speaker, utc_ms)]
    if outcome.number == 0:
        return []  # its problem says it
    found = [_defect(one, n, outcome, speaker, utc_ms) for n, one in enumerate(outcome.defects[:DEFECTS_MAX], 1)]
    data = {
        **_head(speaker, outcome.time_s),
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
    at_ms = utc_ms(outcome.index, outcome.time_s)
    return [*found, Draft(Lane.EVENT, "PartInspected", speaker.part_id(outcome.number), at_ms, data)]


def _head(speaker: Speaker, time_s: float) -> dict[str, Any]:
    return {
        "camera_id": speaker.camera_id,
        "time_s": round(time_s, 3),
        "pipeline": speaker.pipeline,
        "station": speaker.station,
    }


def _defect(one: Weighed, number: int, part: Judged, speaker: Speaker, utc_ms: Times) -> Draft:
    defect = one.defect
    width, height = defect.size
    part_id = speaker.part_id(part.number)
    data = {
        **_head(speaker, defect.time_s),
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
    at_ms = utc_ms(defect.index, defect.time_s)
    return Draft(Lane.EVENT, "DefectDetected", f"{part_id}.{number}", at_ms, data)


def _problem(problem: Problem, speaker: Speaker, utc_ms: Times) -> Draft:
    state = "" if problem.raised is None else "raised" if problem.raised else "cleared"
    data = {
        **_head(speaker, problem.time_s),
        "problem": str(problem.kind),
        "state": state,
        "part_id": speaker.part_id(problem.part),
        "serial": problem.serial,
        "detail": problem.detail,
    }
    lane = Lane.EVENT if problem.raised is None else Lane.LIFECYCLE
    return Draft(lane, "InspectionProblem", speaker.station, utc_ms(-1, problem.time_s), data)


def _given(**values: float | None) -> dict[str, float]:
    return {key: value for key, value in values.items() if value is not None}


# ---- to the PLC ----------------------------------------------------------------------------------


def messages(judged: Judged, speaker: Speaker, output: OutputSettings, decision_ms: float) -> list[Message]:
    """What goes on the local broker about a part; also where a signal found none, for a PLC waits for an answer."""
    if not output.topic:
        return []
    values = plain(judged, speaker, decision_ms)
    if output.form is Form.JSON:
        payload = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
        return [Message(output.topic, payload, retain=output.retain)]
    # The verdict comes last: who waits for it finds the other values there.
    order = [key for key in values if key != "verdict"] + ["verdict"]
    return [Message(f"{output.topic}/{key}", str(values[key]).encode(), retain=output.retain) for key in order]


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
