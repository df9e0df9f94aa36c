"""Two hours of a node's past, written where a node keeps it: in its results, and in its outbox on the way to the
coordinator. Both hosts then know the same facts, and functions that look back far have something to see."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.outbox.file import OutboxFile
from agent.outbox.rows import Draft
from agent.results.result import Result
from agent.results.store import ResultStore
from schemas.identity import Lane

MINUTES = 130
Add = Callable[[int, Lane, str, str, dict[str, Any]], None]
CLASSES = ("crack", "pore", "undercut", "spatter")


def write_history(folder: Path, node: str, camera: str, now_ms: int) -> int:
    """Crossings of two lines, counts of a zone, inspected parts and routine samples until `now_ms`. The number of
    facts."""
    rng = random.Random(7)
    drafts: list[Draft] = []
    zone = dict.fromkeys(CLASSES, 0)
    crossed = 0

    def add(at_ms: int, lane: Lane, kind: str, subject: str, data: dict[str, Any]) -> None:
        drafts.append(Draft(lane, kind, subject, at_ms, {"camera_id": camera, **data}))

    for at_ms in range(now_ms - MINUTES * 60_000, now_ms, 10_000):
        _inspect(add, at_ms, rng)
        sample = {"frames_total": 1, "detections_total": 1, "totals": {}, "pipeline": camera}
        now = {"objects": 1, "zones": {"middle": {"counts": dict(zone), "total": 1, "dwell_s_max": 0.0}}}
        add(at_ms, Lane.SAMPLE, "StreamSample", camera, {**sample, "now": now})
        for offset_ms in sorted(rng.sample(range(10_000), rng.choice([0, 1, 2, 3]))):
            crossed += 1
            name = rng.choice(CLASSES)
            line = rng.choice(["oven_exit", "oven_entry"])
            object_id = rng.choice([f"h-{crossed}", f"h-{crossed}", f"h-{crossed - 1}", ""])
            crossing = {
                "line": line, "direction": rng.choice(["in", "in", "out"]), "object_id": object_id, "class": name,
                "confidence": 0.9, "box": [0.0, 0.0, 9.0, 9.0],
            }  # fmt: skip
            add(at_ms + offset_ms, Lane.EVENT, "LineCrossed", line, crossing)
            before, zone[name] = dict(zone), rng.choice([0, 1, 2])
            change = {"zone": "middle", "counts": dict(zone), "counts_before": before, "total": sum(zone.values())}
            add(at_ms + offset_ms, Lane.EVENT, "ZoneCountChanged", "middle", change)
    folder.mkdir(parents=True, exist_ok=True)
    results = ResultStore(folder / "results.db")
    results.write([_kept(one, camera) for one in drafts], [], 0.0, {}).result()
    results.close()
    outbox = OutboxFile(folder / "outbox.db", node=node, boot=1)
    for begin in range(0, len(drafts), 500):
        outbox.append(drafts[begin : begin + 500]).result()
    outbox.close()
    return len(drafts)


def _inspect(add: Add, at_ms: int, rng: random.Random) -> None:
    """A part every two seconds or so, with its defects; now and then none for a minute, which somebody explains."""
    if at_ms // 60_000 % 20 == 0:
        if at_ms % 60_000 >= 50_000:
            reason = {"line_id": "L1", "at": at_ms, "reason": "lunch", "planned": at_ms // 60_000 % 40 == 0}
            add(at_ms, Lane.EVENT, "StopExplained", "L1", reason)
        return
    for offset_ms in range(0, 10_000, rng.choice([2000, 2500, 5000])):
        part = rng.choice(["", f"p-{at_ms + offset_ms}", f"p-{at_ms}"])
        verdict = rng.choice(["ok"] * 8 + ["rework", "reject", "unsure"])
        defects = [] if verdict in ("ok", "unsure") else rng.choices(CLASSES, k=rng.choice([0, 1, 2]))
        for kind in defects:
            add(at_ms + offset_ms, Lane.EVENT, "DefectDetected", kind,
                {"defect_type": kind, "confidence": 0.9, "part_id": part, "verdict": verdict,
                 "object_id": rng.choice(["", f"d-{at_ms}"])})  # fmt: skip
        add(at_ms + offset_ms, Lane.EVENT, "PartInspected", part or "part",
            {"station": "weld", "part_id": part, "part": at_ms % 1000, "verdict": verdict, "defects": len(defects),
             "length_mm": rng.gauss(80.0, 0.5)})  # fmt: skip


def _kept(draft: Draft, camera: str) -> Result:
    told = draft.lane is Lane.EVENT
    return Result(draft.time_utc_ms, camera, camera, draft.type, draft.subject, draft.data, told=told)
