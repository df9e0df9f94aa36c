"""`scripts/demo --platform manufacturing`: two inspection stations over rendered weld lines, against their truth."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent.capture.picture import RgbPicture
from agent.capture.pyav import jpeg
from platforms.manufacturing.demo.matrix import MEANS, Matrix, confusion
from platforms.manufacturing.demo.scene import FIXED, WeldStation
from platforms.manufacturing.inspection.settings import Verdict

LINES = {"weld-1": (11, "steel"), "weld-2": (7, "stainless")}
"""Seed and line of each node; the second one's camera has its faults."""
FPS = 30
MM_PER_PX = 0.5
CONFIDENCE_MIN = 0.3
"""Of a defect over three pictures; the model itself shows nothing below 0.4 in one."""


def scene_of(node: str) -> WeldStation:
    """What the camera of a node sees."""
    seed, line = LINES[node]
    return WeldStation(seed, fps=FPS, line=line, faults=int(node == "weld-2"))


def bodies(folder: Path, port: int) -> dict[str, str]:
    """Each node's cameras, pipelines and station as TOML; writes the pictures of how the cameras should stand."""
    found = {}
    for node, (seed, line) in LINES.items():
        reference = folder / f"{node}.jpg"
        reference.write_bytes(jpeg(RgbPicture(scene_of(node).render(0)), 95))
        source = f"scene:weld_station?seed={seed}&fps={FPS}&line={line}&faults={int(node == 'weld-2')}"
        found[node] = _BODY.format(
            source=source,
            port=port,
            node=node,
            reference=json.dumps(str(reference)),
            fixed=list(FIXED),
            mm=MM_PER_PX,
            rules="\n".join(_rule(verdict) for verdict in (Verdict.REJECT, Verdict.REWORK)),
        )
    return found


def _rule(verdict: Verdict) -> str:
    classes = json.dumps([kind.value for kind, means in MEANS.items() if means is verdict])
    return (
        f'[[pipelines.stage.rules]]\nverdict = "{verdict.value}"\nclasses = {classes}\n'
        f"confidence_min = {CONFIDENCE_MIN}"
    )


_BODY = """
[platforms]
enabled = ["manufacturing"]
[local_broker]
port = {port}
[[cameras]]
id = "cam1"
source = "{source}"
[[pipelines]]
camera = "cam1"
model = "weld_defects"
sample_interval_s = 2.0
[pipelines.stage]
kind = "manufacturing.inspection"
station = "{node}"
[pipelines.stage.calibration]
mm_per_px = {mm}
[pipelines.stage.camera]
reference = {reference}
fixed = {fixed}
[pipelines.stage.output]
topic = "line/{node}/verdict"
retain = true
{rules}
"""


def inspected(query: Callable[[str], list[tuple[Any, ...]]]) -> tuple[Matrix, dict[str, Any]]:
    """The confusion matrix over both lines from what the coordinator has stored, and the figures for the summary."""
    matrix = Matrix()
    rows = query("SELECT node, data FROM events WHERE type = 'PartInspected'")
    for node in LINES:
        matrix.add(confusion(scene_of(node), [json.loads(data) for of, data in rows if of == node]))
    took_ms = sorted(float(json.loads(data)["decision_ms"]) for _, data in rows)
    problems: dict[str, int] = {}
    for (data,) in query("SELECT data FROM events WHERE type = 'InspectionProblem'"):
        problem = json.loads(data)
        if problem["state"] != "cleared":
            problems[problem["problem"]] = problems.get(problem["problem"], 0) + 1
    defects = query("SELECT count(*) FROM events WHERE type = 'DefectDetected'")
    return matrix, {
        **matrix.figures(),
        "matrix": matrix.rows(),
        "defects_told": defects[0][0] if defects else 0,
        "problems": problems,
        "decision_ms_p50": took_ms[len(took_ms) // 2] if took_ms else None,
        "decision_ms_max": took_ms[-1] if took_ms else None,
    }
